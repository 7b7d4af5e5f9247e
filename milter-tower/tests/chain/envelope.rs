//! Verdicts on the envelope (protocol 7.1, 7.2; C84 to C86, C88, C89, C94, C95).

use milter_core::{Command, Reply};
use milter_tower::{Event, MacroStage, Needs, Response, SmtpReply, Stage};

use crate::common::{Scripted, connect, eom, helo, macros, mail, message, rcpt, unknown};
use crate::members::{greeted, idle, judge, judging, member, started};

const ENVELOPE: [&str; 6] = ["connect", "helo", "mail", "rcpt", "data", "unknown command"];

#[tokio::test]
async fn c84_each_event_goes_through_the_members_in_order() {
    let ((a, log), (b, _)) = (idle(), idle());
    // Both write into one log.
    let (b_like_a, _) = (a.twin(), b);
    let (mut mta, run) = greeted(a, b_like_a).await;
    mta.message().await;
    mta.quit(run).await;
    let seen = log.all();
    for pair in seen.chunks(2) {
        assert!(pair.len() == 2 && pair[0] == pair[1], "{seen:?}");
    }
    let ids: Vec<bool> = (1..=2).map(|id| !log.of(id).is_empty()).collect();
    assert_eq!(ids, [true, true]);
}

#[tokio::test]
async fn c85_the_first_to_refuse_wins_and_those_behind_do_not_see_it() {
    for at in ENVELOPE {
        for answer in [
            Response::reject(),
            Response::tempfail(),
            SmtpReply::reject("by a").into(),
        ] {
            let (a, _) = judge(at, answer.clone());
            let (b, seen) = judge(at, SmtpReply::reject("by b").into());
            let (mut mta, run) = started(a, b);
            mta.negotiate().await;
            let mut replies = Vec::new();
            for command in [connect(), helo()].into_iter().chain(message()) {
                let ends_here = command.stage() == Some(Stage::Mail) && at == "mail";
                let is_asked = command.stage().is_some_and(|stage| stage.name() == at);
                let reply = mta.ask(command).await;
                if is_asked {
                    replies.push(reply);
                }
                if ends_here {
                    break;
                }
            }
            assert_eq!(replies, [answer.verdict().to_reply()], "{at}");
            assert_eq!(seen.count(at), 0, "{at}: {:?}", seen.all());
            mta.quit(run).await;
        }
    }
}

#[tokio::test]
async fn c86_who_accepted_the_sender_hears_of_its_end_once_and_who_did_not_see_it_never() {
    let ((a, first), (b, second)) = (idle(), judge("mail", Response::reject()));
    let (mut mta, run) = greeted(a, b).await;
    assert_eq!(mta.ask(mail()).await, Reply::Reject);
    mta.send(Command::Abort).await;
    mta.send(Command::Abort).await;
    mta.quit(run).await;
    assert_eq!(first.count("end: aborted"), 1);
    assert_eq!(second.count("end: reject"), 1);

    let ((a, first), (b, second)) = (judge("mail", Response::reject()), idle());
    let (mut mta, run) = greeted(a, b).await;
    mta.message().await;
    mta.quit(run).await;
    assert_eq!(first.count("end: reject"), 1);
    assert!(!second.all().iter().any(|seen| seen.starts_with("end")));
    assert_eq!(second.count("close"), 1);
}

#[tokio::test]
async fn c88_who_accepts_is_left_out_until_the_next_message() {
    for at in ["mail", "rcpt", "data", "header", "end of headers", "body"] {
        let ((a, first), (b, second)) = (judge(at, Response::accept()), idle());
        let (mut mta, run) = greeted(a, b).await;
        for nth in 1..=2 {
            assert!(mta.message().await.ends_with("Ea"), "{at}");
            assert_eq!(first.count(at), nth);
            assert_eq!(first.count("end of message"), 0);
            assert_eq!(first.count("end: accept"), nth);
            assert_eq!(second.count("end of message"), nth);
        }
        mta.quit(run).await;
    }
}

