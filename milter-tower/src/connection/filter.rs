//! The service of one connection: made, called, and replaced when it breaks.

use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;
use tracing::Span;

use super::link::{Call, Interrupt, Link, Lost};
use crate::error::{BoxError, Failure};
use crate::guard::guard;
use crate::member::Place;
use crate::request::Request;
use crate::response::Response;
use crate::session::Peer;

/// The service of a connection, and what makes it.
pub(super) struct Filter<M, S: Service<Request>> {
    make: M,
    /// None before the negotiation, and after it broke.
    service: Option<S>,
    /// Where the futures of calls run, one after the other.
    place: Place<S::Future>,
    /// One that was replaced and has to be told of its end. That is rare.
    retired: Option<Box<S>>,
    /// The service works but is of no use: it hears of the end and nothing else.
    condemned: bool,
    /// The last request got as far as the service: it was ready and was called.
    reached: bool,
}

/// What came of a call.
pub(super) type Called<T> = Result<Result<T, Failure>, Lost>;

impl<M, S: Service<Request>> Filter<M, S> {
    pub(super) const fn new(make: M) -> Self {
        Self {
            make,
            service: None,
            place: Place::new(),
            retired: None,
            condemned: false,
            reached: false,
        }
    }

    pub(super) const fn is_broken(&self) -> bool {
        self.service.is_none() || self.condemned
    }

    /// Has the service hear of its end only.
    pub(super) const fn condemn(&mut self) {
        self.condemned = self.service.is_some();
    }

    /// Whether a service waits for its end, which it can be told from now on.
    pub(super) const fn take_condemned(&mut self) -> bool {
        std::mem::replace(&mut self.condemned, false)
    }

    /// Whether the last request got as far as the service.
    pub(super) const fn was_reached(&self) -> bool {
        self.reached
    }

    /// Takes the service out.
    pub(super) fn take(&mut self) -> Option<S> {
        self.condemned = false;
        self.service.take()
    }

    /// Puts a service in the place of none.
    pub(super) fn put(&mut self, service: Option<S>) {
        self.service = service;
    }

    /// Keeps a service until it can be told of its end.
    pub(super) fn retire(&mut self, service: Option<S>) {
        self.retired = service.map(Box::new);
    }

    pub(super) const fn has_retired(&self) -> bool {
        self.retired.is_some()
    }

    pub(super) fn take_retired(&mut self) -> Option<S> {
        self.retired.take().map(|service| *service)
    }

    /// Gives back the memory that calls took. To be called between messages.
    pub(super) fn shrink(&mut self) {
        self.place = Place::new();
    }

    /// Drops the service: it gets nothing more.
    pub(super) fn discard(&mut self) {
        self.condemned = false;
        let service = self.service.take();
        // A service that panics when it is dropped has nothing more to break.
        let _ = guard(|| drop(service));
    }
}

impl<M, S> Filter<M, S>
where
    M: Service<Peer, Response = S>,
    M::Error: Into<BoxError>,
    S: Service<Request, Response = Response>,
    S::Error: Into<BoxError>,
{
    /// Makes a service, in the place of one that there may be.
    pub(super) async fn renew<IO>(
        &mut self,
        link: &mut Link<IO>,
        mut call: Call,
        limit: Duration,
        peer: Peer,
        span: &Span,
    ) -> Called<()>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        self.discard();
        let (mut peer, mut place) = (Some(peer), Place::new());
        let made = std::future::poll_fn(|cx| {
            let made = place.poll(&mut self.make, &mut peer, span, cx);
            or_interrupted(made, peer.is_none(), limit, || {
                link.poll_interrupt(cx, &mut call)
            })
        })
        .await;
        // What makes services is asked again even if it panicked.
        let _ = place.clear(span);
        Ok(made?
            .map(|service| self.service = Some(service))
            .map_err(|failure| match failure {
                Failure::Error(error) | Failure::NotReady(error) => Failure::Make(error),
                other => other,
            }))
    }

    /// Asks the service, and drops it if it breaks.
    // No `async fn`: that would keep the request twice.
    pub(super) fn ask<IO>(
        &mut self,
        link: &mut Link<IO>,
        mut call: Call,
        limit: Duration,
        request: Request,
        span: &Span,
    ) -> impl Future<Output = Called<Response>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        self.reached = false;
        let mut request = Some(request);
        std::future::poll_fn(move |cx| {
            let Some(service) = self.service.as_mut().filter(|_| !self.condemned) else {
                return Poll::Ready(Ok(Err(Failure::Broken)));
            };
            let asked = self.place.poll(service, &mut request, span, cx);
            self.reached = request.is_none();
            let mut called = ready!(or_interrupted(asked, self.reached, limit, || {
                link.poll_interrupt(cx, &mut call)
            }));
            let dropped = self.place.clear(span);
            if matches!(&called, Ok(Err(failure)) if failure.breaks_service()) || dropped.is_err() {
                self.discard();
            }
            if let Err(panic) = dropped {
                called = called.map(|_| Err(panic));
            }
            Poll::Ready(called)
        })
    }
}

/// The result of a call, or else what came in its stead.
fn or_interrupted<T>(
    called: Poll<Result<T, Failure>>,
    reached: bool,
    limit: Duration,
    interrupt: impl FnOnce() -> Poll<Interrupt>,
) -> Poll<Called<T>> {
    if let Poll::Ready(called) = called {
        return Poll::Ready(Ok(called));
    }
    interrupt().map(|interrupt| match interrupt {
        Interrupt::Deadline if reached => Ok(Err(Failure::Deadline(limit))),
        Interrupt::Deadline => Ok(Err(Failure::NotReadyInTime(limit))),
        Interrupt::Lost(lost) => Err(lost),
    })
}
