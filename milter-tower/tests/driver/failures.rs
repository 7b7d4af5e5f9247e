//! Failures become verdicts, never silence (D6).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use milter_core::{Command, Reply};
use milter_tower::{Event, Needs, OnFailure, Request, Response, Settings, SmtpReply, Stage};
use tokio::time::Instant;

use crate::common::{
    Act, Log, Mta, Ready, Scripted, connect, ended, helo, mail, name, proceeding, seconds, start,
    start_with,
};

/// How a service fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Error,
    Panic,
    PanicLater,
    PanicInDrop,
    PanicInDropOfHung,
    Hang,
    NotReady,
    PanicInReady,
    NeverReady,
}

const HOW: [How; 9] = [
    How::Error,
    How::Panic,
    How::PanicLater,
    How::PanicInDrop,
    How::PanicInDropOfHung,
    How::Hang,
    How::NotReady,
    How::PanicInReady,
    How::NeverReady,
];

impl How {
    /// Whether the instance is of no more use.
    fn breaks(self) -> bool {
        !matches!(self, Self::Error | Self::Hang | Self::NeverReady)
    }
}

/// The events in the order in which a service sees them.
const EVENTS: [&str; 10] = [
    "connect",
    "helo",
    "mail",
    "rcpt",
    "data",
    "unknown command",
    "header",
    "end of headers",
    "body",
    "end of message",
];

/// A service whose first clone fails at its n-th call.
fn failing(how: How, nth: usize) -> (Scripted, Log) {
    let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (service, log) = Scripted::new(move |_, id| {
        let call = calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if id != 1 || call != nth {
            return Response::proceed().into();
        }
        match how {
            How::Error => Act::Fail,
            How::Panic => Act::Panic,
            How::PanicLater => Act::PanicLater,
            How::PanicInDrop => Act::PanicInDrop(Some(Response::accept())),
            How::PanicInDropOfHung => Act::PanicInDrop(None),
            How::Hang => Act::Hang,
            How::NotReady | How::PanicInReady | How::NeverReady => Response::proceed().into(),
        }
    });
    // A little longer than the event's deadline.
    let limit = if nth == 10 { 280 } else { 8 };
    let never = seconds(limit) + Duration::from_millis(100);
    let since = OnceLock::new();
    let service = service.ready(move |id, calls| match how {
        _ if id != 1 || calls != nth => Ready::Yes,
        How::NotReady => Ready::Fail,
        How::PanicInReady => Ready::Panic,
        How::NeverReady if since.get_or_init(Instant::now).elapsed() < never => Ready::Never,
        _ => Ready::Yes,
    });
    (service, log)
}

/// The letters of a message with its failure: the rest of it fails too if the service broke.
fn message_with_failure(at: &str, breaks: bool) -> String {
    let mut letters = String::new();
    let mut failed = false;
    for (event, letter) in EVENTS[2..].iter().zip("MRTULNBE".chars()) {
        let fails = *event == at || failed && breaks;
        failed |= fails;
        letters.push(letter);
        letters.push(if fails { 't' } else { 'c' });
        if fails && "MLNBE".contains(letter) {
            break;
        }
    }
    letters
}

