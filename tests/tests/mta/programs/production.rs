//! The program `production`: rules, limits and a milter elsewhere, with what it tells of them.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use milter_tests::address::Address;
use milter_tests::mail::{BOB, Mail, fill};
use milter_tests::mta::Kind;
use milter_tests::process::Filter;
use milter_tests::smtp::Client;
use milter_tests::wait::{self, PATIENCE};
use serde_json::Value;

use super::Rig;

#[test]
fn postfix() {
    in_production(Kind::Postfix);
}

#[test]
fn sendmail() {
    in_production(Kind::Sendmail);
}

fn in_production(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules");
    fs::write(&rules, "old@example.net 550 5.1.1 Bob has left\n").unwrap();
    let hello = Address::free_tcp();
    let mut remote = Filter::start::<&str>("hello", &hello, &[]);
    let named = format!("hello={hello}");
    let Some(mut rig) = Rig::start(kind, |address| {
        let args = [
            ("--hostname", "mx.example.org"),
            ("--status", "127.0.0.1:0"),
            ("--recipients", rules.to_str().unwrap()),
            ("--strip-header", "X-Internal"),
            ("--remote", &named),
            ("--max-size", "10000"),
            ("--log-addresses", "domain"),
        ];
        let args: Vec<&str> = args
            .iter()
            .flat_map(|(name, value)| [*name, *value])
            .collect();
        Filter::start("production", address, &args)
    }) else {
        return;
    };

    let mail = Mail::to_bob()
        .header("X-Internal: yes")
        .header("Authentication-Results: mx.example.org; dkim=pass")
        .header("Authentication-Results: mx.example.net; dkim=fail");
    let delivered = rig.deliver(&mail);
    assert_eq!(delivered.header("X-Filtered-By"), ["mx.example.org"]);
    assert_eq!(delivered.header("X-Hello"), ["from a tower service"]);
    assert_eq!(delivered.header("X-Internal"), [""; 0]);
    assert_eq!(
        delivered.header("Authentication-Results"),
        ["mx.example.net; dkim=fail"]
    );
    refusals(&rig);

    // The milter elsewhere goes, and comes back.
    remote.stop().unwrap();
    let smtp = rig.send(&mail);
    let code = smtp
        .last()
        .or(smtp.greeting.as_ref())
        .map(|reply| reply.code / 100);
    assert!(
        !smtp.accepted() && code == Some(4),
        "{smtp:?}\n{}",
        rig.report()
    );
    let _remote = Filter::start::<&str>("hello", &hello, &[]);
    assert_eq!(
        rig.deliver(&mail).header("X-Hello"),
        ["from a tower service"]
    );
    assert!(rig.sink.take_all().is_empty());

    told(&rig);
    // It stops though the mail server keeps connections.
    let status = rig.filter.stop().unwrap();
    assert!(status.success(), "{status}\n{}", rig.report());
    assert!(
        lines(&rig.filter)
            .iter()
            .any(|line| line["message"] == "stopped")
    );
}

/// Rules and limits, in one session.
fn refusals(rig: &Rig) {
    let (mut client, _) = Client::connect(rig.mta.port()).unwrap();
    client.command("EHLO client.example.org").unwrap();
    let two = Mail::new().recipient("<old@example.net>").recipient(BOB);
    let smtp = client.deliver(&two);
    assert_eq!(
        (smtp.rcpt[0].code, smtp.accepted()),
        (550, true),
        "{smtp:?}\n{}",
        rig.report()
    );
    assert!(smtp.rcpt[0].text().ends_with("Bob has left"), "{smtp:?}");
    let delivered = rig.sink.take(1, PATIENCE).unwrap();
    assert_eq!(delivered[0].recipient_addresses(), [BOB]);
    let two_authors = Mail::to_bob().header("From: eve@example.org");
    let large = Mail::to_bob().body(fill(20_000));
    let mut refused = |mail: &Mail, code: u16, text: &str| {
        let smtp = client.deliver(mail);
        let last = smtp.last().unwrap();
        let is_so = last.code == code && last.text().contains(text);
        assert!(is_so, "{code} {text}: {smtp:?}\n{}", rig.report());
        client.command("RSET").unwrap();
    };
    refused(&two_authors, 550, "one From");
    refused(&large, 552, "5.3.4 Message size exceeds limit");
    refused(&Mail::to_bob().sender_args("SIZE=10001"), 552, "5.3.4");
    client.command("QUIT").unwrap();
}

/// What the log and the metrics have of all that.
fn told(rig: &Rig) {
    let outcomes = || {
        let lines = lines(&rig.filter);
        let messages = lines.iter().filter(|line| line["event"] == "message");
        let outcomes: Vec<String> = messages
            .map(|line| line["outcome"].as_str().unwrap_or_default().to_owned())
            .collect();
        (outcomes
            .iter()
            .filter(|outcome| *outcome == "accept")
            .count()
            == 3)
            .then_some(outcomes)
    };
    let outcomes = wait::until("three accepted", PATIENCE, outcomes);
    let outcomes = outcomes.unwrap_or_else(|error| panic!("{error}\n{}", rig.report()));
    let rejected = outcomes
        .iter()
        .filter(|outcome| *outcome == "reject")
        .count();
    assert_eq!(rejected, 3, "{outcomes:?}\n{}", rig.report());
    let messages = lines(&rig.filter);
    for (key, value) in [
        ("from", "*@example.org"),
        ("member", "headers"),
        ("reply", "550 5.7.1 Mail has one From header, not several"),
    ] {
        assert!(
            messages.iter().any(|line| line[key] == value),
            "{value}\n{}",
            rig.report()
        );
    }
    let metrics = metrics(&rig.filter);
    for line in [
        "milter_messages_total{filter=\"production\",outcome=\"accept\"} 3",
        "milter_messages_total{filter=\"production\",outcome=\"reject\"} 3",
        "milter_verdicts_total{filter=\"production\",stage=\"rcpt\",verdict=\"reject\",member=\"recipients\"} 1",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line}\n{metrics}");
    }
}

/// All that it wrote, each line of which is an object of JSON. What it writes now may be cut.
fn lines(filter: &Filter) -> Vec<Value> {
    let output = filter.output();
    let whole = output.rfind('\n').map_or("", |end| &output[..end]);
    let parse =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    whole.lines().map(parse).collect()
}

fn metrics(filter: &Filter) -> String {
    let lines = lines(filter);
    let told = lines
        .iter()
        .find(|line| line["message"] == "the status is told");
    let address = told
        .and_then(|line| line["address"].as_str())
        .expect("an address");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    answer
}
