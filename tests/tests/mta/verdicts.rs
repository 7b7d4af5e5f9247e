//! Each verdict at each stage.

use milter_tests::mail::Mail;
use milter_tests::rig::Setup;
use milter_tests::smtp::{Client, Transcript};

use crate::group::{Cases, assert_reply, on_both};

on_both! {
    at_connect_and_helo: Setup::default();
    in_the_envelope: Setup::default();
    in_the_content: Setup::default();
    at_unknown_commands: Setup::default();
}

/// What follows the negotiation when nothing is special.
const ALL: &str = "negotiate connect helo mail rcpt data header eoh body eom";

fn at_connect_and_helo(cases: &mut Cases) {
    cases.case("no orders", |rig| {
        let outcome = rig.send(&Mail::to_bob());
        assert!(outcome.smtp.accepted());
        assert_eq!(
            outcome.message().body(),
            b"Hello Bob,\r\nthis is the body.\r\n"
        );
        assert_eq!(
            outcome.summary().replace(" abort", ""),
            format!("{ALL} close")
        );
        assert_eq!(outcome.count("abort"), 0, "nothing was given up");
    });
    cases.case("connect continue", |rig| {
        let outcome = rig.try_out(&[&["connect", "continue"]], &Mail::to_bob());
        assert_eq!(outcome.summary(), format!("{ALL} close"));
        outcome.message();
    });
    cases.case("connect reject", |rig| {
        let outcome = rig.try_out(&[&["connect", "reject"]], &Mail::to_bob());
        assert_reply(outcome.smtp.greeting.as_ref(), 554, "");
        assert_reply(
            outcome.smtp.mail.as_ref(),
            550,
            rig.by_kind("5.7.1", "5.0.0"),
        );
        assert_eq!(outcome.summary(), "negotiate connect close");
        assert!(outcome.delivered.is_empty());
    });
    for stage in ["connect", "helo"] {
        cases.case(&format!("{stage} tempfail"), |rig| {
            let outcome = rig.try_out(&[&[stage, "tempfail"]], &Mail::to_bob());
            assert_reply(outcome.smtp.greeting.as_ref(), 220, "");
            assert_reply(
                outcome.smtp.mail.as_ref(),
                451,
                rig.by_kind("4.7.1", "4.3.2"),
            );
            assert_eq!(outcome.count("mail"), 0);
            assert!(outcome.delivered.is_empty());
        });
        cases.case(&format!("{stage} accept"), |rig| {
            let outcome = rig.try_out(&[&[stage, "accept"]], &Mail::to_bob());
            assert_eq!(
                outcome.count("mail") + outcome.count("header"),
                0,
                "the session is free"
            );
            outcome.message();
        });
    }
    cases.case("connect 4xx and 5xx with text", |rig| {
        let outcome = rig.try_out(
            &[&["connect", "reply", "550", "5.7.9", "not here"]],
            &Mail::to_bob(),
        );
        assert_reply(outcome.smtp.greeting.as_ref(), 554, "");
        assert_reply(
            outcome.smtp.mail.as_ref(),
            550,
            rig.by_kind("5.7.9 not here", "5.0.0"),
        );
        let outcome = again(rig, &[&["connect", "reply", "450", "4.7.9", "not now"]]);
        assert_reply(
            outcome.mail.as_ref(),
            rig.by_kind(450, 451),
            rig.by_kind("4.7.9 not now", "4.3.2"),
        );
    });
    cases.case("connect 421", |rig| {
        rig.orders(&[&["connect", "reply", "421", "4.7.9", "go"]]);
        let (_client, greeting) = Client::connect(rig.mta().port()).expect("a greeting");
        assert_reply(Some(&greeting), 421, "");
    });
    at_helo(cases);
    at_connect_and_helo_refused(cases);
}

/// What the library does not take there.
fn at_connect_and_helo_refused(cases: &mut Cases) {
    for stage in ["connect", "helo"] {
        // Sendmail would switch all filters off, or hide the HELO from those behind.
        cases.case(&format!("{stage} discard is refused"), |rig| {
            let outcome = rig.try_out(
                &[&[stage, "discard"], &["eom", "addheader", "X-A", "seen"]],
                &Mail::to_bob(),
            );
            assert_eq!(outcome.all("failed"), [["discard"]]);
            assert_eq!(
                outcome.summary().replace(" failed", ""),
                format!("{ALL} close")
            );
            assert_eq!(outcome.message().header("X-A"), ["seen"]);
        });
    }
    cases.case("after what is refused the rules go on", |rig| {
        let outcome = rig.try_out(
            &[&["helo", "discard"], &["helo", "skip"], &["helo", "reject"]],
            &Mail::to_bob(),
        );
        assert_eq!(outcome.all("failed"), [["discard"], ["skip"]]);
        assert_reply(
            outcome.smtp.mail.as_ref(),
            550,
            rig.by_kind("5.7.1", "5.0.0"),
        );
    });
}

