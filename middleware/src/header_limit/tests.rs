use milter_tower::testing::{Mail, MockMta, MtaProfile, survives};
use milter_tower::{Router, SmtpReply, Stage, assert_accepted, assert_refused};
use tower::Layer;

use super::*;

/// Without Stalwart, which refuses a whole session after a message.
fn profiles() -> [MtaProfile; 3] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::version_2(),
    ]
}

fn mail(headers: usize) -> Mail {
    let mail = Mail::new().without_headers();
    (0..headers).fold(mail, |mail, n| mail.header("X-N", n.to_string()))
}

#[tokio::test]
async fn refuses_what_is_beyond_it() {
    for profile in profiles() {
        let filter = HeaderLimitLayer::new(5).layer(Router::new());
        let mut session = MockMta::with_profile(profile, filter).open().await;
        for _ in 0..2 {
            assert_accepted!(session.deliver(mail(5)).await);
            let done = session.deliver(mail(6)).await;
            assert_refused!(done, 552, "header too large");
            // Where headers have no reply it is said at their end, before the body.
            assert!(done.ended_at <= Some(Stage::EndOfHeaders), "{done}");
        }
    }
}

#[tokio::test]
async fn counts_bytes() {
    for profile in profiles() {
        // `X-N: 1` with its line end has eight bytes; Sendmail shows values without the space.
        let layer = HeaderLimitLayer::new(100).bytes(40);
        let filter = layer
            .verdict(SmtpReply::reject("large"))
            .layer(Router::new());
        let mut session = MockMta::with_profile(profile, filter).open().await;
        assert_accepted!(session.deliver(mail(5)).await);
        let done = session.deliver(mail(9)).await;
        assert_refused!(done, 550, "large");
    }
}

#[tokio::test]
async fn bears_what_mails_bring() {
    survives(HeaderLimitLayer::new(20).layer(Router::new())).await;
}
