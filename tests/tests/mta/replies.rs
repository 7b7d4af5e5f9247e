//! Replies with a code and text of the filter's own.

use milter_tests::mail::Mail;
use milter_tests::rig::{Outcome, Rig, Setup};
use milter_tests::smtp::Client;

use crate::group::{Cases, assert_reply, on_both};

on_both! {
    with_text: Setup::default();
    that_are_wrong: Setup::default();
}

fn with_text(cases: &mut Cases) {
    for stage in ["mail", "rcpt", "data", "header", "eoh", "body", "eom"] {
        cases.case(&format!("{stage}, one line"), |rig| {
            let outcome = rig.try_out(
                &[&[stage, "reply", "554", "5.7.42", "we do not want this"]],
                &Mail::to_bob(),
            );
            assert_reply(outcome.smtp.last(), 554, "5.7.42 ");
            // Sendmail may put the address before the text at MAIL and RCPT.
            assert!(last_text(&outcome).ends_with("we do not want this"));
            assert!(outcome.delivered.is_empty());
        });
        cases.case(&format!("{stage}, 4xx, three lines"), |rig| {
            let orders: &[&str] = &[
                stage,
                "reply",
                "452",
                "4.2.42",
                "first",
                "second line",
                "third",
            ];
            let outcome = rig.try_out(&[orders], &Mail::to_bob());
            assert_reply(outcome.smtp.last(), 452, "4.2.42 ");
            assert!(last_text(&outcome).ends_with("first\n4.2.42 second line\n4.2.42 third"));
        });
    }
    cases.case("percent signs", |rig| {
        for text in ["100% sure", "%", "50%% or %s %n %d", "ends with %"] {
            let outcome = one(rig, &["eom", "reply", "550", "5.7.1", text]);
            assert_eq!(last_text(&outcome), format!("5.7.1 {text}"));
            assert_eq!(outcome.smtp.last().unwrap().code, 550);
        }
    });
    cases.case("no enhanced code", |rig| {
        let outcome = one(rig, &["eom", "reply", "550", "", "just so"]);
        assert_eq!(last_text(&outcome), rig.by_kind("just so", "5.0.0 just so"));
        let outcome = one(rig, &["eom", "reply", "550", "", "one", "two"]);
        let lines = &outcome.smtp.last().unwrap().lines;
        assert!(
            lines.len() == 2 && lines[0].ends_with("one") && lines[1].ends_with("two"),
            "{lines:?}"
        );
    });
    cases.case("no text", |rig| {
        let outcome = one(rig, &["eom", "reply", "554", "5.7.42"]);
        assert_reply(outcome.smtp.last(), 554, "");
        assert!(last_text(&outcome).contains("5.7.42"));
        let outcome = one(rig, &["eom", "reply", "450", ""]);
        let class = outcome.smtp.last().map(|reply| reply.code / 100);
        assert_eq!(class, Some(4), "{:?}", outcome.smtp);
    });
    cases.case("setreply for the verdict after it", |rig| {
        let set: &[&str] = &["eoh", "setreply", "554", "5.7.42", "as set"];
        let outcome = rig.try_out(&[set, &["eoh", "reject"]], &Mail::to_bob());
        assert_reply(outcome.smtp.last(), 554, "5.7.42 as set");
    });
    cases.case("as many lines as are allowed", |rig| {
        let lines: Vec<String> = (1..=32).map(|n| format!("line {n}")).collect();
        let mut order = vec!["eom", "reply", "550", "5.7.42"];
        order.extend(lines.iter().map(String::as_str));
        let outcome = one(rig, &order);
        let got: Vec<String> = lines.iter().map(|line| format!("5.7.42 {line}")).collect();
        assert_eq!(outcome.smtp.last().unwrap().lines, got);
    });
    cases.case("421 ends the session", |rig| {
        for stage in ["mail", "rcpt", "eom"] {
            rig.reset();
            rig.orders(&[&[stage, "reply", "421", "4.7.42", "come back later"]]);
            let (mut client, _) = Client::connect(rig.mta().port()).expect("a greeting");
            client.command("EHLO client.example.org").expect("EHLO");
            let smtp = client.deliver(&Mail::to_bob());
            assert_reply(smtp.last(), 421, "4.7.42");
            assert!(
                client.command("NOOP").is_err(),
                "{stage}: the session goes on"
            );
            assert!(rig.outcome(smtp).delivered.is_empty());
        }
    });
}

