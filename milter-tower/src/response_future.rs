//! The future of services that call async functions.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::BoxError;
use crate::response::Response;

/// The future of a handler, its output made a response.
pub(crate) type Boxed = Pin<Box<dyn Future<Output = Result<Response, BoxError>> + Send>>;

/// The future of a [`Router`](crate::Router) and of a [`Filter`](crate::Filter): a handler's, in
/// a box, or an answer without one.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(Kind);

enum Kind {
    /// Taken when it is given.
    Done(Option<Result<Response, BoxError>>),
    Runs(Boxed),
}

impl ResponseFuture {
    pub(crate) const fn done(answer: Result<Response, BoxError>) -> Self {
        Self(Kind::Done(Some(answer)))
    }

    pub(crate) const fn ready(response: Response) -> Self {
        Self::done(Ok(response))
    }

    pub(crate) fn runs<F>(handler: F) -> Self
    where
        F: Future<Output = Result<Response, BoxError>> + Send + 'static,
    {
        Self(Kind::Runs(Box::pin(handler)))
    }
}

#[cfg(test)]
impl ResponseFuture {
    pub(crate) const fn is_boxed(&self) -> bool {
        matches!(self.0, Kind::Runs(_))
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response, BoxError>;

    /// # Panics
    ///
    /// If it is polled after it has ended, as futures do.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Kind::Done(answer) => Poll::Ready(
                answer
                    .take()
                    .expect("not polled after the answer was given"),
            ),
            Kind::Runs(handler) => handler.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
