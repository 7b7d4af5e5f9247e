use milter_tower::testing::{Mail, MockMta, MtaProfile};
use milter_tower::{
    BoxError, Chain, Condition, Event, OnMemberFailure, Request, Response, assert_accepted,
    assert_header, assert_no_header, assert_refused,
};
use tower::{Layer, service_fn};

use super::*;
use crate::set_header::SetHeaderLayer;

fn profiles() -> [MtaProfile; 3] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::version_2(),
    ]
}

/// It sees all messages, with the layer and without.
#[tokio::test]
async fn applies_to_messages_of_which_the_condition_holds() {
    for profile in profiles() {
        let filter = service_fn(async |request: Request| {
            Ok::<_, BoxError>(match request.event() {
                Event::Rcpt(to) if to.mailbox() == "bad@example.net" => Response::reject(),
                Event::EndOfMessage(_) => Response::accept().add_header("X-Filter", "seen"),
                _ => Response::proceed(),
            })
        });
        let layer = SetHeaderLayer::appending("X-Layer", "seen").unwrap();
        let condition = Condition::sender(|sender| sender.mailbox() == "a@example.org");
        let filter = WhenLayer::new(condition, layer).layer(filter);
        let mut session = MockMta::with_profile(profile, filter).open().await;
        for _ in 0..2 {
            let done = session.deliver(Mail::new().from("a@example.org")).await;
            assert_header!(done, "X-Filter", "seen");
            assert_header!(done, "X-Layer", "seen");
            let done = session.deliver(Mail::new().from("b@example.org")).await;
            assert_header!(done, "X-Filter", "seen");
            assert_no_header!(done, "X-Layer");
            for sender in ["a@example.org", "b@example.org"] {
                let mail = Mail::new().from(sender).to("bad@example.net");
                assert!(session.deliver(mail).await.is_refused());
            }
        }
    }
}

#[cfg(feature = "util")]
#[tokio::test]
async fn is_a_method_too() {
    use crate::{ServiceBuilderExt, ServiceExt};

    let layer = || SetHeaderLayer::appending("X-Layer", "seen").unwrap();
    let when = || WhenLayer::new(Condition::sender(|_| true), layer());
    let filter = service_fn(async |_: Request| Ok::<_, BoxError>(Response::proceed()));
    let built = tower::ServiceBuilder::new().when(when()).service(filter);
    let called = filter.when(when());
    for filter in [built, called] {
        let done = MockMta::postfix(filter).deliver(Mail::new()).await;
        assert_header!(done, "X-Layer", "seen");
    }
}

/// Nothing is held for a member that is left out, though the one before it may change the content.
#[tokio::test]
async fn holds_nothing() {
    let filter = service_fn(async |_: Request| Ok::<_, BoxError>(Response::proceed()));
    let large = Mail::new().raw_body("x\r\n".repeat(50_000));
    for holds in [true, false] {
        let condition = Condition::sender(move |_| holds);
        let chain = Chain::new()
            .with_when("a", condition.clone(), filter)
            .with_when("b", !condition, filter)
            .body_limit(1000);
        let done = MockMta::postfix(chain).deliver(&large).await;
        assert_accepted!(done);
    }
    let both = Chain::new()
        .with("a", filter)
        .with("b", filter)
        .body_limit(1000);
    let done = MockMta::postfix(both).deliver(&large).await;
    assert_refused!(done, 552, "");
}

/// Either of the two may fail; then it is as with a member of a chain.
#[tokio::test]
async fn fails_as_is_said() {
    for holds in [true, false] {
        let fails = service_fn(async |request: Request| match request.event() {
            Event::Rcpt(_) => Err(BoxError::from("broken")),
            _ => Ok(Response::proceed()),
        });
        let layer = SetHeaderLayer::appending("X-Layer", "seen").unwrap();
        let layer = WhenLayer::new(Condition::sender(move |_| holds), layer);
        let mut mta = MockMta::postfix(layer.layer(fails));
        assert_refused!(mta.deliver(Mail::new()).await, 451, "");
        let layer = layer.on_failure(OnMemberFailure::leave_out());
        let mut mta = MockMta::postfix(layer.layer(fails));
        assert_accepted!(mta.deliver(Mail::new()).await);
    }
}
