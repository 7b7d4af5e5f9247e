//! What is held is bounded (D7, D11).

use std::sync::{Arc, Mutex};

use milter_core::{Command, Reply};
use milter_tower::{Actions, Chain, Event, Needs, Response, Settings};

use crate::common::{Scripted, body, mail, rcpt};
use crate::members::{greeted_as, judging, member};

/// A member that may change bodies, and one that reads them.
fn reader(seen: &Arc<Mutex<Vec<u8>>>) -> (Scripted, Scripted) {
    let changes = Needs::none().action(Actions::CHANGE_BODY);
    let (a, _) = member(changes, |_| Response::proceed());
    let seen = Arc::clone(seen);
    let (b, _) = member(judging(), move |event| {
        if let Event::Body(piece) = event {
            assert!(piece.len() <= 65_535);
            seen.lock().unwrap().extend_from_slice(piece);
        }
        Response::proceed()
    });
    (a, b)
}

fn piece(nth: u8) -> Vec<u8> {
    vec![nth; 60_000]
}

#[tokio::test]
async fn a_body_beyond_the_memory_goes_to_a_file_and_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (a, b) = reader(&seen);
    let chain = Chain::new()
        .with("a", a)
        .with("b", b)
        .memory_limit(100_000)
        .spool_directory(directory.path());
    let (mut mta, run) = greeted_as(chain, Settings::new()).await;
    for _ in 0..2 {
        seen.lock().unwrap().clear();
        for command in [mail(), rcpt("<a@b>")] {
            assert_eq!(mta.ask(command).await, Reply::Continue);
        }
        for nth in 0..20 {
            assert_eq!(mta.ask(body(piece(nth))).await, Reply::Continue);
        }
        assert_eq!(mta.end().await.1, Reply::Accept);
        let expected: Vec<u8> = (0..20).flat_map(piece).collect();
        assert!(
            *seen.lock().unwrap() == expected,
            "{}",
            seen.lock().unwrap().len()
        );
        assert_eq!(
            std::fs::read_dir(directory.path()).unwrap().count(),
            0,
            "it has no name"
        );
    }
    mta.quit(run).await;
}

#[tokio::test]
async fn beyond_the_limit_a_message_is_refused_and_nobody_sees_its_rest() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (a, b) = reader(&seen);
    let chain = Chain::new().with("a", a).with("b", b).body_limit(100_000);
    let (mut mta, run) = greeted_as(chain, Settings::new()).await;
    mta.ask(mail()).await;
    mta.ask(rcpt("<a@b>")).await;
    assert_eq!(mta.ask(body(piece(0))).await, Reply::Continue);
    let Reply::Smtp(reply) = mta.ask(body(piece(1))).await else {
        panic!("no refusal")
    };
    assert_eq!(reply.code(), 552);
    mta.send(Command::Abort).await;
    mta.ask(mail()).await;
    mta.ask(body("text\r\n")).await;
    assert_eq!(
        mta.end().await.1,
        Reply::Accept,
        "the next one is another one"
    );
    mta.quit(run).await;
    assert_eq!(*seen.lock().unwrap(), b"text\r\n");
}

#[tokio::test]
async fn a_disk_that_is_full_fails_the_message() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (a, b) = reader(&seen);
    let chain = Chain::new()
        .with("a", a)
        .with("b", b)
        .memory_limit(10)
        .spool_directory("/nowhere/at/all");
    let (mut mta, run) = greeted_as(chain, Settings::new()).await;
    mta.ask(mail()).await;
    assert_eq!(mta.ask(body(piece(0))).await, Reply::Continue);
    assert_eq!(mta.ask(body(piece(1))).await, Reply::TempFail);
    mta.send(Command::Abort).await;
    let (edits, verdict) = {
        mta.ask(mail()).await;
        mta.end().await
    };
    assert_eq!((edits.len(), verdict), (0, Reply::Accept));
    mta.quit(run).await;
}
