//! What a filter, its settings or an MTA may do that is unusual, and what comes of it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use milter_core::{Command, Modification, Reply};
use milter_tower::{BoxError, Event, MacroStage, Needs, Request, Response, Settings, Stage};
use tower::ServiceExt;

use crate::common::{
    Act, Log, Scripted, answering, bytes_of, connect, ended, helo, macros, mail, name, proceeding,
    seconds, start, start_with,
};

const WHOLE: &str = "McRcTcUcLcNcBcEc";

/// Panics when it is dropped.
#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "expected");
    }
}

#[tokio::test(start_paused = true)]
async fn the_verdict_arrives_though_a_value_of_the_message_panics_in_its_drop() {
    for (verdict, expected) in [
        (Response::proceed(), Reply::Continue),
        (Response::reject(), Reply::Reject),
        (Response::tempfail(), Reply::TempFail),
        (Response::discard(), Reply::Discard),
    ] {
        let (service, log) = Scripted::new(move |request, _| match request.event() {
            Event::Mail(_) => {
                request.session().message_data().insert(Bomb);
                Response::proceed().into()
            }
            Event::EndOfMessage(_) => verdict.clone().into(),
            _ => Response::proceed().into(),
        });
        let (mut mta, run) = start(service);
        mta.greet().await;
        mta.message_but_its_end().await;
        assert_eq!(mta.end().await, (Vec::new(), expected));
        drop(mta);
        let _ = ended(run).await;
        assert_eq!(log.all().last().unwrap(), "close");
        assert_eq!(log.count("close"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_aborted_message_ends_though_a_value_of_it_panics_in_its_drop() {
    let (service, log) = Scripted::new(|request, _| {
        if let Event::Mail(_) = request.event() {
            request.session().message_data().insert(Bomb);
        }
        Response::proceed().into()
    });
    let (mut mta, run) = start(service);
    mta.greet().await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    mta.send(Command::Abort).await;
    tokio::time::sleep(seconds(1)).await;
    drop(mta);
    let _ = ended(run).await;
    let seen = log.all();
    assert_eq!(seen[seen.len() - 2..], ["end: aborted", "close"]);
}

/// An error that panics when it is shown, or when it is dropped.
#[derive(Debug)]
struct Loud(Option<Bomb>);

impl fmt::Display for Loud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        assert!(self.0.is_some(), "expected");
        f.write_str("an error")
    }
}

impl std::error::Error for Loud {}

#[tokio::test(start_paused = true)]
async fn an_error_that_panics_when_shown_or_dropped_is_a_failure_like_others() {
    // What is logged is shown.
    let (_lines, _guard) = crate::common::listen();
    for drops in [false, true] {
        for at in [
            "negotiate",
            "connect",
            "mail",
            "rcpt",
            "header",
            "end of message",
        ] {
            let context = format!("{at}, drops: {drops}");
            let failed = AtomicBool::new(false);
            let (service, _) = Scripted::new(move |request, _| {
                if name(request.event()) == at && !failed.swap(true, Ordering::SeqCst) {
                    Act::Fail
                } else {
                    Response::proceed().into()
                }
            });
            let loud = move |_: BoxError| -> BoxError { Box::new(Loud(drops.then_some(Bomb))) };
            let (mut mta, run) = start(service.map_err(loud));
            mta.negotiate().await;
            let fails_first = ["negotiate", "connect"].contains(&at);
            let first = mta.ask(connect()).await;
            let expected = if fails_first {
                Reply::TempFail
            } else {
                Reply::Continue
            };
            assert_eq!(first, expected, "{context}");
            if !fails_first {
                assert_eq!(mta.ask(helo()).await, Reply::Continue, "{context}");
                assert!(mta.message().await.contains('t'), "{context}");
                assert_eq!(mta.message().await, WHOLE, "{context}");
            }
            mta.quit(run).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_time_of_the_settings_may_be_endless() {
    let max = Duration::MAX;
    let all = Settings::new()
        .handshake_timeout(max)
        .idle_timeout(max)
        .frame_timeout(max)
        .write_timeout(max)
        .call_timeout(max)
        .end_of_message_timeout(max)
        .progress_interval(max);
    for (which, settings) in [
        ("handshake", Settings::new().handshake_timeout(max)),
        ("idle", Settings::new().idle_timeout(max)),
        ("frame", Settings::new().frame_timeout(max)),
        ("write", Settings::new().write_timeout(max)),
        ("call", Settings::new().call_timeout(max)),
        (
            "end of message",
            Settings::new().end_of_message_timeout(max),
        ),
        ("progress", Settings::new().progress_interval(max)),
        ("all", all),
    ] {
        let slowly = || Act::After(seconds(3), Response::proceed());
        let (service, log) = Scripted::new(move |_, _| slowly());
        let (mut mta, run) = start_with(service, settings);
        mta.greet().await;
        // A frame that comes in two parts.
        let bytes = bytes_of(mail());
        mta.send_raw(&bytes[..7]).await;
        tokio::time::sleep(seconds(5)).await;
        mta.send_raw(&bytes[7..]).await;
        assert_eq!(mta.reply().await, Reply::Continue, "{which}");
        mta.send(Command::Abort).await;
        assert_eq!(mta.message().await, WHOLE, "{which}");
        tokio::time::sleep(seconds(3600)).await;
        assert_eq!(mta.message().await, WHOLE, "{which}");
        mta.quit(run).await;
        assert_eq!(log.count("end: accept"), 2, "{which}");
    }
}

#[tokio::test(start_paused = true)]
async fn macros_before_a_second_connect_belong_to_the_new_session() {
    let (log, seen) = (Log::default(), Log::default());
    let inner = seen.clone();
    let (service, _) = Scripted::new(move |request, id| {
        if let Event::Connect(_) = request.event() {
            let macros = request.session().macros();
            let value = |name| macros.get(name).map_or("-".into(), |text| text.to_string());
            inner.add(id, format!("{} {}", value("j"), value("i")));
        }
        log.add(id, name(request.event()));
        Response::proceed().into()
    });
    let (mut mta, run) = start(service);
    mta.negotiate().await;
    for host in ["one.example", "two.example"] {
        mta.send(macros(MacroStage::Connect, [("j", host)])).await;
        assert_eq!(mta.ask(connect()).await, Reply::Continue);
        assert_eq!(mta.ask(helo()).await, Reply::Continue);
        mta.send(macros(MacroStage::Mail, [("i", "4XyZ")])).await;
        assert_eq!(mta.ask(mail()).await, Reply::Continue);
    }
    mta.quit(run).await;
    // The queue id of the first session is not known in the second.
    assert_eq!(seen.all(), ["one.example -", "two.example -"]);
}

/// The MTA would be flooded, and the server busy with nothing else.
#[tokio::test(start_paused = true)]
async fn progress_comes_ten_times_a_second_at_most() {
    let (service, _) = answering("end of message", || {
        Act::After(seconds(1), Response::proceed())
    });
    let settings = Settings::new().progress_interval(Duration::ZERO);
    let (mut mta, run) = start_with(service, settings);
    mta.greet().await;
    mta.message_but_its_end().await;
    let (progress, verdict) = mta.end().await;
    assert_eq!(verdict, Reply::Continue);
    assert!((8..=11).contains(&progress.len()), "{}", progress.len());
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_fresh_clone_whose_introduction_fails_is_closed_once() {
    for at in ["negotiate", "connect", "helo"] {
        let (service, log) = Scripted::new(move |request, id| match name(request.event()) {
            event if id == 1 && event == "mail" => Act::Panic,
            event if id == 2 && event == at => Act::Fail,
            _ => Response::proceed().into(),
        });
        let (mut mta, run) = start(service);
        mta.greet().await;
        assert_eq!(mta.message().await, "Mt", "{at}");
        assert_eq!(mta.message().await, "Mt", "{at}");
        assert_eq!(mta.message().await, WHOLE, "{at}");
        mta.quit(run).await;
        closed_once(&log, at);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_clone_that_needs_more_than_was_agreed_is_closed_once() {
    let agreed = Needs::none().event(Stage::Mail);
    let (service, log) = Scripted::new(move |request: &Request, id| match request.event() {
        Event::Negotiate(_) if id == 1 => Response::needs(agreed.clone()).into(),
        Event::Negotiate(_) => Response::needs(Needs::all()).into(),
        Event::Mail(_) if id == 1 => Act::Panic,
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = start(service);
    mta.negotiate().await;
    assert_eq!(mta.message().await, "Mt");
    assert_eq!(mta.message().await, "Mt");
    mta.quit(run).await;
    assert_eq!(log.of(2), ["negotiate", "close"]);
}

/// The second clone saw its close, as its last event.
fn closed_once(log: &Log, context: &str) {
    let seen = log.of(2);
    assert_eq!(seen.last().unwrap(), "close", "{context}: {seen:?}");
    let closes = seen.iter().filter(|event| *event == "close");
    assert_eq!(closes.count(), 1, "{context}: {seen:?}");
}

#[tokio::test(start_paused = true)]
async fn accepting_the_negotiation_is_to_proceed() {
    let (service, log) = answering("negotiate", || Response::accept().into());
    let (mut mta, run) = start(service);
    mta.greet().await;
    assert_eq!(mta.message().await, WHOLE);
    mta.quit(run).await;
    let (proceeds, expected) = proceeding();
    let (mut mta, run) = start(proceeds);
    mta.greet().await;
    assert_eq!(mta.message().await, WHOLE);
    mta.quit(run).await;
    assert_eq!(log.all(), expected.all());
}

#[tokio::test(start_paused = true)]
async fn the_last_of_two_bodies_is_the_one() {
    let (service, _) = answering("end of message", || {
        let response = Response::accept().replace_body("one\r\n");
        response.replace_body("two\r\n").into()
    });
    let (mut mta, run) = start(service);
    mta.greet().await;
    mta.message_but_its_end().await;
    let (edits, verdict) = mta.end().await;
    assert_eq!(
        edits,
        [Reply::Modify(Modification::replace_body("two\r\n"))]
    );
    assert!(matches!(verdict, Reply::Accept | Reply::Continue));
    mta.quit(run).await;
}
