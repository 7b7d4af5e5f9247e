//! Mail that does not come by SMTP: only Postfix shows it to milters.

use milter_tests::mail::Mail;
use milter_tests::mta::Kind;
use milter_tests::rig::Setup;
use milter_tests::smtp::Transcript;
use milter_tests::wait::PATIENCE;

use crate::group::{Cases, group};

#[test]
fn from_the_command_line() {
    group(
        Kind::Postfix,
        "from_the_command_line",
        &Setup {
            non_smtp: true,
            ..Setup::default()
        },
        from_the_command_line_cases,
    );
}

fn from_the_command_line_cases(cases: &mut Cases) {
    cases.case("what the filter sees, and a header", |rig| {
        rig.orders(&[&["eom", "addheader", "X-A", "seen"]]);
        let content = String::from_utf8_lossy(&Mail::new().content()).replace("\r\n", "\n");
        rig.mta()
            .submit(
                "alice@example.org",
                &["bob@example.net"],
                content.as_bytes(),
            )
            .unwrap();
        let delivered = rig.sink().take(1, PATIENCE).unwrap();
        assert_eq!(delivered[0].header("X-A"), ["seen"]);
        assert_eq!(delivered[0].sender, "<alice@example.org>");
        let outcome = rig.outcome(Transcript::default());
        assert_eq!(outcome.all("connect"), [["localhost", "inet", "127.0.0.1"]]);
        assert_eq!(outcome.all("helo"), [["localhost"]]);
        assert_eq!(outcome.all("mail"), [["alice@example.org"]], "without <>");
        assert_eq!(outcome.all("rcpt"), [["bob@example.net"]]);
        assert_eq!((outcome.count("eom"), outcome.count("abort")), (1, 0));
    });
    cases.case("discard", |rig| {
        rig.orders(&[&["eom", "discard"]]);
        rig.mta()
            .submit(
                "alice@example.org",
                &["bob@example.net"],
                b"Subject: x\n\nbody\n",
            )
            .unwrap();
        assert!(rig.outcome(Transcript::default()).delivered.is_empty());
    });
    cases.case("reject: the sender gets it back", |rig| {
        rig.orders(&[&[
            "eom:alice@example.org",
            "reply",
            "550",
            "5.7.42",
            "not this",
        ]]);
        rig.mta()
            .submit(
                "alice@example.org",
                &["bob@example.net"],
                b"Subject: x\n\nbody\n",
            )
            .unwrap();
        let bounce = rig.sink().take(1, PATIENCE).unwrap();
        assert_eq!(bounce[0].sender, "<>");
        assert_eq!(bounce[0].recipient_addresses(), ["<alice@example.org>"]);
        rig.mta().idle().unwrap();
    });
}
