use milter_tower::testing::survives;
use milter_tower::{assert_accepted, assert_header, assert_quarantined};

use super::*;

async fn shown(mta: Mta) -> String {
    let mut mta = match mta {
        Mta::Postfix => MockMta::postfix(filter().unwrap()),
        Mta::Sendmail => MockMta::sendmail(filter().unwrap()),
    };
    let mut out = Vec::new();
    for (what, mail) in mails() {
        let done = mta.deliver(&mail).await;
        show::delivery(&mut out, &what, &mail, &done).unwrap();
    }
    anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string()
}

#[tokio::test]
async fn does_what_it_says() {
    for mut mta in [
        MockMta::postfix(filter().unwrap()),
        MockMta::sendmail(filter().unwrap()),
    ] {
        let [letter, typo, spam] = mails().try_into().unwrap();
        let done = mta.deliver(&letter.1).await;
        assert_accepted!(done);
        assert_header!(done, "X-Filtered-By", "quickstart");
        let done = mta.deliver(&typo.1).await;
        assert_eq!(done.refused_recipients().count(), 1, "{done}");
        let done = mta.deliver(&spam.1).await;
        assert_quarantined!(done, "it looks like spam");
        assert_header!(done, "X-Spam-Flag", "YES");
    }
}

#[tokio::test]
async fn shows_what_came_out() {
    for mta in [Mta::Postfix, Mta::Sendmail] {
        let shown = shown(mta).await;
        for line in [
            "  RCPT TO:<nobody@example.net>   550 5.7.1 There is no such user here\n",
            "  filter: quarantine: it looks like spam\n",
            "  server: accepted, and held back: it looks like spam\n",
            "  server: accepted, delivered to <bob@example.net>\n",
            "  - | X-Filtered-By: a client that pretends\n",
            "  + | X-Filtered-By: quickstart\n",
            "    | From: lottery@example.com\n",
            "    |\n",
        ] {
            assert!(shown.contains(line), "{line:?} in\n{shown}");
        }
        assert!(!shown.contains("Received:"), "{shown}");
    }
}

/// What a mail brings does nothing to the terminal.
#[tokio::test]
async fn escapes_what_it_shows() {
    let mail = Mail::new()
        .raw_header("Subject", " \x1b]0;title\x07")
        .raw_body("\x1b[2J\r\nright \u{202e}to left\r\n");
    let done = MockMta::postfix(filter().unwrap()).deliver(&mail).await;
    let mut out = Vec::new();
    show::delivery(&mut out, "a\x1bcmail", &mail, &done).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(
        !out.contains("\x1b]") && !out.contains("\x1b[2J") && !out.contains("\x1bc"),
        "{out:?}"
    );
    assert!(!out.contains('\u{202e}'), "{out:?}");
    assert!(out.contains("\\u{1b}[2J"), "{out:?}");
}

/// A line that a mail brings fills no screen.
#[tokio::test]
async fn cuts_what_is_long() {
    let mail = Mail::new().body("x".repeat(100_000));
    let done = MockMta::postfix(filter().unwrap()).deliver(&mail).await;
    let mut out = Vec::new();
    show::delivery(&mut out, "a mail", &mail, &done).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(out.contains("x… (99840 more bytes)"), "{out}");
}

#[test]
fn a_file_says_whom_its_mail_is_from_and_to() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("letter.eml");
    std::fs::write(&file, "From: a@example.com\nTo: b@example.net\n\nhi\n").unwrap();
    let (name, mail) = read(&file).unwrap();
    assert!(name.ends_with("/letter.eml"), "{name}");
    assert_eq!(mail.sender().address().to_string(), "<a@example.com>");
    let to = mail.recipients();
    let to: Vec<_> = to.iter().map(|to| to.address().to_string()).collect();
    assert_eq!(to, ["<b@example.net>"]);
}

#[tokio::test]
async fn bears_what_mails_bring() {
    survives(filter().unwrap()).await;
}
