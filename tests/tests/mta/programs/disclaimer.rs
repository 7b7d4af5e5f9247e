//! The program `disclaimer`: what is delivered has the footer, and is otherwise as it was sent.

use std::fs;

use milter_tests::mail::{self, Mail};
use milter_tests::mta::Kind;
use milter_tests::process::Filter;

use super::Rig;

#[test]
fn postfix() {
    adds(Kind::Postfix);
}

#[test]
fn sendmail() {
    adds(Kind::Sendmail);
}

fn adds(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let footer = dir.path().join("footer");
    fs::write(&footer, "Grüße aus Köln\n").unwrap();
    let args = [
        "--text",
        footer.to_str().unwrap(),
        "--sender-domain",
        "Example.ORG",
    ];
    let start = |address: &_| Filter::start("disclaimer", address, &args);
    let Some(rig) = Rig::start(kind, start) else {
        return;
    };
    adds_to_plain_text(&rig);
    adds_to_alternatives(&rig);
    leaves_alone(&rig);
    rig.stop();
}

fn mime(kind: &str) -> Mail {
    Mail::to_bob()
        .header("MIME-Version: 1.0")
        .header(&format!("Content-Type: {kind}"))
}

/// Without MIME, also larger than what is kept in memory.
fn adds_to_plain_text(rig: &Rig) {
    for lines in [1, 10_000] {
        let body = "Hello Bob, 1 + 1 = 2 is the body.\r\n".repeat(lines);
        let delivered = rig.deliver(&Mail::to_bob().body(body.clone()));
        let of = |name: &str| delivered.header(name);
        assert_eq!(of("X-Disclaimer"), ["added"], "{}", rig.report());
        let quoted = body.replace('=', "=3D") + "\r\nGr=C3=BC=C3=9Fe aus K=C3=B6ln\r\n";
        assert_eq!(String::from_utf8_lossy(delivered.body()), quoted);
        assert_eq!(of("MIME-Version"), ["1.0"]);
        assert_eq!(of("Content-Type"), ["text/plain; charset=utf-8"]);
        assert_eq!(of("Content-Transfer-Encoding"), ["quoted-printable"]);
        assert_eq!(of("Subject"), ["test message"]);
    }
}

fn adds_to_alternatives(rig: &Rig) {
    let alternative = "--b\r\n\
        Content-Type: text/plain; charset=utf-8\r\n\
        Content-Transfer-Encoding: base64\r\n\
        \r\n\
        aMOkDQo=\r\n\
        --b\r\n\
        Content-Type: text/html\r\n\
        \r\n\
        <p>h&auml;</p></body>\r\n\
        --b--\r\n";
    let wanted = alternative
        .replace("aMOkDQo=", "aMOkDQoNCkdyw7zDn2UgYXVzIEvDtmxuDQo=\r\n")
        .replace(
            "</p></body>",
            "</p>\r\n<p>Gr&#252;&#223;e aus K&#246;ln</p>\r\n</body>",
        );
    let mail = mime("multipart/alternative;\r\n boundary=\"b\"").body(alternative);
    let delivered = rig.deliver(&mail);
    assert_eq!(
        delivered.header("X-Disclaimer"),
        ["added"],
        "{}",
        rig.report()
    );
    assert_eq!(String::from_utf8_lossy(delivered.body()), wanted);
    let kind = delivered.header("Content-Type");
    assert_eq!(kind, ["multipart/alternative;\r\n boundary=\"b\""]);
}

fn leaves_alone(rig: &Rig) {
    let signed = "--b\r\n\r\ntext\r\n\
        --b\r\nContent-Type: application/pgp-signature\r\n\r\nx\r\n--b--\r\n";
    for mail in [
        mime("multipart/signed; boundary=b").body(signed),
        Mail::to_bob().header("DKIM-Signature: v=1; a=x"),
        Mail::to_bob().header("Auto-Submitted: auto-replied"),
        Mail::to_bob().sender("<>"),
        Mail::to_bob().sender("<a@example.com>"),
    ] {
        let delivered = rig.deliver(&mail);
        assert_eq!(
            delivered.body(),
            mail::body(&mail.content()),
            "{}",
            rig.report()
        );
        assert_eq!(delivered.header("X-Disclaimer"), [""; 0]);
    }
    let marked = Mail::to_bob().header("X-Disclaimer: before");
    let delivered = rig.deliver(&marked);
    assert_eq!(delivered.body(), mail::body(&marked.content()));
    assert_eq!(delivered.header("X-Disclaimer"), ["before"]);
}
