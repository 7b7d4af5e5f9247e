//! Filters that break the protocol, are too slow, or are not there.

use std::time::Duration;

use milter_core::{Command, Modification, Needs, Reply};
use milter_tower::testing::{Fate, Mail, MockMta, MtaProfile};
use milter_tower::{Actions, Address, Event, Response, Settings, Stage, assert_header, serve};
use tokio::time::{Instant, sleep};

use crate::common::{Act, Scripted, answering as scripted, proceeding};
use crate::profiles;
use crate::raw::{answering, go_on};

/// How the filter failed.
#[track_caller]
fn failed(fate: &Fate) -> &str {
    match fate {
        Fate::Failed(why) => why,
        other => panic!("it did not fail: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn c83_a_filter_that_says_nothing_is_given_up() {
    for (profile, letter, stage, seconds) in [
        (MtaProfile::postfix(), b'C', Stage::Connect, 30),
        (MtaProfile::postfix(), b'R', Stage::Rcpt, 30),
        (MtaProfile::postfix(), b'L', Stage::Header, 300),
        (MtaProfile::postfix(), b'E', Stage::EndOfMessage, 300),
        (MtaProfile::sendmail(), b'M', Stage::Mail, 10),
        (MtaProfile::sendmail(), b'B', Stage::Body, 10),
        (MtaProfile::sendmail(), b'E', Stage::EndOfMessage, 10),
        (MtaProfile::stalwart(), b'H', Stage::Helo, 60),
    ] {
        let shown = format!("{} at {stage}", profile.name());
        let (mut mta, trace) = answering(profile, Needs::all(), move |frame| {
            if frame.code() == letter {
                vec![]
            } else {
                vec![Reply::Continue]
            }
        });
        let start = Instant::now();
        let done = mta.deliver(Mail::new()).await;
        assert_eq!(start.elapsed().as_secs(), seconds, "{shown}");
        assert!(failed(&done.fate).contains("in time"), "{shown}: {done}");
        assert_eq!(done.ended_at, Some(stage), "{shown}");
        // It is not told goodbye.
        assert!(!trace.letters().contains('Q'), "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_does_not_negotiate_is_given_up() {
    let (mta, _filter) = tokio::io::duplex(1024);
    let start = Instant::now();
    let done = MockMta::over(MtaProfile::sendmail(), mta)
        .deliver(Mail::new())
        .await;
    assert_eq!(start.elapsed().as_secs(), 10);
    assert!(failed(&done.fate).contains("in time"), "{done}");
    assert_eq!(done.ended_at, Some(Stage::Connect));
}

/// The server keeps Postfix and Sendmail waiting as long as each bears, and no longer.
#[tokio::test(start_paused = true)]
async fn c76_q30_progress_keeps_an_mta_waiting() {
    let work = |seconds| {
        scripted("end of message", move || {
            Act::After(
                Duration::from_secs(seconds),
                Response::accept().add_header("X-A", "b"),
            )
        })
        .0
    };
    for profile in profiles() {
        let done = MockMta::with_profile(profile, work(200))
            .deliver(Mail::new())
            .await;
        assert_header!(done, "X-A", "b");
    }
    // Without a bound of the server's own.
    let patient = || Settings::new().end_of_message_timeout(Duration::from_secs(3600));
    let done = MockMta::postfix(work(1000))
        .settings(patient())
        .deliver(Mail::new())
        .await;
    assert_header!(done, "X-A", "b");
    let start = Instant::now();
    let done = MockMta::sendmail(work(1000))
        .settings(patient())
        .deliver(Mail::new())
        .await;
    assert!(failed(&done.fate).contains("in time"), "{done}");
    assert_eq!(start.elapsed().as_secs(), 300);
    // With it the failure verdict comes before.
    let done = MockMta::sendmail(work(1000)).deliver(Mail::new()).await;
    assert_eq!(done.reply().unwrap().code(), 451, "{done}");
}

#[tokio::test(start_paused = true)]
async fn a_time_of_the_tests_own() {
    let quick = MtaProfile::postfix().command_timeout(Duration::from_secs(3));
    let (mut mta, _) = answering(quick, Needs::all(), |_| vec![]);
    let start = Instant::now();
    mta.deliver(Mail::new()).await;
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn q10_progress_before_the_end() {
    for (profile, letter, is_borne) in [
        (MtaProfile::postfix(), b'M', true),
        (MtaProfile::sendmail(), b'M', false),
        (MtaProfile::stalwart(), b'M', false),
        (MtaProfile::stalwart(), b'B', true),
    ] {
        let shown = format!("{} at {}", profile.name(), char::from(letter));
        let (mut mta, _) = answering(profile, Needs::all(), move |frame| {
            if frame.code() == letter {
                vec![Reply::Progress, Reply::Continue]
            } else {
                vec![Reply::Continue]
            }
        });
        let done = mta.deliver(Mail::new()).await;
        assert_eq!(done.is_accepted(), is_borne, "{shown}: {done}");
        assert_eq!(matches!(done.fate, Fate::Failed(_)), !is_borne, "{shown}");
    }
}

#[tokio::test]
async fn c22_c78_what_no_mta_takes() {
    let edit = || Reply::Modify(Modification::add_header("X-A", "b").unwrap());
    for profile in profiles() {
        let (mut mta, _) = answering(profile.clone(), Needs::all(), move |frame| match frame {
            Command::Header(_) => vec![edit()],
            other => go_on(other),
        });
        let done = mta.deliver(Mail::new()).await;
        assert!(failed(&done.fate).contains("at header"), "{done}");
        // Every step of the session is refused after that, for now.
        let (mut mta, _) = answering(profile, Needs::none(), move |frame| match frame {
            Command::EndOfMessage(_) => vec![edit(), Reply::Accept],
            other => go_on(other),
        });
        let mut client = mta.open().await;
        let done = client.deliver(Mail::new()).await;
        assert!(failed(&done.fate).contains("ADD_HEADERS"), "{done}");
        assert!(client.failure().is_some());
        assert_eq!(
            client.mail("a@example.org").await.reply.unwrap().code(),
            451
        );
        client.quit().await;
    }
}

#[tokio::test]
async fn a_filter_that_needs_what_is_not_offered() {
    let (filter, _) = Scripted::new(|request, _| {
        let response = match request.event() {
            Event::Negotiate(_) => {
                Response::needs(Needs::none().action(Actions::from_bits_retain(0x8000)))
            }
            _ => Response::proceed(),
        };
        response.into()
    });
    let done = MockMta::postfix(filter).deliver(Mail::new()).await;
    let why = failed(&done.fate);
    assert!(why.contains("does not offer 0x8000"), "{why}");
}

#[tokio::test]
async fn a_service_that_fails_is_not_a_filter_that_fails() {
    for act in [|| Act::Fail, || Act::Panic] {
        for profile in profiles() {
            let (filter, _) = scripted("end of message", act);
            let done = MockMta::with_profile(profile, filter)
                .deliver(Mail::new())
                .await;
            assert_eq!(done.reply().unwrap().code(), 451, "{done}");
        }
    }
}

#[tokio::test]
async fn a_filter_that_is_not_there() {
    let nowhere = tempfile::tempdir().unwrap().path().join("none.sock");
    let mut mta = MockMta::connect(MtaProfile::postfix(), Address::unix(nowhere));
    let client = mta.open().await;
    assert!(client.failure().unwrap().contains("none.sock"));
    let done = mta.deliver(Mail::new()).await;
    assert!(failed(&done.fate).contains("cannot connect"), "{done}");
    // A connection serves one session.
    let (mut mta, _) = answering(MtaProfile::postfix(), Needs::all(), go_on);
    assert!(mta.deliver(Mail::new()).await.is_accepted());
    assert!(failed(&mta.deliver(Mail::new()).await.fate).contains("before"));
}

#[tokio::test]
async fn filters_behind_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let unix = Address::unix(dir.path().join("filter.sock"));
    for address in [unix, Address::inet("127.0.0.1", 0)] {
        let (filter, log) = scripted("end of message", || {
            Act::Answer(Response::accept().add_header("X-A", "b"))
        });
        let listener = address.bind().await.unwrap();
        let at = listener.address();
        let server = tokio::spawn(serve(listener, filter).into_future());
        let mut mta = MockMta::connect(MtaProfile::sendmail(), at);
        for _ in 0..2 {
            let done = mta.deliver(Mail::new()).await;
            assert_header!(done, "X-A", "b");
        }
        assert_eq!(log.count("connect"), 2);
        server.abort();
    }
}

#[tokio::test]
async fn q29_headers_that_are_too_large() {
    let mail = Mail::new().header("X-Large", "x".repeat(2_000_000));
    for profile in profiles() {
        let (filter, log) = proceeding();
        let is_sendmail = profile.name() == "Sendmail";
        let done = MockMta::with_profile(profile, filter).deliver(&mail).await;
        if is_sendmail {
            assert_eq!(done.reply().unwrap().code(), 552, "{done}");
            assert_eq!(log.count("header"), 0);
        } else {
            assert!(done.is_accepted(), "{done}");
            let kept = done.message.headers().get("X-Large").unwrap().raw().len();
            assert!((59_000..=60_000).contains(&kept), "{kept}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_goes_away() {
    let (mta, filter) = tokio::io::duplex(1024);
    let mut mta = MockMta::over(MtaProfile::postfix(), mta);
    tokio::spawn(async move {
        sleep(Duration::from_secs(1)).await;
        drop(filter);
    });
    let done = mta.deliver(Mail::new()).await;
    assert!(failed(&done.fate).contains("ended"), "{done}");
}

/// A second answer would be taken for that to the next question.
#[tokio::test(start_paused = true)]
async fn q25_a_filter_that_answers_what_it_was_not_asked_is_given_up() {
    for (letter, found_at) in [
        (b'C', Some(Stage::Helo)),
        (b'M', Some(Stage::Rcpt)),
        (b'R', Some(Stage::Data)),
        (b'L', Some(Stage::EndOfHeaders)),
        (b'B', Some(Stage::EndOfMessage)),
        (b'E', None),
    ] {
        for profile in [MtaProfile::postfix(), MtaProfile::sendmail()] {
            let shown = format!("{} at {}", profile.name(), char::from(letter));
            let (mut mta, _) = answering(profile, Needs::all(), move |frame| {
                let is_twice = frame.code() == letter;
                vec![Reply::Continue; if is_twice { 2 } else { 1 }]
            });
            let mail = Mail::new().without_headers().header("Subject", "one");
            let done = mta.deliver(mail).await;
            let failed = match found_at {
                Some(_) => failed(&done.fate),
                None => done.failures.first().expect("found at the end"),
            };
            assert!(failed.contains("out of step"), "{shown}: {done}");
            let ended_at = found_at.unwrap_or(Stage::EndOfMessage);
            assert_eq!(done.ended_at, Some(ended_at), "{shown}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c63_an_answer_where_none_is_due_is_found() {
    let needs = Needs::none().record(Stage::Mail).event(Stage::Rcpt);
    let (mta, io) = tokio::io::duplex(64 * 1024);
    let filter = async move {
        use futures::{SinkExt, StreamExt};
        let mut framed = tokio_util::codec::Framed::new(io, milter_core::FilterCodec::new());
        while let Some(Ok(frame)) = framed.next().await {
            let reply = match &frame {
                Command::Negotiate(offer) => {
                    let agreed = milter_core::negotiate(offer, &needs).expect("agreed");
                    Reply::Negotiate(agreed.to_reply())
                }
                frame if frame.stage().is_some() => Reply::Continue,
                _ => continue,
            };
            if framed.send(&reply).await.is_err() {
                return;
            }
        }
    };
    tokio::spawn(filter);
    let mut client = MockMta::over(MtaProfile::postfix(), mta).open().await;
    client.mail("a@example.org").await;
    assert_eq!(client.failure(), None);
    // The answer to MAIL may have come by now.
    sleep(Duration::from_millis(1)).await;
    client.rcpt("b@example.net").await;
    assert!(client.failure().unwrap().contains("out of step"));
    client.lose().await;
}

#[tokio::test]
async fn failures_at_the_very_end_are_told() {
    for profile in profiles() {
        let open = async || {
            let (filter, _) = scripted("close", || Act::Fail);
            MockMta::with_profile(profile.clone(), filter).open().await
        };
        assert!(open().await.quit().await[0].starts_with("end: "));
        assert!(open().await.lose().await[0].starts_with("end: "));
        let (filter, _) = scripted("end: lost", || Act::Fail);
        let mut client = MockMta::with_profile(profile.clone(), filter).open().await;
        client.connect(Mail::new().connection()).await;
        client.mail("a@example.org").await;
        assert_eq!(client.lose().await.len(), 1);
    }
}
