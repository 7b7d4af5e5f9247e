//! Over the limit there is a wait.

use std::time::Duration;

use milter_tower::testing::{Mail, MockMta, MtaProfile};
use milter_tower::{Router, assert_accepted, assert_refused};
use tokio::time::{Instant, timeout};
use tower::Layer;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn patient(most: Duration, quota: Quota) -> RateLimitLayer {
    RateLimitLayer::per_client_ip(quota).over(Over::delay(most))
}

#[tokio::test(start_paused = true)]
async fn waits_until_there_is_enough() {
    for profile in profiles() {
        for counts in [Counts::Connections, Counts::Messages, Counts::Recipients] {
            let log = Log::default();
            let layer = patient(3 * SECOND, Quota::per_minute(30).burst(1)).counts(counts);
            let filter = layer.layer(log.filter(Needs::all(), None));
            let mut mta = MockMta::with_profile(profile.clone(), filter);
            let start = Instant::now();
            for n in 0..3 {
                assert_accepted!(mta.deliver(Mail::new()).await);
                assert_eq!(start.elapsed().as_secs(), 2 * n);
            }
            assert_eq!(log.count("mail"), 3);
        }
    }
}

/// What would wait for too long does not wait at all.
#[tokio::test(start_paused = true)]
async fn refuses_at_once_what_would_wait_too_long() {
    for profile in profiles() {
        let log = Log::default();
        let layer = patient(3 * SECOND, Quota::per_minute(15).burst(1));
        let filter = layer.layer(log.filter(Needs::all(), None));
        let mut mta = MockMta::with_profile(profile, filter);
        assert_accepted!(mta.deliver(Mail::new()).await);
        let start = Instant::now();
        assert_refused!(mta.deliver(Mail::new()).await, 450);
        assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
        assert_eq!(log.count("mail"), 1);
    }
}

/// Half of the time that the MTA gives is the filter's.
#[tokio::test(start_paused = true)]
async fn waits_no_longer_than_the_mta_bears() {
    for profile in profiles() {
        // 8 s with Sendmail, more with Postfix.
        for (period, waits) in [(3, true), (3600, false)] {
            let layer = patient(Duration::MAX, Quota::new(1, period * SECOND));
            let mut mta = MockMta::with_profile(profile.clone(), layer.layer(Router::new()));
            assert_accepted!(mta.deliver(Mail::new()).await);
            let start = Instant::now();
            let done = mta.deliver(Mail::new()).await;
            assert_eq!(done.is_accepted(), waits, "{done}");
            assert!(done.failures.is_empty(), "{done}");
            assert!(start.elapsed() < 4 * SECOND);
        }
    }
}

/// A layer around it leaves less.
#[cfg(feature = "timeout")]
#[tokio::test(start_paused = true)]
async fn waits_no_longer_than_a_layer_around_it_bears() {
    let layer = patient(Duration::MAX, Quota::per_minute(30).burst(1));
    let around = crate::timeout::TimeoutLayer::new(3 * SECOND);
    let mut mta = MockMta::postfix(around.layer(layer.layer(Router::new())));
    assert_accepted!(mta.deliver(Mail::new()).await);
    assert_refused!(mta.deliver(Mail::new()).await, 450);
}

/// Who waits at the same time gets what there is one by one, and some nothing.
#[tokio::test(start_paused = true)]
async fn shares_what_comes_among_those_who_wait() {
    let layer = patient(5 * SECOND, Quota::per_second(1));
    let start = Instant::now();
    let tasks: Vec<_> = (0..12)
        .map(|_| {
            let mut mta = MockMta::postfix(layer.layer(Router::new()));
            tokio::spawn(async move { mta.deliver(Mail::new()).await.is_accepted() })
        })
        .collect();
    let mut accepted = 0;
    for task in tasks {
        accepted += usize::from(task.await.unwrap());
    }
    assert_eq!(accepted, 6);
    assert!(start.elapsed() < 6 * SECOND);
}

/// The time that is waited is not the filter's: layers within count from when it is asked.
#[cfg(feature = "timeout")]
#[tokio::test(start_paused = true)]
async fn asks_the_filter_only_afterwards() {
    let within = crate::timeout::TimeoutLayer::new(SECOND);
    let layer = patient(5 * SECOND, Quota::per_minute(30).burst(1));
    let log = Log::default();
    let filter = within.layer(log.filter(Needs::all(), None));
    let mut mta = MockMta::postfix(layer.layer(filter));
    for _ in 0..3 {
        let done = mta.deliver(Mail::new()).await;
        assert_accepted!(done);
        assert!(done.failures.is_empty(), "{done}");
    }
}

/// Who goes away while waiting leaves nothing behind: neither the wait nor the filter are lost.
#[tokio::test(start_paused = true)]
async fn bears_that_the_client_goes_away() {
    for profile in [MtaProfile::postfix(), MtaProfile::sendmail()] {
        let log = Log::default();
        let layer = patient(3 * SECOND, Quota::per_minute(30).burst(1));
        let filter = layer.layer(log.filter(Needs::all(), None));
        let mut mta = MockMta::with_profile(profile, filter);
        assert_accepted!(mta.deliver(Mail::new()).await);
        log.take();
        let mut session = mta.open().await;
        session.connect(Mail::new().connection()).await;
        let waited = timeout(SECOND, session.mail("a@b.example")).await;
        assert!(waited.is_err());
        assert!(session.lose().await.is_empty());
        assert_eq!(log.take(), ["negotiate", "connect", "close"]);
    }
}
