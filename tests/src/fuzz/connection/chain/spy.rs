//! A layer that writes down what the service in it is asked, and what comes of it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use milter_core::{Agreement, ReplyMode, Stage};
use milter_tower::{BoxError, Request, Response};
use tower_service::Service;

use super::super::filter::name;
use super::super::trace::{Effect, Entry, Trace};

/// Something that happened to an instance of a service.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Which service, by its number in the tree; 0 is the root.
    pub(super) service: usize,
    /// The service around it.
    pub(super) around: Option<usize>,
    pub(super) kind: Kind,
    /// Which instance of it.
    pub(super) instance: usize,
    /// How much had gone to and fro between the mail server and the chain.
    pub(super) at: usize,
    pub(super) what: What,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, at, .. } = self;
        write!(f, "{at}: {kind:?} {} [{}]", self.service, self.instance)?;
        match &self.what {
            What::Answered(stage, answer) => {
                let verdict = answer.response.verdict().name();
                let edits = answer.response.edits();
                let late = if answer.counts { "" } else { ", too late" };
                write!(f, " says {verdict} {edits:?} at {stage:?}{late}")
            }
            other => write!(f, " {other:?}"),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// It was not ready when it was asked, for a while at least.
    NotReady,
    /// It will never be: it said so, or panicked.
    Unready,
    Called(&'static str, Option<Stage>),
    Answered(Option<Stage>, Box<Answer>),
    /// It failed.
    Failed(Option<Stage>),
    /// Its call was dropped.
    Dropped,
    /// It panicked, in whatever it was.
    Panicked(Option<Stage>),
}

/// An answer, and what it is worth.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) response: Response,
    /// Of the service, if one was made.
    pub(super) agreement: Option<Agreement>,
    /// Whether the service around it still waits for it.
    pub(super) counts: bool,
}

impl Answer {
    /// Whether it is an answer that the stage and the agreement allow.
    pub(super) fn is_allowed(&self, stage: Stage) -> bool {
        let Some(agreement) = &self.agreement else {
            return false;
        };
        let edits = self.response.edits();
        let verdict = self.response.verdict();
        !self.response.is_refused()
            && self.response.edit_error().is_none()
            && verdict.check(stage, agreement).is_ok()
            && (edits.is_empty() || stage == Stage::EndOfMessage)
            && edits.iter().all(|edit| agreement.permits(edit).is_ok())
    }

    /// Whether a verdict is due.
    pub(super) fn is_due(&self, stage: Stage) -> bool {
        let mode = |agreed: &Agreement| agreed.reply_mode(stage);
        self.agreement.as_ref().map(mode) == Some(ReplyMode::Verdict)
    }
}

/// What kind of service it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Root,
    Chain,
    Layer,
    Leaf,
}

/// What all spies wrote down.
#[derive(Clone, Debug)]
pub(super) struct Log {
    book: Arc<Mutex<Book>>,
    trace: Trace,
}

#[derive(Debug, Default)]
struct Book {
    seen: Vec<Seen>,
    services: Vec<Kept>,
}

/// What is kept of a service.
#[derive(Debug)]
struct Kept {
    around: Option<usize>,
    kind: Kind,
    instances: usize,
    calls: usize,
    /// The call that is waited for.
    open: Option<usize>,
}

impl Log {
    pub(super) fn new(trace: Trace) -> Self {
        let log = Self {
            book: Arc::default(),
            trace,
        };
        log.add(None, Kind::Root);
        log
    }

    /// The number of a new service, within another one.
    pub(super) fn add(&self, around: Option<usize>, kind: Kind) -> usize {
        let mut book = self.lock();
        book.services.push(Kept {
            around,
            kind,
            instances: 0,
            calls: 0,
            open: None,
        });
        book.services.len() - 1
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which instance of a service writes, and where.
#[derive(Debug)]
struct Pen {
    log: Log,
    service: usize,
    instance: usize,
}

impl Pen {
    fn write(&self, what: What) {
        let at = self.log.trace.len();
        let mut book = self.log.lock();
        let Kept { around, kind, .. } = book.services[self.service];
        book.seen.push(Seen {
            service: self.service,
            around,
            kind,
            instance: self.instance,
            at,
            what,
        });
    }

    /// The root tells what the mail server's end has to know.
    fn tell(&self, call: &Begun, effect: Effect) {
        if self.service == 0 {
            self.log.trace.add(Entry::Called {
                clone: self.instance,
                event: call.event,
                stage: call.stage,
                effect,
            });
        }
    }

    /// Runs code that may panic, which is then written down.
    fn guarded<R>(&self, panicked: What, run: impl FnOnce() -> R) -> R {
        struct Fuse<'a>(&'a Pen, Option<What>);
        impl Drop for Fuse<'_> {
            fn drop(&mut self) {
                if let Some(what) = self.1.take() {
                    self.0.write(what);
                }
            }
        }
        let mut fuse = Fuse(self, Some(panicked));
        let done = run();
        fuse.1 = None;
        done
    }

