//! Every beginning has its end, told once (D5, C45 to C59).

use std::sync::OnceLock;

use milter_core::{Command, Offer, Reply};
use milter_tower::{Event, Needs, Response, SmtpReply, Stage, Verdict};

use tokio::time::Instant;

use crate::common::{
    Log, Mta, Ready, Run, Scripted, connect, ended, eom, header, helo, mail, message, proceeding,
    rcpt, seconds, start, unknown,
};

/// How a session goes on after the verdict in question.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Abort,
    Mail,
    Helo,
    Quit,
    QuitNewConnection,
    Eof,
    HalfAFrame,
}

const THEN: [Then; 7] = [
    Then::Abort,
    Then::Mail,
    Then::Helo,
    Then::Quit,
    Then::QuitNewConnection,
    Then::Eof,
    Then::HalfAFrame,
];

fn verdicts() -> [Verdict; 6] {
    [
        Verdict::Continue,
        Verdict::Accept,
        Verdict::Reject,
        Verdict::TempFail,
        Verdict::Discard,
        SmtpReply::reject("No").into(),
    ]
}

/// What ends a message for the filter that says it (protocol 5.3, rule 2).
fn ends(verdict: &Verdict, stage: Stage) -> bool {
    use Stage::{Body, Data, EndOfHeaders, EndOfMessage, Header, Mail, Rcpt};
    match stage {
        Mail | Header | EndOfHeaders | Body => *verdict != Verdict::Continue,
        Rcpt | Data => matches!(verdict, Verdict::Accept | Verdict::Discard),
        EndOfMessage => true,
        Stage::Connect | Stage::Helo | Stage::Unknown => false,
    }
}

/// A filter that says this at this stage of the first message, and proceeds otherwise.
fn saying(verdict: Verdict, stage: Stage) -> (Scripted, Log) {
    let said = std::sync::atomic::AtomicBool::new(false);
    Scripted::new(move |request, _| {
        let first = request.event().stage() == Some(stage)
            && !said.swap(true, std::sync::atomic::Ordering::SeqCst);
        if first {
            Response::from(verdict.clone()).into()
        } else {
            Response::proceed().into()
        }
    })
}

/// Sends everything up to the stage.
async fn until(mta: &mut Mta, stage: Stage) {
    mta.negotiate().await;
    for command in [connect(), helo()].into_iter().chain(message()) {
        let here = command.stage() == Some(stage);
        mta.ask(command).await;
        if here {
            break;
        }
    }
}

async fn finish(mut mta: Mta, run: Run, then: Then) {
    match then {
        Then::Abort => mta.send(Command::Abort).await,
        Then::Mail => drop(mta.ask(mail()).await),
        Then::Helo => drop(mta.ask(helo()).await),
        Then::QuitNewConnection => mta.send(Command::QuitNewConnection).await,
        Then::HalfAFrame => mta.send_raw(b"\0\0\0\x05Rab").await,
        Then::Quit | Then::Eof => {}
    }
    if matches!(then, Then::Eof | Then::HalfAFrame) {
        drop(mta);
        let _ = ended(run).await;
    } else {
        mta.quit(run).await;
    }
}

#[tokio::test(start_paused = true)]
async fn d5_every_beginning_has_one_end() {
    for stage in Stage::ALL {
        for verdict in verdicts() {
            for then in THEN {
                let (service, log) = saying(verdict.clone(), stage);
                let (mut mta, run) = start(service);
                until(&mut mta, stage).await;
                finish(mta, run, then).await;
                check(&log, stage, &verdict, then);
            }
        }
    }
}

