//! More of everything than anybody sends.

use std::thread;

use milter_tests::raw::{Message, Peer, STEPS, STEPS_WITH_REPLIES, frame, strings};

use crate::target::{Row, deliver};

const MACROS: usize = 100_000;
const HEADERS: usize = 1_000_000;
/// How many headers are sent at once.
const BATCH: usize = 1000;

/// A macro frame with these many macros, for the command.
fn macros(code: char, first: usize, count: usize) -> Vec<u8> {
    let pairs = (first..first + count).map(|n| format!("{n:x}\0v\0"));
    frame(
        b'D',
        (code.to_string() + &pairs.collect::<String>()).as_bytes(),
    )
}

#[test]
fn a_hundred_thousand_macros() {
    Row::new("macros in one frame", 10, 12).run(|target| {
        let mut peer = target.session(STEPS);
        for code in "CHMRTNE?".chars() {
            let bytes = macros(code, 0, MACROS);
            assert!(bytes.len() < 1 << 20);
            peer.send(&bytes).expect("read");
        }
        deliver(&mut peer, &Message::small("a@example.org"), |_| {}).expect("in step");
    });
    Row::new("macros in many frames", 10, 4).run(|target| {
        let mut peer = target.session(STEPS);
        for first in (0..MACROS).step_by(100) {
            for code in "CHMRTNEUX".chars() {
                peer.send(&macros(code, first, 100)).expect("read");
            }
        }
        deliver(&mut peer, &Message::small("a@example.org"), |_| {}).expect("in step");
    });
    // Each connection keeps as many as it may.
    Row::new("macros on 100 connections", 10, 24).run(|target| {
        let mut peers: Vec<Peer> = (0..100)
            .filter_map(|n| target.try_connect(n).ok())
            .filter_map(|mut peer| peer.greet(6, STEPS).ok().map(|()| peer))
            .collect();
        assert!(peers.len() > 10);
        for peer in &mut peers {
            for code in "CHMRTNE".chars() {
                peer.send(&macros(code, 0, 8000)).expect("read");
            }
        }
        for peer in &mut peers {
            deliver(peer, &Message::small("a@example.org"), |_| {}).expect("in step");
        }
    });
}

/// One message of a million headers: each is answered if that is agreed, whatever the answer is.
fn flood_of_headers(peer: &mut Peer) {
    let mut writer = peer.try_clone().expect("a second handle");
    let batch: Vec<u8> = (0..BATCH)
        .flat_map(|n| strings(b'L', &[&format!("X-{n}"), "value"]))
        .collect();
    assert_eq!(
        peer.ask(&strings(b'M', &["<a@b>"]))
            .expect("an answer")
            .verdict,
        b'c'
    );
    assert_eq!(
        peer.ask(&strings(b'R', &["<a@b>"]))
            .expect("an answer")
            .verdict,
        b'c'
    );
    let due = if peer.expects_reply(b'L') { HEADERS } else { 0 };
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..HEADERS / BATCH {
                writer.send(&batch).expect("the server reads");
            }
            let end = [frame(b'N', b""), frame(b'B', b"x"), frame(b'E', b"")];
            writer.send(&end.concat()).expect("the server reads");
        });
        let mut refused = false;
        for n in 0..due {
            let answer = peer
                .answer()
                .unwrap_or_else(|error| panic!("header {n}: {error}"));
            refused |= answer.verdict != b'c';
            assert!(!refused || answer.verdict != b'c', "header {n}: {answer:?}");
        }
        let eoh = peer.answer().expect("an answer to the end of the headers");
        if peer.expects_reply(b'B') {
            peer.answer().expect("an answer to the body");
        }
        let end = peer.answer().expect("an answer to the end of the message");
        // Never accepted after a refusal.
        let refused = refused || eoh.verdict != b'c';
        assert!(!refused || b"rty".contains(&end.verdict), "{end:?}");
    });
    let _ = peer.send(&frame(b'A', b""));
    deliver(peer, &Message::small("next@example.org"), |_| {}).expect("in step");
}

#[test]
fn a_million_headers() {
    Row::new("headers without replies", 30, 4).run(|target| {
        flood_of_headers(&mut target.session(STEPS));
    });
    Row::new("headers with replies", 30, 4).run(|target| {
        flood_of_headers(&mut target.session(STEPS_WITH_REPLIES));
    });
}

#[test]
fn more_recipients_than_anybody_has() {
    Row::new("recipients", 20, 16).run(|target| {
        let mut peer = target.session(STEPS);
        let mut writer = peer.try_clone().expect("a second handle");
        peer.ask(&strings(b'M', &["<a@b>"])).expect("an answer");
        thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..50_000 {
                    let to = strings(b'R', &[&format!("<recipient-{n}@example.net>")]);
                    writer.send(&to).expect("the server reads");
                }
            });
            let mut verdicts = Vec::new();
            for _ in 0..50_000 {
                verdicts.push(peer.answer().expect("an answer").verdict);
            }
            assert_eq!(verdicts[0], b'c');
            assert_eq!(verdicts[49_999], b'y');
        });
        peer.send(&frame(b'A', b"")).expect("the server reads");
        deliver(&mut peer, &Message::small("next@example.org"), |_| {}).expect("in step");
    });
}
