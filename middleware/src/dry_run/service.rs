use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use milter_tower::gate::{Entry, Gate, Turn};
use milter_tower::{Actions, BoxError, Event, Needs, Request, Response, Stage, Verdict};
use tower_service::Service;
use tracing::warn;

use super::layer::{Config, WHOLE};
use super::{ResponseFuture, WouldBe};
use crate::asked::Then;

/// Lets the service within run without effect; see the [module](super).
#[derive(Debug)]
pub struct DryRun<S> {
    inner: S,
    config: Arc<Config>,
    gate: Gate,
    /// Whether the session's answers, and the message's, are for real; none if that is not decided.
    session: Option<bool>,
    message: Option<bool>,
}

impl<S> DryRun<S> {
    pub(super) fn new(inner: S, config: Arc<Config>) -> Self {
        Self {
            inner,
            config,
            gate: Gate::new(),
            session: None,
            message: None,
        }
    }

    inner_service!();

    fn is_real(&mut self, stage: Stage) -> bool {
        let config = &self.config;
        let (decided, count) = match stage {
            // An unknown command is part of no message.
            Stage::Connect | Stage::Helo | Stage::Unknown => (&mut self.session, &config.sessions),
            _ => (&mut self.message, &config.messages),
        };
        *decided.get_or_insert_with(|| config.decide(count))
    }
}

impl Config {
    /// Whether the next one is for real, after so many.
    fn decide(&self, count: &AtomicU64) -> bool {
        // Each one of those before and this one has its share: real ones are as far apart as can be.
        let count = count.fetch_add(1, Ordering::Relaxed) % WHOLE;
        let real = WHOLE - self.share;
        (count + 1) * real / WHOLE > count * real / WHOLE
    }
}

/// A clone serves another connection.
impl<S: Clone> Clone for DryRun<S> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.config))
    }
}

impl<S> Service<Request> for DryRun<S>
where
    S: Service<Request, Response = Response>,
    S::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match request.event() {
            // Some layers lose ends.
            Event::MessageEnd(_) | Event::Mail(_) => self.message = None,
            Event::SessionEnd => (self.session, self.message) = (None, None),
            _ => {}
        }
        let (turn, request) = match self.gate.enter(request) {
            Entry::Ask(turn, request) => (turn, request),
            Entry::Alone(..) => return ResponseFuture::answer(Response::proceed()),
            Entry::Answer(response) => return ResponseFuture::answer(response),
        };
        let is_real = turn.stage().is_some_and(|stage| self.is_real(stage));
        let inner = turn.call(&mut self.inner, request);
        let is_dry = !is_real && (turn.stage().is_some() || turn.is_negotiation());
        let after = is_dry.then(|| After {
            turn,
            config: Arc::clone(&self.config),
        });
        ResponseFuture::asks(inner, after)
    }
}

/// What becomes of an answer in a dry run.
#[derive(Debug)]
pub(super) struct After {
    turn: Turn,
    config: Arc<Config>,
}

impl<E: Into<BoxError>> Then<E> for After {
    fn then(self, answer: Result<Response, E>) -> Result<Response, E> {
        Ok(match answer {
            Ok(response) => self.answered(response),
            Err(error) => self.failed(&error.into()),
        })
    }
}

impl After {
    fn answered(self, response: Response) -> Response {
        let Some(stage) = self.turn.stage() else {
            return optional(response);
        };
        if let Some(error) = response.edit_error() {
            return self.failed(&error.clone().into());
        }
        let verdict = response.verdict();
        if *verdict == Verdict::Skip && response.edits().is_empty() {
            return response;
        }
        let goes_on = matches!(verdict, Verdict::Continue | Verdict::Accept);
        if !goes_on || !response.edits().is_empty() || response.is_refused() {
            self.config.counts.count(verdict, response.edits().len());
            let response = &response;
            (self.config.hook)(&WouldBe { stage, response });
        }
        let ends_session =
            matches!(stage, Stage::Connect | Stage::Helo) && *verdict == Verdict::Accept;
        if verdict.ends_message_at(stage) && stage != Stage::EndOfMessage {
            self.turn.leave_out(Some(verdict.clone()));
        } else if ends_session {
            self.turn.leave_out(None);
        }
        Response::proceed()
    }

    fn failed(self, error: &BoxError) -> Response {
        self.config.counts.count_failure();
        let at = self.turn.stage().map_or("negotiation", Stage::name);
        warn!(
            at,
            error = &**error as &dyn std::error::Error,
            "dry run: the filter failed"
        );
        self.turn.leave_out(None);
        if self.turn.is_negotiation() {
            Response::needs(Needs::none())
        } else {
            Response::proceed()
        }
    }
}

/// Nothing is required of the MTA for what has no effect.
fn optional(response: Response) -> Response {
    if response.is_refused() {
        return Response::needs(Needs::none());
    }
    let needs = response.needs_asked().cloned().unwrap_or_default();
    let actions: Actions = needs.required_actions();
    response.with_needs(needs.without_action(actions).optional_action(actions))
}
