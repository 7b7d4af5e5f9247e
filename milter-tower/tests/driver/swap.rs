//! Another filter for a server that runs: no connection is lost, and none sees two at a time.

use std::io;

use milter_core::{Command, Reply};
use milter_tower::{
    Accepted, Actions, Address, Cloned, Event, Handle, Listener, Needs, PeerAddr, Response, Stage,
    Stats, serve,
};
use tokio::io::DuplexStream;
use tokio::time::Instant;

use super::serving::{Server, dial, stopped};
use crate::common::{
    Act, Log, Mta, Scripted, answering, connect, eom, header, mail, proceeding, seconds,
};

async fn running(service: Scripted) -> (Address, Server, Handle<Cloned<Scripted>>) {
    let listener = Address::inet("127.0.0.1", 0).bind().await.unwrap();
    let address = listener.address();
    let server = serve(listener, service);
    let handle = server.handle();
    (address, tokio::spawn(server.into_future()), handle)
}

/// A filter that adds a header of this value.
fn adding(value: &'static str) -> (Scripted, Log) {
    Scripted::new(move |request, _| match request.event() {
        Event::EndOfMessage(_) => Response::accept().add_header("X-By", value).into(),
        _ => Response::proceed().into(),
    })
}

#[tokio::test]
async fn new_connections_get_the_new_filter_and_open_ones_keep_theirs() {
    let (old, old_log) = proceeding();
    let (new, new_log) = proceeding();
    let (address, server, handle) = running(old).await;
    let mut open = dial(&address).await;
    open.greet().await;
    handle.replace(new);
    let mut fresh = dial(&address).await;
    fresh.greet().await;
    for mta in [&mut open, &mut fresh] {
        assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    }
    handle.shutdown();
    assert_eq!(stopped(server).await.accepted, 2);
    for log in [old_log, new_log] {
        assert_eq!((log.count("mail"), log.count("close")), (1, 1));
    }
}

#[tokio::test]
async fn renewed_an_open_connection_gets_the_new_filter_at_its_next_message() {
    let (old, old_log) = adding("old");
    let (new, new_log) = adding("new");
    let (address, server, handle) = running(old).await;
    let mut mta = dial(&address).await;
    mta.greet().await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    handle.replace(new);
    handle.renew();
    // The message in progress stays with the old one.
    for by in ["old", "new", "new"] {
        let (edits, verdict) = mta.end().await;
        assert_eq!(verdict, Reply::Accept);
        assert!(format!("{edits:?}").contains(by), "{edits:?}");
        assert_eq!(mta.ask(mail()).await, Reply::Continue);
    }
    mta.send(Command::Quit).await;
    mta.closed().await;
    handle.shutdown();
    stopped(server).await;
    let greeting = ["negotiate", "connect", "helo"];
    let message = ["mail", "end of message", "end: accept"];
    assert_eq!(
        old_log.all(),
        [&greeting[..], &message, &["close"]].concat()
    );
    let new_sees = [
        &greeting[..],
        &message,
        &message,
        &["mail", "end: aborted", "close"],
    ];
    assert_eq!(new_log.all(), new_sees.concat());
}

#[tokio::test]
async fn a_new_filter_that_does_not_fit_leaves_the_old_one_in_place() {
    let failing: [fn() -> Act; 4] = [
        || Act::Fail,
        || Act::Panic,
        // Headers to add were not negotiated.
        || Response::needs(Needs::none().action(Actions::ADD_HEADERS)).into(),
        || Response::reject().into(),
    ];
    for negotiate in failing {
        let (old, old_log) = Scripted::new(|request, _| match request.event() {
            Event::Negotiate(_) => {
                Response::needs(Needs::none().events([Stage::Connect, Stage::Mail, Stage::Header]))
                    .into()
            }
            _ => Response::proceed().into(),
        });
        let (new, new_log) = Scripted::new(move |request, _| match request.event() {
            Event::Negotiate(_) => negotiate(),
            _ => Response::proceed().into(),
        });
        let (address, server, handle) = running(old).await;
        let mut mta = dial(&address).await;
        mta.negotiate().await;
        assert_eq!(mta.ask(connect()).await, Reply::Continue);
        handle.replace(new);
        handle.renew();
        for _ in 0..2 {
            assert_eq!(mta.ask(mail()).await, Reply::Continue);
            assert_eq!(mta.ask(header()).await, Reply::Continue);
            assert_eq!(mta.ask(eom()).await, Reply::Continue);
        }
        handle.shutdown();
        stopped(server).await;
        assert_eq!((old_log.count("mail"), old_log.count("close")), (2, 1));
        // Tried once, and told of its end unless it broke.
        assert_eq!((new_log.count("negotiate"), new_log.count("mail")), (1, 0));
        let ends = new_log.count("close");
        assert!(ends <= 1 && old_log.count("negotiate") == 1);
    }
}

#[tokio::test]
async fn what_the_new_filter_thinks_of_the_client_holds_for_its_messages() {
    let (old, _) = proceeding();
    let (new, new_log) = Scripted::new(|request, _| match request.event() {
        Event::Helo(_) => Response::reject().into(),
        _ => Response::proceed().into(),
    });
    let (address, server, handle) = running(old).await;
    let mut mta = dial(&address).await;
    mta.greet().await;
    handle.replace(new);
    handle.renew();
    assert_eq!(mta.ask(mail()).await, Reply::Reject);
    assert_eq!(mta.ask(mail()).await, Reply::Reject);
    handle.shutdown();
    stopped(server).await;
    assert_eq!(new_log.count("mail"), 0);
}

