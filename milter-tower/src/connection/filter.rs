//! The service of one connection: made, called, and replaced when it breaks.

use std::pin::pin;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;
use tracing::Span;

use super::link::{Call, Interrupt, Link, Lost};
use crate::error::{BoxError, Failure};
use crate::guard::guard;
use crate::request::Request;
use crate::response::Response;
use crate::session::Peer;

/// The service of a connection, and what makes it.
pub(super) struct Filter<M, S> {
    make: M,
    /// None before the negotiation, and after it broke.
    service: Option<S>,
    /// The service works but is of no use: it hears of the end and nothing else.
    condemned: bool,
    /// The last request got as far as the service: it was ready and was called.
    reached: bool,
}

/// What came of a call.
pub(super) type Called<T> = Result<Result<T, Failure>, Lost>;

impl<M, S> Filter<M, S> {
    pub(super) const fn new(make: M) -> Self {
        Self {
            make,
            service: None,
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
        mut call: Call<'_>,
        limit: std::time::Duration,
        peer: Peer,
        span: &Span,
    ) -> Called<()>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        self.discard();
        // What makes services is asked again even if it panicked.
        let marks = &mut Marks::default();
        let made = drive(&mut self.make, peer, link, &mut call, limit, span, marks).await?;
        Ok(made
            .map(|service| self.service = Some(service))
            .map_err(|failure| match failure {
                Failure::Error(error) | Failure::NotReady(error) => Failure::Make(error),
                other => other,
            }))
    }

    /// Asks the service, and drops it if it breaks.
    pub(super) async fn ask<IO>(
        &mut self,
        link: &mut Link<IO>,
        mut call: Call<'_>,
        limit: std::time::Duration,
        request: Request,
        span: &Span,
    ) -> Called<Response>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        self.reached = false;
        let Some(service) = self.service.as_mut().filter(|_| !self.condemned) else {
            return Ok(Err(Failure::Broken));
        };
        let mut marks = Marks::default();
        let called = drive(service, request, link, &mut call, limit, span, &mut marks).await;
        self.reached = marks.called;
        if marks.broke || matches!(&called, Ok(Err(failure)) if failure.breaks_service()) {
            self.discard();
        }
        called
    }
}

/// What is to be known of a call even when nobody waits for its answer any more.
#[derive(Default)]
struct Marks {
    /// The service was called.
    called: bool,
    /// The future panicked when it was dropped.
    broke: bool,
}

/// Calls a service, minding the connection meanwhile. Panics are caught wherever they come from.
async fn drive<IO, T, R>(
    service: &mut T,
    request: R,
    link: &mut Link<IO>,
    call: &mut Call<'_>,
    limit: std::time::Duration,
    span: &Span,
    marks: &mut Marks,
) -> Called<T::Response>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    T: Service<R>,
    T::Error: Into<BoxError>,
{
    let mut interrupt = |cx: &mut std::task::Context<'_>, link: &mut Link<IO>| {
        link.poll_interrupt(cx, call)
            .map(|interrupt| match interrupt {
                Interrupt::Deadline => Ok(limit),
                Interrupt::Lost(lost) => Err(lost),
            })
    };

    let ready = std::future::poll_fn(|cx| {
        let ready = guard(|| {
            let ready = span.in_scope(|| service.poll_ready(cx));
            ready.map_err(|error| Failure::NotReady(error.into()))
        });
        match ready {
            Ok(Poll::Ready(ready)) => Poll::Ready(Ok(ready)),
            Ok(Poll::Pending) => {
                interrupt(cx, link).map(|passed| passed.map(|t| Err(Failure::NotReadyInTime(t))))
            }
            Err(panic) => Poll::Ready(Ok(Err(panic))),
        }
    });
    if let Err(failure) = ready.await? {
        return Ok(Err(failure));
    }

    marks.called = true;
    let future = match guard(|| span.in_scope(|| service.call(request))) {
        Ok(future) => future,
        Err(panic) => return Ok(Err(panic)),
    };
    let mut future = pin!(Some(future));
    let called = std::future::poll_fn(|cx| {
        let Some(running) = future.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        let polled = guard(|| {
            let polled = span.in_scope(|| running.poll(cx));
            polled.map_err(|error| Failure::Error(error.into()))
        });
        match polled {
            Ok(Poll::Ready(called)) => Poll::Ready(Ok(called)),
            Ok(Poll::Pending) => {
                interrupt(cx, link).map(|passed| passed.map(|t| Err(Failure::Deadline(t))))
            }
            Err(panic) => Poll::Ready(Ok(Err(panic))),
        }
    })
    .await;
    match guard(|| span.in_scope(|| future.set(None))) {
        Ok(()) => called,
        Err(panic) => {
            marks.broke = true;
            called.map(|_| Err(panic))
        }
    }
}
