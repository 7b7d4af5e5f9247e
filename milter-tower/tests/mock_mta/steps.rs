//! Sessions that are driven step by step.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use milter_tower::testing::{Fate, Mail, MockMta, SmtpSession};
use milter_tower::{Event, MacroStage, Needs, Response, Stage, Verdict};
use tokio::time::timeout;

use crate::common::{Act, Log, Scripted, answering, name, proceeding};
use crate::profiles;

/// A filter that goes on and needs these.
fn needing(needs: Needs) -> (Scripted, Log) {
    Scripted::new(move |request, _| {
        let response = match request.event() {
            Event::Negotiate(_) => Response::needs(needs.clone()),
            _ => Response::proceed(),
        };
        response.into()
    })
}

/// The steps of a mail, in order.
async fn step(client: &mut SmtpSession, number: usize) {
    match number {
        0 => drop(client.connect(Mail::new().connection()).await),
        1 => drop(client.helo("client.example").await),
        2 => drop(client.mail("a@example.org").await),
        3 => drop(client.rcpt("b@example.net").await),
        4 => drop(client.data().await),
        5 => drop(client.header("Subject", "hello").await),
        6 => drop(client.end_of_headers().await),
        7 => drop(client.body("text\r\n").await),
        _ => drop(client.end().await),
    }
}

#[tokio::test]
async fn several_messages_on_one_connection() {
    for profile in profiles() {
        let (filter, log) = proceeding();
        let mut mta = MockMta::with_profile(profile, filter);
        let mut client = mta.open().await;
        for n in 0..3 {
            let mail = Mail::new().from(format!("a{n}@example.org"));
            let done = client.deliver(mail).await;
            assert!(done.is_accepted(), "{done}");
            assert_eq!(
                done.message.sender().mailbox(),
                format!("a{n}@example.org").as_str()
            );
            assert_eq!(done.message.recipients().len(), 1);
            // What was answered to the first client's connection is told once.
            assert_eq!(done.answer_at(Stage::Connect).is_some(), n == 0);
        }
        client.quit().await;
        for (what, count) in [
            ("connect", 1),
            ("mail", 3),
            ("end: accept", 3),
            ("close", 1),
        ] {
            assert_eq!(log.count(what), count, "{what}");
        }
        assert_eq!(log.count("end: aborted"), 0);
    }
}

#[tokio::test]
async fn each_delivery_has_a_session_of_its_own() {
    let (filter, log) = proceeding();
    let mut mta = MockMta::postfix(filter);
    for _ in 0..2 {
        mta.deliver(Mail::new()).await;
    }
    assert_eq!((log.count("connect"), log.count("close")), (2, 2));
}

