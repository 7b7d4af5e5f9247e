//! The program `reject-list`: it refuses by a list, which changes while it runs.

use std::fs;
use std::path::Path;

use milter_tests::mail::{BOB, Mail, SENDER};
use milter_tests::mta::Kind;
use milter_tests::process::Filter;
use milter_tests::smtp::{Client, Reply};
use milter_tests::wait::{self, PATIENCE};
use rustix::process::{Pid, Signal, kill_process};

use super::Rig;

#[test]
fn postfix() {
    refuses(Kind::Postfix);
}

#[test]
fn sendmail() {
    refuses(Kind::Sendmail);
}

const FIRST: &str = "\
# client 127.0.0.1 is nobody's
sender-domain spam.example 450 4.7.1 Come back tomorrow
sender friend@spam.example ok
recipient <OLD@example.net> 550 5.1.1 Bob has 100% left
";

fn refuses(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("list");
    fs::write(&file, FIRST).unwrap();
    let Some(rig) = Rig::start(kind, |address| {
        Filter::start("reject-list", address, &[Path::new("--list"), &file])
    }) else {
        return;
    };
    let reply = |sender: &str, recipient: &str| {
        let smtp = rig.send(&Mail::new().sender(sender).recipient(recipient));
        let last = smtp.last().cloned();
        last.unwrap_or_else(|| panic!("{smtp:?}\n{}", rig.report()))
    };
    for (sender, recipient, wanted) in [
        ("<a@b.Spam.example>", BOB, "450 4.7.1 Come back tomorrow"),
        ("<friend@spam.example>", BOB, "250 "),
        (SENDER, "<old@Example.net>", "550 5.1.1 Bob has 100% left"),
    ] {
        let reply = reply(sender, recipient);
        assert!(
            says(&reply, wanted),
            "{sender} {recipient}: {reply:?}\n{}",
            rig.report()
        );
    }
    // One recipient is refused and the other one gets the mail.
    let both = Mail::new().recipient("<old@example.net>").recipient(BOB);
    rig.sink.take(1, PATIENCE).unwrap();
    let delivered = rig.deliver(&both);
    assert_eq!(delivered.recipient_addresses(), [BOB]);

    // A client that has been here before the list changes.
    let (mut client, _) = Client::connect(rig.mta.port()).unwrap();
    client.command("EHLO client.example.org").unwrap();
    let mut ask = |recipient: &str, wanted: &str| {
        client.command(&format!("MAIL FROM:{SENDER}")).unwrap();
        let reply = client.command(&format!("RCPT TO:{recipient}")).unwrap();
        client.command("RSET").unwrap();
        assert!(
            says(&reply, wanted),
            "{recipient}: {reply:?}\n{}",
            rig.report()
        );
    };
    ask(BOB, "250 ");

    fs::write(&file, "recipient bob@example.net\nclient 127.0.0.1/8 No\n").unwrap();
    hang_up(&rig, "line 2: 127.0.0.1/8 is an address within a network");
    ask(BOB, "250 ");
    ask("<old@example.net>", "550 5.1.1 Bob has 100% left");

    fs::write(&file, "client 127.0.0.0/8 Not from here\n").unwrap();
    hang_up(&rig, "the new list holds");
    ask(BOB, "550 5.7.1 Not from here");
    assert!(says(&reply(SENDER, BOB), "550 5.7.1 Not from here"));
    assert!(rig.sink.take_all().is_empty());
    // Postfix keeps the end of this client's last message to itself until it has more to tell.
    drop(client);
    rig.stop();
}

/// Whether the reply says that. Sendmail puts the recipient before the text.
fn says(reply: &Reply, wanted: &str) -> bool {
    let said = format!("{} {}", reply.code, reply.text());
    let (codes, text) = wanted.split_at(wanted.len().min(10));
    said.starts_with(codes) && said.ends_with(text)
}

/// Sends SIGHUP, and waits until the program says so.
fn hang_up(rig: &Rig, says: &str) {
    let pid = i32::try_from(rig.filter.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.unwrap(), Signal::HUP).unwrap();
    let said = || rig.filter.output().contains(says).then_some(());
    wait::until(says, PATIENCE, said).unwrap_or_else(|error| panic!("{error}\n{}", rig.report()));
}
