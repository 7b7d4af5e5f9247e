//! Recordings come out of files as they went in, and what is replayed is compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::mpsc;
use tower::service_fn;

use super::*;
use crate::testing::{Mail, MockMta, MtaProfile};
use crate::{
    Actions, Agreement, Event, Message, Needs, PeerAddr, Router, Sender, SmtpReply, Stage, Verdict,
    message, serve_connection,
};

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let bytes = || vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let said = prop_oneof![
        (any::<u8>(), bytes()).prop_map(|(code, payload)| Said::Frame { code, payload }),
        bytes().prop_map(Said::Broken),
        Just(Said::End),
    ];
    let from = prop_oneof![Just(Side::Mta), Just(Side::Milter)];
    let micros = 0..u64::from(u32::MAX);
    let entry = (1..4_u64, micros, from, said).prop_map(|(connection, micros, from, said)| {
        Entry::new(connection, Duration::from_micros(micros), from, said)
    });
    vec(entry, 0..20)
}

proptest! {
    #[test]
    fn what_is_written_is_read(entries in entries()) {
        let mut recorder = Recorder::new(Vec::new()).unwrap();
        for entry in &entries {
            recorder.write(entry).unwrap();
        }
        let file = recorder.into_inner();
        prop_assert!(file.iter().all(|byte| *byte == b'\n' || byte.is_ascii_graphic() || *byte == b' '));
        prop_assert!(!file.windows(2).any(|pair| pair == b" \n"));
        let read = Recording::from_bytes(&file).unwrap();
        prop_assert_eq!(&read, &entries.into_iter().collect::<Recording>());
        let again: Recording = read.to_string().parse().unwrap();
        let all = |recording: &Recording| {
            recording.connections().iter().flat_map(|one| one.entries().to_vec()).collect::<Vec<_>>()
        };
        prop_assert_eq!(all(&again), all(&read));
    }

    #[test]
    fn any_text_is_read_or_refused(text in vec(any::<u8>(), 0..200)) {
        let _ = Recording::from_bytes(&text);
        let _ = Recording::from_bytes(&[b"milter-recording 1\n1 0.000000 ", &text[..]].concat());
    }

    #[test]
    fn no_byte_is_lost_in_cutting(pieces in vec(
        prop_oneof![
            vec(any::<u8>(), 0..20),
            // Whole frames, or none with luck.
            vec(any::<u8>(), 0..9).prop_map(|rest| [&[0, 0, 0, 5][..], &rest].concat()),
        ],
        0..20,
    )) {
        let mut cutter = Cutter::new();
        let mut cut = Vec::new();
        for piece in &pieces {
            cutter.push(piece);
            cut.extend(std::iter::from_fn(|| cutter.next()));
        }
        cut.extend(cutter.rest());
        let wire: Vec<u8> = cut.iter().flat_map(|said| said.wire().to_vec()).collect();
        prop_assert_eq!(wire, pieces.concat());
    }
}

#[test]
fn a_length_that_no_frame_has_is_out_of_step() {
    for head in [[0, 0, 0, 0], [0, 0x10, 0, 2], *b"GET "] {
        let mut cutter = Cutter::new();
        cutter.push(&[&b"\0\0\0\x01T"[..], &head, b"\0\0\0\x01Q"].concat());
        assert_eq!(cutter.next(), Some(Said::frame(b'T', "")));
        let broken = Bytes::from([&head[..], b"\0\0\0\x01Q"].concat());
        assert_eq!(cutter.next(), Some(Said::Broken(broken)));
        cutter.push(b"\0\0\0\x01A");
        assert_eq!(
            cutter.next(),
            Some(Said::Broken("\0\0\0\x01A".into())),
            "it stays out of step"
        );
        assert_eq!(cutter.next(), None);
    }
}

