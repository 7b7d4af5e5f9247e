//! A mail server in small, and a service that does as it is told and writes down what it sees.

mod lines;
mod service;

use std::io::ErrorKind;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use milter_core::{CodecError, Command, MacroSet, MtaCodec, OfferReply, Reply};
use milter_tower::{
    BoxError, Connect, ConnectionError, Header, Helo, MacroStage, Offer, Recipient, Request,
    Response, Sender, Settings, UnknownCommand, serve_connection,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::codec::{Encoder, Framed};
use tower::Service;

pub(crate) use self::lines::listen;
pub(crate) use self::service::{Act, Log, Ready, Scripted, answering, name, proceeding};

/// Longer than the server ever takes for a reply.
const PATIENCE: Duration = Duration::from_secs(400);

/// The MTA's end of a connection.
pub(crate) struct Mta<IO = DuplexStream> {
    pub(crate) framed: Framed<IO, MtaCodec>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Mta<IO> {
    pub(crate) fn new(io: IO) -> Self {
        Self {
            framed: Framed::new(io, MtaCodec::new()),
        }
    }

    pub(crate) async fn send(&mut self, command: Command) {
        self.send_all([command]).await;
    }

    /// Sends several commands in one piece.
    pub(crate) async fn send_all(&mut self, commands: impl IntoIterator<Item = Command>) {
        for command in commands {
            self.framed.feed(command).await.expect("sent");
        }
        SinkExt::<Command>::flush(&mut self.framed)
            .await
            .expect("sent");
    }

    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.framed.get_mut().write_all(bytes).await.expect("sent");
    }

    /// The next reply; none if the server closed the connection.
    pub(crate) async fn next(&mut self) -> Option<Reply> {
        let next = timeout(PATIENCE, self.framed.next()).await;
        next.expect("the server answers or closes")
            .map(|reply| reply.expect("a reply that can be read"))
    }

    pub(crate) async fn reply(&mut self) -> Reply {
        self.next().await.expect("a reply, not the end")
    }

    /// Sends a command and waits for the verdict. Nothing else may come.
    pub(crate) async fn ask(&mut self, command: Command) -> Reply {
        self.send(command).await;
        self.reply().await
    }

    /// Sends the end of the message and waits for the verdict; what came before it, too.
    pub(crate) async fn end(&mut self) -> (Vec<Reply>, Reply) {
        self.send(eom()).await;
        let mut edits = Vec::new();
        loop {
            let reply = self.reply().await;
            if reply.is_final() {
                return (edits, reply);
            }
            edits.push(reply);
        }
    }

    pub(crate) async fn offer(&mut self, offer: Offer) -> OfferReply {
        match self.ask(Command::Negotiate(offer)).await {
            Reply::Negotiate(reply) => reply,
            other => panic!("{other:?} is no answer to an offer"),
        }
    }

    pub(crate) async fn negotiate(&mut self) -> OfferReply {
        self.offer(Offer::V6).await
    }

    /// Negotiates, and gets as far as HELO.
    pub(crate) async fn greet(&mut self) {
        self.negotiate().await;
        assert_eq!(self.ask(connect()).await, Reply::Continue);
        assert_eq!(self.ask(helo()).await, Reply::Continue);
    }

    /// Sends a message as an MTA does: refused before the content or not, until it is decided.
    /// Returns the letters of commands and replies in turn.
    pub(crate) async fn message(&mut self) -> String {
        let mut seen = String::new();
        for command in message() {
            let stage = command.code();
            let mut reply = self.ask(command).await;
            while stage == b'E' && reply == Reply::Progress {
                reply = self.reply().await;
            }
            seen.push(char::from(stage));
            seen.push(char::from(reply.code()));
            let over = !matches!(reply, Reply::Continue)
                && (b"MLNBE".contains(&stage)
                    || matches!(reply, Reply::Accept | Reply::Discard) && stage != b'U');
            if over {
                break;
            }
        }
        self.send(Command::Abort).await;
        seen
    }

    /// The same as far as the end, which must not come before.
    pub(crate) async fn message_but_its_end(&mut self) -> String {
        let mut seen = String::new();
        for command in &message()[..7] {
            seen.push(char::from(command.code()));
            seen.push(char::from(self.ask(command.clone()).await.code()));
        }
        seen
    }

    /// Nothing is written for that long.
    pub(crate) async fn silence(&mut self, time: Duration) {
        if let Ok(next) = timeout(time, self.framed.next()).await {
            panic!("expected silence, not {next:?}");
        }
    }

    /// The server closes without another word.
    pub(crate) async fn closed(&mut self) {
        match timeout(PATIENCE, self.framed.next())
            .await
            .expect("a close")
        {
            // What is closed before all was read is reset: an abort, say.
            Some(Err(CodecError::Io(error))) if error.kind() == ErrorKind::ConnectionReset => {}
            other => assert!(other.is_none(), "{other:?}"),
        }
    }

    pub(crate) async fn quit(mut self, run: Run) {
        self.send(Command::Quit).await;
        self.closed().await;
        ended(run).await.expect("a good end");
    }
}

pub(crate) fn connect() -> Command {
    let client = "192.0.2.7:40001".parse::<std::net::SocketAddr>();
    Command::Connect(Connect::new("client.example", client.unwrap().into()))
}

pub(crate) fn helo() -> Command {
    Command::Helo(Helo::new("client.example"))
}

pub(crate) fn mail() -> Command {
    Command::Mail(Sender::new("<a@example.org>", ["SIZE=7"]))
}

pub(crate) fn rcpt(address: &'static str) -> Command {
    Command::Rcpt(Recipient::new(address, [""; 0]))
}

pub(crate) fn unknown() -> Command {
    Command::Unknown(UnknownCommand::new("XYZZY now"))
}

pub(crate) fn header() -> Command {
    Command::Header(Header::new("Subject", "hello"))
}

pub(crate) fn body(bytes: impl Into<bytes::Bytes>) -> Command {
    Command::Body(bytes.into())
}

pub(crate) fn eom() -> Command {
    Command::EndOfMessage(bytes::Bytes::new())
}

pub(crate) fn macros<const N: usize>(
    stage: MacroStage,
    pairs: [(&'static str, &'static str); N],
) -> Command {
    Command::Macros(MacroSet::new(stage, pairs))
}

/// A message, without its macros.
pub(crate) fn message() -> [Command; 8] {
    [
        mail(),
        rcpt("<b@example.net>"),
        Command::Data,
        unknown(),
        header(),
        Command::EndOfHeaders,
        body("text\r\n"),
        eom(),
    ]
}

/// A frame as bytes.
pub(crate) fn bytes_of(command: Command) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    MtaCodec::new().encode(command, &mut bytes).expect("fits");
    bytes.to_vec()
}

pub(crate) type Run = JoinHandle<Result<(), ConnectionError>>;

/// Serves a filter on a connection of which this is the MTA's end.
pub(crate) fn start<S>(service: S) -> (Mta, Run)
where
    S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
{
    start_with(service, Settings::new())
}

pub(crate) fn start_with<S>(service: S, settings: Settings) -> (Mta, Run)
where
    S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
{
    let (mta, io) = tokio::io::duplex(1 << 20);
    let run = serve_connection(io, service).settings(settings);
    (Mta::new(mta), tokio::spawn(run.into_future()))
}

/// How the server's side ended.
pub(crate) async fn ended(run: Run) -> Result<(), ConnectionError> {
    let ended = timeout(PATIENCE, run).await.expect("the server ends");
    ended.expect("the driver does not panic")
}

pub(crate) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
