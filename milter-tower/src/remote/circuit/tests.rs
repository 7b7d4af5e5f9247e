use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::time::sleep;

use super::*;

/// Works or fails as it is told, and counts.
#[derive(Clone, Default)]
struct Switch {
    fails: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
}

impl Switch {
    fn set(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Service<()> for Switch {
    type Response = ();
    type Error = BoxError;
    type Future = Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let fails = self.fails.load(Ordering::SeqCst);
        ready(if fails { Err("no".into()) } else { Ok(()) })
    }
}

/// Whether a call got through, and until when not.
async fn call(breaker: &mut CircuitBreaker<Switch>) -> Result<bool, Duration> {
    match breaker.call(()).await {
        Ok(()) => Ok(true),
        Err(error) => match error.downcast_ref::<CircuitOpen>() {
            Some(open) => Err(open.retry_after()),
            None => Ok(false),
        },
    }
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_open_it_and_a_success_closes_it() {
    let switch = Switch::default();
    let mut breaker = CircuitBreaker::new(switch.clone());
    let mut other = breaker.clone();
    switch.set(true);
    assert_eq!(call(&mut breaker).await, Ok(false));
    assert_eq!(call(&mut other).await, Ok(false));
    switch.set(false);
    assert_eq!(call(&mut breaker).await, Ok(true), "not in a row");
    switch.set(true);
    for _ in 0..3 {
        assert!(breaker.open().is_none());
        assert_eq!(call(&mut breaker).await, Ok(false));
    }
    assert_eq!(call(&mut other).await, Err(seconds(1)), "for all clones");
    assert_eq!(breaker.open().unwrap().failures(), 3);
    assert_eq!(switch.calls(), 6);
    // It is still down: twice as long each time, up to a limit.
    for pause in [2, 4, 8, 16, 30, 30] {
        sleep(breaker.open().unwrap().retry_after()).await;
        assert!(breaker.open().is_none());
        assert_eq!(call(&mut breaker).await, Ok(false));
        assert_eq!(call(&mut breaker).await, Err(seconds(pause)));
    }
    sleep(seconds(30)).await;
    switch.set(false);
    assert_eq!(call(&mut breaker).await, Ok(true));
    assert_eq!(call(&mut other).await, Ok(true));
    // The next time begins anew.
    switch.set(true);
    for _ in 0..3 {
        assert_eq!(call(&mut breaker).await, Ok(false));
    }
    assert_eq!(call(&mut breaker).await, Err(seconds(1)));
}

#[tokio::test(start_paused = true)]
async fn one_at_a_time_tries_again() {
    let switch = Switch::default();
    switch.set(true);
    let settings = CircuitBreakerLayer::new().failures(1).pause(seconds(5));
    let mut breaker = settings.layer(switch.clone());
    assert_eq!(call(&mut breaker).await, Ok(false));
    sleep(seconds(5)).await;
    let trial = breaker.call(());
    assert_eq!(call(&mut breaker).await, Err(Duration::ZERO));
    // It comes to no end: somebody else may try.
    drop(trial);
    switch.set(false);
    assert_eq!(call(&mut breaker).await, Ok(true));
    assert_eq!(call(&mut breaker).await, Ok(true));
    assert_eq!(switch.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn calls_that_were_under_way_change_no_pause() {
    let settings = CircuitBreakerLayer::new().failures(1).pause(seconds(5));
    let mut breaker = settings.layer(Switch::default());
    let (mut first, mut second) = (
        breaker.circuit.enter().unwrap(),
        breaker.circuit.enter().unwrap(),
    );
    let error = std::io::Error::other("no");
    first.end(Some(&error));
    sleep(seconds(4)).await;
    second.end(Some(&error));
    assert_eq!(call(&mut breaker).await, Err(seconds(1)));
    assert_eq!(breaker.open().unwrap().failures(), 1);
}

#[test]
fn what_it_says() {
    fn is_an_error(_: impl Error + Send + Sync + 'static) {}
    let open = CircuitOpen {
        name: Some("dkim".into()),
        failures: 3,
        until: Instant::now(),
    };
    let text = open.to_string();
    assert_eq!(
        text,
        "dkim is not tried for another 0.0ns, after 3 failures in a row"
    );
    is_an_error(open);
    let _: Option<Infallible> = None;
}
