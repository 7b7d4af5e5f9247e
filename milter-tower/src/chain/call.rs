//! Calls of a member's service, one at a time (D3).

use std::task::{Context, Poll, ready};

use super::introduce::Introduction;
use super::live::{Around, Call, Live, Task};
use crate::error::Failure;
use crate::request::{Event, Request};
use crate::response::Response;

impl Live {
    /// Begins a call.
    pub(super) fn start(&mut self, request: Request) {
        self.call = Call::Pending(Some(request));
    }

    /// Begins a call with this event.
    pub(super) fn start_event(&mut self, event: Event, around: &mut Around<'_>) {
        let session = self.apart.of(around.session);
        let deadline = around.time.share(around.behind);
        self.start(Request::with_deadline(event, session, deadline));
    }

    /// Polls the call that was begun. A service that breaks is dropped.
    pub(super) fn poll_call(
        &mut self,
        around: &mut Around<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response, Failure>> {
        if !ready!(self.poll_lost(around, cx))? {
            self.call = Call::None;
            return Poll::Ready(Ok(Response::proceed()));
        }
        let Some(service) = self.seat.here() else {
            self.call = Call::None;
            return Poll::Ready(Err(Failure::Broken));
        };
        let Call::Pending(request) = &mut self.call else {
            return Poll::Ready(Err(Failure::Broken));
        };
        if self.condemned {
            return Poll::Ready(Err(Failure::Broken));
        }
        let stage = request.as_ref().and_then(|request| request.event().stage());
        let polled = service.poll(request, &self.span, cx);
        if let (Some(stage), None) = (stage, &request) {
            // Whatever becomes of its answer: it has to hear of the end of what it saw.
            self.view.reach(stage);
        }
        self.called(polled, around, cx)
    }

    /// What came of polling its service, if that is all.
    pub(super) fn called(
        &mut self,
        polled: Poll<Result<Response, Failure>>,
        around: &mut Around<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response, Failure>> {
        let mut called = match polled {
            // Nothing is left of the call.
            Poll::Ready(Ok(response)) => return Poll::Ready(Ok(response)),
            Poll::Ready(called) => called,
            Poll::Pending => {
                let limit = ready!(around.time.poll_over(cx));
                Err(if self.was_reached() {
                    Failure::Deadline(limit)
                } else {
                    Failure::NotReadyInTime(limit)
                })
            }
        };
        let dropped = match self.seat.here() {
            Some(service) => service.clear(&self.span),
            None => Ok(()),
        };
        let breaks = matches!(&called, Err(failure) if failure.breaks_service());
        if breaks || dropped.is_err() {
            self.discard();
            self.broke = true;
        }
        if let Err(panic) = dropped {
            called = Err(panic);
        }
        Poll::Ready(called)
    }

    /// Whether the last call got as far as the service.
    pub(super) const fn was_reached(&self) -> bool {
        matches!(self.call, Call::Pending(None))
    }

    /// Makes a service and asks it what it needs. Whatever was before is forgotten.
    pub(super) fn poll_offer(
        &mut self,
        around: &mut Around<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response, Failure>> {
        if matches!(self.call, Call::None) {
            self.discard();
            *self = Self::new();
            self.make(around.member)?;
            self.start_event(Event::Negotiate(around.offer), around);
        }
        let called = ready!(self.poll_call(around, cx));
        self.call = Call::None;
        Poll::Ready(called)
    }

    /// The chain's call was dropped, and this one's with it.
    pub(super) fn cancel(&mut self) {
        let task = std::mem::take(&mut self.task);
        let was_calling = matches!(std::mem::take(&mut self.call), Call::Pending(None));
        let dropped = match self.seat.here() {
            Some(service) if was_calling => service.clear(&self.span),
            _ => Ok(()),
        };
        if dropped.is_err() {
            self.discard();
            self.broke = true;
        } else if let Task::Introduce(step, _) = task {
            self.abandon(step, was_calling);
            self.broke = true;
        }
    }

    /// Its introduction ends on the way: it would be taken for one that was shown all it has to
    /// know.
    fn abandon(&mut self, step: Introduction, was_reached: bool) {
        if matches!(step, Introduction::Dismiss) && was_reached {
            // That was its last event.
            self.discard();
        }
        self.condemned = !self.seat.is_empty();
    }
}
