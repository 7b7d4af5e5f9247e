//! What an operator does with a server that runs, and what it does when it is full.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use milter_core::{Command, Reply};
use milter_tower::{
    Accepted, Address, BoundListener, Listener, OnFailure, PeerAddr, Settings, SmtpReply, Stream,
    serve,
};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::serving::{dial, stopped};
use crate::common::{Mta, connect, eom, mail, proceeding};

async fn bound() -> (BoundListener, Address) {
    let listener = Address::inet("127.0.0.1", 0).bind().await.unwrap();
    let address = listener.address();
    (listener, address)
}

/// An MTA that is turned away hears of it at connect, and is rid of the connection.
async fn is_turned_away(mut mta: Mta<Stream>, verdict: Reply) {
    mta.negotiate().await;
    assert_eq!(mta.ask(connect()).await, verdict);
    mta.closed().await;
}

#[tokio::test]
async fn counts_are_true() {
    let (listener, address) = bound().await;
    let server = serve(listener, proceeding().0);
    let handle = server.handle();
    let server = tokio::spawn(server.into_future());
    let mut busy = dial(&address).await;
    let mut idle = dial(&address).await;
    for mta in [&mut busy, &mut idle] {
        mta.greet().await;
        assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    }
    let with_macros = handle.stats().held_bytes;
    assert_eq!(busy.ask(mail()).await, Reply::Continue);
    let stats = handle.stats();
    assert_eq!((stats.accepted, stats.open, stats.refused), (2, 2, 0));
    assert_eq!((stats.messages, stats.in_progress), (3, 1));
    assert!(stats.held_bytes > with_macros, "{stats:?}");
    drop((busy, idle));
    handle.shutdown();
    stopped(server).await;
    let stats = handle.stats();
    assert_eq!((stats.open, stats.in_progress, stats.held_bytes), (0, 0, 0));
}

#[tokio::test]
async fn a_handle_stops_a_server_softly_or_at_once() {
    for at_once in [false, true] {
        let (listener, address) = bound().await;
        let server = serve(listener, proceeding().0);
        let handle = server.handle();
        let server = tokio::spawn(server.into_future());
        let mut mta = dial(&address).await;
        mta.greet().await;
        assert_eq!(mta.ask(mail()).await, Reply::Continue);
        if at_once {
            handle.shutdown_now();
        } else {
            handle.shutdown();
            assert_eq!(mta.ask(eom()).await, Reply::Continue);
        }
        mta.closed().await;
        assert_eq!(stopped(server).await.cut, u64::from(at_once));
    }
}

#[tokio::test]
async fn d11_connections_beyond_the_limit_get_the_failure_verdict() {
    let mut busy = SmtpReply::builder(421);
    busy = busy.line("Come back later");
    let busy = busy.build().unwrap();
    for (on_failure, verdict) in [
        (OnFailure::TempFail, Reply::TempFail),
        (OnFailure::Reply(busy.clone()), Reply::Smtp(busy)),
    ] {
        let whole = Settings::new().max_connections(2);
        let one_peer = Settings::new().max_connections_per_peer(2);
        for settings in [whole, one_peer] {
            let (listener, address) = bound().await;
            let (service, log) = proceeding();
            let server = serve(listener, service).settings(settings.on_failure(on_failure.clone()));
            let handle = server.handle();
            let server = tokio::spawn(server.into_future());
            let (mut one, mut two) = (dial(&address).await, dial(&address).await);
            one.greet().await;
            two.greet().await;
            is_turned_away(dial(&address).await, verdict.clone()).await;
            // One that says nothing takes nothing from the others.
            let silent = dial(&address).await;
            assert_eq!(one.message().await, "McRcTcUcLcNcBcEc");
            two.send(Command::Quit).await;
            two.closed().await;
            // There is room again as soon as the server knows.
            while handle.stats().open > 1 {
                tokio::task::yield_now().await;
            }
            let mut three = dial(&address).await;
            three.greet().await;
            assert_eq!(three.message().await, "McRcTcUcLcNcBcEc");
            drop((one, three, silent));
            handle.shutdown();
            let report = stopped(server).await;
            assert_eq!((report.accepted, report.refused), (5, 2));
            assert_eq!(
                log.count("close"),
                3,
                "only those within the limit are filtered"
            );
        }
    }
}

#[tokio::test]
async fn unix_sockets_have_no_limit_of_one_peer() {
    let dir = tempfile::tempdir().unwrap();
    let address = Address::unix(dir.path().join("s"));
    let server = serve(address.bind().await.unwrap(), proceeding().0)
        .settings(Settings::new().max_connections_per_peer(1));
    let handle = server.handle();
    let server = tokio::spawn(server.into_future());
    let (mut one, mut two) = (dial(&address).await, dial(&address).await);
    one.greet().await;
    two.greet().await;
    handle.shutdown();
    assert_eq!(stopped(server).await.refused, 0);
}

/// A listener that fails as often as it is told before each connection.
struct Failing {
    errors: Vec<i32>,
    failed: Arc<AtomicUsize>,
    pipes: mpsc::UnboundedReceiver<DuplexStream>,
}

impl Listener for Failing {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<Accepted<DuplexStream>> {
        if let Some(code) = self.errors.pop() {
            self.failed.fetch_add(1, Ordering::SeqCst);
            return Err(io::Error::from_raw_os_error(code));
        }
        match self.pipes.recv().await {
            Some(io) => Ok(Accepted::new(io, PeerAddr::Other)),
            None => std::future::pending().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failed_accepts_are_tried_again_for_ever_and_ever_more_slowly() {
    // EMFILE, ENFILE, ECONNABORTED, ENOBUFS, ENOMEM, EPROTO and one that nobody has heard of
    for code in [24, 23, 103, 105, 12, 71, 4095] {
        let (send, pipes) = mpsc::unbounded_channel();
        let failed = Arc::new(AtomicUsize::new(0));
        let listener = Failing {
            errors: vec![code; 200],
            failed: Arc::clone(&failed),
            pipes,
        };
        let server = serve(listener, proceeding().0);
        let handle = server.handle();
        let server = tokio::spawn(server.into_future());
        let start = tokio::time::Instant::now();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let in_ten_seconds = failed.load(Ordering::SeqCst);
        if code == 103 {
            assert_eq!(in_ten_seconds, 200, "a client that left costs no wait");
        } else {
            // Two a wait where the descriptor in reserve is tried.
            assert!((15..60).contains(&in_ten_seconds), "{in_ten_seconds}");
        }
        let (mta, io) = tokio::io::duplex(4096);
        send.send(io).unwrap();
        let mut mta = Mta::new(mta);
        mta.greet().await;
        assert!(start.elapsed() < Duration::from_secs(200));
        handle.shutdown();
        stopped(server).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_listener_does_not_hold_up_the_end() {
    let (_send, pipes) = mpsc::unbounded_channel();
    let listener = Failing {
        errors: vec![12; 1000],
        failed: Arc::default(),
        pipes,
    };
    let server = serve(listener, proceeding().0);
    let handle = server.handle();
    let server = tokio::spawn(server.into_future());
    tokio::time::sleep(Duration::from_secs(30)).await;
    handle.shutdown();
    stopped(server).await;
}
