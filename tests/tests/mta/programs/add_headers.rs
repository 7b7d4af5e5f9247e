//! The program `add-headers`: what is delivered has the headers that it was told to have.

use std::fs;

use milter_tests::mail::Mail;
use milter_tests::mta::Kind;
use milter_tests::process::Filter;

use super::Rig;

#[test]
fn postfix() {
    changes(Kind::Postfix);
}

#[test]
fn sendmail() {
    changes(Kind::Sendmail);
}

fn changes(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules");
    fs::write(
        &rules,
        "# what senders claim\nremove X-Spam-*\nadd X-Spam-Flag: NO\n",
    )
    .unwrap();
    let rules = rules.to_str().unwrap();
    let args = [
        "--rules",
        rules,
        "--set",
        "Subject: set",
        "--prepend",
        "X-First: 1",
        "--prepend",
        "X-Second: 2",
        "--remove",
        "comments",
        "--remove-forged",
        "mx.example.net",
    ];
    let start = |address: &_| Filter::start("add-headers", address, &args);
    let Some(rig) = Rig::start(kind, start) else {
        return;
    };
    let mail = Mail::to_bob()
        .header("X-Spam-Flag: maybe")
        .header("X-Spam-Score: -100")
        .header("Comments: one")
        .header("Comments: two")
        .header("Subject: another")
        .header("Authentication-Results: MX.example.net; spf=pass")
        .header("Authentication-Results: other.example; spf=pass")
        .header("X-Folded: a\r\n\tb");
    for _ in 0..2 {
        let delivered = rig.deliver(&mail);
        let of = |name: &str| delivered.header(name);
        assert_eq!(of("X-Spam-Flag"), ["NO"]);
        assert_eq!(of("X-Spam-Score"), [""; 0]);
        assert_eq!(of("Comments"), [""; 0]);
        assert_eq!(of("Subject"), ["set"]);
        assert_eq!(of("Authentication-Results"), ["other.example; spf=pass"]);
        assert_eq!(of("X-Folded"), ["a\r\n\tb"]);
        let headers = delivered.headers();
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[..3], ["X-First", "X-Second", "Received"], "{names:?}");
        assert_eq!(delivered.body(), b"Hello Bob,\r\nthis is the body.\r\n");
    }
    rig.stop();
}
