//! Bodies: in memory, in files, and too large.

use std::io::{Read, Seek, SeekFrom};

use milter_core::Reply;
use milter_tower::message::{Message, MessageFilter, OnLarge, blocking, message};
use milter_tower::{BoxError, Offer, Settings, Stage, Steps};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::server::{Letter, Seen, Server};

/// Pieces as an MTA cuts them, of bytes that tell where they stand.
fn pieces(len: usize) -> Vec<Vec<u8>> {
    let bytes: Vec<u8> = (0..len).map(byte_at).collect();
    bytes.chunks(65_535).map(<[u8]>::to_vec).collect()
}

fn byte_at(at: usize) -> u8 {
    u8::try_from(at % 251).unwrap()
}

fn check(bytes: &[u8], from: usize, len: usize) {
    assert_eq!(bytes.len(), len);
    let wrong = (0..len).find(|at| bytes[*at] != byte_at(from + at));
    assert_eq!(wrong, None);
}

/// A handler that reads the body in every way.
async fn read_all(mail: Message) -> Result<Message, BoxError> {
    let body = mail.body().clone();
    let len = usize::try_from(body.len())?;
    check(&body.bytes().await?, 0, len);

    let mut reader = body.reader();
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).await?;
    check(&bytes, 0, len);
    for at in [0, len / 2, len / 3, len] {
        // From the middle of what is in memory.
        reader.seek(SeekFrom::Start(len as u64 / 5)).await?;
        assert_eq!(reader.read(&mut [0; 7]).await?, (len - len / 5).min(7));
        reader.seek(SeekFrom::Start(at as u64)).await?;
        bytes.clear();
        reader.read_to_end(&mut bytes).await?;
        check(&bytes, at, len - at);
    }
    assert!(
        reader
            .seek(SeekFrom::End(-(i64::try_from(len)? + 1)))
            .await
            .is_err()
    );

    tokio::task::spawn_blocking(move || {
        let mut reader = body.blocking_reader();
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        check(&bytes, 0, len);
        let half = i64::try_from(len / 2)?;
        reader.seek(SeekFrom::Start(len as u64 / 5))?;
        assert_eq!(reader.read(&mut [0; 7])?, (len - len / 5).min(7));
        let at = usize::try_from(reader.seek(SeekFrom::End(-half))?)?;
        bytes.clear();
        reader.read_to_end(&mut bytes)?;
        check(&bytes, at, len - at);
        Ok::<_, BoxError>(())
    })
    .await??;
    Ok(mail)
}

#[tokio::test(start_paused = true)]
async fn a_body_of_any_size_is_read_as_it_came() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let filter = message(move |mail: Message| {
        // The file has no name.
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
        read_all(mail)
    })
    .memory_limit(100_000)
    .temp_dir(directory.path());
    let mut server = Server::new(filter).await;
    for len in [0, 1, 65_535, 65_536, 100_000, 100_001, 300_000, 5_000_000] {
        let letter = Letter::new().body(pieces(len));
        let done = server.deliver(&letter).await;
        assert_eq!(done.verdict, Reply::Accept, "{len}");
        server.abort().await;
    }
    server.quit().await;
}

