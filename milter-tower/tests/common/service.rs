//! A service that does as its script says and writes down what it sees.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Once};
use std::task::{Context, Poll};
use std::time::Duration;

use milter_tower::{BoxError, Event, Outcome, Request, Response};
use tower::Service;

/// What a scripted service does with a request.
pub(crate) enum Act {
    Answer(Response),
    After(Duration, Response),
    Fail,
    Panic,
    PanicLater,
    /// Answers, or never does, and panics when its future is dropped.
    PanicInDrop(Option<Response>),
    Hang,
}

impl From<Response> for Act {
    fn from(response: Response) -> Self {
        Self::Answer(response)
    }
}

/// What a scripted service says in `poll_ready`.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Ready {
    Yes,
    Never,
    Fail,
    Panic,
}

/// What was seen by each clone of a service. Clones count from 1; 0 is the prototype.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    clones: usize,
    entries: Vec<(usize, String)>,
}

impl Log {
    pub(crate) fn add(&self, id: usize, what: impl Into<String>) {
        self.0.lock().unwrap().entries.push((id, what.into()));
    }

    pub(crate) fn clones(&self) -> usize {
        self.0.lock().unwrap().clones
    }

    /// What this clone saw.
    pub(crate) fn of(&self, id: usize) -> Vec<String> {
        let seen = self.0.lock().unwrap();
        let of = seen.entries.iter().filter(|(by, _)| *by == id);
        of.map(|(_, what)| what.clone()).collect()
    }

    /// What all of them saw.
    pub(crate) fn all(&self) -> Vec<String> {
        let seen = self.0.lock().unwrap();
        seen.entries.iter().map(|(_, what)| what.clone()).collect()
    }

    pub(crate) fn count(&self, what: &str) -> usize {
        self.all().iter().filter(|seen| *seen == what).count()
    }
}

type Script = dyn Fn(&Request, usize) -> Act + Send + Sync;
type ReadyScript = dyn Fn(usize, usize) -> Ready + Send + Sync;

/// A service that does as its script says, given the request and the number of the clone.
pub(crate) struct Scripted {
    pub(crate) log: Log,
    id: usize,
    calls: usize,
    script: Arc<Script>,
    /// Given the number of the clone and how often it was called.
    ready: Arc<ReadyScript>,
}

impl Scripted {
    pub(crate) fn new(
        script: impl Fn(&Request, usize) -> Act + Send + Sync + 'static,
    ) -> (Self, Log) {
        quiet_panics();
        let log = Log::default();
        let scripted = Self {
            log: log.clone(),
            id: 0,
            calls: 0,
            script: Arc::new(script),
            ready: Arc::new(|_, _| Ready::Yes),
        };
        (scripted, log)
    }

    /// The same prototype, for another connection.
    pub(crate) fn twin(&self) -> Self {
        Self {
            log: self.log.clone(),
            script: Arc::clone(&self.script),
            ready: Arc::clone(&self.ready),
            ..*self
        }
    }

    pub(crate) fn ready(
        mut self,
        ready: impl Fn(usize, usize) -> Ready + Send + Sync + 'static,
    ) -> Self {
        self.ready = Arc::new(ready);
        self
    }
}

/// A service that proceeds always.
pub(crate) fn proceeding() -> (Scripted, Log) {
    Scripted::new(|_, _| Response::proceed().into())
}

/// A service that answers so at an event, and proceeds at others.
pub(crate) fn answering(
    at: &'static str,
    answer: impl Fn() -> Act + Send + Sync + 'static,
) -> (Scripted, Log) {
    Scripted::new(move |request, _| {
        if name(request.event()) == at {
            answer()
        } else {
            Response::proceed().into()
        }
    })
}

impl Clone for Scripted {
    fn clone(&self) -> Self {
        let mut seen = self.log.0.lock().unwrap();
        seen.clones += 1;
        Self {
            log: self.log.clone(),
            id: seen.clones,
            calls: 0,
            script: Arc::clone(&self.script),
            ready: Arc::clone(&self.ready),
        }
    }
}

impl Service<Request> for Scripted {
    type Response = Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match (self.ready)(self.id, self.calls) {
            Ready::Yes => Poll::Ready(Ok(())),
            Ready::Never => {
                // Looks again in a while, as something does that waits for others.
                let waker = cx.waker().clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    waker.wake();
                });
                Poll::Pending
            }
            Ready::Fail => Poll::Ready(Err("expected".into())),
            Ready::Panic => panic!("expected"),
        }
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.calls += 1;
        self.log.add(self.id, name(request.event()));
        match (self.script)(&request, self.id) {
            Act::Answer(response) => Box::pin(std::future::ready(Ok(response))),
            Act::After(time, response) => Box::pin(async move {
                // In steps, so that the server looks after its connection several times.
                for _ in 0..10 {
                    tokio::time::sleep(time / 10).await;
                }
                Ok(response)
            }),
            Act::Fail => Box::pin(std::future::ready(Err("expected".into()))),
            Act::Panic => panic!("expected"),
            Act::PanicLater => Box::pin(async { panic!("expected") }),
            Act::PanicInDrop(response) => Box::pin(Bomb(response)),
            Act::Hang => Box::pin(Dropped(self.log.clone(), self.id)),
        }
    }
}

struct Bomb(Option<Response>);

impl Future for Bomb {
    type Output = Result<Response, BoxError>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        self.0
            .take()
            .map_or(Poll::Pending, |response| Poll::Ready(Ok(response)))
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("expected");
    }
}

/// Never ends, and writes down that it was dropped.
struct Dropped(Log, usize);

impl Future for Dropped {
    type Output = Result<Response, BoxError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Pending
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.add(self.1, "dropped");
    }
}

/// A word for an event.
pub(crate) fn name(event: &Event) -> String {
    match event {
        Event::Negotiate(_) => "negotiate".into(),
        Event::MessageEnd(Outcome::Verdict(verdict)) => format!("end: {}", verdict.name()),
        Event::MessageEnd(Outcome::Aborted) => "end: aborted".into(),
        Event::MessageEnd(Outcome::ConnectionLost) => "end: lost".into(),
        Event::MessageEnd(_) => "end: ?".into(),
        Event::SessionEnd => "session end".into(),
        Event::Close => "close".into(),
        other => other.stage().expect("an event with a stage").name().into(),
    }
}

/// Panics that tests want are not shown.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref() != Some(&"expected") {
                before(info);
            }
        }));
    });
}