fn at_helo(cases: &mut Cases) {
    cases.case("helo reject", |rig| {
        let outcome = rig.try_out(&[&["helo", "reject"]], &Mail::to_bob());
        assert_reply(outcome.smtp.helo.as_ref(), 250, "");
        assert_reply(
            outcome.smtp.mail.as_ref(),
            550,
            rig.by_kind("5.7.1", "5.0.0"),
        );
        assert!(outcome.delivered.is_empty());
    });
    cases.case("helo with text", |rig| {
        let outcome = rig.try_out(
            &[&["helo", "reply", "553", "5.7.9", "no such host"]],
            &Mail::to_bob(),
        );
        assert_reply(outcome.smtp.mail.as_ref(), 553, "5.7.9 no such host");
    });
    cases.case("selectors at connect and helo", |rig| {
        let orders: &[&[&str]] = &[
            &["connect:other.host", "reject"],
            &["helo:CLIENT.example.ORG", "reject"],
        ];
        let outcome = rig.try_out(orders, &Mail::to_bob());
        assert_reply(outcome.smtp.greeting.as_ref(), 220, "");
        assert_reply(
            outcome.smtp.mail.as_ref(),
            550,
            rig.by_kind("5.7.1", "5.0.0"),
        );
        let outcome = rig.try_out(orders, &Mail::to_bob().helo("another.example.org"));
        assert!(outcome.smtp.accepted());
    });
}

/// One more message in the same case.
fn again(rig: &mut milter_tests::rig::Rig, orders: &[&[&str]]) -> Transcript {
    rig.reset();
    rig.try_out(orders, &Mail::to_bob()).smtp
}

fn in_the_envelope(cases: &mut Cases) {
    for stage in ["mail", "rcpt", "data"] {
        for (verdict, code, postfix, sendmail) in [
            ("reject", 550, "5.7.1", "5.7.1"),
            ("tempfail", 451, "4.7.1", "4.3.2"),
        ] {
            cases.case(&format!("{stage} {verdict}"), |rig| {
                let outcome = rig.try_out(&[&[stage, verdict]], &Mail::to_bob());
                assert_reply(outcome.smtp.last(), code, rig.by_kind(postfix, sendmail));
                assert!(outcome.smtp.mail.is_some());
                assert_eq!(outcome.smtp.rcpt.len(), usize::from(stage != "mail"));
                assert_eq!(outcome.smtp.data.is_some(), stage == "data");
                assert_eq!(outcome.count("header"), 0);
                assert!(outcome.delivered.is_empty());
            });
        }
        cases.case(&format!("{stage} accept"), |rig| {
            let outcome = rig.try_out(&[&[stage, "accept"], &["eom", "reject"]], &Mail::to_bob());
            assert_eq!(outcome.count("header") + outcome.count("eom"), 0);
            outcome.message();
        });
        cases.case(&format!("{stage} discard"), |rig| {
            let outcome = rig.try_out(&[&[stage, "discard"]], &Mail::to_bob());
            assert!(
                outcome.smtp.accepted(),
                "the client does not learn of it: {:?}",
                outcome.smtp
            );
            assert_eq!(outcome.count("header") + outcome.count("eom"), 0);
            assert!(outcome.delivered.is_empty());
        });
        cases.case(&format!("{stage} continue"), |rig| {
            let outcome = rig.try_out(&[&[stage, "continue"], &[stage, "reject"]], &Mail::to_bob());
            assert_eq!(outcome.summary(), format!("{ALL} close"));
            outcome.message();
        });
    }
    cases.case("selectors at mail, rcpt and data", |rig| {
        let orders: &[&[&str]] = &[
            &["mail:mallory@example.org", "reject"],
            &["rcpt:nobody@example.net", "reject"],
            &["data:alice@example.org", "reply", "550", "5.7.9", "by data"],
        ];
        let outcome = rig.try_out(orders, &Mail::to_bob().sender("<Mallory@Example.ORG>"));
        assert_reply(outcome.smtp.mail.as_ref(), 550, "5.7.1");
        let mail = Mail::to_bob().recipient("<nobody@example.net>");
        let outcome = rig.try_out(orders, &mail);
        assert_reply(outcome.smtp.rcpt.last(), 550, "5.7.1");
        assert_reply(outcome.smtp.data.as_ref(), 550, "5.7.9 by data");
    });
}

