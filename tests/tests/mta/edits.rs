//! Changes of headers, body and quarantine at the end of a message.

use std::time::Duration;

use milter_tests::mail::{self, Mail};
use milter_tests::rig::Setup;
use milter_tests::wait;

use crate::group::{Cases, on_both};

on_both! {
    of_headers: Setup::default();
    of_the_body: Setup::default();
    by_quarantine: Setup::default();
}

fn three() -> Mail {
    Mail::to_bob()
        .header("X-N: one")
        .header("X-Other: o")
        .header("x-n: two")
        .header("X-N: three")
}

fn of_headers(cases: &mut Cases) {
    cases.case("addheader", |rig| {
        let outcome = rig.try_out(
            &[&["eom", "addheader", "X-A", "hello world"]],
            &Mail::to_bob(),
        );
        let headers = outcome.message().headers();
        assert_eq!(
            headers.last().unwrap(),
            &("X-A".to_owned(), "hello world".to_owned())
        );
        assert_eq!(outcome.message().header("Subject"), ["test message"]);
    });
    cases.case("addheader twice", |rig| {
        let outcome = rig.try_out(
            &[
                &["eom", "addheader", "X-A", "1"],
                &["eom", "addheader", "X-A", "2"],
            ],
            &Mail::to_bob(),
        );
        assert_eq!(
            outcome.message().header("X-A"),
            rig.by_kind(["1", "2"], ["2", "1"])
        );
    });
    cases.case("addheader of a name that is there", |rig| {
        let outcome = rig.try_out(&[&["eom", "addheader", "X-N", "new"]], &three());
        let values: [&str; 4] = rig.by_kind(
            ["one", "two", "three", "new"],
            ["new", "one", "two", "three"],
        );
        assert_eq!(outcome.message().header("X-N"), values);
    });
    cases.case("addheader with a folded and with an 8-bit value", |rig| {
        let orders: &[&[&str]] = &[
            &["eom", "addheader", "X-F", "one\n\ttwo"],
            &["eom", "addheader", "X-8", "gr\u{fc}n"],
        ];
        let outcome = rig.try_out(orders, &Mail::to_bob());
        assert_eq!(outcome.message().header("X-F"), ["one\r\n\ttwo"]);
        assert_eq!(outcome.message().header("X-8"), ["gr\u{fc}n"]);
    });
    cases.case("addheader of an empty value", |rig| {
        let outcome = rig.try_out(&[&["eom", "addheader", "X-E", ""]], &Mail::to_bob());
        assert_eq!(outcome.message().header("X-E"), [""]);
    });
    of_headers_wrongly(cases);
}

fn of_headers_wrongly(cases: &mut Cases) {
    cases.case("a CR in a value never reaches the mail", |rig| {
        for value in ["a\r\n\tb", "a\rb"] {
            rig.reset();
            let outcome = rig.try_out(&[&["eom", "addheader", "X-C", value]], &Mail::to_bob());
            let content = String::from_utf8_lossy(&outcome.message().content).into_owned();
            assert!(!content.replace("\r\n", "").contains('\r'), "{content:?}");
            assert!(
                outcome.all("failed") == [["addheader"]]
                    || outcome.message().header("X-C").len() == 1
            );
        }
    });
    cases.case("a NUL in a value is refused", |rig| {
        let outcome = rig.try_out(&[&["eom", "addheader", "X-C", "a\0b"]], &Mail::to_bob());
        assert_eq!(outcome.all("failed"), [["addheader"]]);
        assert!(outcome.message().header("X-C").is_empty());
    });
    cases.case("no name is refused", |rig| {
        let outcome = rig.try_out(
            &[
                &["eom", "addheader", "", "v"],
                &["eom", "chgheader", "", "1", "v"],
            ],
            &Mail::to_bob(),
        );
        assert_eq!(outcome.all("failed"), [["addheader"], ["chgheader"]]);
        outcome.message();
    });
    of_headers_by_position(cases);
}

fn of_headers_by_position(cases: &mut Cases) {
    cases.case("insheader 0", |rig| {
        let outcome = rig.try_out(
            &[&["eom", "insheader", "0", "X-A", "first"]],
            &Mail::to_bob(),
        );
        assert_eq!(
            outcome.message().headers()[0],
            ("X-A".to_owned(), "first".to_owned())
        );
    });
    cases.case("insheader 1", |rig| {
        let outcome = rig.try_out(
            &[&["eom", "insheader", "1", "X-A", "second"]],
            &Mail::to_bob(),
        );
        let headers = outcome.message().headers();
        assert_eq!(headers[0].0, "Received");
        assert_eq!(headers[1].0, "X-A");
    });
    cases.case("insheader past the end", |rig| {
        let outcome = rig.try_out(
            &[&["eom", "insheader", "1000", "X-A", "last"]],
            &Mail::to_bob(),
        );
        assert_eq!(outcome.message().headers().last().unwrap().0, "X-A");
    });
    cases.case("chgheader", |rig| {
        let outcome = rig.try_out(&[&["eom", "chgheader", "X-N", "2", "changed"]], &three());
        assert_eq!(outcome.message().header("X-N"), ["one", "changed", "three"]);
        assert_eq!(outcome.message().header("X-Other"), ["o"]);
    });
    cases.case("chgheader past the last of its name adds", |rig| {
        let outcome = rig.try_out(&[&["eom", "chgheader", "X-N", "9", "new"]], &three());
        assert_eq!(outcome.message().header("X-N").len(), 4);
        assert!(outcome.message().header("X-N").contains(&"new".to_owned()));
    });
    cases.case("chgheader with an empty value deletes", |rig| {
        let outcome = rig.try_out(&[&["eom", "chgheader", "X-N", "1", ""]], &three());
        assert_eq!(outcome.message().header("X-N"), ["two", "three"]);
    });
    cases.case("delheader", |rig| {
        let outcome = rig.try_out(&[&["eom", "delheader", "subject", "1"]], &three());
        assert!(outcome.message().header("Subject").is_empty());
        assert_eq!(outcome.message().header("X-N"), ["one", "two", "three"]);
    });
    cases.case("delheader of several, the last first", |rig| {
        let orders: &[&[&str]] = &[
            &["eom", "delheader", "X-N", "3"],
            &["eom", "delheader", "X-N", "2"],
            &["eom", "delheader", "X-N", "1"],
        ];
        let outcome = rig.try_out(orders, &three());
        assert!(outcome.message().header("X-N").is_empty());
        assert_eq!(outcome.message().header("X-Other"), ["o"]);
    });
    cases.case("delheader of what is not there", |rig| {
        let outcome = rig.try_out(&[&["eom", "delheader", "X-Nothing", "1"]], &three());
        assert_eq!(outcome.message().header("X-N"), ["one", "two", "three"]);
    });
}

