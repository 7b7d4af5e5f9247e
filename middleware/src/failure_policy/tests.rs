use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{Ready, ready};
use milter_tower::testing::{Delivery, Mail, MockMta, MtaProfile};
use milter_tower::{
    BoxError, Event, Needs, Request, Response, SmtpReply, Stage, assert_accepted, assert_refused,
};
use tower::load_shed::error::Overloaded;
use tower::timeout::error::Elapsed;
use tower::{Layer, Service, ServiceBuilder, service_fn};

use super::*;

#[derive(Debug)]
struct Odd;

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("odd")
    }
}

impl std::error::Error for Odd {}

#[derive(Debug, thiserror::Error)]
#[error("around")]
struct Wrapped(#[source] Odd);

type Log = Arc<Mutex<Vec<&'static str>>>;

/// A filter that fails at every event of a stage; none stands for the negotiation.
fn failing(
    at: Option<Stage>,
    needs: Needs,
    log: &Log,
) -> impl Service<Request, Response = Response, Error = BoxError, Future: Send> + Clone + Send + use<>
{
    let log = Arc::clone(log);
    service_fn(move |request: Request| {
        let (event, stage) = (request.event(), request.event().stage());
        let is_offer = matches!(event, Event::Negotiate(_));
        log.lock().unwrap().push(match event {
            Event::MessageEnd(_) => "message end",
            Event::Close => "close",
            _ => stage.map_or("negotiate", Stage::name),
        });
        ready(if stage == at && (stage.is_some() || is_offer) {
            Err(Wrapped(Odd).into())
        } else if is_offer {
            Ok(Response::needs(needs.clone()))
        } else {
            Ok(Response::proceed())
        })
    })
}

fn profiles() -> [MtaProfile; 3] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::version_2(),
    ]
}

async fn deliver(policy: &FailurePolicyLayer, at: Option<Stage>, profile: MtaProfile) -> Delivery {
    let filter = policy.layer(failing(at, Needs::all(), &Log::default()));
    MockMta::with_profile(profile, filter)
        .deliver(Mail::new())
        .await
}

#[tokio::test]
async fn fails_closed_and_open() {
    for profile in profiles() {
        for stage in [
            None,
            Some(Stage::Connect),
            Some(Stage::Helo),
            Some(Stage::Mail),
            Some(Stage::Rcpt),
            Some(Stage::Header),
            Some(Stage::Body),
            Some(Stage::EndOfMessage),
        ] {
            let policy = FailurePolicyLayer::fail_closed();
            let done = deliver(&policy, stage, profile.clone()).await;
            assert!(done.is_refused() && done.failures.is_empty(), "{done}");
            let policy = FailurePolicyLayer::fail_open();
            let done = deliver(&policy, stage, profile.clone()).await;
            assert!(done.is_accepted() && done.failures.is_empty(), "{done}");
            let policy = FailurePolicyLayer::new(OnError::Fail);
            let done = deliver(&policy, stage, profile.clone()).await;
            assert!(done.is_refused() && !done.failures.is_empty(), "{done}");
        }
    }
}

#[tokio::test]
async fn closes_the_connection() {
    for profile in profiles() {
        for stage in [None, Some(Stage::Mail), Some(Stage::EndOfMessage)] {
            let done = deliver(&FailurePolicyLayer::close(), stage, profile.clone()).await;
            let is_closed = matches!(done.fate, milter_tower::testing::Fate::Failed(_));
            assert!(is_closed, "{done}");
        }
    }
}

#[tokio::test]
async fn tells_kinds_and_stages_apart() {
    let words = |text| SmtpReply::reject(text);
    let policy = FailurePolicyLayer::fail_closed()
        .at(Stage::Mail, words("mail"))
        .at(Stage::EndOfMessage, words("end"));
    let done = deliver(&policy, Some(Stage::Mail), MtaProfile::postfix()).await;
    assert_refused!(done, 550, "mail");
    let done = deliver(&policy, Some(Stage::EndOfMessage), MtaProfile::postfix()).await;
    assert_refused!(done, 550, "end");
    // The kind goes before the stage, and is looked for among the sources.
    let policy = policy
        .on::<Overloaded>(words("load"))
        .on::<Odd>(words("odd"));
    let done = deliver(&policy, Some(Stage::Mail), MtaProfile::postfix()).await;
    assert_refused!(done, 550, "odd");
    let policy = FailurePolicyLayer::fail_closed()
        .on_match(|error| error.to_string() == "around", words("match"))
        .on::<Odd>(words("odd"));
    let done = deliver(&policy, Some(Stage::Body), MtaProfile::postfix()).await;
    assert_refused!(done, 550, "match");
}

