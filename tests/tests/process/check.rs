//! `milter-check` before filters that run: what an administrator sees, and what a script gets.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use milter_tests::address::Address;
use milter_tests::process::{Filter, program};
use milter_tests::raw::{frame, offer};
use milter_tests::wait::PATIENCE;
use serde_json::Value;
use tempfile::TempDir;

/// What the program said, and its exit code.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    /// The lines of JSON.
    fn json(&self) -> Vec<Value> {
        let lines = self.out.lines();
        lines
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect()
    }
}

fn check(address: &str, args: &[&str]) -> Said {
    check_with(address, args, "")
}

/// With that on standard input.
fn check_with(address: &str, args: &[&str], input: &str) -> Said {
    let mut child = Command::new(program("milter-check"))
        .arg(address)
        .args(args)
        .env_remove("CLICOLOR_FORCE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that does not read it closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The text with a T for each time, and without the room before it.
fn without_times(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let number = rest[at..].trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let end = rest.len() - number.len();
        let unit = [" µs", " ms", " s"].into_iter().find(|unit| {
            let after = number.strip_prefix(unit);
            after.is_some_and(|after| !after.starts_with(char::is_alphanumeric))
        });
        if let Some(unit) = unit {
            let before = &rest[..at];
            out.push_str(before.trim_end_matches(' '));
            out.push_str(if before.ends_with(' ') { " T" } else { "T" });
            rest = &rest[end + unit.len()..];
        } else {
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out + rest
}

/// A filter at a unix socket in a folder of its own.
struct Running {
    dir: TempDir,
    _filter: Filter,
    address: String,
}

impl Running {
    fn start(name: &str, args: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = Address::Unix(dir.path().join("socket"));
        let args = args(dir.path());
        Self {
            _filter: Filter::start(name, &address, &args),
            address: address.to_string(),
            dir,
        }
    }

    /// One that obeys these rules.
    fn control(rules: &str) -> Self {
        Self::start("control", |dir| {
            fs::write(dir.join("rules"), rules).unwrap();
            let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
            vec![
                "--control".into(),
                path("rules"),
                "--trace".into(),
                path("trace"),
            ]
        })
    }

    fn check(&self, args: &[&str]) -> Said {
        check(&self.address, args)
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

#[test]
fn an_administrator_sees_what_the_milter_does() {
    let filter = Running::start("add-headers", |_| {
        [
            "--set",
            "Subject: A better letter",
            "--add",
            "X-Seen-By: mx",
        ]
        .map(String::from)
        .into()
    });
    let said = filter.check(&[]);
    let shown = without_times(&said.out).replace(&filter.address, "ADDRESS");
    assert_eq!(
        shown,
        "\
Milter at ADDRESS, asked as Postfix would (connected in T)

Negotiation (T)
  version      6
  is told      connect, helo, mail, rcpt, header, end of headers, end of message
  not told     data, unknown command, body
  no reply at  connect, helo, mail, rcpt, header
  may          change anything
  macros       at connect: j v _ {daemon_name}

Mail: a short letter, from <alice@example.org> to <bob@example.net>
         -  connect         no reply due client.example [192.0.2.1]
         -  helo            no reply due client.example
         -  mail            no reply due <alice@example.org>
         -  rcpt            no reply due <bob@example.net>
         -  data            not told
         -  header          no reply due 5 fields
 T  end of headers  continue
         -  body            not told     26 bytes
 T  end of message  accept

The milter asks to
  change the header Subject (number 1) to A better letter
  add the header X-Seen-By: mx

Headers
    Received: from client.example (client.example [192.0.2.1])
    \\tby mail.example.net (Postfix) with ESMTP id 4D00000001;
    \\tThu, 01 Jan 2026 12:00:01 +0000
    From: alice@example.org
    To: bob@example.net
  - Subject: A letter
  + Subject: A better letter
    Date: Thu, 01 Jan 2026 12:00:00 +0000
    Message-ID: <1@client.example>
  + X-Seen-By: mx

=> accepted, changed (T)

"
    );
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
}

#[test]
fn a_long_body_is_replaced_in_one_line() {
    let filter = Running::control("eom replfill 150000\neom addheader X-A b");
    let said = filter.check(&[]);
    let text =
        "\nThe milter asks to\n  add the header X-A: b\n  replace the body by 150000 bytes\n";
    assert!(said.out.contains(text), "{said:?}");
    assert!(
        said.out.contains("    … 2320 more such lines\n"),
        "{said:?}"
    );
    assert!(said.out.len() < 10_000, "{said:?}");
}

#[test]
fn bodies_are_compared_and_shown_without_what_a_terminal_would_obey() {
    let filter = Running::start("disclaimer", |dir| {
        let text = dir.join("text");
        fs::write(&text, "footer\n").unwrap();
        vec!["--text".into(), text.to_str().unwrap().into()]
    });
    let lines: Vec<_> = (0..40).map(|n| format!("line {n}\n")).collect();
    let lines = lines.concat();
    let mail =
        format!("From: a@example.org\nSubject: \x1b[31mred\n\n{lines}\x1b]0;title\x07 end\n");
    let mail = filter.file("letter.eml", mail.as_bytes());
    let said = filter.check(&[&mail]);
    let (_, body) = said.out.split_once("\nBody\n").unwrap();
    let shown = without_times(body);
    assert_eq!(
        shown,
        "    … 39 more lines\n    line 39\n    \\u{1b}]0;title\\u{7} end\n  + \n  + footer\n\n\
         => accepted, changed (T)\n\n"
    );
    assert!(said.out.contains("\\u{1b}[31mred"), "{}", said.out);
    assert!(!said.out.contains(['\x1b', '\x07']), "{}", said.out);
    let full = filter.check(&[&mail, "--full"]);
    assert!(
        full.out.contains("\n    line 0\n    line 1\n"),
        "{}",
        full.out
    );
    let colours = filter.check(&[&mail, "--color", "always"]);
    let of_environment = |vars: &[(&str, &str)]| {
        let mut command = Command::new(program("milter-check"));
        let command = command.args([&filter.address, &mail]).env_clear();
        let output = command.envs(vars.iter().copied()).output().unwrap();
        output.stdout.contains(&0x1b)
    };
    assert!(of_environment(&[("CLICOLOR_FORCE", "1")]));
    assert!(!of_environment(&[
        ("CLICOLOR_FORCE", "1"),
        ("NO_COLOR", "1")
    ]));
    assert!(
        colours.out.contains("\x1b[32m+ footer\x1b[0m"),
        "{}",
        colours.out
    );
}

#[test]
fn exit_codes_tell_how_a_mail_ended() {
    for (rules, args, code, last) in [
        ("", &[][..], 0, "=> accepted, unchanged"),
        ("eom addheader X-A b", &[], 0, "=> accepted, changed"),
        (
            "mail reject",
            &[],
            1,
            "=> rejected at mail: 550 5.7.1 Command rejected",
        ),
        (
            "rcpt reply 550 5.1.1 No%20such%20user",
            &[],
            1,
            "=> rejected at rcpt: 550 5.1.1 No such user",
        ),
        ("connect reject", &[], 1, "=> rejected at connect"),
        (
            "eom reply 451 4.7.1 Later",
            &[],
            3,
            "=> refused for now at end of message: 451 4.7.1 Later",
        ),
        ("data discard", &[], 4, "=> discarded at data"),
        (
            "eom quarantine bad%20%E2%80%AEword",
            &[],
            5,
            "=> quarantined: bad \\u{202e}word, unchanged",
        ),
        ("rcpt reject", &["--expect", "reject"], 0, "=> rejected"),
        ("rcpt reject", &["--expect", "accept"], 1, "=> rejected"),
        ("", &["--expect", "quarantine"], 1, "=> accepted"),
        (
            "mail sleep 3000",
            &["--timeout", "0.2"],
            75,
            "=> no answer in time at mail",
        ),
        (
            "mail sleep 3000",
            &["--timeout", "0.2", "--expect", "tempfail"],
            75,
            "=> no answer in time",
        ),
    ] {
        let filter = Running::control(rules);
        let said = filter.check(args);
        assert_eq!(said.code, Some(code), "{rules}: {said:?}");
        let ended = said.out.lines().find(|line| line.starts_with("=> "));
        assert!(
            ended.is_some_and(|line| line.starts_with(last)),
            "{rules}: {said:?}"
        );
        let quiet = filter.check(&[args, &["--quiet"]].concat());
        assert_eq!(
            (quiet.code, quiet.out.as_str()),
            (Some(code), ""),
            "{rules}"
        );
        assert_eq!(quiet.err.is_empty(), code < 64, "{rules}: {quiet:?}");
    }
}

#[test]
fn each_mail_server_is_played() {
    let filter = Running::control("option steps nohelo\neom addheader X-A b");
    for (mta, name, version) in [
        ("postfix", "Postfix", 6),
        ("sendmail", "Sendmail", 6),
        ("stalwart", "Stalwart", 6),
        ("version-2", "Postfix (version 2)", 2),
    ] {
        let said = filter.check(&["--mta", mta, "--json"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let found = &said.json()[0];
        assert_eq!(found["mta"], name);
        assert_eq!(found["negotiation"]["version"], version, "{found}");
        assert_eq!(found["edits"][0]["name"], "X-A");
        let headers = found["message"]["headers"].as_array().unwrap();
        assert!(
            headers.iter().any(|header| header["name"] == "X-A"),
            "{found}"
        );
        let steps = found["steps"].as_array().unwrap();
        let reaction =
            |stage: &str| &steps.iter().find(|step| step["stage"] == stage).unwrap()["reaction"];
        assert_eq!(reaction("helo"), "not told");
        assert_eq!(reaction("end of message"), "continue");
    }
}

#[test]
fn the_milter_learns_what_the_client_is() {
    let filter =
        Running::control("mail macro {cipher} {auth_authen} {tls_version} {auth_author} j");
    let said = filter.check(&[
        "--client",
        "198.51.100.7:4321",
        "--client-name",
        "relay.example",
        "--helo",
        "hello.example",
        "--tls",
        "TLSv1.3",
        "--cipher",
        "AES",
        "--auth",
        "alice",
        "--macro",
        "mail:auth_author=bob",
        "--macro",
        "j=mx.example",
        "--from",
        "bounce@example.org SIZE=100",
        "--to",
        "x@example.net",
        "--to",
        "y@example.net",
    ]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let trace = fs::read_to_string(filter.dir.path().join("trace")).unwrap();
    for line in [
        "connect relay.example inet 198.51.100.7",
        "helo hello.example",
        "mail <bounce@example.org> SIZE=100",
        "macro {cipher} AES",
        "macro {auth_authen} alice",
        "macro {tls_version} TLSv1.3",
        "macro {auth_author} bob",
        "macro j mx.example",
        "rcpt <x@example.net>",
        "rcpt <y@example.net>",
        "close",
    ] {
        assert!(
            trace.lines().any(|traced| traced == line),
            "{line}\n{trace}"
        );
    }
}

#[test]
fn several_mails_go_over_one_connection() {
    let filter = Running::control("mail:bad@example.org reply 450 4.7.1 Later");
    let one = filter.file(
        "one.eml",
        b"From a@b Thu Jan  1\r\nFrom: good@example.org\r\nTo: x@example.net\r\n\r\nhi\r\n",
    );
    let input = "From: bad@example.org\nCc: y@example.net\n\nhi\n";
    let args = [one.as_str(), "-", "--json", "--repeat", "2"];
    let said = check_with(&filter.address, &args, input);
    assert_eq!(said.code, Some(3), "{said:?}");
    let found = said.json();
    let outcomes: Vec<_> = found
        .iter()
        .map(|mail| mail["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(
        outcomes,
        ["accepted", "accepted", "tempfailed", "tempfailed"]
    );
    assert_eq!(found[0]["message"]["to"][0], "<x@example.net>");
    assert_eq!(found[3]["reply"], "450 4.7.1 Later");
    let connections = || {
        let trace = fs::read_to_string(filter.dir.path().join("trace")).unwrap();
        trace
            .lines()
            .filter(|line| line.starts_with("negotiate "))
            .count()
    };
    assert_eq!(connections(), 1);
    let said = filter.check(&[&one, &one, "--new-connection"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(connections(), 3);
    assert!(said.out.contains("\nAnother connection\n"), "{said:?}");
    assert!(
        said.out
            .contains("one.eml (2 of 2), from <good@example.org>"),
        "{said:?}"
    );
}

#[test]
fn what_cannot_be_checked_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none");
    let said = check(socket.to_str().unwrap(), &[]);
    assert_eq!((said.code, said.out.as_str()), (Some(69), ""));
    assert!(
        said.err.starts_with("error: cannot connect to unix:"),
        "{said:?}"
    );
    assert!(said.err.contains("There is no such socket"), "{said:?}");

    let said = check(&Address::free_tcp().to_string(), &["--json"]);
    assert_eq!(said.code, Some(69));
    assert_eq!(said.json()[0]["outcome"], "unreachable");
    assert!(said.err.contains("Nothing listens there"), "{said:?}");

    let said = check("127.0.0.1:1", &["/nonexistent/letter.eml"]);
    assert_eq!(said.code, Some(66));
    assert!(
        said.err
            .starts_with("error: /nonexistent/letter.eml: No such file"),
        "{said:?}"
    );

    let said = check("nonsense", &[]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("inet:10025@127.0.0.1"), "{said:?}");
}

/// A peer that does as it is told, once, at a port of its own.
fn peer(speaks: impl FnOnce(&mut TcpStream) + Send + 'static) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("inet:{}@127.0.0.1", listener.local_addr().unwrap().port());
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        speaks(&mut stream);
        // To the end, so that nothing is lost to a reset.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    (address, peer)
}

/// An answer to the offer that wants to see all.
fn agree(stream: &mut TcpStream) {
    stream.read_exact(&mut [0; 17]).unwrap();
    stream.write_all(&offer(6, 1, 0)).unwrap();
}

/// Reads until a command of this letter has come.
fn read_to(stream: &mut TcpStream, letter: u8) {
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap();
        let [a, b, c, d, code] = head;
        let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap() - 1;
        stream.read_exact(&mut vec![0; len]).unwrap();
        if code == letter {
            return;
        }
    }
}

#[test]
fn what_is_no_milter_is_told_by_what_it_says() {
    let (address, server) = peer(|stream| stream.write_all(b"220 mx.example ESMTP\r\n").unwrap());
    let said = check(&address, &[]);
    server.join().unwrap();
    assert_eq!(said.code, Some(76), "{said:?}");
    for text in [
        "error: It broke the protocol at the negotiation: ",
        "the peer speaks SMTP",
        "22 bytes: 220 mx.example ESMTP\\r\\n",
        "=> the milter failed at the negotiation\n",
    ] {
        assert!(said.out.contains(text), "{text}: {said:?}");
    }
    // Nothing was sent, so nothing became of it.
    let (address, server) = peer(|stream| stream.write_all(b"220 mx.example ESMTP\r\n").unwrap());
    let said = check(&address, &["--json"]);
    server.join().unwrap();
    let found = &said.json()[0];
    assert_eq!(found["outcome"], "failed", "{found}");
    assert_eq!(found["error"]["at"], "the negotiation", "{found}");
    for absent in ["negotiation", "stage", "message"] {
        assert_eq!(found[absent], Value::Null, "{absent}: {found}");
    }
    assert_eq!(found["steps"], Value::Array(Vec::new()), "{found}");
    let (address, server) = peer(|stream| stream.write_all(b"SSH-2.0-OpenSSH\r\n").unwrap());
    let said = check(&address, &["--quiet"]);
    server.join().unwrap();
    assert!(said.err.contains("That is an SSH server"), "{said:?}");
}

#[test]
fn what_was_asked_for_in_vain_is_told() {
    let (address, milter) = peer(|stream| {
        stream.read_exact(&mut [0; 17]).unwrap();
        // All steps are declined; a skip, for which it asks too, is not in version 2.
        stream.write_all(&offer(2, 0x101, 0x47f)).unwrap();
        read_to(stream, b'E');
        stream.write_all(&frame(b'a', b"")).unwrap();
    });
    let said = check(&address, &["--mta", "version-2"]);
    milter.join().unwrap();
    assert_eq!(said.code, Some(0), "{said:?}");
    let text = "  not offered  skip\n";
    assert!(said.out.contains(text), "{said:?}");
}

#[test]
fn a_milter_that_breaks_the_protocol_is_told_with_the_stage() {
    let (address, milter) = peer(|stream| {
        agree(stream);
        read_to(stream, b'C');
        stream.write_all(&frame(b'!', b"what")).unwrap();
    });
    let said = check(&address, &["--json"]);
    milter.join().unwrap();
    assert_eq!(said.code, Some(76), "{said:?}");
    let error = &said.json()[0]["error"];
    assert_eq!(error["at"], "connect", "{said:?}");
    assert_eq!(error["received"], 9);
    assert_eq!(error["received_text"], "\\x00\\x00\\x00\\x05!what");

    let (address, milter) = peer(|stream| {
        agree(stream);
        read_to(stream, b'C');
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    });
    let said = check(&address, &[]);
    milter.join().unwrap();
    assert_eq!(said.code, Some(76), "{said:?}");
    assert!(
        said.out
            .contains("error: It closed the connection at connect."),
        "{said:?}"
    );
}

#[test]
fn answers_behind_the_last_one_are_found() {
    // Postfix finds them when it says that the message is over, Sendmail at the goodbye.
    for mta in ["postfix", "sendmail"] {
        let (address, milter) = peer(|stream| {
            agree(stream);
            for letter in *b"CHMRTLLLLLNBE" {
                read_to(stream, letter);
                // Two verdicts on one message, in one piece.
                let times = if letter == b'E' { 2 } else { 1 };
                stream.write_all(&frame(b'c', b"").repeat(times)).unwrap();
            }
        });
        let said = check(&address, &["--mta", mta]);
        milter.join().unwrap();
        assert_eq!(said.code, Some(76), "{mta}: {said:?}");
        let text = "=> the milter failed at the end, after its last answer";
        assert!(said.out.contains(text), "{mta}: {said:?}");
    }
}

#[test]
fn a_load_test_counts_and_measures() {
    let filter = Running::control("rcpt reply 550 5.1.1 No");
    let args = ["--bench", "50", "-c", "4", "--per-connection", "5"];
    let said = filter.check(&args);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    let shown = without_times(&said.out);
    for text in [
        "\n50 messages over 4 connections in T: ",
        "\n        50 rejected\n",
        "\nTime for a message\n       min       p50       p90       p95       p99     p99.9       max\n T T T T T T T\n",
        "T |█",
        "\nrcpt                            50 T T T\n",
    ] {
        assert!(shown.contains(text), "{text}\n{shown}");
    }
    let said = filter.check(&[&args[..], &["--json", "--expect", "reject"]].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    let found = &said.json()[0];
    assert_eq!(found["messages"], 50);
    assert_eq!(found["failed"], 0);
    assert_eq!(found["outcomes"]["rejected"], 50);
    assert_eq!(found["message"]["count"], 50);
    assert_eq!(found["stages"]["rcpt"]["count"], 50);
    // Each worker may leave its last connection unused up.
    let opened = found["opening"]["count"].as_u64().unwrap();
    assert!((10..=14).contains(&opened), "{found}");
    let said = filter.check(&[&args[..], &["--quiet", "--expect", "accept"]].concat());
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    // No more connections than messages.
    let said = filter.check(&["--bench", "2", "-c", "4", "--json"]);
    assert_eq!(said.json()[0]["connections"], 2, "{said:?}");
}

#[test]
fn a_load_test_counts_what_fails() {
    let filter = Running::control("mail:bad@example.org sleep 3000");
    let bad = filter.file("bad.eml", b"From: bad@example.org\n\nhi\n");
    let good = filter.file("good.eml", b"From: good@example.org\n\nhi\n");
    let args = [
        &*bad,
        &*good,
        "--bench",
        "6",
        "-c",
        "3",
        "--timeout",
        "0.3",
        "--json",
    ];
    let said = filter.check(&args);
    assert_eq!(said.code, Some(75), "{said:?}");
    let found = &said.json()[0];
    assert_eq!(
        (found["messages"].as_u64(), found["failed"].as_u64()),
        (Some(6), Some(3)),
        "{found}"
    );
    assert_eq!(found["outcomes"]["accepted"], 3);
    assert_eq!(found["outcomes"]["timedout"], 3);
    assert_eq!(found["message"]["count"], 3);
    // Where nothing went well there are no times to speak of.
    let said = filter.check(&[&*bad, "--bench", "1", "--timeout", "0.3"]);
    assert_eq!(said.code, Some(75), "{said:?}");
    assert!(
        said.out.contains("\n         1 no answer in time\n"),
        "{said:?}"
    );
    assert!(!said.out.contains("times below"), "{said:?}");
    let said = filter.check(&[&*bad, "--bench", "1", "--timeout", "0.3", "--quiet"]);
    assert_eq!((said.code, &*said.out), (Some(75), ""), "{said:?}");
    assert!(said.err.contains("1 times: the filter did not"), "{said:?}");
    let said = check(&Address::free_tcp().to_string(), &["--bench", "100"]);
    assert_eq!(said.code, Some(69), "{said:?}");
}
