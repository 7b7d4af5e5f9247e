//! What happens in the course of an SMTP session.

use milter_tests::control;
use milter_tests::mail::{BOB, Mail, SENDER};
use milter_tests::rig::{Rig, Setup};
use milter_tests::smtp::{Client, Transcript};
use milter_tests::wait::PATIENCE;

use crate::group::{Cases, assert_reply, on_both};

on_both! {
    of_several_messages: Setup::default();
    that_are_cut_short: Setup::default();
    facts_for_the_filter: Setup::default();
    on_unix_sockets: Setup { unix: true, ..Setup::default() };
}

fn connect(rig: &Rig) -> Client {
    let (mut client, greeting) = Client::connect(rig.mta().port()).expect("a greeting");
    assert_eq!(greeting.code, 220);
    assert_eq!(
        client
            .command("EHLO client.example.org")
            .expect("EHLO")
            .code,
        250
    );
    client
}

fn all_ok(client: &mut Client, lines: &[&str]) {
    for line in lines {
        let reply = client.command(line).expect(line);
        assert!(matches!(reply.code, 250 | 354), "{line}: {reply}");
    }
}

fn of_several_messages(cases: &mut Cases) {
    cases.case("several recipients, one refused", |rig| {
        let mail = Mail::to_bob()
            .recipient("<no@example.net>")
            .recipient("<carol@example.net>");
        let outcome = rig.try_out(
            &[&["rcpt:no@example.net", "reply", "550", "5.1.42", "not he"]],
            &mail,
        );
        assert_reply(Some(&outcome.smtp.rcpt[0]), 250, "");
        assert_reply(Some(&outcome.smtp.rcpt[1]), 550, "5.1.42");
        assert_reply(Some(&outcome.smtp.rcpt[2]), 250, "");
        let mut all: Vec<&str> = outcome
            .delivered
            .iter()
            .flat_map(|one| one.recipient_addresses())
            .collect();
        all.sort_unstable();
        assert_eq!(all, [BOB, "<carol@example.net>"]);
        assert_eq!(outcome.count("rcpt"), 3);
    });
    cases.case("several messages on one connection", |rig| {
        let mut client = connect(rig);
        for verdict in [
            "addheader X-A 1",
            "reject",
            "discard",
            "accept",
            "addheader X-A 5",
        ] {
            let smtp = client.deliver(&Mail::to_bob().header(&format!("X-Test: eom {verdict}")));
            assert_eq!(smtp.accepted(), verdict != "reject", "{verdict}: {smtp:?}");
        }
        client.command("QUIT").expect("QUIT");
        let outcome = rig.outcome(Transcript::default());
        assert_eq!(outcome.count("connect"), 1);
        assert_eq!(outcome.count("eom"), 5);
        assert_eq!(outcome.count("abort"), 0);
        let mut values: Vec<Vec<String>> = outcome
            .delivered
            .iter()
            .map(|one| one.header("X-A"))
            .collect();
        values.sort();
        assert_eq!(values, [vec![], vec!["1".to_owned()], vec!["5".to_owned()]]);
    });
    cases.case("the verdict on a message is for that message", |rig| {
        rig.orders(&[
            &["mail:first@example.org", "accept"],
            &["rcpt:drop@example.net", "discard"],
        ]);
        let mut client = connect(rig);
        assert!(
            client
                .deliver(&Mail::to_bob().sender("<first@example.org>"))
                .accepted()
        );
        assert!(
            client
                .deliver(&Mail::new().recipient("<drop@example.net>"))
                .accepted()
        );
        assert!(
            client
                .deliver(&Mail::to_bob().header("X-Test: eom addheader X-A seen"))
                .accepted()
        );
        client.command("QUIT").expect("QUIT");
        let outcome = rig.outcome(Transcript::default());
        assert_eq!(outcome.count("mail"), 3);
        assert_eq!(outcome.count("eom"), 1);
        assert_eq!(outcome.delivered.len(), 2);
        assert_eq!(
            outcome
                .delivered
                .iter()
                .flat_map(|one| one.header("X-A"))
                .collect::<Vec<_>>(),
            ["seen"]
        );
    });
    of_several_messages_apart(cases);
}

