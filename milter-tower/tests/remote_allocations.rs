//! How often a remote allocates, counted by an allocator of this test's own.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{SinkExt, StreamExt};
use milter_core::{Command, MtaCodec, Reply};
use milter_tower::client::{ClientError, Connection};
use milter_tower::remote::Target;
use milter_tower::{
    BoxError, Connect, Event, Header, Helo, MacroStage, Needs, Offer, Recipient, Remote, Request,
    Response, Sender, Stage, serve_connection,
};
use tokio::io::DuplexStream;
use tokio_util::codec::Framed;
use tower::{Service, service_fn};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Headers of a message.
const HEADERS: usize = 20;

/// A service that goes on, with replies or without.
fn noop(
    has_replies: bool,
) -> impl Service<
    Request,
    Response = Response,
    Error = Infallible,
    Future: Future<Output = Result<Response, Infallible>> + Send,
> + Clone
+ Send
+ 'static {
    service_fn(move |request: Request| async move {
        Ok(match request.event() {
            Event::Negotiate(_) if has_replies => Needs::all().into(),
            Event::Negotiate(_) => Stage::ALL
                .into_iter()
                .fold(Needs::none(), Needs::record)
                .into(),
            _ => Response::proceed(),
        })
    })
}

/// Opens connections with such a service, in this task's runtime.
#[derive(Clone)]
struct Opens(bool);

impl Service<Target> for Opens {
    type Response = Connection<DuplexStream>;
    type Error = ClientError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ClientError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Target) -> Self::Future {
        let (io, theirs) = tokio::io::duplex(64 * 1024);
        tokio::spawn(serve_connection(theirs, noop(self.0)).into_future());
        Box::pin(async move { target.client_without_address().over(io).await })
    }
}

fn macros(stage: MacroStage) -> Command {
    Command::Macros(milter_core::MacroSet::new(
        stage,
        [("i", "4X"), ("{a}", "b")],
    ))
}

fn message() -> Vec<Command> {
    let mut commands = vec![
        macros(MacroStage::Mail),
        Command::Mail(Sender::new("<a@example.org>", [""; 0])),
        macros(MacroStage::Rcpt),
        Command::Rcpt(Recipient::new("<b@example.net>", [""; 0])),
        Command::Data,
    ];
    for _ in 0..HEADERS {
        commands.push(Command::Header(Header::new("X-Header", "some value")));
    }
    commands.extend([
        Command::EndOfHeaders,
        Command::Body("text\r\n".into()),
        macros(MacroStage::EndOfMessage),
        Command::EndOfMessage("".into()),
    ]);
    commands
}

/// A mail server in small.
struct Mta {
    framed: Framed<DuplexStream, MtaCodec>,
    has_replies: bool,
}

impl Mta {
    async fn ask(&mut self, command: Command) {
        let is_answered = match command.stage() {
            Some(Stage::EndOfMessage) => true,
            stage => stage.is_some() && self.has_replies,
        };
        self.framed.send(command).await.unwrap();
        if is_answered {
            let reply = self.framed.next().await;
            assert!(matches!(reply, Some(Ok(Reply::Continue))), "{reply:?}");
        }
    }
}

/// How many allocations a message takes in this process.
async fn allocations<S>(filter: S, has_replies: bool) -> u64
where
    S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
{
    let (mta, io) = tokio::io::duplex(64 * 1024);
    tokio::spawn(serve_connection(io, filter).into_future());
    let framed = Framed::new(mta, MtaCodec::new());
    let mut mta = Mta {
        framed,
        has_replies,
    };
    mta.ask(Command::Negotiate(Offer::V6)).await;
    mta.framed.next().await.unwrap().unwrap();
    let client = "192.0.2.7:40001".parse::<std::net::SocketAddr>().unwrap();
    mta.ask(Command::Connect(Connect::new("client", client.into())))
        .await;
    mta.ask(Command::Helo(Helo::new("client.example"))).await;
    let mut taken = 0;
    // The first ones make the buffers.
    for _ in 0..4 {
        let commands = message();
        let before = dhat::HeapStats::get().total_blocks;
        for command in commands {
            mta.ask(command).await;
        }
        taken = dhat::HeapStats::get().total_blocks - before;
    }
    taken
}

#[tokio::test]
async fn none_for_an_event() {
    let _profiler = dhat::Profiler::builder().testing().build();
    for has_replies in [true, false] {
        let alone = allocations(noop(has_replies), has_replies).await;
        let remote = Remote::with_connector(Opens(has_replies));
        let through = allocations(remote, has_replies).await;
        // Two servers, and two for each of three sets of macros; nothing for a header.
        let most = 2 * alone + 6;
        assert!(through <= most, "{through} instead of {most}");
        assert!(most < 2 * HEADERS as u64, "{most}");
    }
}
