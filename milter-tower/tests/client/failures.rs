//! Milters that misbehave, at each stage.

use std::time::Duration;

use milter_core::{Actions, Command, Modification, Needs, OfferReply, Reply, Steps};
use milter_tower::client::{
    Client, ClientErrorKind, DefaultAction, Failure, Mail, Timeout, Timeouts,
};
use milter_tower::{Address, Offer, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::peer::{Act, client, connected, events_alone, peer, say, sender, up_to_body};

const STAGES: [(u8, Stage); 9] = [
    (b'C', Stage::Connect),
    (b'H', Stage::Helo),
    (b'M', Stage::Mail),
    (b'R', Stage::Rcpt),
    (b'T', Stage::Data),
    (b'L', Stage::Header),
    (b'N', Stage::EndOfHeaders),
    (b'B', Stage::Body),
    (b'E', Stage::EndOfMessage),
];

fn edit() -> Reply {
    Reply::Modify(Modification::add_header("X-A", "b").unwrap())
}

type Fault = (&'static str, fn() -> Act, fn(&Failure, Stage) -> bool);

/// What a milter may do, and how it has failed then.
const FAULTS: [Fault; 9] = [
    (
        "dies",
        || Act::Die,
        |failure, _| *failure == Failure::ConnectionLost,
    ),
    (
        "hangs",
        || Act::Hang,
        |failure, stage| {
            let what = match stage {
                Stage::EndOfMessage => Timeout::EndOfMessage,
                Stage::Header | Stage::EndOfHeaders | Stage::Body => Timeout::Content,
                _ => Timeout::Command,
            };
            *failure == Failure::Timeout(what)
        },
    ),
    (
        "dies within a frame",
        || Act::Bytes(b"\0\0\0\x09hX"),
        |failure, stage| {
            // It is waited for, since it may yet come.
            matches!(failure, Failure::Timeout(_)) && stage.is_of_message()
                || matches!(failure, Failure::Timeout(Timeout::Command))
        },
    ),
    (
        "garbage",
        || Act::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        unreadable,
    ),
    ("an empty frame", || Act::Bytes(b"\0\0\0\0"), unreadable),
    (
        "an oversized frame",
        || Act::Bytes(b"\0\x10\0\x02b"),
        unreadable,
    ),
    ("an unknown code", || Act::Bytes(b"\0\0\0\x01?"), unreadable),
    (
        "a second agreement",
        || Act::Say(vec![agreement()]),
        |failure, stage| *failure == Failure::NotHere { code: b'O', stage },
    ),
    (
        "`connection failed`",
        || Act::Say(vec![Reply::ConnectionFailed]),
        |failure, stage| *failure == Failure::NotHere { code: b'f', stage },
    ),
];

fn unreadable(failure: &Failure, _: Stage) -> bool {
    matches!(failure, Failure::Unreadable(_))
}

fn agreement() -> Reply {
    Reply::Negotiate(OfferReply {
        version: 6,
        actions: Actions::empty(),
        steps: Steps::empty(),
        macros: milter_core::MacroLists::default(),
    })
}

#[tokio::test(start_paused = true)]
async fn c77_c83_faults_at_every_stage() {
    for (letter, stage) in STAGES {
        for (name, fault, is_it) in FAULTS {
            let shown = format!("{name} at {stage}");
            let act = move |frame: &Command| {
                if frame.code() == letter {
                    fault()
                } else {
                    Act::Go
                }
            };
            let (mut milter, trace) = connected(client(), Needs::all(), act).await;
            let start = Instant::now();
            let done = milter.deliver(Mail::new()).await;
            let error = done
                .failure
                .as_ref()
                .unwrap_or_else(|| panic!("{shown}: {done}"));
            assert!(is_it(error.failure().unwrap(), stage), "{shown}: {error}");
            assert!(error.is_fatal(), "{shown}");
            assert_eq!(error.stage(), Some(stage), "{shown}");
            let text = format!("milter without address at {stage}: ");
            assert!(error.to_string().starts_with(&text), "{shown}: {error}");
            let is_content = letter == b'L' || letter == b'N' || letter == b'B' || letter == b'E';
            let seconds = match (name, is_content) {
                ("hangs" | "dies within a frame", true) => 300,
                ("hangs" | "dies within a frame", false) => 30,
                _ => 0,
            };
            assert_eq!(start.elapsed().as_secs(), seconds, "{shown}");
            assert_eq!(done.reply().unwrap().code(), 451, "{shown}: {done}");
            // It is asked no more, and each call says why.
            let letters = trace.letters();
            let next = milter.mail(sender()).await.unwrap_err();
            assert_eq!(next.failure(), error.failure(), "{shown}");
            assert!(milter.is_gone(), "{shown}");
            assert!(
                milter.abort().await.is_err() && milter.quit().await.is_err(),
                "{shown}"
            );
            assert_eq!(trace.letters(), letters, "{shown}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c78_edits_come_at_the_end_alone() {
    for (letter, stage) in STAGES {
        if stage == Stage::EndOfMessage {
            continue;
        }
        let needs = Needs::all().action(Actions::ADD_HEADERS);
        let (mut milter, _) = connected(client(), needs, say(letter, edit())).await;
        let done = milter.deliver(Mail::new()).await;
        let failure = done.failure.as_ref().and_then(|error| error.failure());
        assert_eq!(
            failure,
            Some(&Failure::NotHere { code: b'h', stage }),
            "{done}"
        );
    }
}

#[tokio::test]
async fn edits_that_were_not_negotiated_or_are_too_many() {
    let end = |frame: &Command| match frame {
        Command::EndOfMessage(_) => Act::Say(vec![edit(), edit(), Reply::Accept]),
        _ => Act::Go,
    };
    let (mut milter, _) = connected(client(), events_alone(), end).await;
    let done = milter.deliver(Mail::new()).await;
    let error = done.failure.unwrap();
    assert!(
        matches!(error.failure(), Some(Failure::NotAgreed(_))),
        "{error}"
    );
    assert!(error.to_string().contains("ADD_HEADERS"), "{error}");
    assert!(done.edits.is_empty());

    let needs = || Needs::all().action(Actions::ADD_HEADERS);
    for (most, is_borne) in [(200, true), (100, false)] {
        let (mut milter, _) = connected(client().max_edit_bytes(most), needs(), end).await;
        let done = milter.deliver(Mail::new()).await;
        assert_eq!(done.is_accepted(), is_borne, "{done}");
    }
}

/// One reply too many is not taken for the next answer. At the end there is none, and one that is
/// left over may have been the verdict.
#[tokio::test]
async fn c77_a_second_reply_is_found_at_the_next_step() {
    for (letter, stage) in [
        (b'C', Stage::Helo),
        (b'R', Stage::Data),
        (b'E', Stage::EndOfMessage),
    ] {
        let twice = move |frame: &Command| {
            if frame.code() == letter {
                Act::Say(vec![Reply::Continue, Reply::Accept])
            } else {
                Act::Go
            }
        };
        let (mut milter, _) = connected(client(), Needs::all(), twice).await;
        let done = milter.deliver(Mail::new()).await;
        assert_eq!(done.reply().unwrap().code(), 451, "{done}");
        let error = done.failure.unwrap();
        assert_eq!(error.failure(), Some(&Failure::NothingDue { code: b'a' }));
        assert_eq!(error.stage(), Some(stage), "{error}");
    }
}

#[tokio::test]
async fn a_milter_that_goes_away_between_messages_is_found_gone() {
    let (mut milter, _) = connected(client(), Needs::all(), |frame| match frame {
        Command::Abort => Act::Die,
        _ => Act::Go,
    })
    .await;
    up_to_body(&mut milter).await;
    assert!(!milter.is_gone());
    milter.abort().await.unwrap();
    tokio::task::yield_now().await;
    assert!(milter.is_gone());
    assert_eq!(milter.failure(), Some(&Failure::ConnectionLost));
    // A body of nothing has nothing to send, but nobody to judge it either.
    let error = milter.body_from(&b""[..]).await.unwrap_err();
    assert_eq!(error.failure(), Some(&Failure::ConnectionLost));
}

/// A milter with nothing more to say about the session may leave.
#[tokio::test]
async fn one_that_accepted_the_session_need_not_stay() {
    let act = |frame: &Command| match frame {
        Command::Connect(_) => Act::Last(b"\0\0\0\x01a"),
        _ => Act::Go,
    };
    let (mut milter, _) = connected(client(), Needs::all(), act).await;
    for _ in 0..2 {
        let done = milter.deliver(Mail::new()).await;
        assert!(done.is_accepted() && done.failure.is_none(), "{done}");
        assert_eq!(done.message.recipients().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn c22_c23_answers_to_the_offer() {
    let poor = Offer {
        actions: Actions::ADD_HEADERS,
        ..Offer::V6
    };
    let answer = |change: fn(&mut OfferReply)| {
        let Reply::Negotiate(mut reply) = agreement() else {
            unreachable!()
        };
        change(&mut reply);
        Reply::Negotiate(reply)
    };
    for (reply, text) in [
        (Some(answer(|it| it.version = 7)), "wants version 7"),
        (Some(answer(|it| it.version = 1)), "wants version 1"),
        (
            Some(answer(|it| it.actions = Actions::QUARANTINE)),
            "QUARANTINE, which was not",
        ),
        (Some(Reply::Continue), "no answer to one"),
        (None, "did not answer in time"),
    ] {
        let (io, _) = peer(Needs::all(), move |_| {
            Act::Say(reply.iter().cloned().collect())
        });
        let start = Instant::now();
        let error = client().offer(poor).over(io).await.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!((error.stage(), error.is_fatal()), (None, true));
        let seconds = if text.contains("time") { 30 } else { 0 };
        assert_eq!(start.elapsed().as_secs(), seconds);
    }
    // Steps that were not offered are for the setting.
    let steps = || {
        say(
            b'O',
            answer(|it| it.steps = Steps::from_bits_retain(0x4000_0000)),
        )
    };
    let (io, _) = peer(Needs::all(), steps());
    assert!(client().over(io).await.is_ok());
    let (io, _) = peer(Needs::all(), steps());
    assert!(client().strict(true).over(io).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn c76_progress_extends_the_time_for_a_frame_but_not_that_for_all() {
    // It says that it is at work every 8 s, and is done after 200 s.
    let (mta, io) = tokio::io::duplex(4096);
    tokio::spawn(at_work(io, 25));
    let times = Timeouts::postfix().content(Duration::from_secs(10));
    let mut milter = client().timeouts(times).over(mta).await.unwrap();
    up_to_body(&mut milter).await;
    let start = Instant::now();
    milter.end().await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 200);

    for (times, seconds) in [
        (Timeouts::sendmail(), 300),
        (times.end_of_message(Duration::from_secs(20)), 20),
        (Timeouts::postfix().content(Duration::from_secs(5)), 5),
    ] {
        let (mta, io) = tokio::io::duplex(4096);
        tokio::spawn(at_work(io, 1000));
        let mut milter = client().timeouts(times).over(mta).await.unwrap();
        up_to_body(&mut milter).await;
        let start = Instant::now();
        let end = timeout(Duration::from_secs(3600), milter.end()).await;
        let error = end.expect("in time").unwrap_err();
        assert_eq!(
            error.failure(),
            Some(&Failure::Timeout(Timeout::EndOfMessage))
        );
        assert_eq!(start.elapsed().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn progress_can_be_watched() {
    let (mta, io) = tokio::io::duplex(4096);
    tokio::spawn(at_work(io, 3));
    let mut milter = client().over(mta).await.unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    milter.on_progress(move |stage| tell.send((stage, Instant::now())).unwrap());
    up_to_body(&mut milter).await;
    let start = Instant::now();
    milter.end().await.unwrap();
    for n in 1..=3 {
        let at = start + Duration::from_secs(8 * n);
        assert_eq!(told.try_recv(), Ok((Stage::EndOfMessage, at)));
    }
    assert!(told.try_recv().is_err());
}

async fn at_work(io: tokio::io::DuplexStream, times: u32) {
    use futures::{SinkExt, StreamExt};
    let mut framed = tokio_util::codec::Framed::new(io, milter_core::FilterCodec::new());
    while let Some(Ok(frame)) = framed.next().await {
        let reply = match frame {
            Command::Negotiate(_) => agreement(),
            Command::EndOfMessage(_) => {
                for _ in 0..times {
                    sleep(Duration::from_secs(8)).await;
                    if framed.send(Reply::Progress).await.is_err() {
                        return;
                    }
                }
                Reply::Accept
            }
            frame if frame.stage().is_some() => Reply::Continue,
            _ => continue,
        };
        if framed.send(reply).await.is_err() {
            return;
        }
    }
}

/// One that never stops being at work does not keep an MTA from looking at the clock.
#[tokio::test(start_paused = true)]
async fn c76_progress_without_a_pause() {
    let (mta, mut io) = tokio::io::duplex(1 << 20);
    tokio::spawn(async move {
        // It declines what can be declined: only the end is told.
        let mut offer = [0; 17];
        io.read_exact(&mut offer).await.unwrap();
        io.write_all(&offer).await.unwrap();
        io.read_u8().await.unwrap();
        for _ in 0..200 {
            if io.write_all(&b"\0\0\0\x01p".repeat(1000)).await.is_err() {
                return;
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    });
    let times = Timeouts::postfix().end_of_message(Duration::from_secs(60));
    let mut milter = client().timeouts(times).over(mta).await.unwrap();
    let start = Instant::now();
    let error = milter.deliver(Mail::new()).await.failure.unwrap();
    let what = Timeout::EndOfMessage;
    assert_eq!(error.failure(), Some(&Failure::Timeout(what)));
    assert!(
        (60..65).contains(&start.elapsed().as_secs()),
        "{:?}",
        start.elapsed()
    );
}

/// A milter that does not read is not waited for longer than one that does not answer.
#[tokio::test(start_paused = true)]
async fn one_that_does_not_read() {
    let (mta, mut io) = tokio::io::duplex(1024);
    tokio::spawn(async move {
        let mut offer = [0; 17];
        io.read_exact(&mut offer).await.unwrap();
        // All steps are as offered, but nothing is declined.
        offer[13..].copy_from_slice(&[0, 0, 0, 0]);
        io.write_all(&offer).await.unwrap();
        std::future::pending::<()>().await;
    });
    let mut milter = client().over(mta).await.unwrap();
    let long = milter_tower::Connect::new(vec![b'x'; 10_000], milter_tower::ClientAddr::Unknown);
    let start = Instant::now();
    let hour = Duration::from_secs(3600);
    let told = timeout(hour, milter.connect(long)).await;
    let error = told.expect("in time").unwrap_err();
    assert_eq!(error.failure(), Some(&Failure::Timeout(Timeout::Command)));
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn milters_that_are_not_there() {
    let nowhere = tempfile::tempdir().unwrap().path().join("none.sock");
    let error = Client::new(Address::unix(&nowhere))
        .connect()
        .await
        .unwrap_err();
    assert!(
        matches!(error.kind(), ClientErrorKind::Connect(_)),
        "{error}"
    );
    assert!(error.is_fatal());
    assert!(
        error.to_string().contains("none.sock: cannot connect"),
        "{error}"
    );
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::from(free.local_addr().unwrap());
    drop(free);
    let error = Client::new(address.clone()).connect().await.unwrap_err();
    assert_eq!(error.milter(), address.to_string());
}

#[tokio::test]
async fn connecting_takes_no_longer_than_it_may() {
    // Nobody accepts, and there is room for few who wait.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let at = listener.local_addr().unwrap();
    let moment = Duration::from_millis(50);
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(moment, TcpStream::connect(at)).await {
        waiting.push(stream.unwrap());
        assert!(waiting.len() < 64, "all find room");
    }
    let client = Client::new(at.into()).timeouts(Timeouts::postfix().connect(moment));
    let start = std::time::Instant::now();
    let error = client.connect().await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(4));
    assert!(error.to_string().contains("timed out"), "{error}");
    assert_eq!(error.stage(), None);
}

#[tokio::test]
async fn what_an_mta_does_then() {
    for (action, code, recipients) in [
        (DefaultAction::Accept, None, 3),
        (DefaultAction::Quarantine, None, 3),
        (DefaultAction::TempFail, Some(451), 1),
        (DefaultAction::Reject, Some(550), 1),
        (DefaultAction::Shutdown, Some(421), 1),
    ] {
        let mut asked = 0;
        let second = move |frame: &Command| {
            asked += usize::from(frame.code() == b'R');
            if asked == 2 { Act::Die } else { Act::Go }
        };
        let (mut milter, _) = connected(client().on_failure(action), Needs::all(), second).await;
        assert_eq!(milter.on_failure(), action);
        let mail = Mail::new()
            .to("a@example.net")
            .to("b@example.net")
            .to("c@example.net");
        for n in 0..2 {
            let done = milter.deliver(&mail).await;
            assert!(done.failure.is_some());
            assert_eq!(
                done.reply().map(milter_tower::SmtpReply::code),
                code,
                "{done}"
            );
            assert_eq!(done.is_accepted(), code.is_none(), "{done}");
            assert_eq!(action.verdict().is_refusal(), code.is_some());
            let held = done.quarantine().map(|reason| reason.to_string());
            assert_eq!(held.is_some(), action.holds(), "{done}");
            if n == 0 {
                assert_eq!(done.ended_at, Some(Stage::Rcpt));
            }
            let left = done.message.recipients().len();
            assert!(code.is_some() || left == recipients, "{done}");
            assert_eq!(done.message.body(), mail.content());
        }
    }
}