    fn begin(&self, request: &Request) -> Begun {
        let (event, stage) = (name(request.event()), request.event().stage());
        self.write(What::Called(event, stage));
        let mut book = self.log.lock();
        let kept = &mut book.services[self.service];
        kept.calls += 1;
        kept.open = Some(kept.calls);
        let (number, around) = (kept.calls, kept.around);
        Begun {
            number,
            event,
            stage,
            agreement: request.session().agreement().cloned(),
            within: around.and_then(|around| book.services[around].open),
        }
    }

    /// The call is over. Whether the service around it still waits for it.
    fn end(&self, call: &Begun) -> bool {
        let mut book = self.log.lock();
        let kept = &mut book.services[self.service];
        if kept.open == Some(call.number) {
            kept.open = None;
        }
        let around = kept.around;
        around.is_none_or(|around| book.services[around].open == call.within)
    }
}

impl Clone for Pen {
    fn clone(&self) -> Self {
        let mut book = self.log.lock();
        let kept = &mut book.services[self.service];
        kept.instances += 1;
        Self {
            log: self.log.clone(),
            service: self.service,
            instance: kept.instances,
        }
    }
}

/// The layer.
#[derive(Clone, Debug)]
pub(super) struct Spy<S> {
    inner: S,
    pen: Pen,
}

impl<S> Spy<S> {
    /// Around the chain that the connection is served with.
    pub(super) fn root(inner: S, log: &Log) -> Self {
        Self::new(inner, 0, log)
    }

    /// Around the service with this number.
    pub(super) fn new(inner: S, service: usize, log: &Log) -> Self {
        let pen = Pen {
            log: log.clone(),
            service,
            instance: 0,
        };
        Self { inner, pen }
    }
}

impl<S> Service<Request> for Spy<S>
where
    S: Service<Request, Response = Response, Error: Into<BoxError>, Future: Send + 'static>,
{
    type Response = Response;
    type Error = BoxError;
    type Future = Watched<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let Self { inner, pen } = self;
        let polled = pen.guarded(What::Unready, || inner.poll_ready(cx));
        match &polled {
            Poll::Pending => pen.write(What::NotReady),
            Poll::Ready(Err(_)) => pen.write(What::Unready),
            Poll::Ready(Ok(())) => {}
        }
        polled.map_err(Into::into)
    }

    fn call(&mut self, request: Request) -> Watched<S::Future> {
        let Self { inner, pen } = self;
        let call = pen.begin(&request);
        let future = pen.guarded(What::Panicked(call.stage), || inner.call(request));
        Watched {
            future: Some(Box::pin(future)),
            pen: Pen {
                log: pen.log.clone(),
                ..*pen
            },
            call: Some(call),
        }
    }
}

/// A call that was begun.
#[derive(Debug)]
struct Begun {
    /// Which of the service's.
    number: usize,
    event: &'static str,
    stage: Option<Stage>,
    agreement: Option<Agreement>,
    /// In which call of the service around it.
    within: Option<usize>,
}

/// A call whose end is written down.
#[derive(Debug)]
pub(super) struct Watched<F> {
    future: Option<Pin<Box<F>>>,
    pen: Pen,
    /// None when it is over.
    call: Option<Begun>,
}

impl<F, E> Future for Watched<F>
where
    F: Future<Output = Result<Response, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { future, pen, call } = &mut *self;
        let stage = call.as_ref().and_then(|call| call.stage);
        let future = future.as_mut().expect("not polled after its end");
        let polled = pen.guarded(What::Panicked(stage), || future.as_mut().poll(cx));
        let Poll::Ready(done) = polled else {
            return Poll::Pending;
        };
        if let Some(call) = call.take() {
            let counts = pen.end(&call);
            if let Ok(response) = &done {
                let effect = if response.is_refused() {
                    Effect::Refuses
                } else {
                    Effect::Says(response.clone())
                };
                pen.tell(&call, effect);
                let answer = Answer {
                    response: response.clone(),
                    agreement: call.agreement,
                    counts,
                };
                pen.write(What::Answered(stage, Box::new(answer)));
            } else {
                pen.tell(&call, Effect::Fails);
                pen.write(What::Failed(stage));
            }
        }
        Poll::Ready(done.map_err(Into::into))
    }
}

impl<F> Drop for Watched<F> {
    fn drop(&mut self) {
        let stage = self.call.as_ref().and_then(|call| call.stage);
        if let Some(call) = self.call.take() {
            self.pen.end(&call);
            self.pen.tell(&call, Effect::Fails);
            self.pen.write(What::Dropped);
        }
        let future = self.future.take();
        self.pen.guarded(What::Panicked(stage), || drop(future));
    }
}
