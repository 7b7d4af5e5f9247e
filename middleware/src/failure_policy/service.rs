use std::sync::Arc;
use std::task::{Context, Poll};

use milter_tower::gate::{Entry, Gate, Turn};
use milter_tower::{BoxError, Needs, Request, Response};
use tower_service::Service;
use tracing::warn;

use super::layer::Policy;
use super::{OnError, ResponseFuture};

/// Says what becomes of mail when the service within fails; see the [module](super).
#[derive(Debug)]
pub struct FailurePolicy<S> {
    inner: S,
    policy: Arc<Policy>,
    gate: Gate,
    /// The service within is of no more use, by its own word.
    dead: Dead,
}

#[derive(Debug)]
enum Dead {
    No,
    /// Nobody was told yet.
    Now(BoxError),
    Since(OnError),
}

impl<S> FailurePolicy<S> {
    pub(super) fn new(inner: S, policy: Arc<Policy>) -> Self {
        Self {
            inner,
            policy,
            gate: Gate::new(),
            dead: Dead::No,
        }
    }

    inner_service!();
}

/// A clone serves another connection.
impl<S: Clone> Clone for FailurePolicy<S> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.policy))
    }
}

impl<S> Service<Request> for FailurePolicy<S>
where
    S: Service<Request, Response = Response>,
    S::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if !matches!(self.dead, Dead::No) {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_ready(cx).map(|ready| {
            if let Err(error) = ready {
                // By what policy it goes, the event will tell.
                self.dead = Dead::Now(error.into());
            }
            Ok(())
        })
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (turn, request) = match self.gate.enter(request) {
            Entry::Ask(turn, request) => (turn, request),
            Entry::Alone(..) => return ResponseFuture::answer(Ok(Response::proceed())),
            Entry::Answer(response) => return ResponseFuture::answer(Ok(response)),
        };
        match std::mem::replace(&mut self.dead, Dead::No) {
            Dead::No => {}
            Dead::Now(error) => {
                let action = self.policy.action(turn.stage(), &error).clone();
                self.dead = Dead::Since(action.clone());
                return ResponseFuture::answer(apply(&action, error, turn));
            }
            Dead::Since(action) => {
                let answer = stay(&action, turn);
                self.dead = Dead::Since(action);
                return ResponseFuture::answer(answer);
            }
        }
        let inner = turn.call(&mut self.inner, request);
        ResponseFuture::asks(inner, turn, Arc::clone(&self.policy))
    }
}

/// What an action makes of an error.
pub(super) fn apply(action: &OnError, error: BoxError, turn: Turn) -> Result<Response, BoxError> {
    if *action == OnError::Fail {
        return Err(error);
    }
    let at = match turn.stage() {
        Some(stage) => stage.name(),
        None if turn.is_negotiation() => "negotiation",
        None => "end",
    };
    warn!(
        at,
        answer = action.name(),
        error = &*error as &dyn std::error::Error,
        "the filter failed"
    );
    if let Some(verdict) = action.verdict() {
        return Ok(turn.instead(verdict));
    }
    Ok(match action {
        OnError::Close if turn.stage().is_some() || turn.is_negotiation() => Response::refuse(),
        OnError::Open => {
            turn.leave_out(None);
            if turn.is_negotiation() {
                Response::needs(Needs::none())
            } else {
                Response::proceed()
            }
        }
        _ => Response::proceed(),
    })
}

/// What an action makes of what comes after the service within has died.
fn stay(action: &OnError, turn: Turn) -> Result<Response, BoxError> {
    match action.verdict() {
        Some(verdict) => Ok(turn.instead(verdict)),
        None if *action == OnError::Fail && turn.stage().is_some() => {
            Err("the filter said at an earlier event that it will never be ready".into())
        }
        // It may have died where the connection cannot be closed: at an end.
        None if *action == OnError::Close && turn.stage().is_some() => Ok(Response::refuse()),
        None => Ok(Response::proceed()),
    }
}
