//! Servers on real sockets: they begin, end in good order, and leave nothing behind.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use milter_core::{Command, Reply};
use milter_tower::{
    Address, Event, MacroStage, Needs, Peer, Report, Response, Stage, Stream, serve, serve_make,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tower::Service;

use crate::common::{Act, Log, Mta, Scripted, eom, macros, mail, proceeding, unknown};

pub(super) type Server = JoinHandle<std::io::Result<Report>>;

/// A server at an address; what is sent stops it.
pub(super) async fn serving(
    address: Address,
    service: Scripted,
    grace: Duration,
) -> (Address, Server, oneshot::Sender<()>) {
    let listener = address.bind().await.unwrap();
    let address = listener.address();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = serve(listener, service)
        .with_graceful_shutdown(async { drop(stopped.await) })
        .grace_period(grace);
    (address, tokio::spawn(server.into_future()), stop)
}

pub(super) async fn dial(address: &Address) -> Mta<Stream> {
    Mta::new(match address {
        Address::Inet { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await;
            Stream::from(stream.unwrap())
        }
        Address::Unix(path) => Stream::from(UnixStream::connect(path).await.unwrap()),
        other => panic!("{other:?}"),
    })
}

pub(super) async fn stopped(server: Server) -> Report {
    let ended = timeout(Duration::from_secs(20), server).await;
    ended.expect("the server stops").unwrap().unwrap()
}

async fn quit<IO: AsyncRead + AsyncWrite + Unpin>(mut mta: Mta<IO>) {
    mta.send(Command::Quit).await;
    mta.closed().await;
}

fn addresses(dir: &Path) -> [Address; 2] {
    [Address::inet("127.0.0.1", 0), Address::unix(dir.join("s"))]
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn serves_over_tcp_and_unix_sockets() {
    let dir = tempfile::tempdir().unwrap();
    for address in addresses(dir.path()) {
        let (service, log) = proceeding();
        let (address, server, stop) = serving(address, service, LONG).await;
        let (mut one, mut two) = (dial(&address).await, dial(&address).await);
        one.greet().await;
        two.greet().await;
        assert_eq!(one.message().await, "McRcTcUcLcNcBcEc");
        assert_eq!(two.message().await, "McRcTcUcLcNcBcEc");
        quit(one).await;
        quit(two).await;
        stop.send(()).unwrap();
        let report = stopped(server).await;
        assert_eq!((report.accepted, report.cut), (2, 0));
        assert_eq!(log.count("close"), 2);
    }
    assert!(!dir.path().join("s").exists(), "the socket is removed");
}

#[tokio::test]
async fn shutdown_closes_who_is_idle_at_once_and_lets_messages_end() {
    let dir = tempfile::tempdir().unwrap();
    for address in addresses(dir.path()) {
        let (service, log) = proceeding();
        let (address, server, stop) = serving(address, service, LONG).await;
        let mut silent = dial(&address).await;
        let mut idle = dial(&address).await;
        let mut busy = dial(&address).await;
        idle.greet().await;
        assert_eq!(idle.message().await, "McRcTcUcLcNcBcEc");
        busy.greet().await;
        assert_eq!(busy.ask(mail()).await, Reply::Continue);
        stop.send(()).unwrap();
        silent.closed().await;
        idle.closed().await;
        assert_eq!(busy.ask(crate::common::header()).await, Reply::Continue);
        assert_eq!(busy.ask(eom()).await, Reply::Continue);
        busy.closed().await;
        let report = stopped(server).await;
        assert_eq!((report.accepted, report.cut), (3, 0));
        assert_eq!((log.count("end: accept"), log.count("close")), (2, 2));
    }
}

/// A filter that asks for the end of messages only: what it declined to see is a message too.
#[tokio::test]
async fn shutdown_lets_a_message_end_that_the_filter_does_not_see() {
    let (service, log) = Scripted::new(|request, _| match request.event() {
        Event::Negotiate(_) => Response::needs(Needs::none().event(Stage::Unknown)).into(),
        _ => Response::proceed().into(),
    });
    let (address, server, stop) = serving(Address::inet("127.0.0.1", 0), service, LONG).await;
    let mut mta = dial(&address).await;
    mta.negotiate().await;
    // Macros are all that is sent for what was declined.
    mta.send(macros(MacroStage::Mail, [("i", "4XyZ")])).await;
    // The answer to this says that the server has read them.
    assert_eq!(mta.ask(unknown()).await, Reply::Continue);
    stop.send(()).unwrap();
    assert_eq!(mta.ask(eom()).await, Reply::Continue);
    mta.closed().await;
    let report = stopped(server).await;
    assert_eq!((report.accepted, report.cut), (1, 0));
    assert_eq!(log.count("end: accept"), 1);
}

#[tokio::test]
async fn shutdown_cuts_what_does_not_end() {
    for hangs in [false, true] {
        let (service, log) = Scripted::new(move |request, _| match request.event() {
            Event::Header(_) if hangs => Act::Hang,
            _ => Response::proceed().into(),
        });
        let grace = Duration::from_millis(200);
        let (address, server, stop) = serving(Address::inet("127.0.0.1", 0), service, grace).await;
        let mut mta = dial(&address).await;
        mta.greet().await;
        assert_eq!(mta.ask(mail()).await, Reply::Continue);
        if hangs {
            mta.send(crate::common::header()).await;
        }
        stop.send(()).unwrap();
        if hangs {
            assert_eq!(
                mta.reply().await,
                Reply::TempFail,
                "what is asked is answered"
            );
        }
        mta.closed().await;
        let report = stopped(server).await;
        assert_eq!((report.accepted, report.cut), (1, 1));
        let seen = log.all();
        assert_eq!(seen[seen.len() - 2..], ["end: lost", "close"]);
    }
}

#[tokio::test]
async fn serves_on_threads_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    for address in addresses(dir.path()) {
        let (service, log) = proceeding();
        let listener = address.bind().await.unwrap();
        let address = listener.address();
        let (stop, stopping) = oneshot::channel::<()>();
        let server = serve(listener, service)
            .with_graceful_shutdown(async { drop(stopping.await) })
            .grace_period(LONG)
            .threads(NonZeroUsize::new(2).unwrap());
        let server = tokio::spawn(server.into_future());
        let mut mtas = Vec::new();
        for _ in 0..8 {
            let mut mta = dial(&address).await;
            mta.greet().await;
            assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
            mtas.push(mta);
        }
        stop.send(()).unwrap();
        for mta in &mut mtas {
            mta.closed().await;
        }
        assert_eq!(stopped(server).await.accepted, 8);
        assert_eq!(log.count("close"), 8);
    }
    assert!(!dir.path().join("s").exists());
}

#[tokio::test]
async fn unix_sockets_stale_live_and_foreign() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    // What a process left that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let (_, server, stop) = serving(Address::unix(&path), proceeding().0, LONG).await;
    assert!(Address::unix(&path).bind().await.is_err(), "one is there");
    let mut mta = dial(&Address::unix(&path)).await;
    mta.greet().await;
    quit(mta).await;
    stop.send(()).unwrap();
    stopped(server).await;
    assert!(!path.exists());

    std::fs::write(&path, "a file").unwrap();
    assert!(Address::unix(&path).bind().await.is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
}

#[tokio::test]
async fn listeners_of_tokio_serve_too() {
    let dir = tempfile::tempdir().unwrap();
    let (service, log): (_, Log) = proceeding();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = tcp.local_addr().unwrap().port();
    let path = dir.path().join("s");
    let unix = UnixListener::bind(&path).unwrap();
    let servers = [
        tokio::spawn(serve(tcp, service.clone()).into_future()),
        tokio::spawn(serve(unix, service).into_future()),
    ];
    for address in [Address::inet("127.0.0.1", port), Address::unix(&path)] {
        let mut mta = dial(&address).await;
        mta.greet().await;
        quit(mta).await;
    }
    assert_eq!(log.count("close"), 2);
    servers.iter().for_each(JoinHandle::abort);
}

/// Something that makes services and panics when it is first cloned, with what panics again.
struct Bomb(Scripted, Arc<AtomicUsize>);

struct Payload;

impl Drop for Payload {
    fn drop(&mut self) {
        panic!("expected");
    }
}

impl Clone for Bomb {
    fn clone(&self) -> Self {
        if self.1.fetch_add(1, Ordering::SeqCst) == 0 {
            std::panic::panic_any(Payload);
        }
        Self(self.0.twin(), Arc::clone(&self.1))
    }
}

impl Service<Peer> for Bomb {
    type Response = Scripted;
    type Error = Infallible;
    type Future = Ready<Result<Scripted, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Peer) -> Self::Future {
        ready(Ok(self.0.clone()))
    }
}