#[tokio::test(start_paused = true)]
async fn d6_each_failure_at_each_event() {
    for how in HOW {
        for (n, at) in EVENTS.iter().enumerate() {
            let context = format!("{how:?} at {at}");
            let (service, log) = failing(how, n + 1);
            let (mut mta, run) = start(service);
            mta.negotiate().await;
            let before = EVENTS[..2].contains(at);
            for (command, event) in [(connect(), "connect"), (helo(), "helo")] {
                let expected = if event == *at {
                    Reply::TempFail
                } else {
                    Reply::Continue
                };
                assert_eq!(mta.ask(command).await, expected, "{context}, {event}");
            }
            let whole = "McRcTcUcLcNcBcEc";
            let first = if before {
                whole.into()
            } else {
                message_with_failure(at, how.breaks())
            };
            assert_eq!(mta.message().await, first, "{context}");
            assert_eq!(mta.message().await, whole, "{context}");
            mta.quit(run).await;

            let seen = log.all();
            assert_eq!(log.count("close"), 1, "{context}: {seen:?}");
            assert_eq!(log.clones(), if how.breaks() { 2 } else { 1 }, "{context}");
            if how.breaks() {
                // The broken one gets nothing more; the fresh one is told what it has to know.
                let old = log.of(1);
                let calls = if matches!(how, How::NotReady | How::PanicInReady) {
                    n + 1
                } else {
                    n + 2
                };
                assert_eq!(old.len(), calls, "{context}: {old:?}");
                let fresh = log.of(2);
                assert_eq!(fresh[..2], ["negotiate", "connect"], "{context}");
                assert!(fresh.contains(&"helo".into()), "{context}: {fresh:?}");
                assert_eq!(
                    fresh.iter().filter(|e| *e == "helo").count(),
                    1,
                    "{context}"
                );
            } else if !before && message_with_failure(at, false).ends_with('t') {
                // One that was never ready at MAIL did not see the message begin.
                let began = !(matches!(how, How::NeverReady) && *at == "mail");
                let ends = log.count("end: tempfail");
                assert_eq!(ends, usize::from(began), "{context}: {seen:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn d6_failures_when_something_ends() {
    // negotiate, connect, helo, eight events of a message, then its end.
    for how in HOW {
        let (service, log) = failing(how, 11);
        let (mut mta, run) = start(service);
        mta.greet().await;
        for _ in 0..2 {
            assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc", "{how:?}");
            // An end that takes long takes from the time of a MAIL that waits for it.
            tokio::time::sleep(seconds(10)).await;
        }
        mta.quit(run).await;
        assert_eq!(log.all().last().unwrap(), "close", "{how:?}");
        // One that was not told of an end is of no more use either.
        let replaced = how.breaks() || how == How::NeverReady;
        assert_eq!(log.clones(), if replaced { 2 } else { 1 }, "{how:?}");
    }
    for how in HOW {
        // The close itself.
        let (service, log) = failing(how, 1);
        let (mut mta, run) = start(service);
        mta.negotiate().await;
        mta.quit(run).await;
        assert_eq!(log.clones(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn d6_the_failure_verdict_is_a_setting() {
    for (on_failure, reply) in [
        (OnFailure::Reject, Reply::Reject),
        (
            OnFailure::Reply(SmtpReply::tempfail("Filter out of order")),
            Reply::Smtp(SmtpReply::tempfail("Filter out of order")),
        ),
    ] {
        let (service, _) = failing(How::Error, 1);
        let (mut mta, run) = start_with(service, Settings::new().on_failure(on_failure));
        mta.negotiate().await;
        assert_eq!(mta.ask(connect()).await, reply);
        mta.quit(run).await;
    }
}

#[tokio::test(start_paused = true)]
async fn d6_a_fresh_clone_that_breaks_too_is_replaced_again() {
    let (service, log) = Scripted::new(|request, id| match request.event() {
        Event::Mail(_) if id < 3 => Act::Panic,
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = start(service);
    mta.greet().await;
    assert_eq!(mta.message().await, "Mt");
    assert_eq!(mta.message().await, "Mt");
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    mta.quit(run).await;
    assert_eq!(log.of(2), ["negotiate", "connect", "helo", "mail"]);
    assert_eq!(log.of(3).last().unwrap(), "close");
}

#[tokio::test(start_paused = true)]
async fn d6_a_fresh_clone_that_fails_before_its_first_message() {
    for event in ["negotiate", "connect", "helo"] {
        let (service, log) =
            Scripted::new(move |request, id| match name(request.event()).as_str() {
                "mail" if id == 1 => Act::Panic,
                failing if id == 2 && failing == event => Act::Fail,
                _ => Response::proceed().into(),
            });
        let (mut mta, run) = start(service);
        mta.greet().await;
        assert_eq!(mta.message().await, "Mt", "{event}");
        assert_eq!(mta.message().await, "Mt", "{event}");
        assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc", "{event}");
        mta.quit(run).await;
        assert_eq!(log.clones(), 3);
    }
}

fn needing_more(more: Needs, agreed: Needs) -> (Scripted, Log) {
    Scripted::new(move |request: &Request, id| match request.event() {
        Event::Negotiate(_) if id == 1 => Response::needs(agreed.clone()).into(),
        Event::Negotiate(_) => Response::needs(more.clone()).into(),
        Event::Mail(_) if id == 1 => Act::Panic,
        _ => Response::proceed().into(),
    })
}

#[tokio::test(start_paused = true)]
async fn d6_a_fresh_clone_that_needs_more_means_failure_until_the_end() {
    let agreed = Needs::none().event(Stage::Mail);
    let (service, log) = needing_more(agreed.clone().event(Stage::Rcpt), agreed.clone());
    let (mut mta, run) = start(service);
    mta.negotiate().await;
    assert_eq!(mta.ask(mail()).await, Reply::TempFail);
    for _ in 0..2 {
        assert_eq!(mta.message().await, "Mt");
    }
    mta.send(Command::QuitNewConnection).await;
    assert_eq!(mta.message().await, "Mt");
    mta.quit(run).await;
    assert_eq!(log.clones(), 2, "it is not tried again");
    assert_eq!(log.of(2), ["negotiate", "close"]);

    // As much or less is fine.
    let (service, log) = needing_more(Needs::none(), agreed);
    let (mut mta, run) = start(service);
    mta.negotiate().await;
    assert_eq!(mta.ask(mail()).await, Reply::TempFail);
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    mta.quit(run).await;
    assert_eq!(log.of(2).last().unwrap(), "close");
}

#[tokio::test(start_paused = true)]
async fn d6_what_a_fresh_clone_thinks_of_the_client_holds_for_the_messages_left() {
    for (connect_says, helo_says, letters) in [
        (Response::reject(), Response::proceed(), "Mr"),
        (Response::reject(), Response::accept(), "Mr"),
        (Response::proceed(), Response::reject(), "Mr"),
        (Response::accept(), Response::reject(), "Ma"),
    ] {
        let (service, log) = Scripted::new(move |request, id| match request.event() {
            Event::Mail(_) if id == 1 => Act::Panic,
            Event::Connect(_) if id == 2 => connect_says.clone().into(),
            Event::Helo(_) if id == 2 => helo_says.clone().into(),
            _ => Response::proceed().into(),
        });
        let (mut mta, run) = start(service);
        mta.greet().await;
        assert_eq!(mta.message().await, "Mt");
        for _ in 0..2 {
            assert_eq!(mta.message().await, letters);
        }
        mta.quit(run).await;
        assert!(!log.of(2).contains(&"mail".into()));
        assert_eq!(log.of(2).last().unwrap(), "close");
    }
}

/// HELO between messages, after STARTTLS for one, is no message; a refusal there would last for
/// the session.
#[tokio::test(start_paused = true)]
async fn d6_helo_and_connect_get_a_fresh_clone_too() {
    let (service, log) = Scripted::new(|request, id| match request.event() {
        Event::Mail(_) if id % 2 == 1 => Act::Panic,
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = start(service);
    mta.greet().await;
    assert_eq!(mta.message().await, "Mt");
    assert_eq!(mta.ask(helo()).await, Reply::Continue);
    assert_eq!(log.of(2), ["negotiate", "connect", "helo"]);
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    mta.quit(run).await;

    let (service, log) = Scripted::new(|request, id| match request.event() {
        Event::Mail(_) if id == 1 => Act::Panic,
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = start(service);
    mta.greet().await;
    assert_eq!(mta.message().await, "Mt");
    mta.send(Command::QuitNewConnection).await;
    assert_eq!(mta.ask(connect()).await, Reply::Continue);
    assert_eq!(log.of(2), ["negotiate", "connect"]);
    mta.quit(run).await;
}

/// Sendmail waits 10 s for an answer, also while a fresh clone is told what it has to know.
#[tokio::test(start_paused = true)]
async fn d6_d9_a_fresh_clone_that_is_slow_has_no_more_time_than_others() {
    let (service, _) = Scripted::new(|request, id| match request.event() {
        Event::Mail(_) if id == 1 => Act::Panic,
        _ if id == 2 => Act::After(seconds(3), Response::proceed()),
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = start(service);
    mta.greet().await;
    assert_eq!(mta.message().await, "Mt");
    let start = Instant::now();
    assert_eq!(mta.message().await, "Mt");
    assert!(start.elapsed() < seconds(9), "{:?}", start.elapsed());
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn d6_a_panic_while_the_mta_is_gone_breaks_the_service_all_the_same() {
    let (service, log) = Scripted::new(|request, _| match request.event() {
        Event::Mail(_) => Act::PanicInDrop(None),
        _ => Response::proceed().into(),
    });
    let (mut mta, run): (Mta, _) = start(service);
    mta.greet().await;
    mta.send(mail()).await;
    tokio::task::yield_now().await;
    drop(mta);
    assert!(ended(run).await.is_err());
    assert_eq!(log.all(), ["negotiate", "connect", "helo", "mail"]);
}

#[tokio::test(start_paused = true)]
async fn d6_commands_out_of_order_fail_and_are_not_shown() {
    let (service, log) = proceeding();
    let (mut mta, run) = start(service);
    mta.greet().await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    assert_eq!(mta.ask(Command::EndOfHeaders).await, Reply::Continue);
    let late = mta.ask(crate::common::rcpt("<late@x>")).await;
    assert_eq!(late, Reply::TempFail);
    assert_eq!(mta.ask(crate::common::eom()).await, Reply::Continue);
    mta.quit(run).await;
    assert_eq!(log.count("rcpt"), 0);
}
