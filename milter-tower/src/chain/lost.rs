//! Calls that were lost to a stricter verdict: each runs on by itself, on a task of its own that
//! takes the member's service along.
//!
//! What the member is asked or told next waits until the service is back.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use milter_core::Stage;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::Span;

use super::introduce::Introduction;
use super::judge::log;
use super::live::{Around, Call, Live, Task};
use super::prototype::Instance;
use crate::error::Failure;
use crate::guard::guard;
use crate::request::Request;
use crate::session::Session;

/// What the log shows as the answer to a call that was lost.
const OUTDONE: &str = "outdone by another's";

/// Where a member's service is.
#[derive(Default)]
pub(super) enum Seat {
    /// There is none: before the negotiation, and after it broke.
    #[default]
    Empty,
    Here(Box<dyn Instance>),
    /// A call of it was lost, and runs on.
    Away(Lost),
}

/// A service whose call was lost. It ends with this: nobody is left to take its service back.
pub(super) struct Lost {
    back: JoinHandle<Back>,
    /// Nothing is sent: it is dropped to have the service back at once.
    recall: Option<oneshot::Sender<Infallible>>,
    /// What the call is about, for the log.
    at: &'static str,
    /// The event's stage, if the service was not ready for it: it may see it yet, or never.
    unseen: Option<Stage>,
    /// The message's end is to be told if it saw that event, and only then.
    owes_end: bool,
    /// It was its last event.
    is_last: bool,
}

/// What comes back.
struct Back {
    /// None if it broke, which was logged.
    service: Option<Box<dyn Instance>>,
    was_called: bool,
}

/// A call that runs on.
struct Running {
    service: Box<dyn Instance>,
    request: Option<Request>,
    span: Span,
    name: Arc<str>,
    session: Session,
    at: &'static str,
}

impl Seat {
    pub(super) const fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// The service, unless it is away.
    pub(super) fn here(&mut self) -> Option<&mut dyn Instance> {
        match self {
            Self::Here(service) => Some(&mut **service),
            Self::Empty | Self::Away(_) => None,
        }
    }

    /// Whether the service may still see something of a message that is over, and has to hear of
    /// that afterwards.
    pub(super) fn may_owe_end(&mut self) -> bool {
        let Self::Away(lost) = self else {
            return false;
        };
        lost.owes_end = lost.unseen.is_some_and(Stage::is_of_message);
        lost.owes_end
    }
}

impl Live {
    /// Its answer does not count any more. The call that it is in runs on.
    pub(super) fn lose(&mut self, around: &Around<'_>) {
        let task = std::mem::take(&mut self.task);
        let call = std::mem::take(&mut self.call);
        self.seat = match (call, std::mem::take(&mut self.seat)) {
            (Call::Pending(request), Seat::Here(service)) => {
                Seat::Away(self.run_on(service, request, &task, around))
            }
            // With one that is away the event waited for another lost call, and is not begun.
            (_, seat) => seat,
        };
        if matches!(task, Task::Introduce(..)) {
            // It would be taken for one that was shown all it has to know.
            self.condemned = !self.seat.is_empty();
        }
    }

    fn run_on(
        &self,
        service: Box<dyn Instance>,
        request: Option<Request>,
        task: &Task,
        around: &Around<'_>,
    ) -> Lost {
        let unseen = request.as_ref().and_then(|request| request.event().stage());
        let at = task.stage().map_or("lost", Stage::name);
        let running = Running {
            service,
            request,
            span: self.span.clone(),
            name: Arc::clone(&around.member.name),
            session: around.session.clone(),
            at,
        };
        let (recall, recalled) = oneshot::channel();
        let (deadline, limit) = around.time.of_call();
        Lost {
            back: tokio::spawn(running.run(deadline, limit, recalled)),
            recall: Some(recall),
            at,
            unseen,
            owes_end: false,
            is_last: matches!(task, Task::Introduce(Introduction::Dismiss, _)),
        }
    }

    /// Waits for a call that was lost: one at a time (D3). One that takes longer than this event
    /// may is dropped, so that what comes next has a service to go to. Whether the event goes to
    /// the service: it does not if it is the end of what the service did not see.
    pub(super) fn poll_lost(
        &mut self,
        around: &mut Around<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Failure>> {
        let Seat::Away(lost) = &mut self.seat else {
            return Poll::Ready(Ok(true));
        };
        let back = match Pin::new(&mut lost.back).poll(cx) {
            Poll::Ready(back) => back,
            Poll::Pending => {
                let limit = ready!(around.time.poll_over(cx));
                if lost.recall.take().is_some() {
                    let late = Failure::Deadline(limit);
                    log(around.member.name(), around.session, lost.at, late, OUTDONE);
                }
                return Poll::Pending;
            }
        };
        let Lost {
            unseen,
            owes_end,
            is_last,
            ..
        } = *lost;
        self.seat = Seat::Empty;
        // Without a result its runtime shuts down.
        let (service, was_called) = match back {
            Ok(mut back) => (back.service.take(), back.was_called),
            Err(_) => (None, true),
        };
        if let Some(stage) = unseen.filter(|_| was_called && !owes_end) {
            self.view.reach(stage);
        }
        let Some(service) = service.filter(|_| !(is_last && was_called)) else {
            self.condemned = false;
            self.broke = true;
            return Poll::Ready(Err(Failure::Broken));
        };
        self.seat = Seat::Here(service);
        Poll::Ready(Ok(was_called || !owes_end))
    }
}

impl Running {
    async fn run(
        mut self,
        deadline: Instant,
        limit: Duration,
        recalled: oneshot::Receiver<Infallible>,
    ) -> Back {
        let (mut recalled, mut over) = (pin!(recalled), pin!(sleep_until(deadline)));
        let failed = poll_fn(|cx| {
            let polled = self.service.poll(&mut self.request, &self.span, cx);
            if let Poll::Ready(called) = polled {
                return Poll::Ready(called.err());
            }
            if recalled.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            let late = |()| Some(Failure::Deadline(limit));
            over.as_mut().poll(cx).map(late)
        })
        .await;
        let panic = self.service.clear(&self.span).err();
        let was_called = self.request.is_none();
        let is_broken = [&failed, &panic]
            .into_iter()
            .flatten()
            .any(Failure::breaks_service);
        for failure in [failed, panic].into_iter().flatten() {
            log(&self.name, &self.session, self.at, failure, OUTDONE);
        }
        let mut back = Back {
            service: Some(self.service),
            was_called,
        };
        if is_broken {
            back.discard();
        }
        back
    }
}

impl Back {
    fn discard(&mut self) {
        let service = self.service.take();
        // A service that panics when it is dropped has nothing more to break.
        let _ = guard(|| drop(service));
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        self.discard();
    }
}
