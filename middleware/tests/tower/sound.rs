//! Those that work as they are.

use std::time::Duration;

use milter_middleware::failure_policy::FailurePolicyLayer;
use milter_tower::testing::{Mail, MockMta};
use milter_tower::{
    Actions, BoxError, Event, Needs, Request, Response, SmtpReply, Stage, assert_accepted,
    assert_header, assert_refused,
};
use tower::buffer::Buffer;
use tower::limit::RateLimit;
use tower::load_shed::error::Overloaded;
use tower::steer::Steer;
use tower::timeout::error::Elapsed;
use tower::util::BoxCloneService;
use tower::{ServiceBuilder, ServiceExt, service_fn};

use crate::common::{Filter, deliver_made, profiles};

const SECOND: Duration = Duration::from_secs(1);

/// A call that takes too long is an error. The filter, whose future was dropped, hears of the end.
#[tokio::test(start_paused = true)]
async fn timeout() {
    for profile in profiles() {
        let (filter, log) = Filter::hangs_at(Stage::EndOfHeaders);
        let late = SmtpReply::tempfail("too slow");
        let filter = ServiceBuilder::new()
            .layer(FailurePolicyLayer::fail_closed().on::<Elapsed>(late))
            .timeout(SECOND)
            .service(filter);
        let done = MockMta::with_profile(profile, filter)
            .deliver(Mail::new())
            .await;
        assert_refused!(done);
        assert!(done.failures.is_empty(), "{done}");
        assert_eq!(log.count("message end"), 1);
        assert_eq!(log.count("close"), 1);
    }
}

/// Calls wait for each other, over all connections: one that hangs holds up the others, until the
/// server's deadline.
#[tokio::test(start_paused = true)]
async fn concurrency_limit_has_mail_servers_wait() {
    for profile in profiles() {
        let (filter, _) = Filter::new(|request| {
            let is_body = request.event().stage() == Some(Stage::Body);
            async move {
                if is_body {
                    tokio::time::sleep(3 * SECOND).await;
                }
                Ok(Response::proceed())
            }
        });
        let filter = ServiceBuilder::new().concurrency_limit(1).service(filter);
        let mut mta = MockMta::with_profile(profile, filter);
        let (mut first, mut second) = (mta.open().await, mta.open().await);
        let began = tokio::time::Instant::now();
        let (first, second) = tokio::join!(first.deliver(Mail::new()), second.deliver(Mail::new()));
        assert_accepted!(first);
        assert_accepted!(second);
        // One after the other.
        assert_eq!(began.elapsed().as_secs(), 6);
    }
}

/// With `load_shed` nobody waits.
#[tokio::test(start_paused = true)]
async fn load_shed_makes_errors_of_it() {
    for profile in profiles() {
        let (filter, _) = Filter::hangs_at(Stage::Body);
        let busy = SmtpReply::tempfail("busy");
        let filter = ServiceBuilder::new()
            .layer(FailurePolicyLayer::fail_closed().on::<Overloaded>(busy))
            .load_shed()
            .concurrency_limit(1)
            .service(filter);
        let mut mta = MockMta::with_profile(profile, filter);
        let (mut first, mut second) = (mta.open().await, mta.open().await);
        let hangs = async {
            let _ = tokio::time::timeout(2 * SECOND, first.deliver(Mail::new())).await;
        };
        let other = async {
            tokio::time::sleep(SECOND).await;
            let began = tokio::time::Instant::now();
            let done = second.deliver(Mail::new()).await;
            assert!(done.is_refused() && done.failures.is_empty(), "{done}");
            assert_eq!(began.elapsed(), Duration::ZERO);
        };
        tokio::join!(hangs, other);
    }
}

/// Its service cannot be cloned, so that each connection has one of its own. It counts calls.
#[tokio::test]
async fn rate_limit_is_made_for_each_connection() {
    let done = deliver_made(|| {
        let (filter, _) = Filter::plain();
        RateLimit::new(filter, tower::limit::rate::Rate::new(1000, SECOND))
    })
    .await;
    assert_accepted!(done);
}