#[test]
fn wrong_lines_are_told_by_their_number() {
    let wrong = |lines: &str| {
        let read: Result<Recording, _> = format!("milter-recording 1\n# so\n\n{lines}\n").parse();
        read.unwrap_err().to_string()
    };
    for (line, what) in [
        (
            "x 0.000000 > Q",
            "line 4: it does not begin with the number",
        ),
        ("1 0.0 > Q", "line 4: the time is not written as seconds"),
        ("1 +1.000000 > Q", "line 4: the time is not written"),
        ("1 0.000000 = Q", "line 4: behind the time stands none of"),
        ("1 0.000000 >- Q", "line 4: behind the time stands none of"),
        ("1 0.000000 >", "line 4: a frame has exactly one letter"),
        ("1 0.000000 > QQ", "line 4: a frame has exactly one letter"),
        ("1 0.000000 > Q x\\y", "line 4: a backslash begins none of"),
        ("1 0.000000 > Q x\\x0", "line 4: a backslash begins none of"),
        (
            "1 0.000000 > Q x\ty",
            "line 4: the byte 0x09 must be written",
        ),
        ("1 0.000000 >. x", "line 4: something stands behind the end"),
        ("1 0.000000 > Q\n1 0.000000 > Q\r", "line 5: the byte 0x0d"),
    ] {
        let error = wrong(line);
        assert!(error.starts_with(what), "{line:?}: {error}");
    }
    for (text, what) in [
        ("", "line 1: this is no recording"),
        ("From: somebody\n", "line 1: this is no recording"),
        ("milter-recording 2\n", "line 1: version 2 of the format"),
        (
            "milter-recording 1\n1 0.000000 > M <a",
            "line 2: the file ends within it",
        ),
    ] {
        let error = text.parse::<Recording>().unwrap_err().to_string();
        assert!(error.starts_with(what), "{text:?}: {error}");
    }
    let error = Recording::read("/nowhere/at/all").unwrap_err();
    assert!(matches!(error, RecordingError::Io(_)), "{error}");
}

/// Records what a mail server in small and a filter say to each other over these mails.
async fn record<S>(profile: MtaProfile, filter: S, mails: &[Mail]) -> Recording
where
    S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
{
    let (mta, near) = duplex(1 << 20);
    let (far, io) = duplex(1 << 20);
    let server = tokio::spawn(
        serve_connection(io, filter)
            .peer(PeerAddr::Other)
            .into_future(),
    );
    let (tell, mut told) = mpsc::unbounded_channel();
    let (near_read, near_write) = split(near);
    let (far_read, far_write) = split(far);
    tokio::spawn(pass(near_read, far_write, Side::Mta, tell.clone()));
    tokio::spawn(pass(far_read, near_write, Side::Milter, tell));
    let mut session = MockMta::over(profile, mta).open().await;
    for mail in mails {
        session.deliver(mail).await;
    }
    session.quit().await;
    let mut entries = Vec::new();
    while let Some(entry) = told.recv().await {
        entries.push(entry);
    }
    let _ = server.await;
    entries.into_iter().collect()
}

async fn pass(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    side: Side,
    tell: mpsc::UnboundedSender<Entry>,
) {
    let mut cutter = Cutter::new();
    let mut buffer = [0; 700];
    let entry = |said| Entry::new(1, Duration::ZERO, side, said);
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        cutter.push(&buffer[..count]);
        while let Some(said) = cutter.next() {
            let _ = tell.send(entry(said));
        }
        let _ = to.write_all(&buffer[..count]).await;
    }
    let _ = tell.send(entry(Said::End));
    let _ = to.shutdown().await;
}

fn mails() -> [Mail; 2] {
    [
        Mail::new().to("bob@example.net").header("X-A", "1"),
        Mail::new()
            .from("<>")
            .to("carol@example.net")
            .to("nobody@example.net")
            .body("one\ntwo\n"),
    ]
}

/// A filter that refuses some, and changes what it takes.
fn filter(
    subject: &'static str,
) -> impl Service<Request, Response = Response, Error: Into<BoxError>, Future: Send>
+ Clone
+ Send
+ 'static {
    service_fn(move |request: Request| async move {
        Ok::<_, BoxError>(match request.event() {
            Event::Rcpt(to) if to.mailbox() == "nobody@example.net" => {
                SmtpReply::reject("No such user").into()
            }
            Event::EndOfMessage(_) => Response::accept()
                .add_header("X-Seen", "yes")
                .change_header("Subject", 1, subject)
                .replace_body(vec![b'x'; 100_000]),
            _ => Response::proceed(),
        })
    })
}

