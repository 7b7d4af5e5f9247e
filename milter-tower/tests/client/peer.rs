//! A milter that is nothing but frames, and says what it is told to.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::{SinkExt, StreamExt};
use milter_core::{Agreement, Command, FilterCodec, Needs, Reply, negotiate};
use milter_tower::client::{Client, Connection};
use milter_tower::{ClientAddr, Connect, Header, Recipient, Sender, Stage};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio_util::codec::Framed;

/// What a milter does with a frame that it is to answer.
pub(crate) enum Act {
    /// As it should: it agrees, or goes on.
    Go,
    Say(Vec<Reply>),
    Bytes(&'static [u8]),
    /// The same as its last word.
    Last(&'static [u8]),
    /// Says nothing, and reads no more.
    Hang,
    Die,
}

/// What came over the wire.
#[derive(Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Vec<Command>>>);

/// A milter that does nothing but see events.
pub(crate) fn events_alone() -> Needs {
    Stage::ALL.into_iter().fold(Needs::none(), Needs::event)
}

impl Trace {
    pub(crate) fn letters(&self) -> String {
        let seen = self.0.lock().unwrap();
        seen.iter().map(|frame| char::from(frame.code())).collect()
    }

    /// The letters once the other end has read everything that was written: it is read at once.
    pub(crate) async fn all_letters(&self) -> String {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        self.letters()
    }

    pub(crate) fn of(&self, letter: u8) -> Vec<Command> {
        let seen = self.0.lock().unwrap();
        let of = seen.iter().filter(|frame| frame.code() == letter);
        of.cloned().collect()
    }

    /// The macros that came before commands of this letter, as `name=value`.
    pub(crate) fn macros(&self, letter: u8) -> Vec<String> {
        let sets = self.of(b'D').into_iter();
        let sets = sets.filter_map(|frame| match frame {
            Command::Macros(set) if set.command_code() == letter => Some(set),
            _ => None,
        });
        let text = |set: milter_core::MacroSet| {
            let pairs = set.iter().map(|(name, value)| format!("{name}={value}"));
            pairs.collect::<Vec<_>>().join(" ")
        };
        sets.map(text).collect()
    }
}

/// The MTA's end of a connection with a milter that has these needs and does so.
pub(crate) fn peer(
    needs: Needs,
    act: impl FnMut(&Command) -> Act + Send + 'static,
) -> (DuplexStream, Trace) {
    let (mta, io) = tokio::io::duplex(256 * 1024);
    let trace = Trace::default();
    tokio::spawn(serve(io, trace.clone(), needs, act));
    (mta, trace)
}

async fn serve(io: DuplexStream, trace: Trace, needs: Needs, mut act: impl FnMut(&Command) -> Act) {
    let mut framed = Framed::new(io, FilterCodec::new());
    let mut agreed = Agreement::default();
    while let Some(Ok(frame)) = framed.next().await {
        trace.0.lock().unwrap().push(frame.clone());
        let silent = frame.stage().and_then(Stage::silencing);
        let silent = silent.is_some_and(|bit| agreed.steps().contains(bit));
        let replies = match (act(&frame), &frame) {
            (Act::Go, Command::Negotiate(offer)) => {
                agreed = negotiate(offer, &needs).expect("agreed");
                framed.codec_mut().set_max_read(agreed.max_payload());
                vec![Reply::Negotiate(agreed.to_reply())]
            }
            (Act::Go, frame) if frame.stage().is_some() && !silent => vec![Reply::Continue],
            (Act::Go, _) => vec![],
            (Act::Say(replies), _) => replies,
            (Act::Bytes(bytes), _) => {
                framed.get_mut().write_all(bytes).await.expect("sent");
                vec![]
            }
            (Act::Last(bytes), _) => {
                framed.get_mut().write_all(bytes).await.expect("sent");
                return;
            }
            (Act::Hang, _) => std::future::pending().await,
            (Act::Die, _) => return,
        };
        for reply in replies {
            if framed.send(&reply).await.is_err() {
                return;
            }
        }
    }
}

/// A milter that goes on, whatever comes.
pub(crate) fn go(_: &Command) -> Act {
    Act::Go
}

/// Says this at frames of that letter.
pub(crate) fn say(letter: u8, reply: Reply) -> impl FnMut(&Command) -> Act + Send + 'static {
    move |frame| {
        if frame.code() == letter {
            Act::Say(vec![reply.clone()])
        } else {
            Act::Go
        }
    }
}

/// A connection with such a milter.
pub(crate) async fn connected(
    client: Client<()>,
    needs: Needs,
    act: impl FnMut(&Command) -> Act + Send + 'static,
) -> (Connection<DuplexStream>, Trace) {
    let (io, trace) = peer(needs, act);
    (client.over(io).await.expect("agreed"), trace)
}

pub(crate) fn client() -> Client<()> {
    Client::without_address()
}

pub(crate) fn host() -> Connect {
    let at: std::net::SocketAddr = "192.0.2.1:50025".parse().unwrap();
    Connect::new("client.example", ClientAddr::from(at))
}

pub(crate) fn sender() -> Sender {
    Sender::new("<alice@example.org>", [""; 0])
}

pub(crate) fn recipient() -> Recipient {
    Recipient::new("<bob@example.net>", [""; 0])
}

/// Everything up to the body.
pub(crate) async fn up_to_body<IO: AsyncRead + AsyncWrite + Unpin>(milter: &mut Connection<IO>) {
    milter.connect(host()).await.unwrap();
    milter.helo("client.example").await.unwrap();
    milter.mail(sender()).await.unwrap();
    milter.rcpt(recipient()).await.unwrap();
    milter.data().await.unwrap();
    let subject = Header::new("Subject", " hello");
    milter.header(subject).await.unwrap();
    milter.end_of_headers().await.unwrap();
}

/// Counts the calls that write.
pub(crate) struct Counted {
    io: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl Counted {
    pub(crate) fn new(io: DuplexStream) -> (Self, Arc<AtomicUsize>) {
        let writes = Arc::<AtomicUsize>::default();
        let counted = Self {
            io,
            writes: Arc::clone(&writes),
        };
        (counted, writes)
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write(cx, bytes);
        if wrote.is_ready() {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
        wrote
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
