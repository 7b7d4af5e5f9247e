//! Where calls of a service run.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tower_service::Service;
use tracing::Span;

use crate::error::{BoxError, Failure};
use crate::guard::guard;

/// Memory for the future of a call: allocated for the first one and used for all that follow.
pub(crate) struct Place<F>(Option<Pin<Box<Option<F>>>>);

impl<F> Place<F> {
    /// A place that takes no memory before the first call.
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    /// Calls a service, unless that was done, and polls what it returned. Panics are caught
    /// wherever they come from.
    ///
    /// The request is taken when the service is called. Unless the result is the service's own,
    /// a future may be left: see [`clear`](Self::clear).
    pub(crate) fn poll<T, R>(
        &mut self,
        service: &mut T,
        request: &mut Option<R>,
        span: &Span,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T::Response, Failure>>
    where
        T: Service<R, Future = F>,
        T::Error: Into<BoxError>,
        F: Future<Output = Result<T::Response, T::Error>>,
    {
        let place = self.0.get_or_insert_with(|| Box::pin(None));
        let poll = || {
            if request.is_some() {
                let ready = ready!(service.poll_ready(cx));
                ready.map_err(|error| Failure::NotReady(error.into()))?;
            }
            if let Some(request) = request.take() {
                place.set(Some(service.call(request)));
            }
            let Some(future) = place.as_mut().as_pin_mut() else {
                return Poll::Pending;
            };
            let called = ready!(future.poll(cx));
            place.set(None);
            Poll::Ready(called.map_err(|error| Failure::Error(error.into())))
        };
        guard(|| span.in_scope(poll)).unwrap_or_else(|panic| Poll::Ready(Err(panic)))
    }

    /// Drops a future that did not end.
    pub(crate) fn clear(&mut self, span: &Span) -> Result<(), Failure> {
        match &mut self.0 {
            Some(place) if place.is_some() => guard(|| span.in_scope(|| place.set(None))),
            _ => Ok(()),
        }
    }
}