#[tokio::test(start_paused = true)]
async fn the_same_filter_answers_the_same() {
    for profile in [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::version_2(),
    ] {
        let recording = record(profile, filter("hi"), &mails()).await;
        let recording: Recording = recording.to_string().parse().unwrap();
        let replayed = recording.replay(filter("hi")).await;
        replayed.assert_same();
        assert!(replayed.answers() > 10, "{replayed}");
        assert!(replayed.failures().is_empty(), "{replayed}");
        let count = replayed.answers();
        assert_eq!(
            replayed.to_string(),
            format!("all {count} answers are as recorded (connections: 1)\n")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn another_answer_is_shown_with_where_it_is() {
    let recording = record(MtaProfile::postfix(), filter("hi"), &mails()[..1]).await;
    let replayed = recording.replay(filter("ho")).await;
    let end = recording.connections()[0].entries();
    let end = end
        .iter()
        .position(|entry| matches!(entry.said, Said::Frame { code: b'E', .. }));
    // Behind the first line, from 1.
    let line = end.unwrap() + 2;
    let [difference] = replayed.differences() else {
        panic!("{replayed}");
    };
    assert_eq!((difference.connection(), difference.line()), (1, line));
    let shown = difference.to_string();
    let start = format!(
        "connection 1, line {line}, end of message:\n    \
         add header X-Seen: yes\n  - change header [1] Subject: hi\n  + change header [1] Subject: ho\n    \
         replace body, 100000 bytes: xxx"
    );
    assert!(shown.starts_with(&start), "{shown}");
    assert!(shown.ends_with("xx\n    accept\n"), "{shown}");
    let failed = std::panic::catch_unwind(|| replayed.assert_same()).unwrap_err();
    let said = failed.downcast::<String>().unwrap();
    assert!(
        said.starts_with("the filter does not answer as recorded: 1 of "),
        "{said}"
    );

    recording
        .replay(filter("ho"))
        .ignore_value_of("subject")
        .await
        .assert_same();
}

#[tokio::test(start_paused = true)]
async fn another_agreement_is_a_difference_and_no_hang() {
    let silent = || {
        let needs = Stage::ALL.into_iter().fold(Needs::none(), Needs::record);
        service_fn(move |request: Request| {
            let needs = needs.clone();
            async move {
                Ok::<_, BoxError>(match request.event() {
                    Event::Negotiate(_) => Response::needs(needs),
                    _ => Response::proceed(),
                })
            }
        })
    };
    let all = || service_fn(async |_: Request| Ok::<_, BoxError>(Response::proceed()));
    let nothing = || Router::new().on_mail(async |_: Sender| {});
    for profile in [MtaProfile::postfix(), MtaProfile::sendmail()] {
        let recordings = [
            record(profile.clone(), silent(), &mails()).await,
            record(profile.clone(), all(), &mails()).await,
            record(profile.clone(), nothing(), &mails()).await,
        ];
        for (n, recording) in recordings.iter().enumerate() {
            for (k, replayed) in [
                recording.replay(silent()).await,
                recording.replay(all()).await,
                recording.replay(nothing()).await,
            ]
            .iter()
            .enumerate()
            {
                assert_eq!(replayed.is_same(), n == k, "{n} {k} {replayed}");
                if n != k {
                    let [difference] = replayed.differences() else {
                        panic!("{n} {k} {replayed}");
                    };
                    assert_eq!(difference.line(), 2);
                    let shown = difference.to_string();
                    assert!(shown.contains("step N"), "{shown}");
                    assert!(shown.contains(", the negotiation:\n"), "{shown}");
                }
            }
            let few = recording.replay(nothing()).ignore_negotiation().await;
            for same in [
                recording.replay(silent()).ignore_negotiation().await,
                recording.replay(all()).ignore_negotiation().await,
                few.clone(),
            ] {
                same.assert_same();
            }
            // The offer, and the end of both mails.
            assert_eq!(few.answers(), 3, "{few}");
        }
    }
}

/// Answers of its own at one stage.
fn at(
    stage: &'static str,
    response: fn() -> Response,
) -> impl Service<Request, Response = Response, Error: Into<BoxError>, Future: Send>
+ Clone
+ Send
+ 'static {
    service_fn(move |request: Request| async move {
        let name = match request.event() {
            Event::Connect(_) => "connect",
            Event::Helo(_) => "helo",
            Event::Mail(_) => "mail",
            Event::Rcpt(_) => "rcpt",
            Event::Data => "data",
            Event::Header(_) => "header",
            Event::EndOfHeaders => "end of headers",
            Event::Body(_) => "body",
            Event::EndOfMessage(_) => "end of message",
            _ => "",
        };
        Ok::<_, BoxError>(if name == stage {
            response()
        } else {
            Response::proceed()
        })
    })
}

#[tokio::test(start_paused = true)]
async fn other_verdicts_do_not_put_the_filter_out_of_step() {
    let stages = [
        "connect",
        "helo",
        "mail",
        "rcpt",
        "data",
        "header",
        "end of headers",
        "body",
        "end of message",
    ];
    let responses: [fn() -> Response; 3] = [
        Response::accept,
        || Response::reply(SmtpReply::reject("no")),
        || Response::reply(SmtpReply::tempfail("later")),
    ];
    for profile in [MtaProfile::postfix(), MtaProfile::sendmail()] {
        let proceeding = record(profile.clone(), at("", Response::accept), &mails()).await;
        for stage in stages {
            for response in responses {
                let recording = record(profile.clone(), at(stage, response), &mails()).await;
                recording.replay(at(stage, response)).await.assert_same();
                for replayed in [
                    // It decided, and now goes on; and the other way round.
                    recording.replay(at("", Response::accept)).await,
                    proceeding.replay(at(stage, response)).await,
                ] {
                    assert!(replayed.failures().is_empty(), "{stage}: {replayed}");
                    let is_accept = response() == Response::accept();
                    // At the end of a message the two are one on the wire.
                    let is_same = is_accept && stage == "end of message";
                    assert_eq!(replayed.is_same(), is_same, "{stage}: {replayed}");
                    for difference in replayed.differences() {
                        let shown = difference.to_string();
                        assert!(shown.contains(&format!(", {stage}")), "{shown}");
                    }
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_skips_sees_no_more_of_the_body() {
    let filter = |skips: bool| {
        let seen = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        let filter = service_fn(move |request: Request| {
            let count = Arc::clone(&count);
            async move {
                Ok::<_, BoxError>(match request.event() {
                    Event::Negotiate(_) => Response::needs(Needs::all().skip()),
                    Event::Body(_) => {
                        count.fetch_add(1, Ordering::Relaxed);
                        let skip = Response::from(Verdict::Skip);
                        if skips { skip } else { Response::proceed() }
                    }
                    _ => Response::proceed(),
                })
            }
        });
        (filter, seen)
    };
    // Three pieces.
    let mail = Mail::new().body(vec![b'x'; 150_000]);
    let recording = record(MtaProfile::postfix(), filter(false).0, &[mail]).await;
    let all = recording.replay(filter(false).0).await.answers();
    let (skips, seen) = filter(true);
    let replayed = recording.replay(skips).await;
    assert_eq!(seen.load(Ordering::Relaxed), 1);
    assert_eq!(replayed.answers(), all - 2, "it is not asked of the others");
    let [difference] = replayed.differences() else {
        panic!("{replayed}");
    };
    assert_eq!(
        (difference.recorded(), difference.answered()),
        (&["continue".to_owned()][..], &["skip".to_owned()][..])
    );
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_hangs_or_fails_is_told() {
    let recording = record(MtaProfile::postfix(), at("", Response::accept), &mails()).await;
    let hangs = service_fn(async |request: Request| {
        if let Event::Rcpt(_) = request.event() {
            std::future::pending::<()>().await;
        }
        Ok::<_, BoxError>(Response::proceed())
    });
    let replayed = recording.replay(hangs).await;
    let shown = replayed.to_string();
    assert!(
        shown.contains("rcpt <bob@example.net>:\n  - continue\n  + tempfail\n")
            || shown.contains("rcpt <bob@example.net>:\n  - continue\n  + 4"),
        "{shown}"
    );
    assert!(
        shown.contains("the filter failed: rcpt: the deadline passed"),
        "{shown}"
    );
    let refuses = service_fn(async |request: Request| {
        Ok::<_, BoxError>(match request.event() {
            Event::Negotiate(_) => Response::refuse(),
            _ => Response::proceed(),
        })
    });
    let replayed = recording.replay(refuses).await;
    let recorded = record(MtaProfile::postfix(), refuses, &mails()).await;
    assert!(recorded.replay(refuses).await.is_same());
    let shown = replayed.to_string();
    assert!(
        shown.contains("  + (the filter's server closed the connection)\n"),
        "{shown}"
    );
    assert!(
        shown.ends_with("the filter failed: the filter refused the connection\n"),
        "{shown}"
    );
}

#[tokio::test(start_paused = true)]
async fn where_a_recording_ends_there_is_nothing_to_compare() {
    let recording = record(MtaProfile::postfix(), filter("hi"), &mails()).await;
    let all = recording.connections()[0].entries();
    for end in 0..all.len() {
        let cut: Recording = all[..end].iter().cloned().collect();
        let replayed = cut.replay(filter("hi")).await;
        // Part of the changes of a message is no answer yet.
        assert!(replayed.is_same(), "{end}: {replayed}");
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "the recording asks a filter nothing")]
async fn a_test_that_tests_nothing_fails() {
    let recording: Recording = "milter-recording 1\n".parse().unwrap();
    recording.replay(filter("hi")).await.assert_same();
}

#[tokio::test(start_paused = true)]
async fn garbage_is_played_too() {
    let recording = record(MtaProfile::postfix(), filter("hi"), &mails()[..1]).await;
    let mut entries = recording.connections()[0].entries().to_vec();
    let broken = Said::Broken("GET / HTTP/1.1\r\n\r\n".into());
    entries.truncate(entries.len() - 3);
    entries.push(Entry::new(1, Duration::ZERO, Side::Mta, broken.clone()));
    entries.push(Entry::new(1, Duration::ZERO, Side::Milter, broken));
    entries.push(Entry::new(
        2,
        Duration::ZERO,
        Side::Milter,
        Said::frame(b'c', ""),
    ));
    entries.push(Entry::new(
        2,
        Duration::ZERO,
        Side::Mta,
        Said::frame(b'!', ""),
    ));
    let recording: Recording = entries.into_iter().collect();
    assert_eq!(recording.connections().len(), 2);
    recording.replay(filter("hi")).await.assert_same();
}

#[tokio::test(start_paused = true)]
async fn a_leading_space_is_no_difference() {
    // Tells what it was shown, with or without.
    let shows = |steps| {
        let needs = Needs::all().action(Actions::ADD_HEADERS);
        let needs = if steps { needs.leading_space() } else { needs };
        service_fn(move |request: Request| {
            let needs = needs.clone();
            async move {
                let agreement = request.session().agreement();
                let space = agreement.is_some_and(Agreement::leading_space);
                Ok::<_, BoxError>(match request.event() {
                    Event::Negotiate(_) => Response::needs(needs),
                    Event::Header(header) if header.value().starts_with(b" ") != space => {
                        SmtpReply::reject("Not as agreed").into()
                    }
                    Event::EndOfMessage(_) => {
                        let value = if space { " v" } else { "v" };
                        Response::accept().add_header("X-A", value)
                    }
                    _ => Response::proceed(),
                })
            }
        })
    };
    for recorded in [false, true] {
        let recording = record(MtaProfile::postfix(), shows(recorded), &mails()[1..]).await;
        for replayed in [false, true] {
            let replay = recording.replay(shows(replayed)).ignore_negotiation();
            replay.await.assert_same();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whole_messages_are_replayed() {
    let tag = |text: &'static str| {
        message(move |mut mail: Message| async move {
            mail.headers_mut().set("Subject", text);
            mail
        })
    };
    let recording = record(MtaProfile::sendmail(), tag("a"), &mails()).await;
    recording.replay(tag("a")).await.assert_same();
    let replayed = recording.replay(tag("b")).await;
    assert_eq!(replayed.differences().len(), 2, "{replayed}");
}
