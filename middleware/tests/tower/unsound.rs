//! Those that do harm, and which. What these tests assert is not as it should be: it is why the guide
//! says to use something else.

use std::future::{Ready, ready};
use std::time::Duration;

use milter_tower::testing::{Mail, MockMta};
use milter_tower::{BoxError, Event, Request, Response, Stage, assert_accepted};
use tower::buffer::Buffer;
use tower::retry::Policy;
use tower::steer::Steer;
use tower::{ServiceBuilder, ServiceExt};

use crate::common::{Filter, profiles};

const SECOND: Duration = Duration::from_secs(1);

/// Tries everything once more that fails.
#[derive(Clone)]
struct Again(bool);

impl Policy<Request, Response, BoxError> for Again {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request,
        result: &mut Result<Response, BoxError>,
    ) -> Option<Ready<()>> {
        let again = result.is_err() && !std::mem::replace(&mut self.0, true);
        again.then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request) -> Option<Request> {
        Some(request.clone())
    }
}

/// The event goes to a clone, which serves another connection, and sees it without any of what comes
/// before. The message passes though the filter did not see this header.
#[tokio::test]
async fn retry_asks_one_that_knows_nothing() {
    for profile in profiles() {
        let failed = std::sync::atomic::AtomicBool::new(false);
        let (filter, log) = Filter::new(move |request| {
            let is_header = request.event().stage() == Some(Stage::Header);
            let fails = is_header && !failed.swap(true, std::sync::atomic::Ordering::Relaxed);
            ready(if fails {
                Err("expected".into())
            } else {
                Ok(Response::proceed())
            })
        });
        let filter = ServiceBuilder::new().retry(Again(false)).service(filter);
        let done = MockMta::with_profile(profile, filter)
            .deliver(Mail::new())
            .await;
        assert_accepted!(done);
        let seen = log.apart();
        assert_eq!(seen[0][0], "negotiate");
        // Neither the negotiation before nor any end after.
        assert_eq!(seen[1], ["header"]);
    }
}

/// All connections have one service: it sees their events mixed up.
#[tokio::test]
async fn buffer_mixes_sessions() {
    for profile in profiles() {
        let (filter, log) = Filter::plain();
        let mut mta = MockMta::with_profile(profile, Buffer::new(filter, 8));
        let (mut first, mut second) = (mta.open().await, mta.open().await);
        let mail = Mail::new();
        for client in [&mut first, &mut second] {
            client.connect(mail.connection()).await;
        }
        let seen = log.apart();
        assert_eq!(seen, [["negotiate", "negotiate", "connect", "connect"]]);
        first.quit().await;
        // It closed, and goes on.
        second.helo("client.example").await;
        assert_eq!(log.apart()[0][4..], ["close", "helo"]);
    }
}

/// An end that finds no room is lost like any other event.
#[tokio::test(start_paused = true)]
async fn load_shed_swallows_ends() {
    for profile in profiles() {
        let (filter, log) = Filter::hangs_at(Stage::Body);
        let filter = ServiceBuilder::new()
            .load_shed()
            .concurrency_limit(1)
            .service(filter);
        let mut mta = MockMta::with_profile(profile, filter);
        let (mut first, mut second) = (mta.open().await, mta.open().await);
        second.mail("a@example.org").await;
        let hangs = async {
            let _ = tokio::time::timeout(2 * SECOND, first.deliver(Mail::new())).await;
        };
        let gives_up = async {
            tokio::time::sleep(SECOND).await;
            second.abort().await;
            second.quit().await;
        };
        tokio::join!(hangs, gives_up);
        let gave_up = log.apart().pop().unwrap_or_default();
        assert_eq!(gave_up, ["negotiate", "mail"]);
    }
}

/// What a predicate does not let pass is lost, be it an end.
#[tokio::test]
async fn filter_swallows_ends() {
    for profile in profiles() {
        let (filter, log) = Filter::plain();
        let filter = ServiceBuilder::new()
            .filter(|request: Request| match request.event().stage() {
                None if !matches!(request.event(), Event::Negotiate(_)) => Err("no stage"),
                _ => Ok(request),
            })
            .service(filter);
        let done = MockMta::with_profile(profile, filter)
            .deliver(Mail::new())
            .await;
        assert_accepted!(done);
        assert_eq!(log.count("mail"), 1);
        assert_eq!(log.count("message end") + log.count("close"), 0);
    }
}

/// An end that takes too long is given up, and nobody sees it through.
#[tokio::test(start_paused = true)]
async fn timeout_cuts_ends_short() {
    for profile in profiles() {
        let cleaned = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (filter, log) = {
            let cleaned = std::sync::Arc::clone(&cleaned);
            Filter::new(move |request| {
                let is_end = matches!(request.event(), Event::MessageEnd(_));
                let cleaned = std::sync::Arc::clone(&cleaned);
                async move {
                    if is_end {
                        tokio::time::sleep(2 * SECOND).await;
                        cleaned.store(true, std::sync::atomic::Ordering::Relaxed);
                    }
                    Ok(Response::proceed())
                }
            })
        };
        let filter = ServiceBuilder::new().timeout(SECOND).service(filter);
        MockMta::with_profile(profile, filter)
            .deliver(Mail::new())
            .await;
        assert_eq!(log.count("message end"), 1);
        assert!(!cleaned.load(std::sync::atomic::Ordering::Relaxed));
    }
}

/// A choice by what an event says sends a filter events of a connection that it knows nothing of.
#[tokio::test]
async fn steer_by_the_event() {
    for profile in profiles() {
        let ((one, _), (two, log)) = (Filter::plain(), Filter::plain());
        let pick =
            |request: &Request, _: &[_]| usize::from(matches!(request.event(), Event::Header(_)));
        let filter = Steer::new([one.boxed_clone(), two.boxed_clone()], pick);
        let done = MockMta::with_profile(profile, filter)
            .deliver(Mail::new())
            .await;
        assert_accepted!(done);
        assert!(log.apart()[0].iter().all(|seen| *seen == "header"));
    }
}
