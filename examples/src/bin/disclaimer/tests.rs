use milter_tower::testing::{Mail, MockMta, survives};
use milter_tower::{assert_body, assert_header, assert_no_header};

use super::*;

fn footer() -> Footer {
    Footer::new("Grüße", None).unwrap()
}

fn policy(options: &[&str]) -> Policy {
    let all = [&["disclaimer", "--text", "x"], options].concat();
    let args = Args::try_parse_from(all).unwrap();
    Policy::new(args.domains, args.also, args.marker)
}

fn filter_with(options: &[&str]) -> MessageFilter {
    filter(policy(options), footer())
}

#[tokio::test]
async fn a_mail_gets_its_footer_and_a_mark() {
    let filter = filter_with(&[]);
    for mut mta in [MockMta::postfix(filter.clone()), MockMta::sendmail(filter)] {
        let done = mta.deliver(Mail::new().body("hi\r\n")).await;
        assert_body!(done, "hi\n\nGr=C3=BC=C3=9Fe\n");
        assert_header!(done, "X-Disclaimer", "added");
        assert_header!(done, "MIME-Version", "1.0");
        assert_header!(done, "Content-Type", "text/plain; charset=utf-8");
        assert_header!(done, "Content-Transfer-Encoding", "quoted-printable");
        // The same mail again has one already.
        let again = Mail::new().header("X-Disclaimer", "added").body("hi\r\n");
        assert_body!(mta.deliver(again).await, "hi\n");
        let mime = Mail::new().header("mime-version", "1.0 (by hand)");
        assert_header!(mta.deliver(&mime).await, "MIME-Version", "1.0 (by hand)");
        let html = mime.header("Content-Type", "text/html").body("<p>\r\n");
        let done = mta.deliver(html).await;
        assert_body!(done, "<p>\n<p>Gr&#252;&#223;e</p>\n");
        assert_header!(done, "MIME-Version", "1.0 (by hand)");
        assert_no_header!(done, "Content-Transfer-Encoding");
    }
}

#[tokio::test]
async fn what_is_left_alone_can_be_asked_for() {
    let mail = || Mail::new().body("hi\r\n");
    for (mail, option) in [
        (mail().from("<>"), "null-sender"),
        (
            mail().header("Auto-Submitted", "auto-replied; x=y"),
            "automatic",
        ),
        (mail().header("Precedence", "Bulk"), "automatic"),
        (mail().header("List-ID", "<a.example>"), "automatic"),
        (mail().header("DKIM-Signature", "v=1"), "dkim-signed"),
    ] {
        let done = MockMta::postfix(filter_with(&[])).deliver(&mail).await;
        assert_body!(done, "hi\n");
        assert_no_header!(done, "X-Disclaimer");
        let done = MockMta::postfix(filter_with(&["--also", option]))
            .deliver(&mail)
            .await;
        assert_header!(done, "X-Disclaimer", "added");
    }
    let human = mail().header("Auto-Submitted", "No");
    let done = MockMta::postfix(filter_with(&["--marker", "X-Ours"]))
        .deliver(human)
        .await;
    assert_header!(done, "X-Ours", "added");
}

#[tokio::test]
async fn only_senders_of_our_domains() {
    let filter = filter_with(&[
        "--sender-domain",
        "example.org",
        "--sender-domain",
        "bücher.example",
    ]);
    let mut mta = MockMta::postfix(filter);
    for (sender, is_ours) in [
        ("alice@Example.org", true),
        ("alice@xn--bcher-kva.example", true),
        ("alice@sub.example.org", false),
        ("<>", false),
    ] {
        let done = mta.deliver(Mail::new().from(sender)).await;
        let is_marked = done.message.headers().contains("X-Disclaimer");
        assert_eq!(is_marked, is_ours, "{sender}");
    }
}

#[tokio::test]
async fn large_mail_is_left_alone() {
    let filter = filter_with(&[]).body_limit(10, OnLarge::Omit);
    let mut mta = MockMta::postfix(filter);
    assert_no_header!(
        mta.deliver(Mail::new().body("123456789\r\n")).await,
        "X-Disclaimer"
    );
    assert_header!(
        mta.deliver(Mail::new().body("12345678\r\n")).await,
        "X-Disclaimer"
    );
}

// Time is not paused: other threads do the work.
#[tokio::test]
async fn nasty_mails_do_no_harm() {
    let all = [
        "--also",
        "null-sender",
        "--also",
        "automatic",
        "--also",
        "dkim-signed",
    ];
    survives(filter_with(&all)).await;
}

#[test]
fn what_makes_no_sense_is_refused_at_the_start() {
    for option in [
        ["--marker", "a b"],
        ["--sender-domain", "@example.org"],
        ["--sender-domain", ""],
        ["--max-size", "0"],
    ] {
        let all = [&["disclaimer", "--text", "x"], &option[..]].concat();
        let error = Args::try_parse_from(all).err().unwrap();
        assert_eq!(error.exit_code(), 2, "{option:?}");
    }
}