/// One order, one message; several of these make a case.
fn one(rig: &mut Rig, order: &[&str]) -> Outcome {
    rig.reset();
    rig.try_out(&[order], &Mail::to_bob())
}

fn last_text(outcome: &Outcome) -> String {
    outcome
        .smtp
        .last()
        .map(milter_tests::smtp::Reply::text)
        .unwrap_or_default()
}

/// Each is refused when it is made, or made safe; the verdict is given all the same.
fn that_are_wrong(cases: &mut Cases) {
    cases.case("an enhanced code of another class", |rig| {
        let outcome = one(rig, &["eom", "reply", "550", "4.7.1", "which is it"]);
        assert_eq!(
            outcome.smtp.last().unwrap().code / 100,
            5,
            "{:?}",
            outcome.smtp.last()
        );
        assert!(
            !last_text(&outcome).starts_with("4."),
            "{:?}",
            outcome.smtp.last()
        );
        let outcome = one(rig, &["rcpt", "reply", "450", "5.7.1", "which is it"]);
        assert_eq!(
            outcome.smtp.last().unwrap().code / 100,
            4,
            "{:?}",
            outcome.smtp.last()
        );
        assert!(
            !last_text(&outcome).starts_with("5."),
            "{:?}",
            outcome.smtp.last()
        );
    });
    cases.case("codes that are none", |rig| {
        for code in ["5", "55", "5xx", "5555", "55 "] {
            let outcome = one(rig, &["rcpt", "reply", code, "5.7.1", "bad code"]);
            assert_eq!(outcome.all("failed"), [["reply"]], "{code}");
            assert_reply(outcome.smtp.last(), 550, "5.7.1");
        }
    });
    cases.case("enhanced codes that are none", |rig| {
        for xcode in ["5", "5.7", "5.7.1.1", "a.b.c", "5.7.1234", "9.1.1"] {
            let outcome = one(rig, &["rcpt", "reply", "550", xcode, "bad code"]);
            assert_eq!(outcome.all("failed"), [["reply"]], "{xcode}");
            assert_reply(outcome.smtp.last(), 550, "5.7.1");
        }
    });
    cases.case("line ends in the text", |rig| {
        for text in ["a\rb", "a\nb", "a\r\n250 2.0.0 fine"] {
            let outcome = one(rig, &["rcpt", "reply", "550", "5.7.1", text]);
            assert_eq!(outcome.smtp.last().unwrap().code, 550, "{text:?}");
            let lines = &outcome.smtp.last().unwrap().lines;
            assert!(
                lines.iter().all(|line| !line.contains(['\r', '\n'])),
                "{lines:?}"
            );
            assert!(outcome.smtp.rcpt.len() == 1 && outcome.smtp.data.is_none());
        }
    });
    cases.case("a class that does not fit the verdict", |rig| {
        let set: &[&str] = &["rcpt", "setreply", "450", "4.7.42", "later"];
        let outcome = rig.try_out(&[set, &["rcpt", "reject"]], &Mail::to_bob());
        assert_reply(outcome.smtp.last(), 550, "5.7.1");
        assert!(
            !last_text(&outcome).contains("later"),
            "{:?}",
            outcome.smtp.last()
        );
    });
    cases.case("a reply is forgotten after its callback", |rig| {
        let set: &[&str] = &["mail", "setreply", "554", "5.7.42", "left over"];
        let outcome = rig.try_out(&[set, &["rcpt", "reject"]], &Mail::to_bob());
        assert_reply(outcome.smtp.last(), 550, "5.7.1");
        assert!(
            !last_text(&outcome).contains("left over"),
            "{:?}",
            outcome.smtp.last()
        );
    });
    cases.case("more lines than are allowed", |rig| {
        let mut order = vec!["eom", "reply", "550", "5.7.42"];
        order.extend(std::iter::repeat_n("line", 33));
        let outcome = one(rig, &order);
        assert_eq!(outcome.all("failed"), [["reply"]]);
        assert_reply(outcome.smtp.last(), rig.by_kind(550, 554), "5.7.1");
    });
}