#[tokio::test]
async fn messages_go_on_while_filters_are_replaced_all_the_time() {
    let (first, _) = adding("0");
    let (address, server, handle) = running(first).await;
    let swapping = {
        let handle = handle.clone();
        tokio::spawn(async move {
            loop {
                handle.replace(adding("1").0);
                handle.renew();
                tokio::task::yield_now().await;
            }
        })
    };
    let mut mtas = Vec::new();
    for _ in 0..4 {
        let mut mta = dial(&address).await;
        mta.greet().await;
        mtas.push(mta);
    }
    for _ in 0..50 {
        for mta in &mut mtas {
            assert_eq!(mta.ask(mail()).await, Reply::Continue);
        }
        for mta in &mut mtas {
            let (edits, verdict) = mta.end().await;
            assert_eq!((edits.len(), verdict), (1, Reply::Accept));
        }
    }
    swapping.abort();
    let Stats {
        open,
        messages,
        in_progress,
        ..
    } = handle.stats();
    assert_eq!((open, messages, in_progress), (4, 200, 0));
    handle.shutdown();
    assert_eq!(stopped(server).await.cut, 0);
}

/// A filter that does so when it is negotiated with, and proceeds otherwise.
fn negotiating(act: impl Fn() -> Act + Send + Sync + 'static) -> (Scripted, Log) {
    answering("negotiate", act)
}

/// A server over pipes, for paused time.
fn piped(service: Scripted) -> (Mta, Server, Handle<Cloned<Scripted>>) {
    let (mta, io) = tokio::io::duplex(4096);
    let server = serve(Pipe(Some(io)), service);
    let handle = server.handle();
    (Mta::new(mta), tokio::spawn(server.into_future()), handle)
}

struct Pipe(Option<DuplexStream>);

impl Listener for Pipe {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<Accepted<DuplexStream>> {
        match self.0.take() {
            Some(io) => Ok(Accepted::new(io, PeerAddr::Other)),
            None => std::future::pending().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_filter_that_hangs_leaves_the_old_one_time_to_answer() {
    let (old, old_log) = answering("mail", || Act::After(seconds(5), Response::proceed()));
    let (new, new_log) = Scripted::new(|_, _| Act::Hang);
    let (mut mta, server, handle) = piped(old);
    mta.greet().await;
    handle.replace(new);
    handle.renew();
    let start = Instant::now();
    // Sendmail waits for ten seconds.
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    assert!(start.elapsed() < seconds(8), "{:?}", start.elapsed());
    assert_eq!(mta.ask(eom()).await, Reply::Continue);
    mta.send(Command::Quit).await;
    mta.closed().await;
    handle.shutdown();
    stopped(server).await;
    assert_eq!((old_log.count("mail"), old_log.count("close")), (1, 1));
    assert_eq!((new_log.count("mail"), new_log.count("close")), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_old_filter_that_hangs_at_its_end_costs_the_message_nothing() {
    let (old, old_log) = answering("close", || Act::Hang);
    let (new, _) = answering("mail", || Act::After(seconds(7), Response::proceed()));
    let (mut mta, server, handle) = piped(old);
    mta.greet().await;
    handle.replace(new);
    handle.renew();
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    assert_eq!(mta.ask(eom()).await, Reply::Continue);
    handle.shutdown();
    stopped(server).await;
    assert_eq!(old_log.count("close"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_filter_that_refuses_leaves_the_old_one_in_place() {
    let (old, old_log) = proceeding();
    let (new, new_log) = negotiating(|| Response::refuse().into());
    let (mut mta, server, handle) = piped(old);
    mta.greet().await;
    handle.replace(new);
    handle.renew();
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    assert_eq!(mta.ask(eom()).await, Reply::Continue);
    handle.shutdown();
    stopped(server).await;
    assert_eq!((old_log.count("mail"), old_log.count("close")), (1, 1));
    assert_eq!(new_log.count("close"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_while_filters_change_is_answered() {
    let (old, old_log) = proceeding();
    let (new, new_log) = negotiating(|| Act::Hang);
    let (mut mta, server, handle) = piped(old);
    mta.greet().await;
    handle.replace(new);
    handle.renew();
    mta.send(mail()).await;
    mta.silence(seconds(1)).await;
    handle.shutdown_now();
    assert_eq!(mta.reply().await, Reply::TempFail);
    mta.closed().await;
    stopped(server).await;
    assert_eq!((old_log.count("close"), new_log.count("close")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_failed_from_the_start_is_mended_by_a_new_filter() {
    let (old, _) = negotiating(|| Act::Fail);
    let (new, new_log) = proceeding();
    let (mut mta, server, handle) = piped(old);
    mta.negotiate().await;
    assert_eq!(mta.ask(connect()).await, Reply::TempFail);
    assert_eq!(mta.ask(mail()).await, Reply::TempFail);
    // One that fails as well changes nothing.
    handle.renew();
    assert_eq!(mta.ask(mail()).await, Reply::TempFail);
    handle.replace(new);
    handle.renew();
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    assert_eq!(mta.ask(eom()).await, Reply::Continue);
    handle.shutdown();
    stopped(server).await;
    assert_eq!((new_log.count("mail"), new_log.count("close")), (1, 1));
}
