//! What the layers that watch allocate for an event, counted by an allocator of this test's own.

use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Waker};

use milter_middleware::log::LogLayer;
use milter_middleware::metrics::MetricsLayer;
use milter_middleware::trace::TraceLayer;
use milter_tower::{Event, Header, Offer, Peer, PeerAddr, Request, Response, Sender, Session};
use tower::{Layer, Service, service_fn};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// How much is allocated for an event in the middle of a message.
fn allocations<S>(mut service: S) -> u64
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    const EVENTS: u64 = 100;
    let session = Session::new(Peer::new(1, PeerAddr::Other), None);
    let header = Event::Header(Header::new("Subject", "Hello"));
    let mut ask = |event| {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(service.poll_ready(&mut cx).is_ready());
        let call = pin!(service.call(Request::new(event, session.clone())));
        assert!(call.poll(&mut cx).is_ready());
    };
    ask(Event::Negotiate(Offer::V6));
    ask(Event::Mail(Sender::new("<a@example.org>", [""; 0])));
    let before = dhat::HeapStats::get().total_blocks;
    for _ in 0..EVENTS {
        ask(header.clone());
    }
    (dhat::HeapStats::get().total_blocks - before) / EVENTS
}

/// There is no subscriber, and no recorder.
#[test]
fn an_event_allocates_nothing() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let filter = service_fn(|_: Request| std::future::ready(Ok(Response::proceed())));
    assert_eq!(allocations(filter), 0);
    assert_eq!(allocations(TraceLayer::new().layer(filter)), 0);
    assert_eq!(allocations(MetricsLayer::new().layer(filter)), 0);
    assert_eq!(allocations(LogLayer::new().layer(filter)), 0);
}
