//! A milter client that knows nothing but bytes: it can send what no mail server would.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use crate::address::Address;
use crate::sum::Sum;
use crate::wait::PATIENCE;

/// All actions and steps that version 6 knows (`include/libmilter/mfdef.h`).
pub const ACTIONS: u32 = 0x1FF;
/// See [`ACTIONS`].
pub const STEPS: u32 = 0x1F_FFFF;
/// The steps of version 6 without those that spare replies.
pub const STEPS_WITH_REPLIES: u32 = 0x10_0F7F;

/// A frame: the length counts code and payload.
///
/// # Panics
///
/// When the payload has 4 GiB.
pub fn frame(code: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 1).expect("less than 4 GiB");
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.push(code);
    bytes.extend_from_slice(payload);
    bytes
}

/// A frame whose payload is strings, each with its NUL.
pub fn strings(code: u8, fields: &[&str]) -> Vec<u8> {
    let mut payload = fields.join("\0");
    payload.push('\0');
    frame(code, payload.as_bytes())
}

/// An offer.
pub fn offer(version: u32, actions: u32, steps: u32) -> Vec<u8> {
    frame(
        b'O',
        &[version, actions, steps].map(u32::to_be_bytes).concat(),
    )
}

/// A connection from 192.0.2.1.
pub fn connect() -> Vec<u8> {
    frame(b'C', b"client.example\x004\x04\x01192.0.2.1\0")
}

/// What is sent, and what must come back.
#[derive(Debug, Clone)]
pub struct Message {
    /// The address without its `<>`.
    pub sender: String,
    /// The same.
    pub recipients: Vec<String>,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// Its pieces as they are sent.
    pub body: Vec<Vec<u8>>,
}

impl Message {
    /// A small one.
    pub fn small(sender: &str) -> Self {
        Self {
            sender: sender.to_owned(),
            recipients: vec!["bob@example.net".to_owned()],
            headers: vec![("Subject".to_owned(), "hello".to_owned())],
            body: vec![b"text\r\n".to_vec()],
        }
    }

    /// The commands, from MAIL to the end of the message. Without DATA before version 4.
    pub fn commands(&self, version: u32) -> Vec<Vec<u8>> {
        let mut commands = vec![strings(b'M', &[&format!("<{}>", self.sender)])];
        let recipients = self.recipients.iter();
        commands.extend(recipients.map(|to| strings(b'R', &[&format!("<{to}>")])));
        if version >= 4 {
            commands.push(frame(b'T', b""));
        }
        let headers = self.headers.iter();
        commands.extend(headers.map(|(name, value)| strings(b'L', &[name, value])));
        commands.push(frame(b'N', b""));
        commands.extend(self.body.iter().map(|piece| frame(b'B', piece)));
        commands.push(frame(b'E', b""));
        commands
    }

    /// What the filter must have seen.
    pub fn sum(&self) -> Sum {
        let mut sum = Sum::default();
        sum.add(b'M', &[self.sender.as_bytes()]);
        for to in &self.recipients {
            sum.add(b'R', &[to.as_bytes()]);
        }
        for (name, value) in &self.headers {
            sum.add(b'L', &[name.as_bytes(), value.as_bytes()]);
        }
        for piece in &self.body {
            sum.add_body(piece);
        }
        sum
    }
}

/// A reply that decides, and the edits before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The reply's letter.
    pub verdict: u8,
    /// Letters and payloads.
    pub edits: Vec<(u8, Vec<u8>)>,
}

impl Answer {
    /// Whether it accepts this message, with the right sum in the only edit.
    pub fn is_right_for(&self, message: &Message) -> bool {
        let header = format!("X-Sum\0{}\0", message.sum().text());
        self.verdict == b'a' && self.edits == [(b'h', header.into_bytes())]
    }
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
        }
    };
}

/// One end of a connection. Nothing that it does takes longer than its patience.
#[derive(Debug)]
pub struct Peer {
    stream: Stream,
    input: Vec<u8>,
    steps: u32,
    version: u32,
}

