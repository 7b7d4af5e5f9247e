//! Bodies that are read while they arrive.

use std::time::Duration;

use milter_core::{Command, Reply};
use milter_tower::message::{Incoming, Message, MessageFilter, OnLarge, message_streaming};
use milter_tower::{BoxError, Offer, Settings, SmtpReply, Stage};
use tokio::io::{AsyncBufReadExt, AsyncReadExt};

use crate::common::{body, seconds};
use crate::server::{Letter, Seen, Server};

/// Tells each piece as it comes, and how it ends.
fn telling(seen: &Seen) -> MessageFilter<Incoming> {
    let log = seen.clone();
    message_streaming(move |mut mail: Message<Incoming>| {
        let log = log.clone();
        log.add(format!("{} headers", mail.headers().len()));
        async move {
            while let Some(piece) = mail.body_mut().piece().await? {
                log.add(piece.len().to_string());
            }
            log.add(format!("cut: {}", mail.body_mut().is_cut()));
            mail.headers_mut().append("X-A", "b");
            Ok::<_, BoxError>(mail)
        }
    })
}

fn five() -> Letter {
    Letter::new().body((1..=5).map(|n| vec![b'x'; n]))
}

#[tokio::test(start_paused = true)]
async fn a_body_is_read_while_it_arrives() {
    let seen = Seen::default();
    let mut server = Server::new(telling(&seen)).await;
    for _ in 0..2 {
        let done = server.deliver(&five()).await;
        assert_eq!((done.answer().as_str(), done.edits.len()), ("Accept", 1));
        assert_eq!(
            seen.take(),
            ["5 headers", "1", "2", "3", "4", "5", "cut: false"]
        );
        server.abort().await;
    }
    let done = server.deliver(&Letter::new().body([])).await;
    assert_eq!((done.answer().as_str(), done.edits.len()), ("Accept", 1));
    assert_eq!(seen.take(), ["5 headers", "cut: false"]);
    server.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_without_an_end_of_headers_is_read_too() {
    let seen = Seen::default();
    let mut server = Server::new(telling(&seen)).await;
    server.begin(&Letter::new()).await;
    server.tell(body("abc")).await;
    server.tell(body("abcd")).await;
    let (edits, verdict) = server.mta.end().await;
    assert_eq!((edits.len(), verdict), (1, Reply::Accept));
    assert_eq!(seen.take(), ["0 headers", "3", "4", "cut: false"]);
    server.quit().await;
}

/// With replies it can be seen that a piece is read before the next comes.
#[tokio::test(start_paused = true)]
async fn each_piece_is_read_when_it_comes() {
    let seen = Seen::default();
    let mut server = Server::new(telling(&seen).early_verdicts()).await;
    server.begin(&Letter::new()).await;
    assert_eq!(server.tell(Command::EndOfHeaders).await, Reply::Continue);
    assert_eq!(seen.take(), ["0 headers"]);
    assert_eq!(server.tell(body("abc")).await, Reply::Continue);
    assert_eq!(seen.take(), ["3"]);
    assert_eq!(server.tell(body("abcd")).await, Reply::Continue);
    assert_eq!(seen.take(), ["4"]);
    let (edits, verdict) = server.mta.end().await;
    assert_eq!((edits.len(), verdict), (1, Reply::Accept));
    server.quit().await;
}

#[tokio::test(start_paused = true)]
async fn it_is_a_reader() {
    let filter = message_streaming(|mut mail: Message<Incoming>| async move {
        let mut line = String::new();
        mail.body_mut().read_line(&mut line).await?;
        let mut rest = Vec::new();
        mail.body_mut().read_to_end(&mut rest).await?;
        mail.headers_mut().append("X-Line", line.trim_end());
        mail.headers_mut().append("X-Rest", rest.len().to_string());
        Ok::<_, BoxError>(mail)
    });
    let mut server = Server::new(filter).await;
    let pieces = [
        b"one li".to_vec(),
        b"ne\r\nan".to_vec(),
        b"other\r\n".to_vec(),
    ];
    let done = server.deliver(&Letter::new().body(pieces)).await;
    let added = |name, value| format!("AddHeader {{ name: {name:?}, value: {value:?} }}");
    assert_eq!(
        done.edits(),
        [added("X-Line", " one line"), added("X-Rest", " 9")]
    );
    server.quit().await;
}

/// A handler that is busy with something else is waited for when too much waits to be read.
#[tokio::test(start_paused = true)]
async fn what_is_not_read_holds_the_mta_back() {
    let filter = message_streaming(|mut mail: Message<Incoming>| async move {
        tokio::time::sleep(seconds(3)).await;
        let mut all = Vec::new();
        mail.body_mut().read_to_end(&mut all).await?;
        assert_eq!(all.len(), 1000);
        Ok::<_, BoxError>(mail)
    });
    for (room, waited) in [(1000, 0), (999, 3), (0, 3)] {
        let filter = filter.clone().memory_limit(room).early_verdicts();
        let mut server = Server::new(filter).await;
        server.begin(&Letter::new()).await;
        assert_eq!(server.tell(Command::EndOfHeaders).await, Reply::Continue);
        let start = tokio::time::Instant::now();
        for _ in 0..10 {
            assert_eq!(server.tell(body(vec![b'x'; 100])).await, Reply::Continue);
        }
        // In Tokio's clock a wait may take a millisecond more.
        assert_eq!(start.elapsed().as_secs(), waited);
        let (_, verdict) = server.mta.end().await;
        assert_eq!(verdict, Reply::Accept);
        assert_eq!(start.elapsed().as_secs(), 3);
        server.quit().await;
    }
}

/// A handler that decides by the first bytes.
fn hasty() -> MessageFilter<Incoming> {
    message_streaming(|mut mail: Message<Incoming>| async move {
        let first = mail.body_mut().read_u8().await?;
        match first {
            b'r' => return Err(SmtpReply::reject("no").into()),
            b'e' => mail.headers_mut().append("X-A", "b"),
            _ => {}
        }
        Ok::<_, BoxError>(mail)
    })
}

#[tokio::test(start_paused = true)]
async fn an_early_decision_is_said_at_once_or_at_the_end() {
    for (first, answer, edits, at, pieces) in [
        (b'r', "550 5.7.1 no", 0, 'B', 1),
        (b'a', "Accept", 0, 'B', 1),
        (b'e', "Accept", 1, 'E', 1),
    ] {
        let letter = Letter::new().body(vec![vec![first]; 5]);
        let mut server = Server::new(hasty().early_verdicts()).await;
        let done = server.deliver(&letter).await;
        assert_eq!((done.answer().as_str(), done.edits.len()), (answer, edits));
        assert_eq!((done.at, done.pieces), (at, pieces));
        server.abort().await;
        server.quit().await;

        let mut server = Server::new(hasty()).await;
        let done = server.deliver(&letter).await;
        assert_eq!((done.answer().as_str(), done.edits.len()), (answer, edits));
        assert_eq!((done.at, done.pieces), ('E', 5));
        server.quit().await;
    }
    // The end comes before a byte does.
    let mut server = Server::new(hasty()).await;
    assert_eq!(
        server.deliver(&Letter::new().body([])).await.answer(),
        "TempFail"
    );
    server.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_beyond_the_limit() {
    let seen = Seen::default();
    let letter = Letter::new().body(vec![vec![b'x'; 40]; 5]);
    for (on_large, answer) in [
        (OnLarge::Reject, "552 5.3.4 Message too large"),
        (OnLarge::TempFail, "452 4.3.1 Insufficient system storage"),
        (OnLarge::Omit, "Accept"),
        (OnLarge::Cut, "Accept"),
    ] {
        for is_early in [false, true] {
            let mut filter = telling(&seen).body_limit(100, on_large);
            if is_early {
                filter = filter.early_verdicts();
            }
            let mut server = Server::new(filter).await;
            let done = server.deliver(&letter).await;
            assert_eq!(done.answer(), answer);
            let is_refused = answer != "Accept";
            assert_eq!(done.pieces, if is_early { 3 } else { 5 });
            assert_eq!(done.at, if is_early && is_refused { 'B' } else { 'E' });
            let expected = ["5 headers", "40", "40", "20", "cut: true"];
            assert_eq!(
                seen.take(),
                if is_refused {
                    &expected[..3]
                } else {
                    &expected
                }
            );
            server.abort().await;
            server.quit().await;
        }
    }
}

/// What was cut is skipped, also while the handler is busy.
#[tokio::test(start_paused = true)]
async fn what_is_cut_is_not_sent_to_a_handler_that_is_busy() {
    let filter = message_streaming(|mut mail: Message<Incoming>| async move {
        while mail.body_mut().piece().await?.is_some() {}
        tokio::time::sleep(seconds(3)).await;
        Ok::<_, BoxError>(mail)
    });
    let filter = filter.body_limit(100, OnLarge::Cut).early_verdicts();
    let mut server = Server::new(filter).await;
    let letter = Letter::new().body(vec![vec![b'x'; 40]; 5]);
    let done = server.deliver(&letter).await;
    assert_eq!((done.answer().as_str(), done.pieces), ("Accept", 3));
    server.quit().await;
}

/// A call that is cancelled takes the handler with it, and nothing else.
#[tokio::test(start_paused = true)]
async fn a_handler_that_is_too_late_fails_its_message() {
    let seen = Seen::default();
    let log = seen.clone();
    let filter = message_streaming(move |mut mail: Message<Incoming>| {
        let log = log.clone();
        async move {
            if mail.recipients().count() == 2 {
                log.add("waits");
                tokio::time::sleep(Duration::from_secs(3600)).await;
            }
            let mut all = Vec::new();
            mail.body_mut().read_to_end(&mut all).await?;
            log.add(all.len().to_string());
            Ok::<_, BoxError>(mail)
        }
    });
    for filter in [
        filter.clone().memory_limit(10),
        filter.clone().memory_limit(10).early_verdicts(),
        filter,
    ] {
        let mut server = Server::with(filter, Offer::V6, "Postfix 3", Settings::new()).await;
        let slow = Letter::new()
            .to(&["<b@example.net>", "<c@example.net>"])
            .body(vec![vec![b'x'; 40]; 5]);
        for _ in 0..2 {
            let done = server.deliver(&slow).await;
            assert_eq!(done.answer(), "TempFail");
            assert_eq!(seen.take(), ["waits"]);
            server.abort().await;
            let done = server.deliver(&five()).await;
            assert_eq!(done.answer(), "Accept");
            assert_eq!(seen.take(), ["15"]);
            server.abort().await;
        }
        assert!(!server.is_declined(Stage::Body));
        server.quit().await;
    }
}

/// A task of its own that reads the body learns that the message is over.
#[tokio::test(start_paused = true)]
async fn a_reader_elsewhere_learns_of_an_abort() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let filter = message_streaming(move |mut mail: Message<Incoming>| {
        let tell = tell.clone();
        async move {
            let reading = tokio::spawn(async move {
                let mut all = Vec::new();
                let read = mail.body_mut().read_to_end(&mut all).await;
                let _ = tell.send(read.map_err(|error| error.kind()));
            });
            reading.await.map_err(BoxError::from)
        }
    });
    let mut server = Server::new(filter).await;
    server.begin(&Letter::new()).await;
    server.tell(Command::EndOfHeaders).await;
    server.tell(body("abc")).await;
    server.abort().await;
    assert_eq!(
        told.recv().await,
        Some(Err(std::io::ErrorKind::UnexpectedEof))
    );
    let done = server.deliver(&five()).await;
    assert_eq!(done.verdict, Reply::Continue);
    assert_eq!(told.recv().await, Some(Ok(15)));
    server.quit().await;
}
