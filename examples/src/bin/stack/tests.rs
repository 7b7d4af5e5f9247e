use milter_tower::testing::{Mail, MockMta, survives};
use milter_tower::{assert_accepted, assert_refused};

use super::*;

fn stack() -> Chain {
    chain(&["192.0.2.0/24".to_owned()], "The end".to_owned()).unwrap()
}

fn mail() -> Mail {
    Mail::new().client_ip([198, 51, 100, 1])
}

fn user() -> Mail {
    mail().auth("PLAIN", "alice")
}

#[tokio::test]
async fn each_does_its_own() {
    for mut mta in [MockMta::postfix(stack()), MockMta::sendmail(stack())] {
        let done = mta.deliver(mail().client_ip([192, 0, 2, 8])).await;
        assert_refused!(done, 550, "block list");
        assert_accepted!(mta.deliver(user().client_ip([192, 0, 2, 8])).await);
        let done = mta
            .deliver(mail().header("From", "a@b").header("From", "c@d"))
            .await;
        assert_refused!(done, 550, "one From");

        let done = mta
            .deliver(mail().body("text\r\n").header("X-Internal", "1"))
            .await;
        assert_accepted!(done);
        assert!(!done.message.headers().contains("X-Internal"), "{done}");
        assert_eq!(
            done.message.headers().get_str("X-Checked-By"),
            Some("stack")
        );
        assert_eq!(done.message.body(), "text\r\n");

        let done = mta
            .deliver(user().body("text\r\n").header("X-Checked-By", "me"))
            .await;
        assert_eq!(
            done.message.headers().get_str("X-Checked-By"),
            Some("stack")
        );
        assert_eq!(done.message.body(), "text\r\n\r\nThe end\r\n");
    }
}

#[tokio::test]
async fn hard_mails_do_it_no_harm() {
    stack().check().await.unwrap();
    survives(stack()).await;
}
