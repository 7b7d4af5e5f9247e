use milter_tower::testing::{Mail, MockMta, MtaProfile, survives};
use milter_tower::{
    BoxError, Event, Needs, Request, Response, Router, SmtpReply, Stage, assert_accepted,
    assert_refused,
};
use tower::{Layer, service_fn};

use super::*;

/// Without Stalwart, which refuses a whole session after a message.
fn profiles() -> [MtaProfile; 3] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::version_2(),
    ]
}

fn mail(bytes: usize) -> Mail {
    let mail = Mail::new().without_headers().header("A", "b");
    // `A: b` and the empty line have eight.
    mail.raw_body("x".repeat(bytes - 10) + "\r\n")
}

#[tokio::test]
async fn refuses_what_is_announced_too_large() {
    for profile in profiles() {
        let layer = SizeLimitLayer::new(1000).announced_only();
        let filter = layer
            .verdict(SmtpReply::reject("too much"))
            .layer(Router::new());
        let mut session = MockMta::with_profile(profile.clone(), filter).open().await;
        let announced = |size: u32| Mail::new().mail_from("a@b.example", [format!("SIZE={size}")]);
        let done = session.deliver(announced(1001)).await;
        assert_refused!(done, 550, "too much");
        assert_eq!(done.ended_at, Some(Stage::Mail));
        assert_accepted!(session.deliver(announced(1000)).await);
        assert_accepted!(session.deliver(mail(5000)).await);
    }
}

#[tokio::test]
async fn counts_what_comes() {
    for profile in profiles() {
        let filter = SizeLimitLayer::new(1000).layer(Router::new());
        let mut session = MockMta::with_profile(profile.clone(), filter).open().await;
        for _ in 0..2 {
            assert_accepted!(session.deliver(mail(998)).await);
            let done = session.deliver(mail(1003)).await;
            assert_refused!(done, 552, "size exceeds limit");
        }
    }
}

/// A filter that skips the rest of the body does not have it pass uncounted.
#[tokio::test]
async fn counts_behind_one_that_skips() {
    for profile in [MtaProfile::postfix(), MtaProfile::sendmail()] {
        let filter = service_fn(async |request: Request| {
            Ok::<_, BoxError>(match request.event() {
                Event::Negotiate(_) => Response::needs(Needs::all().skip()),
                Event::Body(piece) => {
                    assert_eq!(piece.len(), 65_535, "it is shown one piece");
                    Response::skip()
                }
                _ => Response::proceed(),
            })
        });
        let filter = SizeLimitLayer::new(100_000).layer(filter);
        let mut session = MockMta::with_profile(profile.clone(), filter).open().await;
        for _ in 0..2 {
            let done = session.deliver(mail(110_000)).await;
            assert_refused!(done, 552, "size exceeds limit");
            assert_accepted!(session.deliver(mail(90_000)).await);
        }
    }
}

#[tokio::test]
async fn bears_what_mails_bring() {
    survives(SizeLimitLayer::new(100_000).layer(Router::new())).await;
}
