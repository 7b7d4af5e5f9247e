//! Ends: each member hears of each end once, whatever the others do (D5).

use std::task::{Context, Poll};

use super::live::{Call, Live};
use super::running::Running;
use crate::request::{Event, Outcome, Request};
use crate::response::Response;

impl Running {
    /// Begins to tell the members: all at once, so that one that hangs keeps no other from hearing
    /// of it.
    pub(super) fn start_end(&mut self, request: &Request) {
        let decided = self.content.decided.is_some();
        for at in 0..self.members.len() {
            let Some((live, mut around)) = self.member(at, request.session()) else {
                continue;
            };
            around.behind = 0;
            if let Some(event) = live.end(request.event(), decided) {
                live.start_event(event, &mut around);
            }
        }
        self.in_message = false;
    }

    pub(super) fn poll_end(&mut self, request: &Request, cx: &mut Context<'_>) -> Poll<Response> {
        let mut pends = false;
        for at in 0..self.members.len() {
            let Some((live, mut around)) = self.member(at, request.session()) else {
                continue;
            };
            if matches!(live.call, Call::None) {
                continue;
            }
            match live.poll_call(&mut around, cx) {
                Poll::Ready(told) => {
                    if let Err(failure) = told {
                        around.log("end", failure, None);
                    }
                    live.end_told();
                }
                Poll::Pending => pends = true,
            }
        }
        if pends {
            return Poll::Pending;
        }
        self.ended(request);
        Poll::Ready(Response::proceed())
    }

    /// All members have been told.
    pub(super) fn ended(&mut self, request: &Request) {
        let session = request.session();
        for live in &mut self.members {
            if matches!(request.event(), Event::Close) {
                live.discard();
                live.apart.end_connection();
            } else {
                live.apart.end_message(session);
                live.shrink();
            }
        }
        self.content.begin_message();
        self.judgements = Vec::new();
        self.time.shrink();
    }
}

impl Live {
    /// What it is told of an end, if anything.
    fn end(&mut self, event: &Event, decided: bool) -> Option<Event> {
        match event {
            Event::MessageEnd(outcome) => {
                let own = self.over.take();
                let told = self.end_message();
                let is_owed = told || self.seat.may_owe_end();
                if !is_owed || self.is_broken() {
                    return None;
                }
                Some(Event::MessageEnd(match (own, outcome) {
                    (Some(own), _) => Outcome::Verdict(own),
                    // The verdict was another member's.
                    (None, Outcome::Verdict(_)) if decided => Outcome::Aborted,
                    (None, outcome) => outcome.clone(),
                }))
            }
            Event::SessionEnd => {
                self.end_session();
                (!self.is_broken()).then_some(Event::SessionEnd)
            }
            _ => {
                self.condemned = false;
                (!self.seat.is_empty()).then_some(Event::Close)
            }
        }
    }

    fn end_told(&mut self) {
        if matches!(self.call, Call::Pending(Some(_))) {
            // It was not ready in time, and would take what comes next for a part of the same.
            self.discard();
        }
        self.call = Call::None;
    }

    /// The chain's call about an end was dropped, and this one's with it.
    pub(super) fn cancel_end(&mut self) {
        if matches!(self.call, Call::Pending(Some(_))) {
            self.discard();
        }
        self.cancel();
    }
}