fn of_several_messages_apart(cases: &mut Cases) {
    cases.case("orders in a message are forgotten with it", |rig| {
        let mut client = connect(rig);
        assert!(
            !client
                .deliver(&Mail::to_bob().header("X-Test: eoh reject"))
                .accepted()
        );
        assert!(client.deliver(&Mail::to_bob()).accepted());
        client.command("QUIT").expect("QUIT");
        assert_eq!(rig.outcome(Transcript::default()).delivered.len(), 1);
    });
    cases.case("commands in one write", |rig| {
        let mut client = connect(rig);
        rig.orders(&[]);
        let lines = [
            "MAIL FROM:<alice@example.org>",
            "RCPT TO:<bob@example.net>",
            "RCPT TO:<carol@example.net>",
            "DATA",
        ];
        let codes: Vec<u16> = client
            .pipeline(&lines)
            .expect("replies")
            .iter()
            .map(|reply| reply.code)
            .collect();
        assert_eq!(codes, [250, 250, 250, 354]);
        assert_eq!(
            client
                .content(&Mail::new().content())
                .expect("a reply")
                .code,
            250
        );
        client.command("QUIT").expect("QUIT");
        assert!(!rig.outcome(Transcript::default()).delivered.is_empty());
    });
    cases.case("after DATA was refused the recipients may follow", |rig| {
        rig.orders(&[&["data", "reject"]]);
        let mut client = connect(rig);
        let smtp = client.deliver(&Mail::to_bob());
        assert_reply(smtp.data.as_ref(), 550, "5.7.1");
        // The same transaction goes on: the filter must answer, the server must not wait in vain.
        assert_reply(
            client.command("RCPT TO:<carol@example.net>").as_ref().ok(),
            250,
            "",
        );
        assert_reply(client.command("DATA").as_ref().ok(), 550, "5.7.1");
        all_ok(&mut client, &["RSET"]);
        assert!(
            client
                .deliver(&Mail::to_bob())
                .data
                .is_some_and(|reply| reply.code == 550)
        );
        client.command("QUIT").expect("QUIT");
        let outcome = rig.outcome(Transcript::default());
        assert_eq!(outcome.count("data"), 3);
        assert_eq!(outcome.count("rcpt"), 3);
    });
}

