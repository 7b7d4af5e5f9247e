//! The program `milter-trace` between a mail server and a milter: what is delivered is the same, it is
//! shown what went on, and what it recorded is replayed.

use std::process::Command;

use milter_tests::address::Address;
use milter_tests::mail::Mail;
use milter_tests::mta::Kind;
use milter_tests::process::{Filter, program};
use milter_tests::sink::Delivered;
use milter_tests::wait::{self, PATIENCE};
use milter_tower::testing::Recording;
use milter_tower::{Message, message};

use super::Rig;

#[test]
fn postfix() {
    between(Kind::Postfix);
}

#[test]
fn sendmail() {
    between(Kind::Sendmail);
}

fn between(kind: Kind) {
    let mail = Mail::to_bob()
        .header("X-Odd: \u{e4} \x01 \\ \"quoted\"")
        .header("X-Folded: a\r\n\tb");
    let Some(rig) = Rig::start(kind, |address| Filter::start::<&str>("hello", address, &[])) else {
        return;
    };
    let without = rig.deliver(&mail);
    rig.stop();

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("recording");
    let mut hello = Filter::start::<&str>("hello", &Address::free_tcp(), &[]);
    let to = hello.address().to_string();
    let args = ["--to", &to, "--record", file.to_str().unwrap()];
    let start = |address: &_| Filter::start("milter-trace", address, &args);
    let rig = Rig::start(kind, start).expect("it was there before");
    for _ in 0..2 {
        let with = rig.deliver(&mail);
        assert_eq!(own(&with), own(&without), "{}", rig.report());
        assert_eq!(with.body(), without.body());
        assert_eq!(with.sender, without.sender);
        assert_eq!(with.recipients, without.recipients);
    }
    let shown = || {
        let shown = rig.filter.output();
        shown.contains("#2 == closed\n").then_some(shown)
    };
    let shown = wait::until("the end of both", PATIENCE, shown);
    let shown = shown.unwrap_or_else(|error| panic!("{error}\n{}", rig.report()));
    rig.stop();

    // Where it belongs to the end, with Sendmail.
    let edit = match kind {
        Kind::Postfix => "#1 <- ADDHEADER X-Hello: \" from a tower service\"\n",
        Kind::Sendmail => "#1 <- INSHEADER at 2147483647 X-Hello: \" from a tower service\"\n",
    };
    for line in [
        "#1 == connection from 127.0.0.1:",
        "#1 -> OPTNEG version 6, actions ADD_HEADERS, CHANGE_BODY, ",
        "#1 <- OPTNEG version 6, actions ADD_HEADERS, ",
        "#1 -> MACRO for EOM ",
        "#1 -> HEADER Subject: ",
        "test message\"",
        edit,
        "#1 <- ACCEPT (",
        "#1 -> QUIT\n",
        "#1 == closed\n",
        "#2 -> QUIT\n",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    assert!(!shown.contains("!!") && !shown.contains("??"), "{shown}");

    let recording = Recording::read(&file).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(recording.connections().len(), 2);
    let (same, other) = replay(&recording);
    assert_eq!(same, "", "replayed before the same filter");
    for line in [
        " X-Hello: from a tower service\n",
        " X-Hello: from another\n    accept\n",
    ] {
        assert_eq!(other.matches(line).count(), 2, "{line}\n{other}");
    }
    // Of the file it is shown as it was live.
    let mut command = Command::new(program("milter-trace"));
    let output = command.arg("--show").arg(&file).output().unwrap();
    let again = String::from_utf8(output.stdout).unwrap();
    for line in again.lines() {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    hello.stop().unwrap();
}

/// How the recording's filter and another one differ from it.
fn replay(recording: &Recording) -> (String, String) {
    let hello = |text: &'static str| {
        let handler = move |mut mail: Message| async move {
            mail.headers_mut().append("X-Hello", text);
            mail
        };
        message(handler).without_body()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let same = recording.replay(hello("from a tower service")).await;
        let other = recording.replay(hello("from another")).await;
        let shown = |is_same, text: String| if is_same { String::new() } else { text };
        (
            shown(same.is_same(), same.to_string()),
            shown(other.is_same(), other.to_string()),
        )
    })
}

/// The headers but for what the mail server adds anew each time.
fn own(delivered: &Delivered) -> Vec<(String, String)> {
    let headers = delivered.headers().into_iter();
    headers.filter(|(name, _)| name != "Received").collect()
}
