//! Connectors within layers: they apply where a session begins.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use milter_core::{Needs, Reply};
use milter_tower::client::Connection;
use milter_tower::remote::{CircuitBreakerLayer, CircuitOpen, Target};
use milter_tower::testing::{Mail, MockMta};
use milter_tower::{BoxError, Remote};
use tokio::io::DuplexStream;
use tower::balance::p2c::Balance;
use tower::buffer::Buffer;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, PendingRequests};
use tower::retry::Policy;
use tower::{ServiceBuilder, service_fn};

use crate::backend::{Act, Backend};
use crate::common::{connect, start};

/// Tries up to three times.
#[derive(Clone)]
struct Twice(usize);

impl Policy<Target, Connection<DuplexStream>, BoxError> for Twice {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Target,
        result: &mut Result<Connection<DuplexStream>, BoxError>,
    ) -> Option<Ready<()>> {
        self.0 = self.0.checked_sub(1).filter(|_| result.is_err())?;
        Some(ready(()))
    }

    fn clone_request(&mut self, target: &Target) -> Option<Target> {
        Some(target.clone())
    }
}

#[tokio::test]
async fn towers_retry_and_time_out_apply_to_a_session() {
    let backend = Backend::going_on(Needs::all()).refusing(|tried| tried <= 2);
    let connector = ServiceBuilder::new()
        .concurrency_limit(10)
        .retry(Twice(2))
        .timeout(Duration::from_secs(2))
        .service(backend.connector());
    let mut mta = MockMta::postfix(Remote::with_connector(connector));
    let done = mta.deliver(Mail::new()).await;
    assert!(done.is_accepted(), "{done}");
    assert_eq!(backend.tried(), 3);
    assert_eq!(backend.open().await, 0);
}

/// What cannot be cloned goes into a buffer, which all sessions share then.
#[tokio::test]
async fn towers_balance_and_load_apply_to_a_session() {
    let backends = [(); 2].map(|()| Backend::going_on(Needs::all()));
    let endpoints = backends
        .each_ref()
        .map(|backend| PendingRequests::new(backend.connector(), CompleteOnResponse::default()));
    let balance = Balance::new(ServiceList::new::<Target>(endpoints));
    let mut mta = MockMta::postfix(Remote::with_connector(Buffer::new(balance, 16)));
    let (mut sessions, mut used) = (0, 0);
    while used < backends.len() {
        let done = mta.deliver(Mail::new()).await;
        assert!(done.is_accepted(), "{done}");
        sessions += 1;
        let opened = backends.each_ref().map(Backend::connections);
        assert_eq!(opened.iter().sum::<usize>(), sessions, "once a session");
        used = opened.iter().filter(|opened| **opened > 0).count();
        assert!(sessions < 1000, "one of two is never chosen");
    }
    for backend in &backends {
        assert_eq!(backend.open().await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_time_out_of_the_connectors_own() {
    let backend = Backend::new(Needs::all(), |_, _| Act::Hang);
    let connector = ServiceBuilder::new()
        .timeout(Duration::from_secs(1))
        .service(backend.connector());
    let began = tokio::time::Instant::now();
    let (mut mta, run) = start(Remote::with_connector(connector));
    mta.negotiate().await;
    assert_eq!(began.elapsed().as_secs(), 1);
    assert_eq!(mta.ask(connect()).await, Reply::TempFail);
    mta.quit(run).await;
}

#[tokio::test]
async fn a_function_is_a_connector() {
    let backend = Backend::going_on(Needs::all());
    let opened = Arc::new(AtomicUsize::new(0));
    let (counter, other) = (Arc::clone(&opened), backend.clone());
    let connector = service_fn(move |target: Target| {
        counter.fetch_add(1, Ordering::SeqCst);
        let io = other.start();
        async move { target.client_without_address().over(io).await }
    });
    let mut mta = MockMta::sendmail(Remote::with_connector(connector));
    assert!(mta.deliver(Mail::new()).await.is_accepted());
    assert!(mta.deliver(Mail::new()).await.is_accepted());
    assert_eq!(opened.load(Ordering::SeqCst), 2, "once a session");
    assert_eq!(backend.open().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_breaker_keeps_sessions_from_a_backend_that_is_down() {
    let backend = Backend::going_on(Needs::all()).refusing(|tried| tried <= 4);
    let connector = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new().failures(2).name("dkim"))
        .service(backend.connector());
    let mut mta = MockMta::postfix(Remote::with_connector(connector));
    let mut tried = Vec::new();
    for _ in 0..4 {
        let done = mta.deliver(Mail::new()).await;
        assert_eq!(done.reply().unwrap().code(), 451, "{done}");
        tried.push((backend.tried(), done.failures[0].contains("dkim")));
    }
    assert_eq!(tried, [(1, false), (2, false), (2, true), (2, true)]);
    // One second, then two, then four: the third trial works.
    for (pause, accepted, count) in [(1, false, 3), (2, false, 4), (4, true, 5)] {
        tokio::time::sleep(Duration::from_millis(pause * 1000 - 1)).await;
        let done = mta.deliver(Mail::new()).await;
        assert!(done.failures[0].contains("not tried"), "{done}");
        tokio::time::sleep(Duration::from_millis(2)).await;
        let done = mta.deliver(Mail::new()).await;
        assert_eq!(done.is_accepted(), accepted, "{done}");
        assert_eq!(backend.tried(), count);
    }
    assert!(mta.deliver(Mail::new()).await.is_accepted());
    assert_eq!(backend.open().await, 0);
}

/// What is wrong can be looked at.
#[tokio::test(start_paused = true)]
async fn errors_have_types() {
    use milter_tower::remote::RemoteErrorKind;
    use milter_tower::{Event, Offer, Peer, PeerAddr, Request, Session};
    use tower::ServiceExt;

    let backend = Backend::going_on(Needs::all()).refusing(|_| true);
    let connector = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new().failures(1))
        .service(backend.connector());
    let remote = Remote::with_connector(connector);
    let session = Session::new(Peer::new(1, PeerAddr::Other), None);
    let request = Request::new(Event::Negotiate(Offer::V6), session);
    for is_open in [false, true] {
        let asked = remote.clone().oneshot(request.clone()).await;
        let error = asked.expect_err("nobody is there");
        let RemoteErrorKind::Connect(error) = error.kind() else {
            panic!("{error}");
        };
        let open = error.downcast_ref::<CircuitOpen>();
        assert_eq!(open.is_some(), is_open, "{error}");
        if let Some(open) = open {
            assert_eq!(open.failures(), 1);
            assert_eq!(open.retry_after(), Duration::from_secs(1));
        }
    }
}
