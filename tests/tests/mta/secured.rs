//! What a filter behind Postfix is told of TLS, of who logged in, and of another client's name.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use milter_tests::mta::{self, Kind, WorkDir};
use milter_tests::rig::{Outcome, Rig, Setup};
use milter_tests::sasl::{ALICE, Sasl};
use milter_tests::smtp::{Client, Transcript};

use crate::group::{Cases, group};

/// The macros that a filter is shown where, on the way of one message.
const ORDERS: &[&[&str]] = &[
    &["connect", "macro", "_"],
    &[
        "helo",
        "macro",
        "{tls_version}",
        "{cipher}",
        "{cipher_bits}",
    ],
    &["mail", "macro", "{auth_authen}", "{auth_type}"],
    &[
        "eom",
        "macro",
        "{tls_version}",
        "{auth_authen}",
        "{auth_type}",
    ],
];

#[test]
fn postfix() {
    let openssl = Path::new("/usr/bin/openssl");
    if !mta::require(Kind::Postfix) || !mta::require_file(openssl, "openssl") {
        return;
    }
    let dir = WorkDir::new().unwrap();
    let sasl = dir.path().join("sasl");
    let certificate = dir.path().join("tls.pem");
    make_certificate(&certificate);
    let _sasl = Sasl::start(sasl.clone()).unwrap();
    let setup = Setup {
        extra: vec![
            "smtpd_tls_security_level = may".to_owned(),
            format!("smtpd_tls_chain_files = {}", certificate.display()),
            "smtpd_sasl_auth_enable = yes".to_owned(),
            "smtpd_sasl_type = dovecot".to_owned(),
            format!("smtpd_sasl_path = {}", sasl.display()),
        ],
        ..Setup::default()
    };
    group(Kind::Postfix, "facts_of_the_session", &setup, facts);
}

/// A key and a certificate that it signs itself.
fn make_certificate(path: &Path) {
    let mut command = Command::new("openssl");
    command
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1".split(' '))
        .args(["-subj", "/CN=mta.test", "-keyout"])
        .arg(path)
        .arg("-out")
        .arg(path.with_extension("crt"));
    let output = command.output().expect("openssl");
    assert!(output.status.success(), "{output:?}");
    let mut chain = std::fs::read(path).unwrap();
    chain.extend(std::fs::read(path.with_extension("crt")).unwrap());
    std::fs::write(path, chain).unwrap();
}

