//! The futures of calls.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use milter_core::Verdict;

use super::fate::Fate;
use super::filter::Decision;
use super::state::{Kept, Later};
use crate::error::BoxError;
use crate::response::Response;

type Answer = Result<Response, BoxError>;

/// The response of a [`MessageFilter`](super::MessageFilter).
///
/// Most are ready at once. Dropped before it is, it takes the handler of its message with it.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(Kind);

enum Kind {
    Ready(Option<Answer>),
    /// A recipient.
    Check(Decision),
    Run(Run),
}

/// A handler at an event.
pub(super) struct Run {
    pub(super) decision: Decision,
    pub(super) fate: Arc<Fate>,
    /// None at the end of the message.
    pub(super) turn: Option<Turn>,
}

/// An event before the end of the message.
pub(super) struct Turn {
    pub(super) later: Arc<Later>,
    pub(super) says: Says,
    /// The rest of the body can be skipped.
    pub(super) may_skip: bool,
    /// And nobody will read it.
    pub(super) is_cut: bool,
}

/// What can be said at an event of what was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// No reply is due.
    Nothing,
    /// Recipients are still to be checked: to accept the message would be the last word.
    Refusals,
    All,
}

impl ResponseFuture {
    pub(super) fn ready(answer: Answer) -> Self {
        Self(Kind::Ready(Some(answer)))
    }

    pub(super) fn proceed() -> Self {
        Self::ready(Ok(Response::proceed()))
    }

    pub(super) fn check(decision: Decision) -> Self {
        Self(Kind::Check(decision))
    }

    pub(super) fn run(run: Run) -> Self {
        Self(Kind::Run(run))
    }
}

impl Future for ResponseFuture {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let this = self.get_mut();
        let answer = match &mut this.0 {
            // Polled again after it was ready, it has nothing to say.
            Kind::Ready(answer) => return answer.take().map_or(Poll::Pending, Poll::Ready),
            Kind::Check(decision) => ready!(decision.as_mut().poll(cx)).map(as_check),
            Kind::Run(run) => {
                let Some(answer) = ready!(run.poll(cx)) else {
                    let kind = std::mem::replace(&mut this.0, Kind::Ready(None));
                    return Poll::Ready(Ok(kind.put_off()));
                };
                answer
            }
        };
        this.0 = Kind::Ready(None);
        Poll::Ready(answer)
    }
}

impl Kind {
    /// Leaves a handler that waits for more to the next event.
    fn put_off(self) -> Response {
        match self {
            Self::Run(run) => run.put_off(),
            _ => Response::proceed(),
        }
    }
}

/// A recipient is taken or not; accepting it is not to accept the message unseen.
fn as_check(response: Response) -> Response {
    match response.verdict() {
        Verdict::Accept => response.with_verdict(Verdict::Continue),
        _ => response,
    }
}

impl Run {
    /// The answer; none if the handler may go on later.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        if let Poll::Ready(decided) = self.decision.as_mut().poll(cx) {
            let decided = self.fate.judge(decided);
            return Poll::Ready(Some(match &self.turn {
                None => decided,
                Some(turn) => decided.map(|response| turn.settle(response)),
            }));
        }
        // It may go on at the next event if it can be given more of the body then.
        let feed = self.turn.as_ref().and_then(|turn| turn.later.feed.as_ref());
        if feed.is_some_and(|feed| feed.poll_room(cx).is_ready()) {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }

    /// Leaves the handler to the next event.
    pub(super) fn put_off(self) -> Response {
        let Some(turn) = self.turn else {
            return Response::proceed();
        };
        turn.later.put(Kept::Running(self.decision, self.fate));
        if turn.is_cut {
            turn.meanwhile()
        } else {
            Response::proceed()
        }
    }
}

impl Turn {
    /// Says what was decided, or keeps it until the end of the message.
    fn settle(&self, response: Response) -> Response {
        let accepts = matches!(response.verdict(), Verdict::Continue | Verdict::Accept);
        let changes = !response.edits().is_empty() || response.edit_error().is_some();
        let answer = if accepts {
            response.with_verdict(Verdict::Accept)
        } else if response.is_refused() {
            response
        } else {
            // Only an accepted message is changed.
            response.verdict().clone().into()
        };
        let is_said = match self.says {
            Says::Nothing => answer.is_refused(),
            Says::Refusals => !accepts,
            Says::All => !(accepts && changes),
        };
        if is_said {
            self.later.put(Kept::Over);
            return answer;
        }
        self.later.put(Kept::Decided(answer));
        self.meanwhile()
    }

    /// The answer where nothing is said, and no more of the body is wanted.
    pub(super) fn meanwhile(&self) -> Response {
        if self.may_skip {
            Response::skip()
        } else {
            Response::proceed()
        }
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.0 {
            Kind::Ready(_) => "ready",
            Kind::Check(_) => "checks a recipient",
            Kind::Run(_) => "runs the handler",
        };
        f.debug_tuple("ResponseFuture").field(&what).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It is moved at each event.
    #[test]
    fn small() {
        let size = size_of::<ResponseFuture>();
        assert!(size <= 80, "{size}");
    }
}