#[tokio::test]
async fn c88_the_mta_hears_of_an_accept_only_when_all_are_done() {
    let both = || judge("rcpt", Response::accept());
    let ((a, first), (b, second)) = (both(), both());
    let (mut mta, run) = greeted(a, b).await;
    assert_eq!(mta.message().await, "McRa");
    for log in [&first, &second] {
        assert_eq!(log.count("end: accept"), 1);
        assert_eq!(log.count("data"), 0);
    }
    assert_eq!(
        mta.message().await,
        "McRa",
        "the next message is another one"
    );
    mta.quit(run).await;

    let ((a, _), (b, _)) = (
        judge("helo", Response::accept()),
        judge("connect", Response::accept()),
    );
    let (mut mta, run) = started(a, b);
    mta.negotiate().await;
    assert_eq!(mta.ask(connect()).await, Reply::Continue);
    assert_eq!(mta.ask(helo()).await, Reply::Accept);
    mta.quit(run).await;
}

#[tokio::test]
async fn who_accepts_the_connection_is_left_out_of_the_session() {
    let ((a, first), (b, second)) = (judge("connect", Response::accept()), idle());
    let (mut mta, run) = greeted(a, b).await;
    assert!(mta.message().await.ends_with("Ea"));
    mta.send(Command::QuitNewConnection).await;
    assert_eq!(mta.ask(connect()).await, Reply::Continue);
    mta.quit(run).await;
    assert_eq!(
        first.all(),
        ["negotiate", "connect", "session end", "connect", "close"]
    );
    assert_eq!(second.count("end: accept"), 1);
}

#[tokio::test]
async fn c89_a_discard_ends_it_for_all() {
    for at in ["mail", "rcpt", "data"] {
        let ((a, first), (b, second)) = (idle(), judge(at, Response::discard()));
        let (mut mta, run) = greeted(a, b).await;
        assert!(mta.message().await.ends_with('d'), "{at}");
        mta.quit(run).await;
        assert_eq!(first.count("end: aborted"), 1);
        assert_eq!(first.count("end of message"), 0);
        assert_eq!(second.count("end: discard"), 1);
    }
}

/// What the members know of the recipients at the end.
fn knowing(refuses: &'static str) -> (Scripted, crate::common::Log) {
    let log = crate::common::Log::default();
    let told = log.clone();
    let (scripted, _) = Scripted::new(move |request, _| match request.event() {
        Event::Negotiate(_) => Response::needs(judging()).into(),
        Event::Rcpt(to) if to.address() == refuses => Response::reject().into(),
        Event::EndOfMessage(_) => {
            for recipient in request.session().recipients() {
                told.add(0, recipient.address().to_string());
            }
            Response::proceed().into()
        }
        _ => Response::proceed().into(),
    });
    (scripted, log)
}

#[tokio::test]
async fn a_refused_recipient_is_no_news_for_those_before() {
    let ((a, first), (b, second)) = (knowing("<a@no>"), knowing("<b@no>"));
    let (mut mta, run) = greeted(a, b).await;
    for _ in 0..2 {
        mta.ask(mail()).await;
        assert_eq!(mta.ask(rcpt("<a@no>")).await, Reply::Reject);
        assert_eq!(mta.ask(rcpt("<b@no>")).await, Reply::Reject);
        assert_eq!(mta.ask(rcpt("<c@yes>")).await, Reply::Continue);
        mta.end().await;
    }
    mta.quit(run).await;
    assert_eq!(first.all(), ["<b@no>", "<c@yes>", "<b@no>", "<c@yes>"]);
    assert_eq!(second.all(), ["<c@yes>", "<c@yes>"]);
}

#[tokio::test]
async fn c94_a_recipient_that_the_mta_refused_is_for_who_asked_for_it() {
    let curious = judging().rejected_recipients();
    let ((a, first), (b, second)) = (
        member(curious, |event| match event {
            Event::Rcpt(_) => Response::reject(),
            _ => Response::proceed(),
        }),
        idle(),
    );
    let (mut mta, run) = greeted(a, b).await;
    mta.ask(mail()).await;
    mta.send(macros(MacroStage::Rcpt, [("{rcpt_mailer}", "error")]))
        .await;
    assert_eq!(
        mta.ask(rcpt("<no@b>")).await,
        Reply::Continue,
        "its verdict is ignored"
    );
    mta.quit(run).await;
    assert_eq!((first.count("rcpt"), second.count("rcpt")), (1, 0));
}

