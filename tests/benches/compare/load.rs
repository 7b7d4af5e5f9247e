//! Plays Postfix to a server: some connections, one thread, a message under way on each, every
//! reply checked.

use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use milter_tests::address::Address;
use milter_tests::session::{Part, Session, Shape};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use crate::servers::Mode;
use crate::stop;

/// No server is silent that long.
const STALL: Duration = Duration::from_secs(10);
/// How much Postfix writes at once: four segments of loopback TCP (`vstream_tweak.c`
/// `vstream_tweak_tcp`), else the size of its buffers (`vstream.h` `VSTREAM_BUFSIZE`).
const TCP_WRITE: usize = 4 * 65_483;
const UNIX_WRITE: usize = 4096;

/// What is played, and what has to come back.
#[derive(Debug)]
pub(crate) struct Play {
    session: Session,
    mode: Mode,
    shape: Shape,
}

impl Play {
    /// Messages with such a body for a filter of that mode.
    pub(crate) fn new(mode: Mode, body: usize) -> Self {
        let no_reply = mode == Mode::Nr;
        let shape = Shape { no_reply, body };
        Self {
            session: Session::new(shape),
            mode,
            shape,
        }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Played {
    /// From the first message's start to the last one's end.
    pub(crate) elapsed: Duration,
    /// How long each message took, in nanoseconds, in the order of their ends.
    pub(crate) latencies: Vec<u64>,
}

/// When no more messages are begun.
#[derive(Debug, Clone, Copy)]
enum Until {
    /// After that moment, on all connections at once.
    Time(Instant),
    /// When each connection had one; so many at a time.
    Each,
}

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    /// Messages that ended.
    messages: u64,
    /// The step under way and how much of it is written.
    step: usize,
    written: usize,
    /// Whether a write found the socket full.
    blocked: bool,
    /// A reply that has come in part.
    partial: Vec<u8>,
    headers: u32,
    started: Option<Instant>,
}

/// Connections to a server, negotiated.
#[derive(Debug)]
pub(crate) struct Load {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    write: usize,
    input: Vec<u8>,
}

impl Load {
    /// Connects so often and negotiates.
    pub(crate) fn connect(
        address: &Address,
        play: &Play,
        connections: usize,
    ) -> Result<Self, String> {
        let connect = || -> Result<_, String> {
            let socket = match address {
                Address::Tcp(port) => {
                    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).map_err(text)?;
                    stream.set_nodelay(true).map_err(text)?;
                    stream.set_read_timeout(Some(STALL)).map_err(text)?;
                    OwnedFd::from(stream)
                }
                Address::Unix(path) => {
                    let stream = UnixStream::connect(path).map_err(text)?;
                    stream.set_read_timeout(Some(STALL)).map_err(text)?;
                    OwnedFd::from(stream)
                }
            };
            negotiate(&socket, play)?;
            rustix::io::ioctl_fionbio(&socket, true).map_err(text)?;
            Ok(Connection {
                socket,
                messages: 0,
                step: 0,
                written: 0,
                blocked: false,
                partial: Vec::new(),
                headers: 0,
                started: None,
            })
        };
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(text)?;
        let mut all = Vec::with_capacity(connections);
        for id in 0..connections {
            stop::check()?;
            let connection = connect().map_err(|error| format!("connection {id}: {error}"))?;
            let data = EventData::new_u64(id as u64);
            epoll::add(&epoll, &connection.socket, data, EventFlags::IN).map_err(text)?;
            all.push(connection);
        }
        Ok(Self {
            epoll,
            connections: all,
            write: match address {
                Address::Tcp(_) => TCP_WRITE,
                Address::Unix(_) => UNIX_WRITE,
            },
            input: vec![0; 64 * 1024],
        })
    }

    /// Message after message on all connections for that time; those under way then are ended.
    pub(crate) fn run(&mut self, play: &Play, time: Duration) -> Result<Played, String> {
        let start = Instant::now();
        self.pump(play, Until::Time(start + time), start, usize::MAX)
    }

    /// One message on each connection, so many at a time.
    pub(crate) fn once(&mut self, play: &Play, at_a_time: usize) -> Result<(), String> {
        self.pump(play, Until::Each, Instant::now(), at_a_time)
            .map(drop)
    }

