//! One member's failure is its own (D6, protocol 7.3 rules 13 and 14).

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use milter_core::{Actions, Reply};
use milter_tower::{
    Chain, Event, Member, MemberFailure, Needs, Offer, OnMemberFailure, Peer, PeerAddr, Request,
    Response, Session, Settings, SmtpReply, Stage, Steps,
};
use tower::Service;

use crate::common::{
    Act, Log, Ready, Scripted, connect, helo, mail, name, rcpt, seconds, start, start_with,
};
use crate::members::{acting, greeted_as, idle, judge, judging, member, message_as_agreed};

/// A member that acts so at one event, once.
fn failing(at: &'static str, act: fn() -> Act) -> (Scripted, Log) {
    let done = AtomicBool::new(false);
    acting(judging(), move |event| {
        if name(event) == at && !done.swap(true, Ordering::SeqCst) {
            act()
        } else {
            Response::proceed().into()
        }
    })
}

fn chain(a: Scripted, on_failure: impl Into<OnMemberFailure>, b: Scripted) -> Chain {
    Chain::new()
        .with_member(Member::new("a", a).on_failure(on_failure))
        .with("b", b)
}

type Named = (&'static str, fn() -> Act);

const ACTS: [Named; 6] = [
    ("error", || Act::Fail),
    ("panic", || Act::Panic),
    ("panic later", || Act::PanicLater),
    ("panic in drop", || Act::PanicInDrop(None)),
    ("hang", || Act::Hang),
    ("illegal", || {
        Response::proceed().add_header("X", "early").into()
    }),
];

#[tokio::test(start_paused = true)]
async fn a_failure_is_answered_by_the_members_policy() {
    let said: SmtpReply = SmtpReply::reject("a is broken");
    for (what, act) in ACTS {
        for (policy, reply) in [
            (MemberFailure::TempFail, Reply::TempFail),
            (MemberFailure::Reject, Reply::Reject),
            (
                MemberFailure::Reply(said.clone()),
                Reply::Smtp(said.clone()),
            ),
        ] {
            let ((a, first), (b, second)) = (failing("mail", act), idle());
            let (mut mta, run) = greeted_as(chain(a, policy, b), Settings::new()).await;
            assert_eq!(mta.ask(mail()).await, reply, "{what}");
            assert_eq!(second.count("mail"), 0);
            // The next message is filtered as ever.
            assert!(mta.message().await.ends_with("Ea"), "{what}");
            mta.quit(run).await;
            assert_eq!(first.count("end of message"), 1, "{what}");
            assert_eq!(second.count("end: accept"), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_be_left_out_is_for_the_rest_of_the_message() {
    for (what, act) in ACTS {
        for at in [
            "mail",
            "rcpt",
            "data",
            "header",
            "end of headers",
            "body",
            "end of message",
        ] {
            if what == "illegal" && at == "end of message" {
                continue;
            }
            let ((a, first), (b, second)) = (failing(at, act), idle());
            let (mut mta, run) =
                greeted_as(chain(a, MemberFailure::LeaveOut, b), Settings::new()).await;
            assert!(mta.message().await.ends_with("Ea"), "{what} at {at}");
            assert!(mta.message().await.ends_with("Ea"), "{what} at {at}");
            mta.quit(run).await;
            assert_eq!(second.count("end: accept"), 2);
            let twice = first.count("end of message");
            assert_eq!(
                twice,
                if at == "end of message" { 2 } else { 1 },
                "{what} at {at}"
            );
        }
    }
}

#[tokio::test]
async fn the_policy_may_differ_by_stage() {
    let policy = || OnMemberFailure::leave_out().at(Stage::Rcpt, MemberFailure::Reject);
    for (at, answers) in [("mail", "McRc"), ("rcpt", "McRr")] {
        let ((a, _), (b, _)) = (failing(at, || Act::Fail), idle());
        let (mut mta, run) = greeted_as(chain(a, policy(), b), Settings::new()).await;
        assert!(mta.message().await.starts_with(answers), "{at}");
        mta.quit(run).await;
    }
}

#[tokio::test]
async fn a_member_that_panicked_is_made_anew_and_shown_what_it_has_to_know() {
    let ((a, first), (b, second)) = (failing("rcpt", || Act::Panic), idle());
    let chain = Chain::new().with("a", a).with("b", b);
    let (mut mta, run) = greeted_as(chain, Settings::new()).await;
    mta.ask(mail()).await;
    assert_eq!(mta.ask(rcpt("<a@b>")).await, Reply::TempFail);
    assert_eq!(
        mta.ask(rcpt("<a@b>")).await,
        Reply::TempFail,
        "the rest of it fails"
    );
    assert!(mta.message().await.ends_with("Ea"));
    mta.quit(run).await;
    let opening = ["negotiate", "connect", "helo", "mail"];
    // The prototype was cloned when it was built into the chain.
    assert_eq!(first.of(1), [&opening[..], &["rcpt"]].concat());
    assert_eq!(first.of(2)[..5], [&opening[..], &["rcpt"]].concat());
    assert_eq!(first.of(2).last().unwrap(), "close");
    assert_eq!(
        second
            .all()
            .iter()
            .filter(|seen| seen.starts_with("end:"))
            .count(),
        2
    );
}

#[tokio::test]
async fn a_new_one_that_cannot_be_asked_for_its_needs_is_asked_nothing() {
    let offers = AtomicUsize::new(0);
    let (a, seen) = Scripted::new(move |request, _| match request.event() {
        Event::Negotiate(_) if offers.fetch_add(1, Ordering::SeqCst) > 0 => {
            Response::reject().into()
        }
        Event::Mail(_) => Act::Panic,
        _ => Response::proceed().into(),
    });
    let chain = Chain::new().with("a", a).with("b", idle().0);
    let (mut mta, run) = greeted_as(chain, Settings::new()).await;
    for _ in 0..3 {
        assert_eq!(mta.ask(mail()).await, Reply::TempFail);
    }
    mta.quit(run).await;
    assert_eq!((seen.count("negotiate"), seen.count("mail")), (3, 1));
}

#[tokio::test]
async fn a_member_that_is_not_ready_breaks_alone() {
    for (ready, what) in [(Ready::Fail, "fails"), (Ready::Panic, "panics")] {
        let (a, first) = judge("never", Response::proceed());
        // The first clone has seen negotiate, connect and HELO.
        let a = a.ready(move |id, calls| {
            if id == 1 && calls == 3 {
                ready
            } else {
                Ready::Yes
            }
        });
        let (b, second) = idle();
        let chain = Chain::new().with("a", a).with("b", b);
        let (mut mta, run) = greeted_as(chain, Settings::new()).await;
        assert_eq!(mta.ask(mail()).await, Reply::TempFail, "{what}");
        assert!(mta.message().await.ends_with("Ea"));
        mta.quit(run).await;
        assert_eq!(first.of(1).last().unwrap(), "helo");
        assert_eq!(second.count("close"), 1);
    }
}

#[tokio::test]
async fn a_failure_without_a_reply_is_told_with_the_next_one() {
    let records = Needs::none().record(Stage::Header).record(Stage::Body);
    let (a, _) = acting(records, |event| match event {
        Event::Header(_) => Act::Fail,
        _ => Response::proceed().into(),
    });
    let (b, _) = idle();
    let (mut mta, run) = start(chain(a, MemberFailure::Reject, b));
    assert!(message_as_agreed(&mut mta).await.ends_with("LNBcEr"));
    mta.quit(run).await;
}

#[tokio::test]
async fn a_verdict_without_a_reply_is_lost() {
    let records = Needs::none().record(Stage::Mail).record(Stage::Rcpt);
    let (a, _) = acting(records, |event| match event {
        Event::Mail(_) | Event::Rcpt(_) => Response::reject().into(),
        _ => Response::proceed().into(),
    });
    let (b, _) = idle();
    let (mut mta, run) = start(Chain::new().with("a", a).with("b", b));
    assert_eq!(message_as_agreed(&mut mta).await, "CcHcMcRcTcUcLNBcEa");
    mta.quit(run).await;
}

#[tokio::test]
async fn who_fails_in_the_negotiation_fails_from_connect_on() {
    for act in [|| Act::Fail, || Act::Panic, || Response::refuse().into()] as [fn() -> Act; 3] {
        let ((a, _), (b, second)) = (failing_offer(act), idle());
        let (mut mta, run) = start(chain(a, MemberFailure::TempFail, b));
        mta.negotiate().await;
        assert_eq!(mta.ask(connect()).await, Reply::TempFail);
        mta.quit(run).await;
        assert_eq!(second.all(), ["negotiate", "close"]);

        let ((a, first), (b, second)) = (failing_offer(act), idle());
        let (mut mta, run) = start(chain(a, MemberFailure::LeaveOut, b));
        mta.greet().await;
        assert!(mta.message().await.ends_with("Ea"));
        mta.quit(run).await;
        assert!(first.count("close") <= 1 && first.count("mail") == 0);
        assert_eq!(second.count("end: accept"), 1);
    }
}

fn failing_offer(act: fn() -> Act) -> (Scripted, Log) {
    Scripted::new(move |request, _| match request.event() {
        Event::Negotiate(_) => act(),
        _ => Response::proceed().into(),
    })
}

#[tokio::test]
async fn what_the_mta_does_not_offer_ends_it_unless_the_member_may_be_left_out() {
    let offer = Offer {
        actions: Actions::ADD_HEADERS,
        ..Offer::V6
    };
    let demanding = || {
        let needs = Needs::none().action(Actions::CHANGE_SENDER);
        acting(needs, |_| Response::proceed().into()).0
    };
    let (mut mta, run) = start(chain(demanding(), MemberFailure::TempFail, idle().0));
    mta.send(milter_core::Command::Negotiate(offer)).await;
    mta.closed().await;
    let error = crate::common::ended(run).await.unwrap_err().to_string();
    assert!(
        error.contains("CHANGE_SENDER") || error.contains("change"),
        "{error}"
    );

    let (mut mta, run) = start(chain(demanding(), MemberFailure::LeaveOut, idle().0));
    mta.offer(offer).await;
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn members_share_the_time() {
    // Both hang: the first has most of the time, the second most of what is left.
    let ((a, _), (b, _)) = (failing("mail", || Act::Hang), failing("mail", || Act::Hang));
    let chain = Chain::new()
        .with_member(Member::new("a", a).on_failure(MemberFailure::LeaveOut))
        .with_member(Member::new("b", b).on_failure(MemberFailure::LeaveOut))
        .with("c", idle().0);
    let settings = Settings::new().call_timeout(seconds(10));
    let (mut mta, run) = start_with(chain, settings);
    mta.greet().await;
    let start = tokio::time::Instant::now();
    assert_eq!(
        mta.ask(mail()).await,
        Reply::Continue,
        "in time, by the third"
    );
    let took = start.elapsed();
    assert!(took > seconds(8) && took < seconds(10), "{took:?}");
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn each_leaves_time_for_those_behind() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&log);
    let member = tower::service_fn(move |request: Request| {
        let left = request.deadline().remaining();
        if matches!(request.event(), Event::Data) {
            seen.lock().unwrap().push(left.as_secs());
        }
        std::future::ready(Ok::<_, Infallible>(Response::proceed()))
    });
    let members = ["a", "b", "c"].into_iter();
    let mut chain = members.fold(Chain::new(), |chain, name| chain.with(name, member.clone()));
    let session = Session::new(Peer::new(1, PeerAddr::Other), None);
    // By its own reading of the clock each time, as an MTA that waits for each answer has it.
    for _ in 0..2 {
        let request = Request::new(Event::Data, session.clone());
        assert_eq!(chain.call(request).await.unwrap(), Response::proceed());
        tokio::time::advance(seconds(100)).await;
    }
    assert_eq!(*log.lock().unwrap(), [210, 240, 270, 210, 240, 270]);
}

#[tokio::test]
async fn answers_that_would_harm_the_mta_never_leave() {
    for (at, answer) in [
        ("connect", Response::discard()),
        ("helo", Response::discard()),
        ("unknown command", Response::accept()),
        ("unknown command", Response::discard()),
        ("mail", Response::skip()),
        ("body", Response::skip()),
        ("mail", Response::proceed().quarantine("early")),
    ] {
        let ((a, _), (b, _)) = (judge(at, answer), idle());
        let (mut mta, run) = start(Chain::new().with("a", a).with("b", b));
        mta.negotiate().await;
        let mut replies = Vec::new();
        for command in [connect(), helo()]
            .into_iter()
            .chain(crate::common::message())
        {
            let is_asked = command.stage().is_some_and(|stage| stage.name() == at);
            let reply = mta.ask(command).await;
            if is_asked {
                replies.push(reply.code());
                break;
            }
        }
        assert_eq!(replies, [b't'], "{at}");
        mta.quit(run).await;
    }
}

#[tokio::test]
async fn a_failure_at_an_unknown_command_leaves_nobody_out() {
    let (a, first) = acting(judging(), |event| match event {
        Event::Unknown(_) => Act::Fail,
        _ => Response::proceed().into(),
    });
    let (mut mta, run) =
        greeted_as(chain(a, MemberFailure::LeaveOut, idle().0), Settings::new()).await;
    for nth in 1..=2 {
        assert_eq!(mta.ask(crate::common::unknown()).await, Reply::Continue);
        assert!(mta.message().await.ends_with("Ea"));
        assert_eq!(first.count("end of message"), nth);
    }
    mta.quit(run).await;
}

#[tokio::test]
async fn who_fails_to_take_the_place_of_one_that_broke_hears_of_its_end() {
    let (a, first) = Scripted::new(|request, id| match request.event() {
        Event::Negotiate(_) if id == 2 => Act::Fail,
        Event::Negotiate(_) => Response::needs(judging()).into(),
        Event::EndOfMessage(_) if id == 1 => Act::Panic,
        _ => Response::proceed().into(),
    });
    let (mut mta, run) =
        greeted_as(chain(a, MemberFailure::TempFail, idle().0), Settings::new()).await;
    assert!(mta.message().await.ends_with("Et"));
    assert_eq!(mta.ask(mail()).await, Reply::TempFail);
    assert!(mta.message().await.ends_with("Ea"));
    mta.quit(run).await;
    assert_eq!(first.of(2), ["negotiate", "close"]);
}

#[tokio::test]
async fn an_unknown_command_brings_no_fresh_service_into_a_message() {
    let (a, first) = Scripted::new(|request, id| match request.event() {
        Event::Negotiate(_) => Response::needs(judging()).into(),
        Event::Rcpt(_) if id == 1 => Act::Panic,
        _ => Response::proceed().into(),
    });
    let (mut mta, run) =
        greeted_as(chain(a, MemberFailure::TempFail, idle().0), Settings::new()).await;
    mta.ask(mail()).await;
    for command in [rcpt("<a@b>"), crate::common::unknown(), rcpt("<a@b>")] {
        assert_eq!(mta.ask(command).await, Reply::TempFail);
    }
    assert_eq!(first.clones(), 1);
    mta.send(milter_core::Command::Abort).await;
    assert!(mta.message().await.ends_with("Ea"));
    mta.quit(run).await;
    assert_eq!(first.of(2)[..4], ["negotiate", "connect", "helo", "mail"]);
}

/// The MTA waits for a reply that means nothing: the filter asked for none, and the MTA cannot leave
/// it out.
#[tokio::test]
async fn what_fails_where_a_reply_means_nothing_is_refused_later() {
    for stage in [
        Stage::Mail,
        Stage::Rcpt,
        Stage::Data,
        Stage::Header,
        Stage::EndOfHeaders,
        Stage::Body,
    ] {
        let (a, _) = acting(Needs::none().record(stage), move |event| {
            if event.stage() == Some(stage) {
                Act::Fail
            } else {
                Response::proceed().into()
            }
        });
        let (b, second) = member(Needs::none().record(Stage::Mail), |_| Response::proceed());
        let (mut mta, run) = start(Chain::new().with("a", a).with("b", b));
        let steps = Steps::empty();
        mta.offer(Offer { steps, ..Offer::V6 }).await;
        let seen = mta.message().await;
        let (last, before) = seen.as_bytes().split_last().unwrap();
        assert_eq!(*last, b't', "{stage}: {seen}");
        assert!(!before.contains(&b't'), "{stage}: {seen}");
        mta.quit(run).await;
        assert!(second.count("end: aborted") + second.count("end: tempfail") < 2);
    }
}
