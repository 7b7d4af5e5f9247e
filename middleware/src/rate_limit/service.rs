use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use milter_tower::gate::{Entry, Gate};
use milter_tower::{Event, Needs, Request, Response, Stage};
use tower_service::Service;

use super::future::{After, Call, ResponseFuture};
use super::layer::Config;
use super::lent::Lent;
use super::over::Action;
use super::tally::Tally;
use super::{Counts, Memory, Store};

/// Bounds how much comes in which time; see the [module](super).
pub struct RateLimit<S, T = Memory> {
    inner: Lent<S>,
    config: Arc<Config>,
    store: Arc<T>,
    needs: Arc<Needs>,
    gate: Gate,
    tally: Tally,
    marks: Arc<Marks>,
}

impl<S, T> RateLimit<S, T> {
    pub(super) fn new(inner: S, config: Arc<Config>, store: Arc<T>, needs: Arc<Needs>) -> Self {
        Self {
            inner: Lent::new(inner),
            config,
            store,
            needs,
            gate: Gate::new(),
            tally: Tally::default(),
            marks: Arc::default(),
        }
    }
}

/// A clone serves another connection, with the same buckets.
impl<S: Clone, T> Clone for RateLimit<S, T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            config: Arc::clone(&self.config),
            store: Arc::clone(&self.store),
            needs: Arc::clone(&self.needs),
            gate: Gate::new(),
            tally: Tally::default(),
            marks: Arc::default(),
        }
    }
}

impl<S, T: Store> Service<Request> for RateLimit<S, T>
where
    S: Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, T>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let ready = self.inner.get_mut().map(|inner| inner.poll_ready(cx));
        ready.unwrap_or(Poll::Ready(Ok(())))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match request.event() {
            // Some layers lose ends.
            Event::MessageEnd(_) | Event::Mail(_) => {
                self.tally.end_message();
                self.marks.forget(MESSAGE);
            }
            Event::Negotiate(_) | Event::SessionEnd | Event::Close => {
                self.tally.end_session();
                self.marks.forget(MESSAGE | SESSION);
            }
            _ => {}
        }
        let (turn, request, is_alone) = match self.gate.enter(request) {
            Entry::Ask(turn, request) => (turn, request, false),
            Entry::Alone(turn, request) => (turn, request, true),
            Entry::Answer(response) => return ResponseFuture::answer(response),
        };
        let Some(stage) = turn.stage() else {
            let widens = turn.is_negotiation();
            let needs = widens.then(|| Arc::clone(&self.needs));
            let called = self.inner.get_mut().map(|inner| turn.call(inner, request));
            return match called {
                Some(inner) => ResponseFuture::ends(inner, needs),
                None => ResponseFuture::answer(Response::proceed()),
            };
        };
        let cost = self.tally.cost(&self.config, stage, &request);
        let counted = cost.and_then(|cost| Some((cost, self.config.by.key(&request)?)));
        if let Some((cost, key)) = counted {
            let call = Call {
                inner: (!is_alone).then(|| self.inner.lend()),
                request,
                turn,
                config: Arc::clone(&self.config),
                store: Arc::clone(&self.store),
                marks: Arc::clone(&self.marks),
                key,
                cost,
                until: None,
            };
            return ResponseFuture::takes(call);
        }
        let after = After::new(stage, &request, &self.config, &self.marks);
        if is_alone {
            return ResponseFuture::answer(after.alone(stage));
        }
        match self.inner.get_mut() {
            Some(inner) => ResponseFuture::asks(turn.call(inner, request), turn, after),
            None => ResponseFuture::answer(Response::proceed()),
        }
    }
}

impl<S: fmt::Debug, T> fmt::Debug for RateLimit<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("inner", &self.inner)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// What gets the header: found out by a future, and used by later ones.
#[derive(Debug, Default)]
pub(super) struct Marks(AtomicU8);

const MESSAGE: u8 = 1;
const SESSION: u8 = 2;

impl Marks {
    /// Something was over the limit: the message, or all of the session.
    pub(super) fn set(&self, counts: Counts) {
        let mark = match counts {
            Counts::Connections => SESSION,
            _ => MESSAGE,
        };
        self.0.fetch_or(mark, Ordering::Relaxed);
    }

    fn forget(&self, marks: u8) {
        self.0.fetch_and(!marks, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Whether a message gets the header at this stage.
    pub(super) fn adds_header(&self, stage: Stage, config: &Config) -> bool {
        stage == Stage::EndOfMessage
            && matches!(config.over.action, Action::Header(_))
            && self.is_set()
    }
}