fn in_the_content(cases: &mut Cases) {
    for stage in ["header", "eoh", "body", "eom"] {
        cases.case(&format!("{stage} reject"), |rig| {
            let outcome = rig.try_out(&[&[stage, "reject"]], &Mail::to_bob());
            assert_reply(outcome.smtp.end.as_ref(), rig.by_kind(550, 554), "5.7.1");
            assert_eq!(
                outcome.events[outcome.events.len() - 2].name(),
                stage,
                "the last it sees"
            );
            assert!(outcome.delivered.is_empty());
        });
        cases.case(&format!("{stage} tempfail"), |rig| {
            let outcome = rig.try_out(&[&[stage, "tempfail"]], &Mail::to_bob());
            assert_reply(
                outcome.smtp.end.as_ref(),
                451,
                rig.by_kind("4.7.1", "4.3.2"),
            );
            assert!(outcome.delivered.is_empty());
        });
        cases.case(&format!("{stage} discard"), |rig| {
            let outcome = rig.try_out(&[&[stage, "discard"]], &Mail::to_bob());
            assert!(outcome.smtp.accepted());
            assert!(outcome.delivered.is_empty());
        });
        cases.case(&format!("{stage} accept"), |rig| {
            let outcome = rig.try_out(&[&[stage, "accept"]], &Mail::to_bob());
            assert_eq!(
                outcome.events[outcome.events.len() - 2].name(),
                stage,
                "the last it sees"
            );
            outcome.message();
        });
        cases.case(&format!("{stage} continue"), |rig| {
            let outcome = rig.try_out(&[&[stage, "continue"]], &Mail::to_bob());
            assert_eq!(outcome.summary(), format!("{ALL} close"));
            outcome.message();
        });
    }
    cases.case("selectors at header, eoh and eom", |rig| {
        let orders: &[&[&str]] = &[
            &["header:x-no-such", "reject"],
            &["header:SUBJECT", "continue"],
            &["header:subject", "reject"],
            &["eoh:somebody@else", "reject"],
            &["eom:alice@example.org", "reply", "552", "5.3.4", "by eom"],
        ];
        let outcome = rig.try_out(orders, &Mail::to_bob());
        assert_reply(outcome.smtp.end.as_ref(), 552, "5.3.4 by eom");
    });
    cases.case(
        "modifications count for nothing when the message is refused",
        |rig| {
            let mail = Mail::to_bob()
                .header("X-Test: eom addrcpt <x@example.net>")
                .header("X-Test: eom reject");
            let outcome = rig.send(&mail);
            assert_reply(outcome.smtp.end.as_ref(), rig.by_kind(550, 554), "5.7.1");
            assert!(outcome.delivered.is_empty());
        },
    );
}

fn at_unknown_commands(cases: &mut Cases) {
    for (verdict, code) in [("continue", 500), ("reject", 550), ("tempfail", 451)] {
        cases.case(&format!("unknown {verdict}"), |rig| {
            rig.orders(&[&["unknown", verdict]]);
            let (mut client, _) = Client::connect(rig.mta().port()).expect("a greeting");
            client.command("EHLO client.example.org").expect("EHLO");
            let reply = client.command("FROB one two").expect("a reply");
            // Postfix's own reply to what it does not know is 500 or 502, by release.
            let own = verdict == "continue" && (reply.code == 500 || reply.code == 502);
            assert!(own || reply.code == code, "{reply}");
            let smtp = client.deliver(&Mail::to_bob());
            client.command("QUIT").expect("QUIT");
            let outcome = rig.outcome(smtp);
            assert_eq!(
                outcome.all("unknown"),
                [[rig.by_kind("FROB", "FROB one two")]]
            );
            assert!(outcome.message().recipient_addresses() == ["<bob@example.net>"]);
        });
    }
    for verdict in ["accept", "discard"] {
        // Before MAIL they would crash Postfix's smtpd, or swallow the message after them.
        for begun in [false, true] {
            let when = if begun { "in a message" } else { "before MAIL" };
            cases.case(&format!("unknown {verdict} {when} is refused"), |rig| {
                rig.orders(&[&["unknown", verdict], &["eom", "addheader", "X-A", "seen"]]);
                let (mut client, _) = Client::connect(rig.mta().port()).expect("a greeting");
                client.command("EHLO client.example.org").expect("EHLO");
                if begun {
                    client
                        .command("MAIL FROM:<alice@example.org>")
                        .expect("MAIL");
                }
                let reply = client.command("FROB").expect("a reply");
                assert!(matches!(reply.code, 500 | 502), "{reply}");
                if begun {
                    client.command("RSET").expect("RSET");
                }
                let smtp = client.deliver(&Mail::to_bob());
                client.command("QUIT").expect("QUIT");
                let outcome = rig.outcome(smtp);
                assert!(outcome.smtp.accepted(), "{:?}", outcome.smtp);
                assert_eq!(outcome.all("failed"), [[verdict]]);
                assert_eq!(outcome.message().header("X-A"), ["seen"]);
            });
        }
    }
    cases.case("unknown with text and a selector", |rig| {
        let line = rig.by_kind("unknown:frob", "unknown:frob one two");
        rig.orders(&[
            &[line, "reply", "450", "4.5.9", "what is frob"],
            &["unknown", "tempfail"],
        ]);
        let (mut client, _) = Client::connect(rig.mta().port()).expect("a greeting");
        assert_reply(
            client.command("FROB one two").as_ref().ok(),
            450,
            "4.5.9 what is frob",
        );
        assert_reply(client.command("BLAH").as_ref().ok(), 451, "");
        client.command("QUIT").expect("QUIT");
    });
}