/// One for each connection has only that one's events, in order.
#[tokio::test]
async fn buffer_is_made_for_each_connection() {
    let (filter, log) = Filter::plain();
    let make = {
        let filter = std::sync::Mutex::new(filter);
        let filter = std::sync::Arc::new(filter);
        move || Buffer::new(filter.lock().unwrap().clone(), 1)
    };
    assert_accepted!(deliver_made(make.clone()).await);
    assert_accepted!(deliver_made(make).await);
    let sessions = log.apart();
    assert_eq!(sessions.len(), 2);
    for seen in sessions {
        assert_eq!(seen.first(), Some(&"negotiate"));
        assert_eq!(seen.iter().filter(|seen| **seen == "mail").count(), 1);
    }
}

/// What a layer tells those within.
#[derive(Clone)]
struct Told;

/// What is made of requests, responses and errors on their way.
#[tokio::test]
async fn maps() {
    for profile in profiles() {
        let (filter, _) = Filter::plain();
        let filter = ServiceBuilder::new()
            .map_response(|response: Response| match response.needs_asked() {
                Some(_) => response.widen(&Needs::none().action(Actions::ADD_HEADERS)),
                None => response,
            })
            .map_err(|error: BoxError| BoxError::from(format!("within: {error}")))
            .map_request(|mut request: Request| {
                request.extensions_mut().insert(Told);
                request
            })
            .and_then(async |response: Response| Ok::<_, BoxError>(response))
            .then(async |result: Result<Response, BoxError>| result)
            .service(service_fn(move |request: Request| {
                assert!(request.extensions().get::<Told>().is_some());
                let is_end = matches!(request.event(), Event::EndOfMessage(_));
                let is_offer = matches!(request.event(), Event::Negotiate(_));
                let called = filter.clone().oneshot(request);
                async move {
                    let response = called.await?;
                    Ok::<_, BoxError>(match response {
                        _ if is_offer => Response::needs(Needs::none()),
                        response if is_end => response.add_header("X-A", "b"),
                        response => response,
                    })
                }
            }));
        let done = MockMta::with_profile(profile, filter)
            .deliver(Mail::new())
            .await;
        assert_header!(done, "X-A", "b");
    }
}

/// A clone of the box is one of what is in it: one for each connection.
#[tokio::test]
async fn boxes_and_options() {
    for profile in profiles() {
        let (filter, log) = Filter::plain();
        let timeout = Some(tower::timeout::TimeoutLayer::new(SECOND));
        let filter = ServiceBuilder::new()
            .option_layer(timeout)
            .option_layer(None::<tower::timeout::TimeoutLayer>)
            .service(filter);
        let mut mta = MockMta::with_profile(profile, BoxCloneService::new(filter));
        for _ in 0..2 {
            assert_accepted!(mta.deliver(Mail::new()).await);
        }
        let sessions = log.apart();
        assert_eq!(sessions.len(), 2);
        for seen in sessions {
            assert_eq!((seen[0], seen[seen.len() - 1]), ("negotiate", "close"));
        }
    }
}

/// A choice by what is the same for the whole connection.
#[tokio::test]
async fn steer_by_the_connection() {
    for profile in profiles() {
        let ((one, first), (two, second)) = (Filter::plain(), Filter::plain());
        let pick = |request: &Request, _: &[Filter]| {
            usize::from(request.session().peer().listener().is_some())
        };
        let filter = Steer::new([one, two], pick);
        let done = MockMta::with_profile(profile, filter)
            .deliver(Mail::new())
            .await;
        assert_accepted!(done);
        assert_eq!(first.apart()[0].last(), Some(&"close"));
        assert!(second.apart().is_empty());
    }
}

/// A predicate that lets ends through refuses what it does not, as an error.
#[tokio::test]
async fn filter_that_lets_ends_pass() {
    for profile in profiles() {
        let (filter, log) = Filter::plain();
        let filter = ServiceBuilder::new()
            .layer(FailurePolicyLayer::fail_closed())
            .filter(|request: Request| match request.event() {
                Event::Rcpt(to) if to.mailbox() == "trap@example.net" => Err("a trap"),
                _ => Ok(request),
            })
            .service(filter);
        let mail = Mail::new().to("trap@example.net");
        let done = MockMta::with_profile(profile, filter).deliver(mail).await;
        assert!(done.is_refused() && done.failures.is_empty(), "{done}");
        assert_eq!(log.count("rcpt"), 0);
        assert_eq!(log.count("message end"), 1);
    }
}
