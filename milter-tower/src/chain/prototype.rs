//! Services whose type is forgotten.

use std::task::{Context, Poll};

use tower_service::Service;
use tracing::Span;

use crate::error::{BoxError, Failure};
use crate::member::Place;
use crate::request::Request;
use crate::response::Response;

/// What the services of one member are made of. It is never called itself.
pub(super) trait Prototype: Send {
    /// A fresh, unconnected service.
    fn make(&self) -> Box<dyn Instance>;
    fn copy(&self) -> Box<dyn Prototype>;
}

/// The service of one connection, and the place that its calls run in.
pub(super) trait Instance: Send {
    /// See [`Place::poll`].
    fn poll(
        &mut self,
        request: &mut Option<Request>,
        span: &Span,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response, Failure>>;

    /// Drops a call that did not end.
    fn clear(&mut self, span: &Span) -> Result<(), Failure>;

    /// Gives back the memory that calls took.
    fn shrink(&mut self);
}

/// A prototype of this type.
pub(super) struct Of<S>(pub(super) S);

struct Running<S: Service<Request>> {
    service: S,
    place: Place<S::Future>,
}

impl<S> Prototype for Of<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    fn make(&self) -> Box<dyn Instance> {
        Box::new(Running {
            service: self.0.clone(),
            place: Place::new(),
        })
    }

    fn copy(&self) -> Box<dyn Prototype> {
        Box::new(Self(self.0.clone()))
    }
}

impl<S> Instance for Running<S>
where
    S: Service<Request, Response = Response> + Send,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    fn poll(
        &mut self,
        request: &mut Option<Request>,
        span: &Span,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response, Failure>> {
        self.place.poll(&mut self.service, request, span, cx)
    }

    fn clear(&mut self, span: &Span) -> Result<(), Failure> {
        self.place.clear(span)
    }

    fn shrink(&mut self) {
        self.place = Place::new();
    }
}