impl Peer {
    /// Connects.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn connect(address: &Address) -> io::Result<Self> {
        Self::connect_from(address, Ipv4Addr::LOCALHOST)
    }

    /// Connects from one of this machine's addresses 127.x.y.z; that means nothing for unix.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn connect_from(address: &Address, source: Ipv4Addr) -> io::Result<Self> {
        let stream = match address {
            Address::Tcp(port) => {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
                socket.set_reuse_address(true)?;
                socket.bind(&SocketAddrV4::new(source, 0).into())?;
                let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, *port);
                socket.connect_timeout(&to.into(), PATIENCE)?;
                socket.set_tcp_nodelay(true)?;
                Stream::Tcp(socket.into())
            }
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
        };
        let peer = Self {
            stream,
            input: Vec::new(),
            steps: 0,
            version: 6,
        };
        peer.set_patience(PATIENCE)?;
        Ok(peer)
    }

    /// Sets how long a read or a write may take.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn set_patience(&self, time: Duration) -> io::Result<()> {
        each!(&self.stream, inner => {
            inner.set_read_timeout(Some(time))?;
            inner.set_write_timeout(Some(time))
        })
    }

    /// A second handle, to write on another thread than to read.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn try_clone(&self) -> io::Result<Self> {
        let stream = match &self.stream {
            Stream::Tcp(inner) => Stream::Tcp(inner.try_clone()?),
            Stream::Unix(inner) => Stream::Unix(inner.try_clone()?),
        };
        Ok(Self {
            stream,
            input: Vec::new(),
            ..*self
        })
    }

    /// The socket, for its options.
    pub fn socket(&self) -> SockRef<'_> {
        each!(&self.stream, inner => SockRef::from(inner))
    }

    /// Sends bytes.
    ///
    /// # Errors
    ///
    /// The system's, also when the other side does not read.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        each!(&mut self.stream, inner => inner.write_all(bytes))
    }

    /// Sends as many of the bytes as the system takes at once.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn send_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        each!(&mut self.stream, inner => inner.write(bytes))
    }

    /// Sends no more.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn end_sending(&self) -> io::Result<()> {
        each!(&self.stream, inner => inner.shutdown(Shutdown::Write))
    }

    /// Closes with a reset instead of an end, over TCP.
    pub fn reset(self) {
        let _ = self.socket().set_linger(Some(Duration::ZERO));
    }

    /// The next frame. None when the other side has closed between two frames.
    ///
    /// # Errors
    ///
    /// The system's, and when the other side closes within a frame.
    pub fn receive(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        loop {
            if let Some((head, rest)) = self.input.split_first_chunk() {
                let length = u32::from_be_bytes(*head) as usize;
                if length == 0 {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "length 0"));
                }
                if rest.len() >= length {
                    let found = (rest[0], rest[1..length].to_vec());
                    self.input.drain(..4 + length);
                    return Ok(Some(found));
                }
            }
            if self.read_some()? == 0 {
                return if self.input.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// Reads all frames until the other side closes. A reset is an end, too.
    ///
    /// # Errors
    ///
    /// The system's, and when the end does not come.
    pub fn receive_all(&mut self) -> io::Result<Vec<(u8, Vec<u8>)>> {
        let mut frames = Vec::new();
        loop {
            match self.receive() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return Ok(frames),
                Err(error) if is_closed(&error) => return Ok(frames),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads what has come, at most 64 KiB. 0 when the other side has closed.
    fn read_some(&mut self) -> io::Result<usize> {
        let start = self.input.len();
        self.input.resize(start + (64 << 10), 0);
        let read = each!(&mut self.stream, inner => inner.read(&mut self.input[start..]));
        self.input.truncate(start + *read.as_ref().unwrap_or(&0));
        read
    }

    /// Negotiates and begins a session.
    ///
    /// # Errors
    ///
    /// The system's, and when the answers are not the usual ones.
    pub fn greet(&mut self, version: u32, steps: u32) -> io::Result<()> {
        self.send(&offer(version, ACTIONS, steps))?;
        let answer = self.receive()?;
        let Some((b'O', words)) = &answer else {
            return Err(unexpected(&answer));
        };
        let word = words.get(8..12).and_then(|word| word.try_into().ok());
        self.steps = word.map_or(0, u32::from_be_bytes);
        self.version = version;
        for command in [connect(), strings(b'H', &["client.example"])] {
            let answer = self.ask(&command)?;
            if answer.verdict != b'c' {
                return Err(unexpected(&answer));
            }
        }
        Ok(())
    }

    /// Whether a reply is due to a command, after the negotiation.
    // include/libmilter/mfdef.h SMFIP_NR_*
    pub fn expects_reply(&self, code: u8) -> bool {
        let silent = match code {
            b'C' => 0x1000,
            b'H' => 0x2000,
            b'M' => 0x4000,
            b'R' => 0x8000,
            b'T' => 0x1_0000,
            b'U' => 0x2_0000,
            b'L' => 0x80,
            b'N' => 0x4_0000,
            b'B' => 0x8_0000,
            b'E' => 0,
            _ => return false,
        };
        self.steps & silent == 0
    }

    /// Sends a command and reads the answer, if one is due; else it is to go on.
    ///
    /// # Errors
    ///
    /// The system's, and when the other side closes.
    pub fn ask(&mut self, command: &[u8]) -> io::Result<Answer> {
        self.send(command)?;
        if command.get(4).is_some_and(|code| self.expects_reply(*code)) {
            self.answer()
        } else {
            Ok(Answer {
                verdict: b'c',
                edits: Vec::new(),
            })
        }
    }

    /// Reads an answer.
    ///
    /// # Errors
    ///
    /// The system's, and when the other side closes.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let mut edits = Vec::new();
        loop {
            match self.receive()? {
                Some((verdict, _)) if b"acdrtys".contains(&verdict) => {
                    return Ok(Answer { verdict, edits });
                }
                Some((b'p', _)) => {}
                Some((code, payload)) if b"hibm+-2eq".contains(&code) => {
                    edits.push((code, payload));
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Sends a message command by command, and reads each answer; tells how long each round trip
    /// took. Ends early at an answer that is not to go on.
    ///
    /// # Errors
    ///
    /// Those of [`ask`](Self::ask).
    pub fn deliver(
        &mut self,
        message: &Message,
        mut took: impl FnMut(Duration),
    ) -> io::Result<Answer> {
        for command in message.commands(self.version) {
            let start = Instant::now();
            let answer = self.ask(&command)?;
            took(start.elapsed());
            if answer.verdict != b'c' {
                return Ok(answer);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the message was not accepted at its end",
        ))
    }
}

/// Whether an error says that the other side has closed.
pub fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected
    )
}

fn unexpected(what: &impl std::fmt::Debug) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("unexpected: {what:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_the_protocol_has_them() {
        assert_eq!(strings(b'L', &["a", ""]), b"\0\0\0\x04La\0\0");
        assert_eq!(offer(6, 1, 2), b"\0\0\0\x0DO\0\0\0\x06\0\0\0\x01\0\0\0\x02");
        let commands = Message::small("a@b").commands(2);
        let codes: Vec<u8> = commands.iter().map(|command| command[4]).collect();
        assert_eq!(codes, b"MRLNBE");
        assert_eq!(Message::small("a@b").commands(6).len(), 7);
    }
}
