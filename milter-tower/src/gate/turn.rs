//! The event at hand.

use std::sync::Arc;

use milter_core::{Stage, Verdict};
use tower_service::Service;

use super::{At, OUT, OVER, OWN, SEEN, STANDS, Shared};
use crate::member::{Scope, Standing};
use crate::request::Request;
use crate::response::Response;

/// An event that came through a [`Gate`](super::Gate), and what may be said to it.
///
/// It goes with the layer's future, and is used up by the answer that the layer gives in the place
/// of the service within. Where that answers itself the turn is just dropped.
#[derive(Debug)]
#[must_use = "the service within is not asked unless it is called"]
pub struct Turn {
    shared: Arc<Shared>,
    at: At,
}

impl Turn {
    pub(super) const fn new(shared: Arc<Shared>, at: At) -> Self {
        Self { shared, at }
    }

    /// The stage; none at the negotiation and at ends.
    pub const fn stage(&self) -> Option<Stage> {
        match self.at {
            At::Stage { stage, .. } => Some(stage),
            At::Negotiation | At::End => None,
        }
    }

    /// Whether it is the negotiation, whose answer the layer widens by what it needs itself.
    pub const fn is_negotiation(&self) -> bool {
        matches!(self.at, At::Negotiation)
    }

    /// Whether the MTA waits for an answer to this event.
    pub const fn has_reply(&self) -> bool {
        matches!(self.at, At::Stage { due: true, .. })
    }

    /// Asks the service within, which must be ready.
    pub fn call<S: Service<Request>>(&self, inner: &mut S, request: Request) -> S::Future {
        if self.stage().is_some_and(Stage::is_of_message) && self.shared.flags() & SEEN == 0 {
            self.shared.set(SEEN);
        }
        inner.call(request)
    }

    /// Answers in the place of the service within: at once if that is possible here, and else from
    /// the next event on that can carry it.
    ///
    /// At the negotiation the MTA gets an agreement to everything, and the verdict from connect on.
    /// Where something ended answers mean nothing. To go on or to skip is no verdict that can
    /// stand: see [`leave_out`](Self::leave_out).
    pub fn instead(self, verdict: impl Into<Verdict>) -> Response {
        let verdict = verdict.into();
        let (stage, due) = match self.at {
            At::Stage { stage, due } => (stage, due),
            At::Negotiation => {
                let scope = Scope::Connection;
                self.stand(Some(Standing { scope, verdict }));
                return Response::proceed();
            }
            At::End => return Response::proceed(),
        };
        if matches!(verdict, Verdict::Continue | Verdict::Skip) {
            return Response::proceed();
        }
        if !due || !verdict.is_allowed_at(stage) {
            self.stand(Standing::since(stage, verdict));
            return Response::proceed();
        }
        if matches!(stage, Stage::Connect | Stage::Helo) {
            // The MTA asks no more, and one that does hears the same.
            self.stand(Standing::since(stage, verdict.clone()));
        } else if verdict.ends_message_at(stage) {
            self.shared.set(OVER);
        }
        verdict.into()
    }

    /// Leaves the service within out of the rest: of the message, or at connect and HELO of the
    /// session. The layer is then [alone](super::Entry::Alone) with what comes, the event at hand
    /// first.
    ///
    /// With the verdict of the service within, if it gave one that ended the message for it: it
    /// hears of that at the message's end, whatever the MTA was told.
    pub fn leave_out(&self, own: Option<Verdict>) {
        let At::Stage { stage, .. } = self.at else {
            return;
        };
        match stage {
            Stage::Unknown => {}
            stage if stage.is_of_message() => {
                if own.is_some() {
                    self.shared.kept().own = own;
                    self.shared.set(OWN);
                }
                self.shared.set(OVER);
            }
            _ => self.shared.set(OUT),
        }
    }

    fn stand(&self, standing: Option<Standing>) {
        if standing.is_some() {
            self.shared.kept().standing = standing;
            self.shared.set(STANDS);
        }
    }
}