    fn pump(
        &mut self,
        play: &Play,
        until: Until,
        start: Instant,
        at_a_time: usize,
    ) -> Result<Played, String> {
        let mut played = Played::default();
        let mut begun = self.connections.len().min(at_a_time);
        let mut open = begun;
        for id in 0..begun {
            self.begin(id, play)
                .map_err(|error| format!("connection {id}: {error}"))?;
        }
        let mut events = Vec::with_capacity(64);
        let mut last = Instant::now();
        while open > 0 {
            stop::check()?;
            events.clear();
            let tick = Timespec {
                tv_sec: 0,
                tv_nsec: 100_000_000,
            };
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&tick)) {
                Ok(0) if last.elapsed() > STALL => return Err("the server is silent".to_owned()),
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
            last = Instant::now();
            for event in &events {
                let id = usize::try_from(event.data.u64()).map_err(text)?;
                let ended = self
                    .turn(id, play)
                    .map_err(|error| format!("connection {id}: {error}"))?;
                let Some(time) = ended else { continue };
                played
                    .latencies
                    .push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
                let next = match until {
                    Until::Time(end) => (Instant::now() < end).then_some(id),
                    Until::Each => (begun < self.connections.len()).then(|| {
                        begun += 1;
                        begun - 1
                    }),
                };
                match next {
                    Some(id) => {
                        self.begin(id, play)
                            .map_err(|error| format!("connection {id}: {error}"))?;
                    }
                    None => open -= 1,
                }
            }
        }
        played.elapsed = start.elapsed();
        Ok(played)
    }

    fn begin(&mut self, id: usize, play: &Play) -> Result<(), String> {
        let connection = &mut self.connections[id];
        connection.started = Some(Instant::now());
        (connection.step, connection.written, connection.headers) = (0, 0, 0);
        connection.go_on(&self.epoll, id, play, self.write)
    }

    /// Writes and reads what can be; how long the message took if this was its end.
    fn turn(&mut self, id: usize, play: &Play) -> Result<Option<Duration>, String> {
        let connection = &mut self.connections[id];
        if connection.blocked {
            connection.go_on(&self.epoll, id, play, self.write)?;
        }
        let length = match rustix::io::read(&connection.socket, &mut self.input[..]) {
            Ok(0) => return Err("closed by the server".to_owned()),
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let joined;
        let mut replies = &self.input[..length];
        if !connection.partial.is_empty() {
            connection.partial.extend_from_slice(replies);
            joined = std::mem::take(&mut connection.partial);
            replies = &joined;
        }
        let mut ended = None;
        while let Some((frame, rest)) = first_frame(replies) {
            replies = rest;
            if ended.is_some() {
                return Err("a reply that nobody asked for".to_owned());
            }
            if connection.reply(frame, play, rest.is_empty())? {
                connection.messages += 1;
                ended = connection.started.take().map(|start| start.elapsed());
            } else if connection.written == connection.part(play).steps[connection.step].bytes.start
            {
                connection.go_on(&self.epoll, id, play, self.write)?;
            }
        }
        connection.partial.extend_from_slice(replies);
        Ok(ended)
    }
}

impl Connection {
    fn part<'a>(&self, play: &'a Play) -> &'a Part {
        if self.messages == 0 {
            &play.session.first
        } else {
            &play.session.next
        }
    }

    /// Writes what is left of the step.
    fn go_on(
        &mut self,
        epoll: &OwnedFd,
        id: usize,
        play: &Play,
        most: usize,
    ) -> Result<(), String> {
        let part = self.part(play);
        let end = part.steps[self.step].bytes.end;
        let mut full = false;
        while self.written < end && !full {
            let some = &part.bytes[self.written..end.min(self.written + most)];
            match rustix::io::write(&self.socket, some) {
                Ok(length) => self.written += length,
                Err(Errno::AGAIN) => full = true,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        if full != self.blocked {
            self.blocked = full;
            let mut flags = EventFlags::IN;
            flags.set(EventFlags::OUT, full);
            let data = EventData::new_u64(id as u64);
            epoll::modify(epoll, &self.socket, data, flags).map_err(text)?;
        }
        Ok(())
    }

    /// Whether the message is over with this reply.
    fn reply(&mut self, frame: &[u8], play: &Play, last: bool) -> Result<bool, String> {
        let step = &self.part(play).steps[self.step];
        let asked = self.started.is_some() && self.written == step.bytes.end;
        match (frame[0], step.command) {
            (b'c', command) if asked && last && command != b'E' => {
                self.step += 1;
                Ok(false)
            }
            (b'h', b'E') if asked => {
                self.headers += 1;
                Ok(false)
            }
            (b'a', b'E') if asked && last && self.headers == play.mode.actions() => Ok(true),
            (code, command) => Err(format!(
                "reply {:?} to {:?}, after {} headers, does not belong there",
                char::from(code),
                char::from(command),
                self.headers
            )),
        }
    }
}

/// Code and payload of the first whole frame, and what follows it.
fn first_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length) as usize;
    (length > 0 && rest.len() >= length).then(|| rest.split_at(length))
}

fn negotiate(socket: &OwnedFd, play: &Play) -> Result<(), String> {
    let offer = &play.session.negotiation.bytes;
    if rustix::io::write(socket, offer) != Ok(offer.len()) {
        return Err("the offer cannot be written".to_owned());
    }
    let mut answer = Vec::with_capacity(256);
    while first_frame(&answer).is_none() {
        match rustix::io::read(socket, spare_capacity(&mut answer)) {
            Ok(0) => return Err("closed by the server at the negotiation".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    let mut wanted = b"\0\0\0\x0dO\0\0\0\x06".to_vec();
    wanted.extend_from_slice(&play.mode.actions().to_be_bytes());
    wanted.extend_from_slice(&play.shape.protocol().to_be_bytes());
    if answer == wanted {
        Ok(())
    } else {
        Err(format!(
            "the negotiation's answer is {answer:?}, not {wanted:?}"
        ))
    }
}

fn text(error: impl std::error::Error) -> String {
    error.to_string()
}