fn check(log: &Log, stage: Stage, verdict: &Verdict, then: Then) {
    let seen = log.all();
    let context = format!("{verdict:?} at {stage}, then {then:?}: {seen:?}");
    assert_eq!(log.clones(), 1, "{context}");
    assert_eq!(seen.last().unwrap(), "close", "{context}");
    assert_eq!(log.count("close"), 1, "{context}");
    let session_ends = usize::from(then == Then::QuitNewConnection);
    assert_eq!(log.count("session end"), session_ends, "{context}");

    let mut expected = Vec::new();
    if !matches!(stage, Stage::Connect | Stage::Helo) {
        expected.push(if ends(verdict, stage) {
            let accepted = *verdict == Verdict::Continue;
            let said = if accepted { "accept" } else { verdict.name() };
            format!("end: {said}")
        } else if matches!(then, Then::Eof | Then::HalfAFrame) {
            "end: lost".into()
        } else {
            "end: aborted".into()
        });
    }
    let session_accepted =
        *verdict == Verdict::Accept && matches!(stage, Stage::Connect | Stage::Helo);
    if then == Then::Mail && !session_accepted {
        // The second message is given up by QUIT.
        expected.push("end: aborted".into());
    }
    let ends: Vec<_> = seen.iter().filter(|s| s.starts_with("end:")).collect();
    assert_eq!(ends, expected.iter().collect::<Vec<_>>(), "{context}");
}

