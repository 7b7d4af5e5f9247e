//! A fresh service in the place of one that broke (D6).

use std::task::{Context, Poll, ready};

use milter_core::{Stage, Verdict};

use super::live::{Around, Asked, Call, Judgement, Live, Task};
use crate::error::Failure;
use crate::member::{Scope, needs_of};
use crate::request::Event;
use crate::response::Response;

/// How far a fresh service is introduced.
#[derive(Clone, Copy)]
pub(super) enum Introduction {
    /// The one before it hears of its end first.
    Dismiss,
    Make,
    Negotiate,
    Connect,
    Helo,
}

impl Introduction {
    pub(super) const START: Self = Self::Dismiss;
}

impl Live {
    /// Introduces a fresh service, and begins to ask it. Ready with a judgement, if it came to
    /// one; with none when another task is next.
    pub(super) fn poll_introduction(
        &mut self,
        around: &mut Around<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Judgement>> {
        let introduced = loop {
            let Task::Introduce(step, asked) = &mut self.task else {
                return Poll::Ready(None);
            };
            let (at, stage) = (*step, asked.stage());
            let next = match ready!(self.poll_step(at, stage, around, cx)) {
                Ok(Some(next)) => next,
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
            };
            if let Task::Introduce(step, _) = &mut self.task {
                *step = next;
            }
        };
        let Task::Introduce(_, asked) = std::mem::take(&mut self.task) else {
            return Poll::Ready(None);
        };
        let (stage, Asked { request, feed }) = (asked.stage(), *asked);
        Poll::Ready(match introduced {
            Ok(()) => self.begin(request, stage, feed),
            Err(failure) => Some(self.not_introduced(stage, failure, around)),
        })
    }

    /// A step of the introduction, and the one behind it.
    fn poll_step(
        &mut self,
        step: Introduction,
        before: Stage,
        around: &mut Around<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Introduction>, Failure>> {
        Poll::Ready(Ok(Some(match step {
            Introduction::Dismiss => {
                self.condemned = false;
                if !self.seat.is_empty() {
                    let _ = ready!(self.poll_event(|_| Some(Event::Close), around, cx));
                }
                Introduction::Make
            }
            Introduction::Make => {
                self.make(around.member)?;
                Introduction::Negotiate
            }
            Introduction::Negotiate => {
                let event = |around: &Around<'_>| Some(Event::Negotiate(around.offer));
                let response = ready!(self.poll_event(event, around, cx))?;
                if response.is_refused() {
                    return Poll::Ready(Err(Failure::Refuses));
                }
                if !self.view.agreement().serves(&needs_of(response)?) {
                    return Poll::Ready(Err(Failure::Unfit));
                }
                Introduction::Connect
            }
            Introduction::Connect => {
                let client = |around: &Around<'_>| around.session.connect().map(Event::Connect);
                if before != Stage::Connect {
                    ready!(self.poll_told(Stage::Connect, client, around, cx))?;
                }
                if self.view.is_standing() {
                    return Poll::Ready(Ok(None));
                }
                Introduction::Helo
            }
            Introduction::Helo => {
                let greeting = |around: &Around<'_>| around.session.greeting().map(Event::Helo);
                if !matches!(before, Stage::Connect | Stage::Helo) {
                    ready!(self.poll_told(Stage::Helo, greeting, around, cx))?;
                }
                return Poll::Ready(Ok(None));
            }
        })))
    }

    /// Tells it what it missed, if it wants to know. The MTA has its answer: what the service
    /// thinks of the client now holds for the messages that are left.
    fn poll_told(
        &mut self,
        stage: Stage,
        event: impl FnOnce(&Around<'_>) -> Option<Event>,
        around: &mut Around<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        if !self.view.agreement().delivers(stage) {
            return Poll::Ready(Ok(()));
        }
        let response = ready!(self.poll_event(event, around, cx))?;
        let checked = self.view.check(stage, response)?;
        if let Some(lost) = checked.lost {
            around.log(stage.name(), lost, None);
        }
        if checked.verdict != Verdict::Continue {
            self.view.stand(Scope::Session, checked.verdict);
        }
        Poll::Ready(Ok(()))
    }

    /// Calls it with an event, if there is one.
    fn poll_event(
        &mut self,
        event: impl FnOnce(&Around<'_>) -> Option<Event>,
        around: &mut Around<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response, Failure>> {
        if matches!(self.call, Call::None) {
            let Some(event) = event(around) else {
                return Poll::Ready(Ok(Response::proceed()));
            };
            self.start_event(event, around);
        }
        let called = ready!(self.poll_call(around, cx));
        self.call = Call::None;
        Poll::Ready(called)
    }

    /// What is said where no service took the place of the one that broke. One that did not fit
    /// hears of its end and nothing else.
    fn not_introduced(&mut self, stage: Stage, failure: Failure, around: &Around<'_>) -> Judgement {
        let is_unfit = matches!(failure, Failure::Unfit);
        self.condemned = !self.seat.is_empty();
        self.broke = true;
        let judgement = self.failed(stage, failure, around);
        if is_unfit {
            match around.member.on_failure.get(None).verdict() {
                Some(verdict) => self.view.stand(Scope::Connection, verdict),
                None => self.out = Some(Scope::Connection),
            }
        }
        judgement
    }
}