fn of_the_body(cases: &mut Cases) {
    cases.case("replbody", |rig| {
        let outcome = rig.try_out(&[&["eom", "replbody", "new body\r\n"]], &Mail::to_bob());
        assert_eq!(outcome.message().body(), b"new body\r\n");
        assert_eq!(outcome.message().header("Subject"), ["test message"]);
    });
    cases.case("replbody in parts, CRLF split", |rig| {
        let orders: &[&[&str]] = &[
            &["eom", "replbody", "one\r"],
            &["eom", "replbody", "\ntwo\r\n"],
            &["eom", "replbody", ".\r\n..\r\n"],
        ];
        let outcome = rig.try_out(orders, &Mail::to_bob());
        assert_eq!(outcome.message().body(), b"one\r\ntwo\r\n.\r\n..\r\n");
    });
    cases.case("replbody without a last line end", |rig| {
        let outcome = rig.try_out(&[&["eom", "replbody", "no end"]], &Mail::to_bob());
        assert_eq!(outcome.message().body(), b"no end\r\n");
    });
    cases.case("replbody empty", |rig| {
        let outcome = rig.try_out(&[&["eom", "replbody", ""]], &Mail::to_bob());
        assert_eq!(outcome.message().body(), b"");
    });
    cases.case("replfill 200000", |rig| {
        let outcome = rig.try_out(&[&["eom", "replfill", "200000"]], &Mail::to_bob());
        assert_eq!(outcome.message().body(), mail::fill(200_000));
    });
    cases.case("replbody around other modifications", |rig| {
        let orders: &[&[&str]] = &[
            &["eom", "replbody", "one\r\n"],
            &["eom", "addheader", "X-A", "a"],
            &["eom", "replbody", "two\r\n"],
        ];
        let outcome = rig.try_out(orders, &Mail::to_bob());
        // Postfix refuses a body in two runs: the library keeps them together.
        assert_eq!(outcome.message().body(), b"one\r\ntwo\r\n");
        assert_eq!(outcome.message().header("X-A"), ["a"]);
    });
    cases.case(
        "modifications before the end of the message are refused",
        |rig| {
            let orders: &[&[&str]] = &[
                &["eoh", "addheader", "X-A", "a"],
                &["body", "replbody", "b"],
                &["mail", "quarantine", "q"],
            ];
            let outcome = rig.try_out(orders, &Mail::to_bob());
            assert_eq!(
                outcome.all("failed"),
                [["quarantine"], ["addheader"], ["replbody"]]
            );
            assert_eq!(
                outcome.message().body(),
                b"Hello Bob,\r\nthis is the body.\r\n"
            );
        },
    );
}

fn by_quarantine(cases: &mut Cases) {
    for verdict in ["continue", "accept"] {
        cases.case(&format!("quarantine, {verdict}"), |rig| {
            let orders: &[&[&str]] = &[
                &["eom", "quarantine", "looks odd"],
                &["eom", "addheader", "X-A", "held"],
                &["eom", verdict],
            ];
            let outcome = rig.try_out(orders, &Mail::to_bob());
            assert!(outcome.smtp.accepted());
            assert!(outcome.delivered.is_empty());
            let held = wait::until("a held message", Duration::from_secs(5), || {
                Some(rig.mta().held()).filter(|held| !held.is_empty())
            });
            let held = held.unwrap();
            assert_eq!(held.len(), 1);
            assert!(held[0].contains("this is the body."), "{}", held[0]);
            assert!(held[0].contains("X-A: held"), "{}", held[0]);
            assert!(
                held[0].contains(rig.by_kind("bob@example.net", "looks odd")),
                "{}",
                held[0]
            );
            rig.mta().purge();
            assert!(rig.mta().held().is_empty());
        });
    }
    cases.case("quarantine for no reason is refused", |rig| {
        let outcome = rig.try_out(&[&["eom", "quarantine", ""]], &Mail::to_bob());
        assert_eq!(outcome.all("failed"), [["quarantine"]]);
        outcome.message();
    });
    cases.case("quarantine, reject", |rig| {
        let outcome = rig.try_out(
            &[&["eom", "quarantine", "odd"], &["eom", "reject"]],
            &Mail::to_bob(),
        );
        assert_eq!(outcome.smtp.end.unwrap().code, rig.by_kind(550, 554));
        assert!(rig.mta().held().is_empty());
    });
}
