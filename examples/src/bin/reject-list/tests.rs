use milter_tower::testing::{Mail, MockMta, survives};
use milter_tower::{assert_accepted, assert_recipients, assert_refused};

use super::*;

const LIST: &str = "\
client 192.0.2.0/24 550 5.7.1 Not from there
client 192.0.2.9 ok
sender-domain spam.example
sender <> 450 4.7.1 No bounces
recipient old@example.net 550 5.1.1 Bob has left
";

fn listed() -> Router<Arc<List>> {
    filter(List::parse(LIST.as_bytes()).unwrap())
}

/// A mail from a client that is not listed.
fn mail() -> Mail {
    Mail::new().client_ip([198, 51, 100, 1])
}

#[tokio::test]
async fn each_kind_of_line_refuses() {
    for mut mta in [MockMta::postfix(listed()), MockMta::sendmail(listed())] {
        assert_accepted!(mta.deliver(mail()).await);
        for (mail, code, text) in [
            (Mail::new().client_ip([192, 0, 2, 8]), 550, "Not from there"),
            (mail().from("a@b.spam.example"), 550, "on our block list"),
            (mail().from("<>"), 450, "No bounces"),
            (mail().to("OLD@example.net"), 550, "Bob has left"),
        ] {
            let done = mta.deliver(mail).await;
            assert_refused!(done, code, text);
        }
        assert_accepted!(mta.deliver(Mail::new().client_ip([192, 0, 2, 9])).await);
    }
}

#[tokio::test]
async fn a_refused_recipient_leaves_the_others() {
    let mail = mail().to("old@example.net").to("bob@example.net");
    let done = MockMta::postfix(listed()).deliver(mail).await;
    assert_recipients!(done, ["bob@example.net"]);
}

#[tokio::test]
async fn users_may_be_anywhere() {
    let user = Mail::new().client_ip([192, 0, 2, 8]).auth("PLAIN", "alice");
    assert_accepted!(MockMta::postfix(listed()).deliver(&user).await);
    // What they send is looked at.
    let done = MockMta::postfix(listed())
        .deliver(user.to("old@example.net"))
        .await;
    assert_refused!(done, 550);
}

#[tokio::test(start_paused = true)]
async fn nasty_mails_do_no_harm() {
    survives(listed()).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_file_is_told_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list");
    let said = |error: BoxError| error.to_string();
    assert!(said(read(&path).await.unwrap_err()).contains("list: No such file"));
    std::fs::write(&path, "client 192.0.2.1\nx y\n").unwrap();
    assert!(said(read(&path).await.unwrap_err()).contains("list: line 2: \"x\" is none of"));
}
