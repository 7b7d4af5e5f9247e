//! What is negotiated: steps left out, steps without replies, actions, macros.

use milter_tests::mail::Mail;
use milter_tests::mta::Kind;
use milter_tests::rig::Setup;

use crate::group::{Cases, assert_reply, group, on_both};

on_both! {
    left_out: Setup::default();
    without_replies: Setup::default();
    other_options: Setup::default();
}

const STAGES: [&str; 8] = [
    "connect", "helo", "mail", "rcpt", "data", "header", "eoh", "body",
];

fn left_out(cases: &mut Cases) {
    for stage in STAGES {
        cases.case(&format!("no{stage}"), |rig| {
            let step = format!("no{stage}");
            let orders: &[&[&str]] = &[
                &["option", "steps", &step],
                &[stage, "reject"],
                &["eom", "addheader", "X-A", "seen"],
            ];
            let outcome = rig.try_out(orders, &Mail::to_bob());
            assert_eq!(outcome.message().header("X-A"), ["seen"]);
            for other in STAGES {
                assert_eq!(outcome.count(other) > 0, other != stage, "{other}");
            }
            assert_eq!(outcome.count("abort"), 0);
        });
    }
    cases.case("all but the end", |rig| {
        let mut steps = vec![
            "option".to_owned(),
            "steps".to_owned(),
            "nounknown".to_owned(),
        ];
        steps.extend(STAGES.map(|stage| format!("no{stage}")));
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let outcome = rig.try_out(
            &[&steps, &["eom", "addheader", "X-A", "seen"]],
            &Mail::to_bob(),
        );
        assert_eq!(outcome.message().header("X-A"), ["seen"]);
        assert_eq!(outcome.summary(), "negotiate eom close");
    });
    cases.case("and the next connection gets everything again", |rig| {
        let outcome = rig.send(&Mail::to_bob());
        assert_eq!(
            outcome.summary(),
            "negotiate connect helo mail rcpt data header eoh body eom close"
        );
    });
}

fn without_replies(cases: &mut Cases) {
    for stage in STAGES {
        cases.case(&format!("nr_{stage}"), |rig| {
            let step = format!("nr_{stage}");
            let orders: &[&[&str]] = &[
                &["option", "steps", &step],
                &[stage, "reject"],
                &["eom", "addheader", "X-A", "seen"],
            ];
            let outcome = rig.try_out(
                orders,
                &Mail::to_bob().body(milter_tests::mail::fill(200_000)),
            );
            assert_eq!(outcome.message().header("X-A"), ["seen"]);
            assert_eq!(outcome.count("failed"), outcome.count(stage));
            assert_eq!(outcome.all("failed")[0], ["reject"]);
        });
    }
    cases.case("all of them", |rig| {
        let mut steps = vec![
            "option".to_owned(),
            "steps".to_owned(),
            "nr_unknown".to_owned(),
        ];
        steps.extend(STAGES.map(|stage| format!("nr_{stage}")));
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let orders: &[&[&str]] = &[
            &steps,
            &["rcpt", "reply", "550", "5.7.42", "no"],
            &["eom", "addheader", "X-A", "seen"],
        ];
        let outcome = rig.try_out(orders, &Mail::to_bob().recipient("<carol@example.net>"));
        assert!(outcome.smtp.accepted());
        assert!(
            outcome
                .delivered
                .iter()
                .all(|one| one.header("X-A") == ["seen"])
        );
        assert_eq!(outcome.all("failed"), [["reply"], ["reply"]]);
        assert_eq!(
            outcome.summary().replace(" failed rcpt", ""),
            "negotiate connect helo mail rcpt failed data header eoh body eom close"
        );
    });
    cases.case("the verdict at the end still counts", |rig| {
        let steps: &[&str] = &[
            "option",
            "steps",
            "nr_header",
            "nr_eoh",
            "nr_body",
            "nr_mail",
            "nr_rcpt",
        ];
        let outcome = rig.try_out(
            &[steps, &["eom", "reply", "550", "5.7.42", "no"]],
            &Mail::to_bob(),
        );
        assert_reply(outcome.smtp.end.as_ref(), 550, "5.7.42");
    });
}

