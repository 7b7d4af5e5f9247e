//! The program `control` with OpenDKIM's `miltertest` as its mail server: a client that shares no
//! code with this project and none with Postfix. The scripts are in `tests/miltertest/`.

use std::path::Path;
use std::process::{Command, Stdio};

use milter_tests::address::Address;
use milter_tests::control::{self, Event, Trace, summary};
use milter_tests::process::Filter;
use milter_tests::wait::PATIENCE;

/// Whether miltertest is there; without it a line is printed, in CI it is a failure.
fn is_there() -> bool {
    let found = Command::new("miltertest")
        .arg("-V")
        .stdin(Stdio::null())
        .output();
    if found.is_ok() {
        return true;
    }
    let required = ["CI", "MILTER_TESTS_REQUIRE"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    assert!(!required, "miltertest is missing: package miltertest");
    println!("skipped: miltertest is missing: package miltertest");
    false
}

/// Runs a script in a protocol version against `control` with these rules, over TCP and a unix
/// socket, and hands on what `control` saw.
fn run(script: &str, version: &str, rules: &[&[&str]], saw: impl Fn(&[Event])) {
    if !is_there() {
        return;
    }
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("miltertest");
    let dir = tempfile::tempdir().expect("a folder");
    for address in [
        Address::free_tcp(),
        Address::Unix(dir.path().join("socket")),
    ] {
        let (file, trace) = (dir.path().join("control"), dir.path().join("trace"));
        control::write(&file, rules).expect("the control file");
        let trace = Trace::new(trace);
        trace.clear().expect("the trace file");
        let args = [
            "--control".as_ref(),
            file.as_os_str(),
            "--trace".as_ref(),
            trace.path().as_os_str(),
        ];
        let filter = Filter::start("control", &address, &args);
        let define = |name: &str, value: &str| format!("{name}={value}");
        let common = scripts.join("common.lua");
        let output = Command::new("miltertest")
            .args(["-D", &define("socket", &address.to_string())])
            .args(["-D", &define("version", version)])
            .args(["-D", &define("common", &common.to_string_lossy())])
            .arg("-s")
            .arg(scripts.join(script))
            .stdin(Stdio::null())
            .output()
            .expect("miltertest runs");
        let traced = trace.wait_closed(PATIENCE).expect("the trace");
        assert!(
            output.status.success(),
            "{script}, version {version}, {address}: {}{}\ncontrol: {}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            summary(&traced),
            filter.output(),
        );
        saw(&traced);
    }
}

/// Protocol versions of old and of new mail servers.
const VERSIONS: [&str; 4] = ["2", "3", "4", "6"];

fn all(events: &[Event], name: &str) -> Vec<Vec<String>> {
    let named = events.iter().filter(|event| event.name() == name);
    named.map(Event::args).collect()
}

#[test]
fn a_session_with_macros_abort_and_the_next_message() {
    for version in VERSIONS {
        let rules: [&[&str]; 6] = [
            &["connect", "macro", "j"],
            &["helo", "macro", "{tls_version}"],
            &["rcpt:bob@example.net", "macro", "i", "{rcpt_addr}"],
            &["mail", "macro", "i", "{auth_type}"],
            &["eom", "addheader", "X-Seen", "yes"],
            &["eom", "accept"],
        ];
        run("session.lua", version, &rules, |events| {
            let client = ["client.example", "inet", "192.0.2.1"];
            assert_eq!(all(events, "connect"), [client, client]);
            assert_eq!(
                all(events, "mail"),
                [
                    &["<a@example.org>", "SIZE=10", "BODY=8BITMIME"][..],
                    &["<given-up@example.org>"],
                    &["<next@example.org>"],
                    &["<dropped@example.org>"],
                ]
            );
            assert_eq!(
                all(events, "rcpt")[0],
                ["<bob@example.net>", "NOTIFY=NEVER"]
            );
            assert_eq!(
                all(events, "body"),
                [["7", "first\r\n"], ["8", "second\r\n"], ["7", "third\r\n"]]
            );
            assert_eq!(
                all(events, "macro")[..6],
                [
                    ["j", "mx.example.net"],
                    ["{tls_version}", "TLSv1.3"],
                    ["i", "4XyZ"],
                    ["{auth_type}", "PLAIN"],
                    ["i", "4XyZ"],
                    ["{rcpt_addr}", "bob@example.net"],
                ]
            );
            // Given up, and dropped.
            assert_eq!(control::count(events, "abort"), 2);
            assert_eq!(control::count(events, "eom"), 2);
            assert_eq!(control::count(events, "failed"), 0);
            // Told at once, not with the next message.
            let unknown: Vec<usize> = (0..events.len())
                .filter(|n| events[*n].name() == "unknown")
                .collect();
            if version == "2" {
                assert_eq!(unknown, []);
            } else {
                assert_eq!(unknown.len(), 2);
                assert_eq!(events[unknown[1] - 1].name(), "abort");
            }
        });
    }
}

#[test]
fn verdicts_and_replies() {
    let mut rules = Vec::new();
    for stage in ["mail", "eom"] {
        for verdict in ["reject", "tempfail", "discard", "accept", "reply"] {
            let mut rule = vec![format!("{stage}:{stage}-{verdict}@example.org")];
            rule.push(verdict.to_owned());
            if verdict == "reply" {
                rule.extend(["451", "4.7.1", "Come back later"].map(str::to_owned));
            }
            rules.push(rule);
        }
    }
    let words: Vec<Vec<&str>> = rules
        .iter()
        .map(|rule| rule.iter().map(String::as_str).collect())
        .collect();
    let mut rules: Vec<&[&str]> = words.iter().map(Vec::as_slice).collect();
    rules.extend::<[&[&str]; 8]>([
        &[
            "rcpt:nobody@example.net",
            "reply",
            "550",
            "5.1.1",
            "No such user",
        ],
        &["rcpt:later@example.net", "tempfail"],
        &["header:X-Virus", "reject"],
        &["eoh:eoh@example.org", "tempfail"],
        &["body:2", "reject"],
        &["connect:bad.example", "reject"],
        &["helo:bad.example", "reply", "550", "5.7.1", "Not", "you"],
        &["eom", "tempfail"],
    ]);
    for version in VERSIONS {
        run("verdicts.lua", version, &rules, |events| {
            assert_eq!(control::count(events, "failed"), 0);
            assert_eq!(control::count(events, "eom"), 5);
        });
    }
}

#[test]
fn every_edit() {
    let only = "eom:edits@example.org";
    let rules: [&[&str]; 9] = [
        &[only, "addheader", "X-A", "one"],
        &[only, "insheader", "1", "X-B", "two"],
        &[only, "chgheader", "Subject", "1", "changed"],
        &[only, "delheader", "X-Gone", "1"],
        &[only, "addrcpt", "carol@example.net"],
        &[only, "delrcpt", "<bob@example.net>"],
        &[only, "replbody", "new body\r\n"],
        &[only, "quarantine", "for now"],
        &["eom", "accept"],
    ];
    for version in VERSIONS {
        run("edits.lua", version, &rules, |events| {
            assert_eq!(control::count(events, "failed"), 0);
        });
    }
}

#[test]
fn steps_that_were_declined_or_need_no_reply() {
    let rules: [&[&str]; 5] = [
        &["option", "steps", "nohelo", "noeoh", "nr_header", "skip"],
        &["option", "actions", "addheader"],
        &["body:2", "skip"],
        &["eom", "addheader", "X-Seen", "yes"],
        &["eom", "accept"],
    ];
    for version in ["2", "6"] {
        run("steps.lua", version, &rules, |events| {
            assert_eq!(control::count(events, "header"), 20);
            assert_eq!(control::count(events, "helo"), 0);
            assert_eq!(control::count(events, "eoh"), 0);
            // Without the step it cannot be said.
            let refused = usize::from(version == "2");
            assert_eq!(control::count(events, "failed"), refused);
        });
    }
}