/// Left out, it hears of the end of what it saw and no more.
#[tokio::test]
async fn one_that_is_left_out_comes_back_with_the_next_message() {
    for profile in profiles() {
        let log = Log::default();
        let filter = failing(Some(Stage::Rcpt), Needs::all(), &log);
        let filter = FailurePolicyLayer::fail_open().layer(filter);
        let mut session = MockMta::with_profile(profile, filter).open().await;
        for _ in 0..2 {
            assert_accepted!(session.deliver(Mail::new()).await);
            let log = std::mem::take(&mut *log.lock().unwrap());
            let message: Vec<_> = log.iter().skip_while(|name| **name != "mail").collect();
            assert_eq!(message, [&"mail", &"rcpt", &"message end"]);
        }
    }
}

#[tokio::test]
async fn keeps_a_verdict_where_no_reply_is_due() {
    let needs = Needs::none().record(Stage::Header);
    let filter = failing(Some(Stage::Header), needs, &Log::default());
    let policy = FailurePolicyLayer::new(SmtpReply::tempfail("later"));
    let done = MockMta::postfix(policy.layer(filter))
        .deliver(Mail::new())
        .await;
    assert_refused!(done, 451, "later");
    assert_eq!(done.ended_at, Some(Stage::EndOfMessage));
}

/// Is never ready from its third event on.
#[derive(Clone)]
struct Dies(u32);

impl Service<Request> for Dies {
    type Response = Response;
    type Error = BoxError;
    type Future = Ready<Result<Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0 += 1;
        assert!(self.0 <= 3, "it is not asked any more");
        Poll::Ready(if self.0 < 3 { Ok(()) } else { Err(Odd.into()) })
    }

    fn call(&mut self, _: Request) -> Self::Future {
        assert!(self.0 < 3, "it is not called any more");
        ready(Ok(Response::proceed()))
    }
}

#[tokio::test]
async fn minds_what_dies() {
    for profile in profiles() {
        let open = FailurePolicyLayer::fail_open().layer(Dies(0));
        let mut session = MockMta::with_profile(profile.clone(), open).open().await;
        for _ in 0..2 {
            assert_accepted!(session.deliver(Mail::new()).await);
        }
        session.quit().await;
        let closed = FailurePolicyLayer::fail_closed().layer(Dies(0));
        let mut session = MockMta::with_profile(profile.clone(), closed).open().await;
        for _ in 0..2 {
            let done = session.deliver(Mail::new()).await;
            assert!(done.is_refused() && done.failures.is_empty(), "{done}");
        }
        session.quit().await;
    }
}

/// Is never ready once a message is over.
#[derive(Clone)]
struct DiesBetween {
    is_over: bool,
}

impl Service<Request> for DiesBetween {
    type Response = Response;
    type Error = BoxError;
    type Future = Ready<Result<Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(if self.is_over {
            Err(Odd.into())
        } else {
            Ok(())
        })
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.is_over = matches!(request.event(), Event::EndOfMessage(_));
        ready(Ok(Response::proceed()))
    }
}

/// The end of a message cannot be refused, but what comes then can.
#[tokio::test]
async fn minds_what_dies_between_messages() {
    for profile in profiles() {
        let filter = FailurePolicyLayer::close().layer(DiesBetween { is_over: false });
        let mut session = MockMta::with_profile(profile.clone(), filter).open().await;
        assert_accepted!(session.deliver(Mail::new()).await);
        let done = session.deliver(Mail::new()).await;
        let is_closed = matches!(done.fate, milter_tower::testing::Fate::Failed(_));
        assert!(is_closed, "{done}");
    }
}

/// What tower's layers throw.
#[tokio::test(start_paused = true)]
async fn makes_verdicts_of_towers_errors() {
    let hangs = service_fn(async |request: Request| {
        if request.event().stage() == Some(Stage::EndOfHeaders) {
            std::future::pending::<()>().await;
        }
        Ok::<_, BoxError>(Response::proceed())
    });
    let filter = ServiceBuilder::new()
        .layer(FailurePolicyLayer::fail_closed().on::<Elapsed>(SmtpReply::tempfail("too slow")))
        .timeout(Duration::from_secs(1))
        .service(hangs);
    let done = MockMta::postfix(filter).deliver(Mail::new()).await;
    assert_refused!(done, 451, "too slow");
}

/// A load that is shed.
#[tokio::test(start_paused = true)]
async fn makes_a_verdict_of_a_load_that_is_shed() {
    let slow = service_fn(async |request: Request| {
        if request.event().stage() == Some(Stage::EndOfMessage) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok::<_, BoxError>(Response::proceed())
    });
    let filter = ServiceBuilder::new()
        .layer(FailurePolicyLayer::fail_open().on::<Overloaded>(SmtpReply::tempfail("busy")))
        .load_shed()
        .layer(tower::limit::GlobalConcurrencyLimitLayer::new(1))
        .service(slow);
    let mut mta = MockMta::postfix(filter);
    let mut first = mta.open().await;
    let first = tokio::spawn(async move { first.deliver(Mail::new()).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_refused!(mta.deliver(Mail::new()).await, 451, "busy");
    assert_accepted!(first.await.unwrap());
    assert_accepted!(mta.deliver(Mail::new()).await);
}
