//! Each member hears of each end once, whatever the others do (D5).

use std::sync::atomic::{AtomicBool, Ordering};

use milter_core::{Command, Verdict};
use milter_tower::{
    BoxError, Chain, Event, Peer, PeerAddr, Request, Response, Sender, Session, Settings,
};
use tower::{Service, ServiceExt, service_fn};

use crate::common::{Act, Ready, Scripted, connect, mail, message, name, seconds};
use crate::members::{acting, greeted, greeted_as, idle, judge, judging};

fn at(event: &'static str, act: fn() -> Act) -> (Scripted, crate::common::Log) {
    acting(judging(), move |seen| {
        if name(seen) == event {
            act()
        } else {
            Response::proceed().into()
        }
    })
}

#[tokio::test(start_paused = true)]
async fn who_fails_at_an_end_keeps_no_other_from_hearing_of_it() {
    for act in [
        || Act::Fail,
        || Act::Panic,
        || Act::Hang,
        || Act::PanicInDrop(None),
    ] as [fn() -> Act; 4]
    {
        for event in ["end: accept", "session end", "close"] {
            let ((a, _), (b, second)) = (at(event, act), idle());
            let (mut mta, run) = greeted(a, b).await;
            assert!(mta.message().await.ends_with("Ea"));
            mta.send(Command::QuitNewConnection).await;
            mta.ask(connect()).await;
            mta.quit(run).await;
            for end in ["end: accept", "session end", "close"] {
                assert_eq!(
                    second.count(end),
                    1,
                    "{end} while the other fails at {event}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_lost_connection_is_lost_for_all() {
    let ((a, first), (b, second)) = (idle(), judge("mail", Response::accept()));
    let (mut mta, run) = greeted(a, b).await;
    mta.ask(mail()).await;
    drop(mta);
    let _ = crate::common::ended(run).await;
    assert_eq!(first.all()[4..], ["end: lost", "close"]);
    assert_eq!(second.all()[4..], ["end: accept", "close"]);
}

#[tokio::test(start_paused = true)]
async fn who_was_not_ready_for_an_end_is_not_called_again() {
    let (a, first) = judge("never", Response::proceed());
    let calls = message().len() + 3;
    let a = a.ready(move |id, n| {
        if id == 1 && n == calls {
            Ready::Never
        } else {
            Ready::Yes
        }
    });
    let (b, second) = idle();
    let (mut mta, run) = greeted(a, b).await;
    assert!(mta.message().await.ends_with("Ea"));
    tokio::time::sleep(seconds(10)).await;
    assert!(mta.message().await.ends_with("Ea"), "by another one");
    mta.quit(run).await;
    assert_eq!(first.of(1).last().unwrap(), "end of message");
    assert_eq!(first.of(2).last().unwrap(), "close");
    assert_eq!(second.count("end: accept"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_hangs_when_the_mta_goes_away_is_dropped() {
    let ((a, first), (b, second)) = (at("rcpt", || Act::Hang), idle());
    let chain = Chain::new().with("a", a).with("b", b);
    let (mut mta, run) = greeted_as(chain, Settings::new()).await;
    mta.ask(mail()).await;
    mta.send(crate::common::rcpt("<a@b>")).await;
    tokio::time::sleep(seconds(1)).await;
    drop(mta);
    let _ = crate::common::ended(run).await;
    assert_eq!(first.all()[4..], ["rcpt", "dropped", "end: lost", "close"]);
    assert_eq!(second.all()[4..], ["end: lost", "close"]);
}

#[tokio::test]
async fn a_clone_is_a_fresh_one() {
    let (a, log) = idle();
    let chain = Chain::new().with("a", a);
    for _ in 0..2 {
        let (mut mta, run) = greeted_as(chain.clone(), Settings::new()).await;
        mta.message().await;
        mta.quit(run).await;
    }
    assert_eq!(log.clones(), 2, "the prototype stays what it was");
    assert_eq!(log.of(1), log.of(2));
    assert_eq!(chain.names().collect::<Vec<_>>(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn who_was_being_asked_when_the_connection_was_lost_hears_of_it() {
    for event in ["mail", "rcpt", "data", "header", "body", "end of message"] {
        let ((a, first), (b, second)) = (idle(), at(event, || Act::Hang));
        let (mut mta, run) = greeted(a, b).await;
        for command in message() {
            let is_last = command.stage().is_some_and(|stage| stage.name() == event);
            mta.send(command).await;
            if is_last {
                break;
            }
            mta.reply().await;
        }
        // It is asked by now.
        tokio::time::sleep(seconds(1)).await;
        drop(mta);
        let _ = crate::common::ended(run).await;
        let ends = ["end: lost".to_owned(), "close".to_owned()];
        assert!(second.all().ends_with(&ends), "{:?}", second.all());
        assert_eq!(first.count("close"), 1);
    }
}

/// Some layers around it lose the end of a message. The next one is not that one.
#[tokio::test]
async fn a_message_begins_with_mail_whatever_was_before() {
    for verdict in [Verdict::Discard, Verdict::Accept] {
        let is_first = std::sync::Arc::new(AtomicBool::new(true));
        let first = Verdict::clone(&verdict);
        let once = service_fn(move |request: Request| {
            let is_mail = matches!(request.event(), Event::Mail(_));
            let is_meant = is_mail && is_first.swap(false, Ordering::Relaxed);
            let answer = match is_mail {
                true if is_meant => first.clone().into(),
                true => Response::reject(),
                false => Response::proceed(),
            };
            std::future::ready(Ok::<_, BoxError>(answer))
        });
        let mut chain = Chain::new().with("a", once).with("b", idle().0);
        let session = Session::new(Peer::new(1, PeerAddr::Other), None);
        let mut told = Vec::new();
        for _ in 0..2 {
            let mail = Event::Mail(Sender::new("<a@example.org>", [""; 0]));
            let request = Request::new(mail, session.clone());
            let response = chain.ready().await.unwrap().call(request).await.unwrap();
            told.push(response.verdict().clone());
        }
        assert_eq!(told[1], Verdict::Reject, "after {verdict:?}");
    }
}