#[tokio::test]
async fn the_connection_is_lost_at_every_step() {
    for profile in profiles() {
        for steps in 0..=9 {
            let (filter, log) = proceeding();
            let mut client = MockMta::with_profile(profile.clone(), filter).open().await;
            for number in 0..steps {
                step(&mut client, number).await;
            }
            client.lose().await;
            let seen = log.all();
            assert_eq!(seen.last().unwrap(), "close", "{seen:?}");
            let is_open = (3..9).contains(&steps);
            assert_eq!(log.count("end: lost"), usize::from(is_open), "{seen:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_connection_is_lost_while_the_filter_is_at_work() {
    for profile in profiles() {
        let is_old = profile.name().ends_with("(version 2)");
        for number in (0..9).filter(|number| !(is_old && *number == 4)) {
            let at = [
                "connect",
                "helo",
                "mail",
                "rcpt",
                "data",
                "header",
                "end of headers",
                "body",
                "end of message",
            ][number];
            let (filter, log) = answering(at, || Act::Hang);
            let mut client = MockMta::with_profile(profile.clone(), filter).open().await;
            for before in 0..number {
                step(&mut client, before).await;
            }
            let waited = timeout(Duration::from_secs(2), step(&mut client, number)).await;
            assert!(waited.is_err(), "{at}");
            client.lose().await;
            let seen = log.all();
            assert!(seen.contains(&"dropped".to_owned()), "{at}: {seen:?}");
            assert_eq!(seen.last().unwrap(), "close", "{at}: {seen:?}");
        }
    }
}

#[tokio::test]
async fn a_message_that_the_client_gives_up() {
    for profile in profiles() {
        let (filter, log) = proceeding();
        let mut client = MockMta::with_profile(profile, filter).open().await;
        for number in 0..4 {
            step(&mut client, number).await;
        }
        let done = client.abort().await;
        assert_eq!(
            (done.fate, done.ended_at),
            (Fate::Aborted, Some(Stage::Rcpt))
        );
        let done = client.deliver(Mail::new().to("c@example.net")).await;
        assert!(done.is_accepted(), "{done}");
        assert_eq!(done.message.recipients().len(), 1);
        client.quit().await;
        assert_eq!(log.count("end: aborted"), 1);
        assert_eq!(log.count("end: accept"), 1);
    }
}

#[tokio::test]
async fn an_abort_that_sendmail_does_not_tell() {
    let (filter, log) = needing(Needs::none().record(Stage::Mail).event(Stage::Rcpt));
    let mut client = MockMta::sendmail(filter).open().await;
    for number in 0..4 {
        step(&mut client, number).await;
    }
    client.abort().await;
    assert_eq!(log.count("end: aborted"), 0);
    // The next MAIL tells it.
    client.mail("a@example.org").await;
    client.lose().await;
    assert_eq!((log.count("end: aborted"), log.count("end: lost")), (1, 1));
}

#[tokio::test]
async fn helo_again_in_the_middle_of_a_message() {
    for profile in profiles() {
        let (filter, log) = proceeding();
        let mut client = MockMta::with_profile(profile, filter).open().await;
        for number in 0..4 {
            step(&mut client, number).await;
        }
        client.helo("again.example").await;
        let done = client.deliver(Mail::new()).await;
        assert!(done.is_accepted(), "{done}");
        client.quit().await;
        assert_eq!(log.count("helo"), 2);
        assert_eq!(log.count("end: aborted"), 1);
    }
}

#[tokio::test]
async fn data_that_was_refused_comes_again() {
    let count = AtomicUsize::new(0);
    let (filter, _) = answering("data", move || {
        let is_first = count.fetch_add(1, Ordering::Relaxed) == 0;
        Act::Answer(if is_first {
            Response::tempfail()
        } else {
            Response::proceed()
        })
    });
    let mut client = MockMta::postfix(filter).open().await;
    for number in 0..4 {
        step(&mut client, number).await;
    }
    assert_eq!(client.data().await.verdict, Verdict::TempFail);
    assert_eq!(client.data().await.verdict, Verdict::Continue);
    for number in 5..8 {
        step(&mut client, number).await;
    }
    let done = client.end().await;
    assert!(done.is_accepted(), "{done}");
    client.quit().await;
}

#[tokio::test]
async fn steps_in_an_order_in_which_no_mta_asks() {
    for profile in profiles() {
        let (filter, log) = proceeding();
        let mut client = MockMta::with_profile(profile, filter).open().await;
        // Nothing before MAIL, twice; a body before its headers; the end at once.
        client.mail("a@example.org").await;
        client.mail("b@example.org").await;
        client.rcpt("c@example.net").await;
        client.body("text\r\n").await;
        let late = client.header("X-Late", "yes").await;
        assert!(
            late.verdict.is_refusal(),
            "the server takes no header behind the body: {late}"
        );
        client.end().await;
        client.helo("late.example").await;
        client.connect(Mail::new().connection()).await;
        client.lose().await;
        assert_eq!(log.count("mail"), 2);
        assert_eq!(log.count("end: aborted"), 1);
        assert_eq!(log.all().last().unwrap(), "close");
    }
}

#[tokio::test]
async fn what_the_filter_declined_is_not_told() {
    let (filter, log) = needing(Needs::none().event(Stage::Rcpt));
    let done = MockMta::postfix(filter).deliver(Mail::new()).await;
    assert!(done.is_accepted(), "{done}");
    assert_eq!(
        log.all(),
        [
            "negotiate",
            "rcpt",
            "end of message",
            "end: accept",
            "close"
        ]
    );
    let stages: Vec<Stage> = done.answers.iter().map(|answer| answer.stage).collect();
    assert_eq!(stages, [Stage::Rcpt, Stage::EndOfMessage]);
}

#[tokio::test]
async fn facts_of_the_session() {
    let (filter, log) = Scripted::new(|request, _| {
        let session = request.session();
        if name(request.event()) == "end of message" {
            let auth = session
                .auth()
                .and_then(|auth| auth.user)
                .map(|user| user.to_string());
            assert_eq!(auth.as_deref(), Some("alice"));
            assert_eq!(session.client_ip().unwrap().to_string(), "192.0.2.1");
            assert!(session.queue_id().is_some());
        }
        Response::proceed().into()
    });
    for profile in [crate::MtaProfile::postfix(), crate::MtaProfile::sendmail()] {
        let mail = Mail::new()
            .auth("PLAIN", "alice")
            .tls("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256);
        let done = MockMta::with_profile(profile, filter.twin())
            .deliver(mail)
            .await;
        assert!(done.is_accepted(), "{done}");
    }
    assert_eq!(log.count("end of message"), 2);
}

#[tokio::test]
async fn macros_of_a_mail_are_that_mails() {
    let (filter, log) = Scripted::new(|request, _| {
        let session = request.session();
        let auth = session.auth().and_then(|auth| auth.user);
        if name(request.event()) == "end of message" {
            let tls = session.macros().get("{tls_version}").is_some();
            assert!(
                tls && (auth.is_some() == (session.sender().unwrap().mailbox() == "a@example.org"))
            );
        }
        Response::proceed().into()
    });
    let mut client = MockMta::postfix(filter).open().await;
    client.set_macro(MacroStage::Helo, "{tls_version}", "TLSv1.3");
    let first = Mail::new().from("a@example.org").auth("PLAIN", "alice");
    assert!(client.deliver(first).await.is_accepted());
    assert!(
        client
            .deliver(Mail::new().from("b@example.org"))
            .await
            .is_accepted()
    );
    client.quit().await;
    assert_eq!(log.count("end of message"), 2);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "cannot be taken")]
async fn a_step_within_another_is_no_step() {
    let (filter, _) = answering("mail", || Act::Hang);
    let mut client = MockMta::postfix(filter).open().await;
    client.connect(Mail::new().connection()).await;
    let waited = timeout(Duration::from_secs(1), client.mail("a@example.org")).await;
    assert!(waited.is_err());
    client.rcpt("b@example.net").await;
}

#[tokio::test(start_paused = true)]
async fn goodbye_within_a_step() {
    let (filter, log) = answering("mail", || Act::Hang);
    let mut client = MockMta::postfix(filter).open().await;
    client.connect(Mail::new().connection()).await;
    let waited = timeout(Duration::from_secs(1), client.mail("a@example.org")).await;
    assert!(waited.is_err());
    client.quit().await;
    assert_eq!(log.all().last().unwrap(), "close");
}
