use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use milter_tower::gate::Turn;
use milter_tower::{BoxError, Response};
use pin_project::pin_project;

use super::layer::Policy;
use super::service::apply;

/// The future of [`FailurePolicy`](super::FailurePolicy).
#[pin_project]
#[derive(Debug)]
pub struct ResponseFuture<F> {
    #[pin]
    kind: Kind<F>,
}

#[pin_project(project = KindProj)]
#[derive(Debug)]
enum Kind<F> {
    /// The service within is not asked.
    Answer(Option<Result<Response, BoxError>>),
    Asks {
        #[pin]
        inner: F,
        then: Option<(Turn, Arc<Policy>)>,
    },
}

impl<F> ResponseFuture<F> {
    pub(super) const fn answer(answer: Result<Response, BoxError>) -> Self {
        let kind = Kind::Answer(Some(answer));
        Self { kind }
    }

    pub(super) const fn asks(inner: F, turn: Turn, policy: Arc<Policy>) -> Self {
        let kind = Kind::Asks {
            inner,
            then: Some((turn, policy)),
        };
        Self { kind }
    }
}

impl<F, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project().kind.project() {
            KindProj::Answer(answer) => answer.take().unwrap_or_else(|| Ok(Response::proceed())),
            KindProj::Asks { inner, then } => {
                ready!(inner.poll(cx)).or_else(|error| match (error.into(), then.take()) {
                    (error, Some((turn, policy))) => {
                        apply(policy.action(turn.stage(), &error), error, turn)
                    }
                    (error, None) => Err(error),
                })
            }
        })
    }
}