#[tokio::test(start_paused = true)]
async fn c51_c53_a_decided_message_is_answered_without_the_filter() {
    for (verdict, stage, letter) in [
        (Verdict::Accept, Stage::Mail, 'a'),
        (Verdict::Reject, Stage::Mail, 'r'),
        (Verdict::Discard, Stage::Rcpt, 'd'),
        (Verdict::Discard, Stage::Data, 'd'),
        (Verdict::TempFail, Stage::Header, 't'),
        (Verdict::Accept, Stage::Body, 'a'),
    ] {
        let (service, log) = saying(verdict, stage);
        let (mut mta, run) = start(service);
        until(&mut mta, stage).await;
        let seen = log.all();
        for command in message() {
            // MAIL would begin another message.
            if command.stage() > Some(stage) && command.stage() != Some(Stage::Unknown) {
                let reply = mta.ask(command).await;
                assert_eq!(char::from(reply.code()), letter, "{stage}");
            }
        }
        mta.send_all([Command::Abort, Command::Abort]).await;
        mta.quit(run).await;
        let rest: Vec<_> = log.all()[seen.len()..].to_vec();
        assert!(
            rest == ["close"] || rest.len() == 2 && rest[0].starts_with("end:"),
            "{rest:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c46_c47_aborts_without_a_message() {
    let (service, log) = proceeding();
    let (mut mta, run) = start(service);
    mta.send(Command::Abort).await;
    mta.greet().await;
    mta.send_all([Command::Abort, Command::Abort]).await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    mta.send_all([Command::Abort, Command::Abort]).await;
    mta.quit(run).await;
    assert_eq!(log.all()[3..], ["mail", "end: aborted", "close"]);
}

#[tokio::test(start_paused = true)]
async fn c52_c54_refused_recipients_and_data_keep_the_message() {
    let (service, log) = Scripted::new(|request, _| match request.event() {
        Event::Rcpt(_) | Event::Data => Response::reject().into(),
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = start(service);
    mta.greet().await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    for command in [rcpt("<b@x>"), Command::Data, Command::Data, rcpt("<c@x>")] {
        assert_eq!(mta.ask(command).await, Reply::Reject);
    }
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    mta.quit(run).await;
    assert_eq!(log.count("end: aborted"), 2);
    assert_eq!(log.count("rcpt"), 2);
}

#[tokio::test(start_paused = true)]
async fn c44_c55_unknown_commands_at_any_time() {
    let (service, log) = proceeding();
    let (mut mta, run) = start(service);
    mta.negotiate().await;
    assert_eq!(mta.ask(unknown()).await, Reply::Continue);
    assert_eq!(mta.ask(connect()).await, Reply::Continue);
    assert_eq!(mta.ask(unknown()).await, Reply::Continue);
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    assert_eq!(mta.ask(rcpt("<b@x>")).await, Reply::Continue);
    assert_eq!(mta.ask(unknown()).await, Reply::Continue);
    // No DATA, as where the filter declined it.
    for command in [header(), Command::EndOfHeaders, eom()] {
        assert_eq!(mta.ask(command).await, Reply::Continue);
    }
    mta.quit(run).await;
    assert_eq!(log.count("unknown command"), 3);
    assert_eq!(log.count("end: accept"), 1);
}

#[tokio::test(start_paused = true)]
async fn c56_accepted_at_a_recipient_then_a_clean_message() {
    let (service, log) = saying(Verdict::Accept, Stage::Rcpt);
    let (mut mta, run) = start(service);
    until(&mut mta, Stage::Rcpt).await;
    mta.send(Command::Abort).await;
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    mta.quit(run).await;
    assert_eq!(log.count("end: accept"), 2);
}

#[tokio::test(start_paused = true)]
async fn c58_c59_short_sessions() {
    let (service, log) = proceeding();
    let (mut mta, run) = start(service);
    mta.negotiate().await;
    mta.quit(run).await;
    assert_eq!(log.all(), ["negotiate", "close"]);

    let (service, log) = proceeding();
    let (mut mta, run) = start(service);
    mta.negotiate().await;
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    mta.quit(run).await;
    assert_eq!(log.count("end: accept"), 1);
    assert_eq!(log.count("session end"), 0);
}

#[tokio::test(start_paused = true)]
async fn c45_k_in_every_state_and_twice() {
    let (service, log) = proceeding();
    let (mut mta, run) = start(service);
    mta.negotiate().await;
    mta.send(Command::QuitNewConnection).await;
    for _ in 0..2 {
        assert_eq!(mta.ask(connect()).await, Reply::Continue);
        assert_eq!(mta.ask(mail()).await, Reply::Continue);
        mta.send_all([Command::QuitNewConnection, Command::QuitNewConnection])
            .await;
    }
    mta.quit(run).await;
    let session = ["connect", "mail", "end: aborted", "session end"];
    assert_eq!(log.all()[1..5], session);
    assert_eq!(log.all()[5..9], session);
    assert_eq!(log.all()[9..], ["close"]);
}

#[tokio::test(start_paused = true)]
async fn c50_a_message_that_the_filter_was_never_shown_has_no_end() {
    let (service, log) =
        Scripted::new(|_, _| Response::needs(Needs::none().event(Stage::Body)).into());
    let (mut mta, run) = start(service);
    // An MTA that cannot leave events out.
    let offer = Offer {
        steps: milter_tower::Steps::empty() | milter_tower::Steps::SKIP,
        ..Offer::V6
    };
    mta.offer(offer).await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    assert_eq!(mta.ask(rcpt("<b@x>")).await, Reply::Continue);
    mta.quit(run).await;
    assert_eq!(log.all(), ["negotiate", "close"]);
}

/// It would take the next message for a part of the first one.
#[tokio::test(start_paused = true)]
async fn d5_a_service_that_missed_an_end_sees_no_other_message() {
    let (service, log) = proceeding();
    let since = OnceLock::new();
    let service = service.ready(move |id, calls| {
        // At the end of the first message, and for longer than an end may take.
        let is_busy = || since.get_or_init(Instant::now).elapsed() < seconds(6);
        if id == 1 && calls == 11 && is_busy() {
            Ready::Never
        } else {
            Ready::Yes
        }
    });
    let (mut mta, run) = start(service);
    mta.greet().await;
    for _ in 0..2 {
        assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    }
    mta.quit(run).await;
    assert_eq!(log.of(1).len(), 11);
    assert_eq!(log.of(1).last().unwrap(), "end of message");
    assert_eq!(log.of(2)[..4], ["negotiate", "connect", "helo", "mail"]);
    assert_eq!(log.count("end: accept"), 1);
    assert_eq!(log.count("close"), 1);
}
