use std::panic::panic_any;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt};
use milter_tower::testing::{Mail, MockMta, MtaProfile};
use milter_tower::{
    BoxError, Event, Needs, Offer, Outcome, Peer, PeerAddr, Request, Response, Sender, Session,
    SmtpReply, Stage, Verdict, assert_accepted, assert_refused,
};
use tower::{Layer, Service, ServiceExt};

use super::*;

type Log = Arc<Mutex<Vec<String>>>;

/// Where it panics.
#[derive(Clone, Copy, PartialEq)]
enum Where {
    Ready,
    Call,
    Future,
    /// Something in the future, when that is done.
    Drop,
    /// The future itself, when it is dropped after its answer.
    After,
}

/// Panics once, at a stage; each instance has a number.
struct Fragile {
    at: Option<Stage>,
    whence: Where,
    needs: fn(usize) -> Needs,
    log: Log,
    made: Arc<AtomicUsize>,
    number: usize,
    /// How often it was ready.
    events: usize,
    panicked: Arc<AtomicUsize>,
}

impl Clone for Fragile {
    fn clone(&self) -> Self {
        Self {
            at: self.at,
            whence: self.whence,
            needs: self.needs,
            log: Arc::clone(&self.log),
            made: Arc::clone(&self.made),
            number: self.made.fetch_add(1, Ordering::Relaxed) + 1,
            events: 0,
            panicked: Arc::clone(&self.panicked),
        }
    }
}

impl Fragile {
    fn new(at: Option<Stage>, whence: Where, log: &Log) -> Self {
        Self {
            at,
            whence,
            needs: |_| Needs::all(),
            log: Arc::clone(log),
            made: Arc::default(),
            number: 0,
            events: 0,
            panicked: Arc::default(),
        }
    }
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

/// Has its answer, and panics when it is dropped.
struct Answered(PanicsWhenDropped);

impl Future for Answered {
    type Output = Result<Response, BoxError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(Response::proceed()))
    }
}

impl Service<Request> for Fragile {
    type Response = Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.events += 1;
        // The offer, the client, its greeting, MAIL: at RCPT.
        let is_meant = self.whence == Where::Ready && self.events == 5;
        let first = is_meant && self.panicked.fetch_add(1, Ordering::Relaxed) == 0;
        assert!(!first, "oh no");
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let stage = request.event().stage();
        let name = match request.event() {
            Event::Negotiate(_) => "negotiate",
            Event::MessageEnd(_) => "message end",
            Event::Close => "close",
            _ => stage.map_or("?", Stage::name),
        };
        self.log
            .lock()
            .unwrap()
            .push(format!("{} {name}", self.number));
        let is_meant = self.whence != Where::Ready
            && stage == self.at
            && (stage.is_some() || matches!(request.event(), Event::Negotiate(_)))
            && self.panicked.fetch_add(1, Ordering::Relaxed) == 0;
        assert!(!is_meant || self.whence != Where::Call, "oh no");
        let whence = self.whence;
        let needs = (self.needs)(self.number);
        if is_meant && whence == Where::After {
            return Box::pin(Answered(PanicsWhenDropped));
        }
        Box::pin(async move {
            assert!(!is_meant || whence != Where::Future, "oh no");
            if is_meant && whence == Where::Drop {
                let _guard = PanicsWhenDropped;
                return Ok(Response::proceed());
            }
            Ok(Response::needs(needs))
        })
    }
}

fn profiles() -> [MtaProfile; 3] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::version_2(),
    ]
}

fn sorry() -> SmtpReply {
    SmtpReply::tempfail("sorry")
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut log.lock().unwrap())
}

/// A layer whose hook does not print, and writes down what it is told.
fn layer(told: &Log) -> CatchPanicLayer {
    let told = Arc::clone(told);
    CatchPanicLayer::new()
        .verdict(sorry())
        .on_panic(move |panic| {
            let at = panic.stage().map_or("none", Stage::name);
            told.lock()
                .unwrap()
                .push(format!("{at}: {}", panic.message()));
        })
}

#[tokio::test]
async fn the_message_fails_and_the_next_gets_a_fresh_service() {
    for profile in profiles() {
        for whence in [Where::Call, Where::Future, Where::Drop, Where::After] {
            for stage in [
                Stage::Mail,
                Stage::Rcpt,
                Stage::Header,
                Stage::EndOfHeaders,
                Stage::Body,
                Stage::EndOfMessage,
            ] {
                let (log, told) = (Log::default(), Log::default());
                let filter = layer(&told).layer(Fragile::new(Some(stage), whence, &log));
                let mut session = MockMta::with_profile(profile.clone(), filter).open().await;
                let done = session.deliver(Mail::new()).await;
                assert!(done.is_refused() && done.failures.is_empty(), "{done}");
                let message = match whence {
                    Where::Drop | Where::After => "dropped",
                    _ => "oh no",
                };
                assert_eq!(taken(&told), [format!("{}: {message}", stage.name())]);
                let seen = taken(&log);
                let number = seen[0].split(' ').next().unwrap().to_owned();
                assert_eq!(*seen.last().unwrap(), format!("{number} {}", stage.name()));

                let done = session.deliver(Mail::new()).await;
                assert_accepted!(done);
                session.quit().await;
                let seen = taken(&log);
                let fresh = seen[0].split(' ').next().unwrap().to_owned();
                assert_ne!(fresh, number);
                let begin = ["negotiate", "connect", "helo", "mail"];
                let begin = begin.map(|name| format!("{fresh} {name}"));
                assert_eq!(seen[..4], begin, "{}", profile.name());
                let end = ["message end", "close"].map(|name| format!("{fresh} {name}"));
                assert_eq!(seen[seen.len() - 2..], end);
            }
        }
    }
}