#[tokio::test(start_paused = true)]
async fn what_fits_is_in_memory_and_what_does_not_is_in_a_file() {
    let seen = Seen::default();
    let log = seen.clone();
    let filter = message(move |mail: Message| {
        log.add(format!("{}", mail.body().in_memory().is_some()));
        async {}
    });
    for (memory, directory, expected) in [
        (100, "/nonexistent", "true"),
        (99, "/tmp", "false"),
        (0, "/tmp", "false"),
    ] {
        let filter = filter.clone().memory_limit(memory).temp_dir(directory);
        let mut server = Server::new(filter).await;
        let done = server.deliver(&Letter::new().body([vec![b'x'; 100]])).await;
        assert_eq!(done.verdict, Reply::Continue);
        assert_eq!(seen.take(), [expected]);
        server.quit().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_written_fails_the_message() {
    let filter = message(|_: Message| async {})
        .memory_limit(10)
        .temp_dir("/nonexistent");
    for pieces in [vec![vec![b'x'; 100]], vec![vec![b'x'; 100]; 5]] {
        for filter in [filter.clone(), filter.clone().early_verdicts()] {
            let mut server = Server::new(filter).await;
            let done = server.deliver(&Letter::new().body(pieces.clone())).await;
            assert_eq!(done.verdict, Reply::TempFail);
            server.abort().await;
            // The next one fits.
            let done = server.deliver(&Letter::new()).await;
            assert_eq!(done.verdict, Reply::Continue);
            server.quit().await;
        }
    }
}

/// A filter that tells how much of a body it got.
fn telling(seen: &Seen) -> MessageFilter {
    let log = seen.clone();
    message(move |mail: Message| {
        log.add(format!("{} {}", mail.body().len(), mail.body().is_cut()));
        async move { mail.accept() }
    })
}

#[tokio::test(start_paused = true)]
async fn a_body_beyond_the_limit() {
    let seen = Seen::default();
    let letter = Letter::new().body(vec![vec![b'x'; 40]; 5]);
    for (on_large, answer, saw) in [
        (OnLarge::Reject, "552 5.3.4 Message too large", None),
        (
            OnLarge::TempFail,
            "452 4.3.1 Insufficient system storage",
            None,
        ),
        (OnLarge::Omit, "Accept", Some("0 true")),
        (OnLarge::Cut, "Accept", Some("100 true")),
    ] {
        for is_early in [false, true] {
            let mut filter = telling(&seen).body_limit(100, on_large);
            if is_early {
                filter = filter.early_verdicts();
            }
            let mut server = Server::new(filter).await;
            assert_eq!(server.is_silent(Stage::Body), !is_early);
            for _ in 0..2 {
                let done = server.deliver(&letter).await;
                assert_eq!(done.answer(), answer);
                assert_eq!(seen.take(), saw.into_iter().collect::<Vec<_>>());
                // The third piece is beyond it.
                assert_eq!(done.pieces, if is_early { 3 } else { 5 });
                let is_refused = saw.is_none();
                assert_eq!(done.at, if is_early && is_refused { 'B' } else { 'E' });
                server.abort().await;
            }
            let fits = Letter::new().body([vec![b'x'; 100]]);
            let done = server.deliver(&fits).await;
            assert_eq!(done.answer(), "Accept");
            assert_eq!(seen.take(), ["100 false"]);
            server.quit().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_skip_the_rest_of_a_body_is_thrown_away() {
    let seen = Seen::default();
    let filter = telling(&seen)
        .body_limit(100, OnLarge::Cut)
        .early_verdicts();
    let offer = Offer {
        steps: Offer::V6.steps - Steps::SKIP,
        ..Offer::V6
    };
    let mut server = Server::with(filter, offer, "Postfix 3", Settings::new()).await;
    let done = server
        .deliver(&Letter::new().body(vec![vec![b'x'; 40]; 5]))
        .await;
    assert_eq!((done.answer().as_str(), done.pieces), ("Accept", 5));
    assert_eq!(seen.take(), ["100 true"]);
    server.quit().await;
}

#[tokio::test(start_paused = true)]
async fn without_body_none_is_sent() {
    let seen = Seen::default();
    let mut server = Server::new(telling(&seen).without_body()).await;
    let done = server.deliver(&Letter::new()).await;
    assert_eq!((done.answer().as_str(), done.pieces), ("Accept", 0));
    assert_eq!(seen.take(), ["0 false"]);
    server.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_blocking_handler() {
    let filter = message(blocking(|mut mail: Message| {
        let mut text = String::new();
        mail.body().blocking_reader().read_to_string(&mut text)?;
        mail.headers_mut()
            .append("X-Length", text.len().to_string());
        if text.contains("panic") {
            std::panic::panic_any("expected");
        }
        Ok::<_, std::io::Error>(mail)
    }));
    crate::common::proceeding();
    let mut server = Server::new(filter).await;
    let done = server.deliver(&Letter::new()).await;
    assert_eq!((done.answer().as_str(), done.edits.len()), ("Accept", 1));
    let done = server
        .deliver(&Letter::new().body([b"panic".to_vec()]))
        .await;
    assert_eq!(done.answer(), "TempFail");
    let done = server.deliver(&Letter::new().body([vec![0xff]])).await;
    assert_eq!(done.answer(), "TempFail");
    server.quit().await;
}

/// What the parser cannot bear ends neither the process nor the connection.
#[cfg(feature = "mail-parser")]
#[tokio::test(start_paused = true)]
async fn the_parser_may_fail() {
    use milter_tower::SmtpReply;
    use milter_tower::message::ToBytesError;

    let filter = message(async |mail: Message| {
        let error = mail.parse(1 << 20).await.unwrap_err();
        SmtpReply::reject(match error {
            ToBytesError::Parser => "parser",
            ToBytesError::Nested => "nested",
            _ => "other",
        })
    });
    let mut server = Server::new(filter).await;
    let deep = "Content-Type: message/rfc822\r\n\r\n".repeat(2_000);
    for (body, word) in [("Received: from a\r\n ", "parser"), (&deep, "nested")] {
        let mut letter = Letter::new().body([body.as_bytes().to_vec()]);
        letter.headers.push(("Content-Type", "message/rfc822"));
        let done = server.deliver(&letter).await;
        assert_eq!(done.answer(), format!("550 5.7.1 {word}"));
    }
    server.quit().await;
}