fn that_are_cut_short(cases: &mut Cases) {
    let begun = ["MAIL FROM:<alice@example.org>", "RCPT TO:<bob@example.net>"];
    cases.case("RSET in a message", |rig| {
        let mut client = connect(rig);
        all_ok(&mut client, &begun);
        all_ok(&mut client, &["RSET"]);
        let smtp = client.deliver(&Mail::to_bob());
        client.command("QUIT").expect("QUIT");
        let outcome = rig.outcome(smtp);
        outcome.message();
        assert_eq!(
            outcome.summary(),
            "negotiate connect helo mail rcpt abort mail rcpt data header eoh body eom close"
        );
        assert_eq!(outcome.count("abort"), 1);
    });
    cases.case("RSET between messages", |rig| {
        let mut client = connect(rig);
        all_ok(&mut client, &["RSET"]);
        let smtp = client.deliver(&Mail::to_bob());
        all_ok(&mut client, &["RSET", "RSET"]);
        client.command("QUIT").expect("QUIT");
        assert_eq!(rig.outcome(smtp).count("abort"), 0);
    });
    cases.case("QUIT in a message", |rig| {
        let mut client = connect(rig);
        all_ok(&mut client, &begun);
        client.command("QUIT").expect("QUIT");
        let outcome = rig.outcome(Transcript::default());
        assert_eq!(
            outcome.summary(),
            "negotiate connect helo mail rcpt abort close"
        );
        assert_eq!((outcome.count("abort"), outcome.count("close")), (1, 1));
    });
    cases.case("the client vanishes in the envelope", |rig| {
        let mut client = connect(rig);
        all_ok(&mut client, &begun);
        drop(client);
        let outcome = rig.outcome(Transcript::default());
        assert_eq!(
            outcome.summary(),
            "negotiate connect helo mail rcpt abort close"
        );
        assert_eq!((outcome.count("abort"), outcome.count("close")), (1, 1));
    });
    cases.case("the client vanishes in the content", |rig| {
        let mut client = connect(rig);
        all_ok(&mut client, &begun);
        all_ok(&mut client, &["DATA"]);
        client
            .send(b"Subject: half\r\n\r\nhalf a")
            .expect("half a message");
        drop(client);
        let outcome = rig.outcome(Transcript::default());
        assert_eq!((outcome.count("abort"), outcome.count("close")), (1, 1));
        assert!(outcome.delivered.is_empty());
    });
    cases.case("the client vanishes at once", |rig| {
        let (client, _) = Client::connect(rig.mta().port()).expect("a greeting");
        drop(client);
        let outcome = rig.outcome(Transcript::default());
        assert_eq!((outcome.count("abort"), outcome.count("close")), (0, 1));
    });
    cases.case("HELO in a message", |rig| {
        let mut client = connect(rig);
        all_ok(&mut client, &begun);
        all_ok(&mut client, &["EHLO again.example.org"]);
        let smtp = client.deliver(&Mail::to_bob());
        client.command("QUIT").expect("QUIT");
        let outcome = rig.outcome(smtp);
        outcome.message();
        assert_eq!(
            outcome.summary(),
            "negotiate connect helo mail rcpt abort helo mail rcpt data header eoh body eom close"
        );
        assert_eq!(
            outcome.all("helo"),
            [["client.example.org"], ["again.example.org"]]
        );
    });
    cases.case("no abort for a message that was refused", |rig| {
        rig.orders(&[&["mail", "reject"]]);
        let mut client = connect(rig);
        assert_eq!(client.command(begun[0]).expect("a reply").code, 550);
        client.command("QUIT").expect("QUIT");
        let outcome = rig.outcome(Transcript::default());
        assert_eq!((outcome.count("abort"), outcome.count("close")), (0, 1));
    });
}