#[tokio::test]
async fn catches_what_is_not_ready() {
    for profile in profiles() {
        let (log, told) = (Log::default(), Log::default());
        let filter = layer(&told).layer(Fragile::new(None, Where::Ready, &log));
        let mut session = MockMta::with_profile(profile, filter).open().await;
        let done = session.deliver(Mail::new().to("a@b").to("c@d")).await;
        assert!(done.is_refused() && done.failures.is_empty(), "{done}");
        assert_eq!(taken(&told), ["none: oh no"]);
        assert_accepted!(session.deliver(Mail::new()).await);
    }
}

#[tokio::test]
async fn a_panic_in_the_negotiation_refuses_from_connect_on() {
    for whence in [Where::Call, Where::Future] {
        let (log, told) = (Log::default(), Log::default());
        let filter = layer(&told).layer(Fragile::new(None, whence, &log));
        let done = MockMta::postfix(filter).deliver(Mail::new()).await;
        assert!(done.is_refused() && done.failures.is_empty(), "{done}");
        assert_eq!(done.ended_at, Some(Stage::Connect));
        assert_eq!(taken(&log).len(), 1);
    }
}

/// At a step without a reply the verdict is kept.
#[tokio::test]
async fn keeps_the_verdict_until_it_can_be_told() {
    let (log, told) = (Log::default(), Log::default());
    let mut fragile = Fragile::new(Some(Stage::Header), Where::Future, &log);
    fragile.needs = |_| Needs::none().record(Stage::Header);
    let filter = layer(&told).layer(fragile);
    let mut session = MockMta::postfix(filter).open().await;
    let done = session.deliver(Mail::new()).await;
    assert_refused!(done, 451, "sorry");
    assert_eq!(done.ended_at, Some(Stage::EndOfMessage));
    assert_accepted!(session.deliver(Mail::new()).await);
}

#[tokio::test]
async fn one_that_needs_more_takes_no_place() {
    let (log, told) = (Log::default(), Log::default());
    let mut fragile = Fragile::new(Some(Stage::EndOfHeaders), Where::Call, &log);
    // The third clone is the one that panics, and the fourth asks for what was not negotiated.
    fragile.needs = |number| match number {
        0..=3 => Needs::none().event(Stage::EndOfHeaders),
        _ => Needs::all(),
    };
    let filter = layer(&told).layer(fragile);
    let mut session = MockMta::postfix(filter).open().await;
    for _ in 0..3 {
        let done = session.deliver(Mail::new()).await;
        assert_refused!(done, 451, "sorry");
    }
    session.quit().await;
    let seen = taken(&log);
    let ends = |name: &str| seen.iter().filter(|line| line.ends_with(name)).count();
    assert_eq!(ends("close"), 1, "{seen:?}");
}

/// What is thrown may be anything, and the hook may panic itself.
#[tokio::test]
async fn bears_odd_panics() {
    let filter = tower::service_fn(async |request: Request| {
        if request.event().stage() == Some(Stage::Mail) {
            panic_any(5_u32);
        }
        Ok::<_, BoxError>(Response::proceed())
    });
    let layer = CatchPanicLayer::new().on_panic(|panic| {
        assert_eq!(panic.payload().downcast_ref(), Some(&5_u32));
        panic!("the hook too");
    });
    let done = MockMta::sendmail(layer.layer(filter))
        .deliver(Mail::new())
        .await;
    assert!(done.is_refused() && done.failures.is_empty(), "{done}");
}

/// A call that is given up is dropped, and may panic then.
#[tokio::test]
async fn catches_what_panics_when_it_is_given_up() {
    let told = Log::default();
    let filter = tower::service_fn(async |request: Request| {
        if request.event().stage() == Some(Stage::Mail) {
            let _guard = PanicsWhenDropped;
            std::future::pending::<()>().await;
        }
        Ok::<_, BoxError>(Response::proceed())
    });
    let mut service = layer(&told).layer(filter);
    let session = Session::new(Peer::new(1, PeerAddr::Other), None);
    let request = |event| Request::new(event, session.clone());
    let offer = service.ready().await.unwrap();
    let offer = offer.call(request(Event::Negotiate(Offer::V6)));
    assert!(offer.await.is_ok());
    let mail = Event::Mail(Sender::new("<a@b.example>", [""; 0]));
    let mut call = Box::pin(service.ready().await.unwrap().call(request(mail)));
    assert!((&mut call).now_or_never().is_none());
    drop(call);
    assert_eq!(taken(&told), ["mail: dropped"]);
    let end = Event::MessageEnd(Outcome::ConnectionLost);
    let end = service.ready().await.unwrap().call(request(end)).await;
    assert_eq!(end.unwrap(), Response::proceed());
}

/// With a verdict to go on, the filter is left out of what remains of the message.
#[tokio::test]
async fn may_go_on_without_it() {
    for profile in profiles() {
        for (stage, whence) in [(Stage::Rcpt, Where::Call), (Stage::Header, Where::Future)] {
            let (log, told) = (Log::default(), Log::default());
            let layer = layer(&told).verdict(Verdict::Continue);
            let filter = layer.layer(Fragile::new(Some(stage), whence, &log));
            let mut session = MockMta::with_profile(profile.clone(), filter).open().await;
            let mail = Mail::new().to("a@b.example").to("c@d.example");
            assert_accepted!(session.deliver(&mail).await);
            let seen = taken(&log);
            let last = seen.last().unwrap().split_once(' ').unwrap();
            assert_eq!(last.1, stage.name(), "{seen:?}");
            assert_accepted!(session.deliver(&mail).await);
            let fresh = taken(&log);
            assert!(fresh[0].ends_with("negotiate"), "{fresh:?}");
        }
    }
}