fn facts(cases: &mut Cases) {
    cases.case("neither TLS nor AUTH", |rig| {
        rig.orders(ORDERS);
        let mut client = plain(rig);
        hand_in(|line| client.command(line).unwrap().code);
        let outcome = rig.outcome(Transcript::default());
        let known = known(&outcome);
        assert_eq!(known.len(), values(&known, "_").len(), "{known:?}");
    });
    cases.case("STARTTLS", |rig| {
        rig.orders(ORDERS);
        let mut client = Secured::connect(rig);
        hand_in(|line| client.command(line));
        drop(client);
        let outcome = rig.outcome(Transcript::default());
        // Once without TLS, once within.
        assert_eq!(outcome.count("helo"), 2);
        let known = known(&outcome);
        assert_eq!(values(&known, "{tls_version}"), ["TLSv1.3"; 2]);
        assert_eq!(values(&known, "{cipher_bits}"), ["256"]);
        assert_eq!(values(&known, "{auth_authen}"), [""; 0]);
    });
    cases.case("AUTH", |rig| {
        rig.orders(ORDERS);
        let mut client = plain(rig);
        let reply = client.command(&format!("AUTH PLAIN {ALICE}")).unwrap();
        assert_eq!(reply.code, 235, "{reply}");
        hand_in(|line| client.command(line).unwrap().code);
        let known = known(&rig.outcome(Transcript::default()));
        assert_eq!(values(&known, "{auth_authen}"), ["alice"; 2]);
        assert_eq!(values(&known, "{auth_type}"), ["PLAIN"; 2]);
        assert_eq!(values(&known, "{tls_version}"), [""; 0]);
    });
    cases.case("AUTH with another password", |rig| {
        rig.orders(ORDERS);
        let mut client = plain(rig);
        let reply = client.command("AUTH PLAIN AGFsaWNlAHdyb25n").unwrap();
        assert_eq!(reply.code, 535, "{reply}");
        hand_in(|line| client.command(line).unwrap().code);
        let known = known(&rig.outcome(Transcript::default()));
        assert_eq!(values(&known, "{auth_authen}"), [""; 0]);
    });
    cases.case("STARTTLS and AUTH", |rig| {
        rig.orders(ORDERS);
        let mut client = Secured::connect(rig);
        assert_eq!(client.command(&format!("AUTH PLAIN {ALICE}")), 235);
        hand_in(|line| client.command(line));
        drop(client);
        let known = known(&rig.outcome(Transcript::default()));
        assert_eq!(values(&known, "{tls_version}"), ["TLSv1.3"; 2]);
        assert_eq!(values(&known, "{auth_authen}"), ["alice"; 2]);
    });
    cases.case("q32 XCLIENT", |rig| {
        rig.orders(ORDERS);
        let mut client = plain(rig);
        let claim = "XCLIENT NAME=spike.example.org ADDR=203.0.113.9 LOGIN=carol";
        assert_eq!(client.command(claim).unwrap().code, 220);
        assert_eq!(client.command("EHLO spike").unwrap().code, 250);
        hand_in(|line| client.command(line).unwrap().code);
        let outcome = rig.outcome(Transcript::default());
        // The session is torn down and begins anew.
        let clients = outcome.all("connect");
        assert_eq!(clients.len(), 2);
        assert_eq!(clients[1], ["spike.example.org", "inet", "203.0.113.9"]);
        let known = known(&outcome);
        assert_eq!(values(&known, "_")[1], "spike.example.org [203.0.113.9]");
        assert_eq!(values(&known, "{auth_authen}"), ["carol"; 2]);
    });
}

fn plain(rig: &Rig) -> Client {
    let (mut client, _) = Client::connect(rig.mta().port()).unwrap();
    assert_eq!(client.command("EHLO client.example.org").unwrap().code, 250);
    client
}

/// One message, and QUIT.
fn hand_in(mut command: impl FnMut(&str) -> u16) {
    for (line, code) in [
        ("MAIL FROM:<alice@example.org>", 250),
        ("RCPT TO:<bob@example.net>", 250),
        ("DATA", 354),
        ("Subject: x\r\n\r\ntext\r\n.", 250),
        ("QUIT", 221),
    ] {
        assert_eq!(command(line), code, "{line}");
    }
}

/// The macros that had a value.
fn known(outcome: &Outcome) -> Vec<Vec<String>> {
    let mut all = outcome.all("macro");
    all.retain(|one| one.len() == 2);
    all
}

fn values<'k>(known: &'k [Vec<String>], name: &str) -> Vec<&'k str> {
    let named = known.iter().filter(|one| one[0] == name);
    named.map(|one| one[1].as_str()).collect()
}

/// A client that speaks TLS: the program `openssl`. The server's time-out bounds how long it waits.
struct Secured {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Secured {
    /// Connects, and says EHLO within TLS.
    fn connect(rig: &Rig) -> Self {
        let mut command = Command::new("openssl");
        command
            .args("s_client -starttls smtp -crlf -quiet -nocommands -connect".split(' '))
            .arg(format!("127.0.0.1:{}", rig.mta().port()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("openssl");
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let mut this = Self {
            child,
            input,
            output,
        };
        assert_eq!(this.command("EHLO client.example.org"), 250);
        this
    }

    fn command(&mut self, line: &str) -> u16 {
        let line = line.replace("\r\n", "\n");
        self.input
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
        self.reply()
    }

    /// The code of the next reply.
    fn reply(&mut self) -> u16 {
        loop {
            let mut line = String::new();
            let len = self.output.read_line(&mut line).unwrap();
            assert!(len > 0, "no reply");
            if line.as_bytes().get(3) == Some(&b' ') {
                return line[..3].parse().unwrap();
            }
        }
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
