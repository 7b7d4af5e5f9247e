use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use milter_tower::gate::{Entry, Gate, Turn};
use milter_tower::{BoxError, Deadline, Event, Request, Response, Stage};
use tokio::time::Instant;
use tower_service::Service;
use tracing::warn;

use super::error::Limit;
use super::layer::Config;
use super::{ResponseFuture, TimedOut};

/// What of the MTA's time is left to this layer for its own answer, at the most.
const MARGIN: Duration = Duration::from_millis(250);

/// Bounds how long the service within may take; see the [module](super).
#[derive(Debug)]
pub struct Timeout<S> {
    inner: S,
    config: Arc<Config>,
    gate: Gate,
    spent: Arc<Spent>,
}

impl<S> Timeout<S> {
    pub(super) fn new(inner: S, config: Arc<Config>) -> Self {
        Self {
            inner,
            config,
            gate: Gate::new(),
            spent: Arc::default(),
        }
    }

    inner_service!();
}

/// A clone serves another connection.
impl<S: Clone> Clone for Timeout<S> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.config))
    }
}

impl<S> Service<Request> for Timeout<S>
where
    S: Service<Request, Response = Response>,
    S::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // Some layers lose ends.
        if matches!(request.event(), Event::MessageEnd(_) | Event::Mail(_)) {
            self.spent.forget();
        }
        let (turn, mut request) = match self.gate.enter(request) {
            Entry::Ask(turn, request) => (turn, request),
            Entry::Alone(..) => return ResponseFuture::answer(Response::proceed()),
            Entry::Answer(response) => return ResponseFuture::answer(response),
        };
        let stage = turn.stage();
        let mut limit = Limit::Event(self.config.limit(stage));
        let mut until = self.config.limit(stage);
        let mut clock = None;
        if let Some(most) = self.config.message.filter(|_| is_counted(stage)) {
            let left = most.saturating_sub(self.spent.time());
            if left < until {
                (until, limit) = (left, Limit::Message(most));
            }
            clock = Some(Clock::start(&self.spent));
        }
        let mut until = Deadline::after(until);
        let of_mta = request.deadline();
        if until > of_mta.earlier_by(MARGIN) {
            let margin = MARGIN.min(of_mta.remaining() / 20);
            (until, limit) = (of_mta.earlier_by(margin), Limit::Mta);
        }
        request.set_deadline(until);
        let call = Call {
            config: Arc::clone(&self.config),
            until,
            error: TimedOut { stage, limit },
            _clock: clock,
        };
        if call.is_over() {
            return ResponseFuture::over(call, turn);
        }
        let inner = turn.call(&mut self.inner, request);
        ResponseFuture::asks(inner, call, turn)
    }
}

fn is_counted(stage: Option<Stage>) -> bool {
    stage.is_some_and(Stage::is_of_message)
}

/// A call within, and its time.
#[derive(Debug)]
pub(super) struct Call {
    config: Arc<Config>,
    pub(super) until: Deadline,
    error: TimedOut,
    _clock: Option<Clock>,
}

impl Call {
    /// Whether the message's time was up before.
    fn is_over(&self) -> bool {
        self.error.limit.is_of_message() && self.until.remaining().is_zero()
    }

    /// What is answered when the time is up.
    pub(super) fn time_out(self, turn: Turn) -> Result<Response, BoxError> {
        let Some(verdict) = &self.config.verdict else {
            return Err(self.error.into());
        };
        warn!(error = %self.error, answer = verdict.name(), "the time is up");
        Ok(turn.instead(verdict.clone()))
    }
}

/// The time that calls of a message have taken, shared with the one at hand.
#[derive(Debug, Default)]
struct Spent(AtomicU64);

impl Spent {
    fn time(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Takes the time of a call, however that ends.
#[derive(Debug)]
struct Clock {
    spent: Arc<Spent>,
    since: Instant,
}

impl Clock {
    fn start(spent: &Arc<Spent>) -> Self {
        Self {
            spent: Arc::clone(spent),
            since: Instant::now(),
        }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        let micros = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.spent.0.fetch_add(micros, Ordering::Relaxed);
    }
}
