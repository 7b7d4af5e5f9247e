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

/// A listener that fails so often before it accepts anything, and never waits when it does.
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

#[tokio::test(start_paused = true)]
async fn after_a_connection_the_waits_begin_anew() {
    let (send, pipes) = mpsc::unbounded_channel();
    let failed = Arc::new(AtomicUsize::new(0));
    let listener = Failing {
        errors: vec![12; 30],
        failed: Arc::clone(&failed),
        pipes,
    };
    let server = serve(Twice(listener, false), proceeding().0);
    let handle = server.handle();
    let server = tokio::spawn(server.into_future());
    let (mta, io) = tokio::io::duplex(4096);
    send.send(io).unwrap();
    Mta::new(mta).greet().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    // 10, 20, 40, 80 ms at most, and not a second.
    assert!(failed.load(Ordering::SeqCst) >= 33);
    handle.shutdown();
    stopped(server).await;
}

/// Fails again after the first connection.
struct Twice(Failing, bool);

impl Listener for Twice {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<Accepted<DuplexStream>> {
        let accepted = self.0.accept().await;
        if accepted.is_ok() && !std::mem::replace(&mut self.1, true) {
            self.0.errors = vec![12; 30];
        }
        accepted
    }
}

#[tokio::test]
async fn a_listener_whose_clients_all_left_does_not_starve_the_rest() {
    let (_send, pipes) = mpsc::unbounded_channel();
    let failed = Arc::new(AtomicUsize::new(0));
    let listener = Failing {
        errors: vec![103; 1_000_000],
        failed: Arc::clone(&failed),
        pipes,
    };
    let server = serve(listener, proceeding().0);
    let handle = server.handle();
    let server = tokio::spawn(server.into_future());
    tokio::task::yield_now().await;
    handle.shutdown();
    stopped(server).await;
    assert!(failed.load(Ordering::SeqCst) < 1000);
}

fn pipes() -> (mpsc::UnboundedSender<DuplexStream>, Failing) {
    let (send, pipes) = mpsc::unbounded_channel();
    let listener = Failing {
        errors: Vec::new(),
        failed: Arc::default(),
        pipes,
    };
    (send, listener)
}

#[tokio::test(start_paused = true)]
async fn d11_of_many_connections_beyond_the_limit_each_is_answered() {
    let (send, listener) = pipes();
    let dial = || {
        let (mta, io) = tokio::io::duplex(4096);
        send.send(io).unwrap();
        Mta::new(mta)
    };
    let server = serve(listener, proceeding().0).settings(Settings::new().max_connections(0));
    let handle = server.handle();
    let server = tokio::spawn(server.into_future());
    let silent: Vec<_> = (0..2500).map(|_| dial()).collect();
    let mut prompt: Vec<_> = (0..300).map(|_| dial()).collect();
    let start = tokio::time::Instant::now();
    for mta in &mut prompt {
        mta.negotiate().await;
        assert_eq!(mta.ask(connect()).await, Reply::TempFail);
        mta.closed().await;
    }
    // Two thousand silent ones had their time before.
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    handle.shutdown();
    drop(silent);
    assert_eq!(stopped(server).await.refused, 2800);
}

#[tokio::test]
async fn at_once_is_at_once_and_only_messages_count_as_cut() {
    let (listener, address) = bound().await;
    let server = serve(listener, proceeding().0);
    let handle = server.handle();
    let server = tokio::spawn(server.into_future());
    let (mut idle, mut silent) = (dial(&address).await, dial(&address).await);
    idle.greet().await;
    while handle.stats().open < 2 {
        tokio::task::yield_now().await;
    }
    handle.shutdown_now();
    idle.closed().await;
    silent.closed().await;
    assert_eq!(stopped(server).await.cut, 0);
}

#[tokio::test]
async fn a_server_whose_future_is_dropped_lets_messages_end() {
    for threads in [false, true] {
        let (listener, address) = bound().await;
        let server = serve(listener, proceeding().0);
        let handle = server.handle();
        let server = if threads {
            tokio::spawn(server.threads(2.try_into().unwrap()).into_future())
        } else {
            tokio::spawn(server.into_future())
        };
        let (mut idle, mut busy) = (dial(&address).await, dial(&address).await);
        idle.greet().await;
        busy.greet().await;
        assert_eq!(busy.ask(mail()).await, Reply::Continue);
        server.abort();
        idle.closed().await;
        assert_eq!(busy.ask(eom()).await, Reply::Continue);
        busy.closed().await;
        while handle.stats().open > 0 {
            tokio::task::yield_now().await;
        }
    }
}
