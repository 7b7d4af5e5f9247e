use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use milter_tower::gate::{Entry, Gate, Turn};
use milter_tower::{BoxError, Event, Offer, Request, Response, Stage};
use tower_service::Service;

use super::ResponseFuture;
use super::layer::{Config, Panicked};

/// Makes a verdict of a panic of the service within; see the [module](super).
#[derive(Debug)]
pub struct CatchPanic<S> {
    /// Never called: services come from it.
    prototype: S,
    /// None before the first event, and after it broke.
    inner: Option<S>,
    config: Arc<Config>,
    gate: Gate,
    offer: Option<Offer>,
    /// It broke in `poll_ready`, before the event at hand.
    broke: bool,
    fate: Arc<Fate<S>>,
}

impl<S> CatchPanic<S> {
    pub(super) fn new(prototype: S, config: Arc<Config>) -> Self {
        Self {
            prototype,
            inner: None,
            config,
            gate: Gate::new(),
            offer: None,
            broke: false,
            fate: Arc::default(),
        }
    }

    /// The service of which each connection gets a clone.
    pub fn get_ref(&self) -> &S {
        &self.prototype
    }

    /// The service of which each connection gets a clone.
    pub fn into_inner(self) -> S {
        self.prototype
    }
}

/// A clone serves another connection.
impl<S: Clone> Clone for CatchPanic<S> {
    fn clone(&self) -> Self {
        Self::new(self.prototype.clone(), Arc::clone(&self.config))
    }
}

/// What became of the service within, as the futures find out.
#[derive(Debug)]
pub(super) struct Fate<S> {
    pub(super) changed: AtomicBool,
    /// What takes the place of the service within: nothing if it broke.
    pub(super) fresh: Mutex<Option<S>>,
}

impl<S> Fate<S> {
    pub(super) fn change(&self, fresh: Option<S>) {
        *self.fresh.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        self.changed.store(true, Ordering::Relaxed);
    }
}

impl<S> Default for Fate<S> {
    fn default() -> Self {
        Self {
            changed: AtomicBool::new(false),
            fresh: Mutex::new(None),
        }
    }
}

/// Runs code of the service within. A panic is told to the hook.
pub(super) fn guard<R>(
    config: &Config,
    stage: Option<Stage>,
    run: impl FnOnce() -> R,
) -> Result<R, Caught> {
    // What the panic left behind is dropped and not looked at again.
    let payload = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(ran) => return Ok(ran),
        Err(payload) => payload,
    };
    let panicked = Panicked {
        stage,
        payload: &*payload,
    };
    let _ = catch_unwind(AssertUnwindSafe(|| (config.hook)(&panicked)));
    // Dropping what was thrown could panic again.
    std::mem::forget(payload);
    Err(Caught)
}

/// There was a panic, and the hook knows.
#[derive(Debug)]
pub(super) struct Caught;

impl<S: Clone> CatchPanic<S> {
    /// Takes note of what became of the service within.
    fn update(&mut self) {
        if self.fate.changed.load(Ordering::Relaxed) {
            self.fate.changed.store(false, Ordering::Relaxed);
            let fresh = self.fate.fresh.lock();
            let fresh = fresh.unwrap_or_else(PoisonError::into_inner).take();
            self.replace(None, fresh);
        }
    }

    fn replace(&mut self, stage: Option<Stage>, fresh: Option<S>) {
        let old = std::mem::replace(&mut self.inner, fresh);
        let _ = guard(&self.config, stage, || drop(old));
    }

    /// The service for this connection, before the first event.
    fn make(&mut self) {
        if self.inner.is_none() && self.offer.is_none() && !self.broke {
            self.inner = guard(&self.config, None, || self.prototype.clone()).ok();
        }
    }
}

impl<S> Service<Request> for CatchPanic<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = ResponseFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.update();
        self.make();
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(Ok(()));
        };
        guard(&self.config, None, || inner.poll_ready(cx)).unwrap_or_else(|Caught| {
            self.replace(None, None);
            self.broke = true;
            Poll::Ready(Ok(()))
        })
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.update();
        self.make();
        if let Event::Negotiate(offer) = request.event() {
            self.offer = Some(*offer);
        }
        let (turn, request) = match self.gate.enter(request) {
            Entry::Ask(turn, request) => (turn, request),
            Entry::Alone(..) => return ResponseFuture::answer(Response::proceed()),
            Entry::Answer(response) => return ResponseFuture::answer(response),
        };
        if self.inner.is_none() {
            return self.without(turn, request);
        }
        self.ask(turn, request)
    }
}

impl<S> CatchPanic<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    fn ask(&mut self, turn: Turn, request: Request) -> ResponseFuture<S> {
        let Some(inner) = &mut self.inner else {
            return ResponseFuture::answer(turn.fail(self.config.verdict.clone()));
        };
        let stage = turn.stage();
        let Ok(future) = guard(&self.config, stage, || turn.call(inner, request)) else {
            self.replace(stage, None);
            return ResponseFuture::answer(turn.fail(self.config.verdict.clone()));
        };
        let (config, fate) = (Arc::clone(&self.config), Arc::clone(&self.fate));
        ResponseFuture::asks(future, turn, config, fate)
    }

    /// The service broke. What is left of the message fails, and the next one gets a fresh service.
    fn without(&mut self, turn: Turn, request: Request) -> ResponseFuture<S> {
        let verdict = &self.config.verdict;
        if std::mem::take(&mut self.broke) {
            return ResponseFuture::answer(turn.fail(verdict.clone()));
        }
        let Some(offer) = self
            .offer
            .filter(|_| turn.stage().is_some_and(Stage::is_of_message))
        else {
            return ResponseFuture::answer(Response::proceed());
        };
        let Ok(fresh) = guard(&self.config, turn.stage(), || self.prototype.clone()) else {
            return ResponseFuture::answer(turn.fail(verdict.clone()));
        };
        let (config, fate) = (Arc::clone(&self.config), Arc::clone(&self.fate));
        ResponseFuture::introduces(fresh, offer, turn, request, config, fate)
    }
}