fn other_options(cases: &mut Cases) {
    cases.case("leadspc", |rig| {
        let mail = Mail::to_bob().header("X-None:none").header("X-Two:  two");
        let orders: &[&[&str]] = &[
            &["option", "steps", "leadspc"],
            &["eom", "addheader", "X-A", " one"],
            &["eom", "addheader", "X-B", "none"],
        ];
        let outcome = rig.try_out(orders, &mail);
        let headers = outcome.all("header");
        for (name, value) in [
            ("X-None", "none"),
            ("X-Two", "  two"),
            ("Subject", " test message"),
        ] {
            assert!(
                headers.contains(&vec![name.to_owned(), value.to_owned()]),
                "{headers:?}"
            );
        }
        let content = String::from_utf8_lossy(&outcome.message().content).into_owned();
        for line in [
            "\r\nX-None:none\r\n",
            "\r\nX-Two:  two\r\n",
            "\r\nX-A: one\r\n",
            "\r\nX-B:none\r\n",
        ] {
            assert!(content.contains(line), "{line:?} in {content}");
        }
    });
    cases.case("actions that were not asked for are refused", |rig| {
        let orders: &[&[&str]] = &[
            &["option", "actions", "addheader"],
            &["eom", "addheader", "X-A", "seen"],
            &["eom", "chgheader", "Subject", "1", "changed"],
            &["eom", "replbody", "new"],
            &["eom", "addrcpt", "<carol@example.net>"],
            &["eom", "delrcpt", "<bob@example.net>"],
            &["eom", "chgfrom", "<dave@example.org>"],
            &["eom", "quarantine", "odd"],
        ];
        let outcome = rig.try_out(orders, &Mail::to_bob());
        let failed = [
            ["chgheader"],
            ["replbody"],
            ["addrcpt"],
            ["delrcpt"],
            ["chgfrom"],
            ["quarantine"],
        ];
        assert_eq!(outcome.all("failed"), failed);
        let message = outcome.message();
        assert_eq!(message.header("X-A"), ["seen"]);
        assert_eq!(message.header("Subject"), ["test message"]);
        assert_eq!(
            (message.sender.as_str(), message.recipient_addresses()),
            ("<alice@example.org>", vec!["<bob@example.net>"])
        );
    });
    cases.case("macros asked for", |rig| {
        let orders: &[&[&str]] = &[
            &["option", "macros", "rcpt", "{rcpt_host}"],
            &["rcpt", "macro", "{rcpt_host}", "{rcpt_addr}"],
            &["mail", "macro", "{mail_addr}"],
        ];
        let macros = rig.try_out(orders, &Mail::to_bob()).all("macro");
        assert_eq!(
            macros[0],
            ["{mail_addr}", "alice@example.org"],
            "other stages keep theirs"
        );
        assert!(
            macros[1].len() == 2 && macros[1][1].contains("127.0.0.1"),
            "{macros:?}"
        );
        assert_eq!(macros[2], ["{rcpt_addr}"], "only what was asked for comes");
    });
    cases.case("refuse", |rig| {
        let outcome = rig.try_out(&[&["option", "refuse"]], &Mail::to_bob());
        assert_eq!(
            outcome.smtp.last().expect("a reply").code,
            451,
            "{:?}",
            outcome.smtp
        );
        assert_eq!(outcome.summary(), "negotiate close");
        rig.reset();
        assert!(rig.send(&Mail::to_bob()).smtp.accepted());
    });
    cases.case("what the server offers is traced in hexadecimal", |rig| {
        let outcome = rig.send(&Mail::to_bob());
        let offer = &outcome.all("negotiate")[0];
        assert_eq!(offer, &["1ff", "1fffff"]);
    });
}

/// Sendmail shows no recipients that its own rules refused.
#[test]
fn refused_recipients() {
    let restriction = "smtpd_recipient_restrictions = \
                       check_recipient_access inline:{ {no@example.net = REJECT} }";
    let setup = Setup {
        extra: vec![restriction.to_owned()],
        ..Setup::default()
    };
    group(Kind::Postfix, "refused_recipients", &setup, |cases| {
        let mail = Mail::to_bob().recipient("<no@example.net>");
        cases.case("are not shown", |rig| {
            let outcome = rig.send(&mail);
            assert_eq!(outcome.smtp.rcpt[1].code, 554);
            assert_eq!(outcome.all("rcpt"), [["<bob@example.net>"]]);
        });
        cases.case("are shown with rcptrej", |rig| {
            let orders: &[&[&str]] = &[
                &["option", "steps", "rcptrej"],
                &["rcpt", "macro", "{rcpt_mailer}"],
            ];
            let outcome = rig.try_out(orders, &mail);
            assert_eq!(outcome.smtp.rcpt[1].code, 554);
            assert_eq!(outcome.count("rcpt"), 2);
            assert_eq!(outcome.all("macro")[1], ["{rcpt_mailer}", "error"]);
            assert_eq!(
                outcome.count("eom"),
                1,
                "what is said of them counts for nothing"
            );
            outcome.message();
        });
    });
}