#[tokio::test]
async fn c94_a_recipient_that_the_mta_refused_passes_by_others_and_what_follows_does_not() {
    let ((a, first), (b, second)) = (
        idle(),
        member(judging().rejected_recipients(), |_| Response::proceed()),
    );
    let (mut mta, run) = greeted(a, b).await;
    mta.ask(mail()).await;
    for (mailer, address) in [("smtp", "<yes@b>"), ("error", "<no@b>")] {
        mta.send(macros(MacroStage::Rcpt, [("{rcpt_mailer}", mailer)]))
            .await;
        assert_eq!(mta.ask(rcpt(address)).await, Reply::Continue);
    }
    assert_eq!(mta.ask(Command::Data).await, Reply::Continue);
    mta.quit(run).await;
    assert_eq!((first.count("rcpt"), second.count("rcpt")), (1, 2));
    assert_eq!((first.count("data"), second.count("data")), (1, 1));
}

#[tokio::test]
async fn c95_an_abort_in_any_phase_reaches_each_open_message_once() {
    for phase in 1..8 {
        let ((a, first), (b, second)) = (idle(), judge("rcpt", Response::accept()));
        let (mut mta, run) = greeted(a, b).await;
        for command in message().into_iter().take(phase) {
            assert_eq!(mta.ask(command).await, Reply::Continue);
        }
        mta.send_all([Command::Abort, Command::Abort]).await;
        mta.quit(run).await;
        assert_eq!(first.count("end: aborted"), 1, "{phase}");
        let ends = second
            .all()
            .iter()
            .filter(|seen| seen.starts_with("end:"))
            .count();
        assert_eq!(ends, 1, "{phase}: {:?}", second.all());
    }
}

#[tokio::test]
async fn refused_data_leaves_the_message_open() {
    let refuses_once = std::sync::atomic::AtomicBool::new(true);
    let (a, first) = member(judging(), move |event| match event {
        Event::Data if refuses_once.swap(false, std::sync::atomic::Ordering::SeqCst) => {
            Response::tempfail()
        }
        _ => Response::proceed(),
    });
    let (b, second) = idle();
    let (mut mta, run) = greeted(a, b).await;
    mta.ask(mail()).await;
    mta.ask(rcpt("<a@b>")).await;
    assert_eq!(mta.ask(Command::Data).await, Reply::TempFail);
    assert_eq!(mta.ask(Command::Data).await, Reply::Continue);
    assert_eq!(mta.ask(eom()).await, Reply::Accept);
    mta.quit(run).await;
    assert_eq!((first.count("data"), second.count("data")), (2, 1));
    assert_eq!(
        (first.count("end: accept"), second.count("end: accept")),
        (1, 1)
    );
}

#[tokio::test]
async fn an_unknown_command_is_answered_by_the_first_who_minds() {
    let ((a, _), (b, seen)) = (judge("unknown command", Response::tempfail()), idle());
    let (mut mta, run) = greeted(a, b).await;
    assert_eq!(mta.ask(unknown()).await, Reply::TempFail);
    mta.quit(run).await;
    assert_eq!(seen.count("unknown command"), 0);
}

#[tokio::test]
async fn who_asked_for_one_event_gets_that_one() {
    let ((a, first), (b, second)) = (
        member(Needs::none().event(Stage::Rcpt), |_| Response::proceed()),
        member(Needs::none().event(Stage::Mail), |_| Response::proceed()),
    );
    let (mut mta, run) = started(a, b);
    mta.negotiate().await;
    mta.send_all([mail(), rcpt("<a@b>")]).await;
    mta.reply().await;
    mta.reply().await;
    mta.end().await;
    mta.quit(run).await;
    let ends = ["end of message", "end: accept", "close"];
    assert_eq!(first.all(), [&["negotiate", "rcpt"][..], &ends].concat());
    assert_eq!(second.all(), [&["negotiate", "mail"][..], &ends].concat());
}