fn facts_for_the_filter(cases: &mut Cases) {
    cases.case("client, addresses and parameters", |rig| {
        let mail = Mail::new()
            .sender_args("BODY=8BITMIME SIZE=1000")
            .recipient_with(BOB, "NOTIFY=SUCCESS,FAILURE")
            .recipient("<\"a b\"@example.net>");
        let outcome = rig.send(&mail);
        assert!(outcome.smtp.accepted(), "{:?}", outcome.smtp);
        assert_eq!(outcome.all("connect")[0][1..], ["inet", "127.0.0.1"]);
        assert_eq!(
            outcome.all("mail"),
            [[SENDER, "BODY=8BITMIME", "SIZE=1000"]]
        );
        assert_eq!(outcome.all("rcpt")[0], [BOB, "NOTIFY=SUCCESS,FAILURE"]);
        assert_eq!(outcome.all("rcpt")[1], ["<\"a b\"@example.net>"]);
    });
    cases.case("the null sender", |rig| {
        let orders: &[&[&str]] = &[&["mail:", "continue"], &["mail", "reject"]];
        // A selector that is empty is written as nothing at all after the colon.
        let outcome = rig.try_out(orders, &Mail::to_bob().sender("<>"));
        assert_eq!(outcome.all("mail"), [["<>"]]);
        assert_eq!(outcome.message().sender, "<>");
    });
    cases.case("headers as they came", |rig| {
        let mail = Mail::to_bob()
            .header("X-Fold: one\r\n\ttwo\r\n  three")
            .header("X-Empty:")
            .header("X-Sp:  two spaces")
            .header("X-8: gr\u{fc}n");
        let outcome = rig.send(&mail);
        let value = |name: &str| {
            let headers = outcome.all("header");
            headers
                .iter()
                .find(|one| one[0] == name)
                .map(|one| one[1].clone())
        };
        assert_eq!(value("X-Fold").as_deref(), Some("one\n\ttwo\n  three"));
        assert_eq!(value("X-Empty").as_deref(), Some(""));
        assert_eq!(value("X-Sp").as_deref(), Some(" two spaces"));
        assert_eq!(value("X-8").as_deref(), Some("gr\u{fc}n"));
        assert_eq!(value("Subject").as_deref(), Some("test message"));
    });
    cases.case("macros", |rig| {
        let orders: &[&[&str]] = &[
            &["connect", "macro", "j"],
            &["mail", "macro", "{mail_addr}"],
            &["rcpt", "macro", "{rcpt_addr}"],
            &["eom", "macro", "i", "{no_such}"],
        ];
        let outcome = rig.try_out(orders, &Mail::to_bob());
        let macros = outcome.all("macro");
        assert_eq!(macros[0], ["j", "mta.test"]);
        assert_eq!(macros[1], ["{mail_addr}", "alice@example.org"]);
        assert_eq!(macros[2], ["{rcpt_addr}", "bob@example.net"]);
        assert!(macros[3][0] == "i" && macros[3][1].len() > 5, "{macros:?}");
        assert_eq!(macros[4], ["{no_such}"]);
    });
    cases.case("macros of one message are not those of the next", |rig| {
        rig.orders(&[
            &["mail:second@example.org", "macro", "{rcpt_addr}"],
            &["mail:second@example.org", "macro", "{msg_id}"],
        ]);
        let mut client = connect(rig);
        assert!(client.deliver(&Mail::to_bob()).accepted());
        assert!(
            client
                .deliver(&Mail::to_bob().sender("<second@example.org>"))
                .accepted()
        );
        client.command("QUIT").expect("QUIT");
        assert_eq!(
            rig.outcome(Transcript::default()).all("macro"),
            [["{rcpt_addr}"], ["{msg_id}"]]
        );
    });
    cases.case("ten clients at once", |rig| {
        rig.orders(&[
            &["rcpt", "sleep", "200"],
            &["eom", "addheader", "X-A", "seen"],
        ]);
        let port = rig.mta().port();
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..10)
                .map(|_| scope.spawn(move || milter_tests::smtp::send(port, &Mail::to_bob())))
                .collect();
            for client in clients {
                let smtp = client.join().expect("a client");
                assert!(smtp.accepted(), "{smtp:?}");
            }
        });
        let delivered = rig.sink().take(10, PATIENCE).expect("ten messages");
        assert!(delivered.iter().all(|one| one.header("X-A") == ["seen"]));
        let trace = rig.filter(0).trace();
        let events = trace.wait("ten closes", PATIENCE, |events| {
            control::count(events, "close") == 10
        });
        assert_eq!(control::count(&events.unwrap(), "negotiate"), 10);
    });
}

fn on_unix_sockets(cases: &mut Cases) {
    cases.case("a header", |rig| {
        let outcome = rig.try_out(&[&["eom", "addheader", "X-A", "seen"]], &Mail::to_bob());
        assert_eq!(outcome.message().header("X-A"), ["seen"]);
    });
    cases.case("a refusal", |rig| {
        let outcome = rig.try_out(
            &[&["rcpt", "reply", "550", "5.7.42", "no"]],
            &Mail::to_bob(),
        );
        assert_reply(outcome.smtp.last(), 550, "5.7.42");
    });
    cases.case("a big body there and back", |rig| {
        let body = milter_tests::mail::fill(300_000);
        let outcome = rig.try_out(
            &[&["eom", "replfill", "400000"]],
            &Mail::to_bob().body(body),
        );
        assert_eq!(outcome.message().body(), milter_tests::mail::fill(400_000));
    });
}
