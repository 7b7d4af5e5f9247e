//! Bodies: big, empty, of odd bytes.

use milter_tests::mail::{self, Mail};
use milter_tests::rig::{Outcome, Setup};

use crate::group::{Cases, assert_reply, on_both};

on_both! {
    bodies: Setup::default();
}

/// The sizes of the chunks that the filter saw.
fn sizes(outcome: &Outcome) -> Vec<usize> {
    outcome
        .all("body")
        .iter()
        .map(|args| args[0].parse().expect("a size"))
        .collect()
}

fn bodies(cases: &mut Cases) {
    cases.case("10 MiB", |rig| {
        const SIZE: usize = 10 * 1024 * 1024;
        let body = mail::fill(SIZE);
        let outcome = rig.send(&Mail::to_bob().body(body.clone()));
        assert!(outcome.smtp.accepted(), "{:?}", outcome.smtp);
        let sizes = sizes(&outcome);
        assert_eq!(sizes.iter().sum::<usize>(), SIZE);
        assert!(sizes.iter().all(|size| (1..=65_535).contains(size)));
        // Where each chunk begins in the body, its first bytes are those that the filter saw.
        let mut at = 0;
        let chunks = outcome.events.iter().filter(|event| event.name() == "body");
        for (chunk, size) in chunks.zip(&sizes) {
            let begin = &body[at..at + (*size).min(48)];
            assert!(chunk.word(2) == begin, "at {at}: {:?}", chunk.text(2));
            at += size;
        }
        assert!(
            outcome.message().body() == body,
            "the body is not what was sent"
        );
    });
    cases.case("no body", |rig| {
        let outcome = rig.send(&Mail::to_bob().body(""));
        assert_eq!(outcome.count("body"), 0);
        assert_eq!((outcome.count("eoh"), outcome.count("eom")), (1, 1));
        assert_eq!(outcome.message().body(), b"");
    });
    cases.case("odd bytes", |rig| {
        let mut body: Vec<u8> = (1..=255)
            .filter(|byte| !matches!(byte, b'\r' | b'\n'))
            .collect();
        body.extend_from_slice(b"\r\n.\r\n..\r\n\r\n");
        let outcome = rig.send(
            &Mail::to_bob()
                .sender_args("BODY=8BITMIME")
                .body(body.clone()),
        );
        assert_eq!(sizes(&outcome), [body.len()]);
        assert_eq!(outcome.all("body")[0].len(), 2);
        let first = outcome
            .events
            .iter()
            .find(|event| event.name() == "body")
            .expect("a chunk");
        assert_eq!(first.word(2), &body[..48]);
        assert_eq!(outcome.message().body(), body);
    });
    cases.case("one byte more than a chunk", |rig| {
        let outcome = rig.send(&Mail::to_bob().body(mail::fill(65_536)));
        // The server ends the last line.
        assert_eq!(sizes(&outcome).iter().sum::<usize>(), 65_536);
        assert_eq!(sizes(&outcome).len(), 2);
        outcome.message();
    });
    cases.case("skip", |rig| {
        let orders: &[&[&str]] = &[
            &["option", "steps", "skip"],
            &["body:2", "skip"],
            &["eom", "addheader", "X-A", "seen"],
        ];
        let body = mail::fill(500_032);
        let outcome = rig.try_out(orders, &Mail::to_bob().body(body.clone()));
        assert_eq!(sizes(&outcome).len(), 2);
        assert_eq!(outcome.count("failed"), 0);
        assert_eq!(outcome.message().header("X-A"), ["seen"]);
        assert!(outcome.message().body() == body);
    });
    cases.case("skip that was not negotiated", |rig| {
        let body = mail::fill(200_000);
        let outcome = rig.try_out(
            &[&["body:1", "skip"], &["eom", "addheader", "X-A", "seen"]],
            &Mail::to_bob().body(body),
        );
        assert!(outcome.smtp.accepted(), "{:?}", outcome.smtp);
        assert_eq!(outcome.message().header("X-A"), ["seen"]);
    });
    cases.case("refused at the second chunk", |rig| {
        let orders: &[&[&str]] = &[&["body:2", "reply", "554", "5.6.42", "enough"]];
        let outcome = rig.try_out(orders, &Mail::to_bob().body(mail::fill(500_032)));
        assert_reply(outcome.smtp.end.as_ref(), 554, "5.6.42 enough");
        assert_eq!((outcome.count("body"), outcome.count("eom")), (2, 0));
    });
}
