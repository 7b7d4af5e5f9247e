//! Stores of other kinds, and those that fail.

use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use milter_tower::testing::{Mail, MockMta};
use milter_tower::{
    Deadline, Outcome, Peer, PeerAddr, Router, Sender, Session, assert_accepted, assert_refused,
};
use tokio::time::sleep;
use tower::{Layer, ServiceExt};

use super::*;

type Answer = Pin<Box<dyn Future<Output = Result<Decision, BoxError>> + Send>>;

/// One over the network: it takes its time, and fails when it is told to.
#[derive(Clone, Default)]
struct Far {
    fails: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Store for Far {
    type Future = Answer;

    fn take(&self, take: &Take<'_>) -> Answer {
        let asked = format!("{} of {} for {}", take.cost, take.quota.count(), take.key);
        let mut list = self.asked.lock().unwrap();
        list.push(asked);
        let allowed = list.len() % 2 == 1;
        let fails = self.fails.load(Ordering::Relaxed);
        Box::pin(async move {
            sleep(Duration::from_millis(20)).await;
            if fails {
                return Err("no route to host".into());
            }
            Ok(if allowed {
                Decision::Allowed
            } else {
                Decision::Denied {
                    retry_after: Duration::ZERO,
                }
            })
        })
    }
}

#[tokio::test(start_paused = true)]
async fn asks_one_that_takes_its_time() {
    for profile in profiles() {
        let far = Far::default();
        let log = Log::default();
        let layer = RateLimitLayer::per_sender(Quota::per_minute(7)).store(far.clone());
        let filter = layer.layer(log.filter(Needs::all(), None));
        let mut mta = MockMta::with_profile(profile, filter);
        let mail = Mail::new().from("<A@example.org>");
        assert_accepted!(mta.deliver(&mail).await);
        assert_refused!(mta.deliver(&mail).await, 450);
        assert_eq!(log.count("mail"), 1);
        let asked = far.asked.lock().unwrap();
        assert_eq!(*asked, ["1 of 7 for a@example.org"; 2]);
    }
}

/// Has nothing, but says that there will be something at once.
#[derive(Default)]
struct Hasty(AtomicU64);

impl Store for Hasty {
    type Future = Ready<Result<Decision, BoxError>>;

    fn take(&self, _: &Take<'_>) -> Self::Future {
        ready(if self.0.fetch_add(1, Ordering::Relaxed) < 5000 {
            Ok(Decision::Denied {
                retry_after: Duration::ZERO,
            })
        } else {
            Err("it was asked too often".into())
        })
    }
}

/// A wait of no time does not have it spin.
#[tokio::test(start_paused = true)]
async fn waits_at_least_a_little() {
    let layer = RateLimitLayer::per_sender(Quota::per_minute(7))
        .over(Over::delay(Duration::from_secs(1)))
        .store(Hasty::default());
    let mut mta = MockMta::postfix(layer.layer(Router::new()));
    assert_refused!(mta.deliver(Mail::new()).await, 450);
    assert!(layer.get_store().0.load(Ordering::Relaxed) <= 1001);
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_lets_pass_or_not() {
    for profile in profiles() {
        let far = Far::default();
        far.fails.store(true, Ordering::Relaxed);
        // Even where a limit is only tried out.
        let open = RateLimitLayer::per_client_ip(Quota::per_hour(1))
            .over(Over::log())
            .store(far);
        let closed = open.clone().fail_closed();
        let mut mta = MockMta::with_profile(profile.clone(), open.layer(Router::new()));
        for _ in 0..3 {
            assert_accepted!(mta.deliver(Mail::new()).await);
        }
        let mut mta = MockMta::with_profile(profile, closed.layer(Router::new()));
        let done = mta.deliver(Mail::new()).await;
        assert_refused!(done, 450);
        assert_eq!(done.ended_at, Some(Stage::Mail));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_full_lets_pass_or_not() {
    for closed in [false, true] {
        let layer = RateLimitLayer::per_sender(Quota::per_hour(1)).max_keys(2);
        let layer = if closed { layer.fail_closed() } else { layer };
        let mut mta = MockMta::postfix(layer.layer(Router::new()));
        let from = |n: u32| Mail::new().from(format!("{n}@example.org"));
        for n in 0..2 {
            assert_accepted!(mta.deliver(from(n)).await);
        }
        for n in 2..10 {
            let done = mta.deliver(from(n)).await;
            assert_eq!(done.is_accepted(), !closed, "{done}");
        }
        assert_refused!(mta.deliver(from(0)).await, 450);
        assert_eq!(layer.get_store().keys(), 2);
    }
}

/// A call that is dropped, whoever drops it, leaves the service as it was.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_does_no_harm() {
    let far = Far::default();
    let log = Log::default();
    let layer = RateLimitLayer::by(|_| Some("all"), Quota::per_hour(1)).store(far);
    let mut service = layer.layer(log.filter(Needs::all(), None));
    let session = Session::new(Peer::new(1, PeerAddr::Other), None);
    let mail = Event::Mail(Sender::new("<a@b.example>", [""; 0]));
    let request = |event| Request::new(event, session.clone());
    for n in 0..6 {
        let call = service.ready().await.unwrap().call(request(mail.clone()));
        if n % 2 == 0 {
            drop(call);
        } else {
            let short = Deadline::after(Duration::from_millis(5)).instant();
            assert!(tokio::time::timeout_at(short.into(), call).await.is_err());
        }
        let end = request(Event::MessageEnd(Outcome::Aborted));
        drop(service.ready().await.unwrap().call(end).await.unwrap());
    }
    assert_eq!(log.take(), [""; 0]);
    let call = service.ready().await.unwrap().call(request(mail));
    let copy = service.clone();
    drop(call.await.unwrap());
    assert_eq!(log.take(), ["mail"]);
    drop(copy);
    let close = request(Event::Close);
    drop(service.ready().await.unwrap().call(close).await.unwrap());
    assert_eq!(log.take(), ["close"]);
}
