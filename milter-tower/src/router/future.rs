//! The future of a router.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::handler::{Boxed, Called};
use super::said::Watch;
use crate::error::BoxError;
use crate::response::Response;

/// The future of a [`Router`](super::Router): a handler's, in a box, or an answer without one.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(Kind);

enum Kind {
    /// Taken when it is given.
    Done(Option<Result<Response, BoxError>>),
    Runs(Boxed),
    Watched(Boxed, Watch),
}

impl ResponseFuture {
    pub(super) const fn done(answer: Result<Response, BoxError>) -> Self {
        Self(Kind::Done(Some(answer)))
    }

    pub(super) const fn ready(response: Response) -> Self {
        Self::done(Ok(response))
    }

    pub(super) const fn runs(handler: Boxed) -> Self {
        Self(Kind::Runs(handler))
    }

    pub(super) const fn watched(handler: Boxed, watch: Watch) -> Self {
        Self(Kind::Watched(handler, watch))
    }
}

impl From<Called> for ResponseFuture {
    fn from(called: Called) -> Self {
        match called {
            Called::Runs(handler) => Self::runs(handler),
            Called::Not(answer) => Self::done(answer),
        }
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response, BoxError>;

    /// # Panics
    ///
    /// If it is polled after it has ended.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Kind::Done(answer) => Poll::Ready(
                answer
                    .take()
                    .expect("not polled after the answer was given"),
            ),
            Kind::Runs(handler) => handler.as_mut().poll(cx),
            Kind::Watched(handler, watch) => {
                let answer = ready!(handler.as_mut().poll(cx));
                Poll::Ready(answer.map(|response| watch.heard(response)))
            }
        }
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