#[tokio::test]
async fn the_server_outlives_what_makes_its_services() {
    let (service, log) = proceeding();
    let listener = Address::inet("127.0.0.1", 0).bind().await.unwrap();
    let address = listener.address();
    let (stop, stopped_by) = oneshot::channel::<()>();
    let server = serve_make(listener, Bomb(service, Arc::default()))
        .with_graceful_shutdown(async { drop(stopped_by.await) });
    let server = tokio::spawn(server.into_future());
    dial(&address).await.closed().await;
    let mut mta = dial(&address).await;
    mta.greet().await;
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    quit(mta).await;
    stop.send(()).unwrap();
    assert_eq!(stopped(server).await.accepted, 2);
    assert_eq!(log.count("close"), 1);
}

/// As many as mail servers have clients at busy times, and as the system allows.
#[tokio::test]
async fn a_burst_of_connections_waits_to_be_accepted() {
    let limit = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
    let limit = limit.ok().and_then(|text| text.trim().parse().ok());
    let count = limit.unwrap_or(128).min(500);
    let dir = tempfile::tempdir().unwrap();
    for address in addresses(dir.path()) {
        let listener = address.bind().await.unwrap();
        let address = listener.address();
        // Nobody accepts: each must be taken by the queue, and none may wait.
        let burst = async {
            let mut clients: Vec<Box<dyn std::any::Any>> = Vec::new();
            for _ in 0..count {
                clients.push(match &address {
                    Address::Inet { host, port } => {
                        Box::new(TcpStream::connect((&host[..], *port)).await.unwrap())
                    }
                    Address::Unix(path) => Box::new(UnixStream::connect(path).await.unwrap()),
                    _ => unreachable!(),
                });
            }
            clients.len()
        };
        let taken = timeout(LONG, burst).await;
        assert_eq!(taken.expect("the queue is too short"), count);
    }
}
