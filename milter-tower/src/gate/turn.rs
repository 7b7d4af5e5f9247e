//! The event at hand.

use std::sync::Arc;

use milter_core::{Stage, Verdict};
use tower_service::Service;

use super::{At, GONE, OUT, OVER, OWN, SEEN, SKIPS, STANDS, Shared};
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

    /// Whether an answer to this event counts: the MTA waits for one, and somebody asked to give it.
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
        self.answer(verdict.into(), Reach::Event)
    }

    /// Answers in the place of a service within that is of no more use: as
    /// [`instead`](Self::instead), and the same to what is left of the message, or before it of the
    /// session, also where only a recipient, DATA or an unknown command was refused. With the verdict
    /// to go on it is [left out](Self::leave_out).
    pub fn fail(self, verdict: impl Into<Verdict>) -> Response {
        self.answer(verdict.into(), Reach::Message)
    }

    /// Answers so, and the same to all that is left of the session.
    pub fn fail_session(self, verdict: impl Into<Verdict>) -> Response {
        self.answer(verdict.into(), Reach::Session)
    }

    fn answer(self, verdict: Verdict, reach: Reach) -> Response {
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
            self.go_on_without(stage, reach);
            return Response::proceed();
        }
        let is_told = due && verdict.is_allowed_at(stage);
        let ends_message = is_told && verdict.ends_message_at(stage);
        if ends_message {
            self.shared.set(OVER);
        }
        let since = match (reach, stage) {
            (Reach::Session, _) => Some(Stage::Connect),
            // Nothing more of it comes.
            _ if ends_message => None,
            // It may stand in the middle of a message.
            (Reach::Message, Stage::Unknown) => {
                let in_message = self.shared.flags() & SEEN != 0;
                in_message.then_some(Stage::Mail)
            }
            // The MTA asks no more after a verdict on the session; one that does hears the same.
            (Reach::Message, _) | (_, Stage::Connect | Stage::Helo) => Some(stage),
            (Reach::Event, _) => (!is_told).then_some(stage),
        };
        if let Some(since) = since {
            self.stand(Standing::since(since, verdict.clone()));
        }
        if is_told {
            verdict.into()
        } else {
            Response::proceed()
        }
    }

    /// Nothing is said in the place of a service within that is of no more use: it gets no more.
    fn go_on_without(&self, stage: Stage, reach: Reach) {
        match (reach, stage) {
            (Reach::Event, _) => {}
            (Reach::Session, _) => self.shared.set(OUT),
            (Reach::Message, Stage::Unknown) if self.shared.flags() & SEEN != 0 => {
                self.shared.set(OVER);
            }
            (Reach::Message, _) => self.leave_out(None),
        }
    }

    /// Leaves the service within out of the rest: of the message, at connect and HELO of the session,
    /// in the negotiation of the connection. The layer is then [alone](super::Entry::Alone) with what comes, the event at hand
    /// first.
    ///
    /// With the verdict of the service within, if it gave one that ended the message for it: it
    /// hears of that at the message's end, whatever the MTA was told.
    pub fn leave_out(&self, own: Option<Verdict>) {
        let stage = match self.at {
            At::Stage { stage, .. } => stage,
            At::Negotiation => return self.shared.set(GONE),
            At::End => return,
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

    /// For layers that have to see a message to its end: makes going on of an answer of the service
    /// within that wants no more of it. After an accept it is left out of the message, or at connect
    /// and HELO of the session; after a skip of the body. Other answers stay as they are.
    ///
    /// At the end the layer is [alone](super::Entry::Alone), and accepts.
    pub fn go_on(&self, response: Response) -> Response {
        let At::Stage { stage, .. } = self.at else {
            return response;
        };
        match response.verdict() {
            Verdict::Accept if stage != Stage::EndOfMessage => {
                self.leave_out(Some(Verdict::Accept));
            }
            Verdict::Skip => self.shared.set(SKIPS),
            _ => return response,
        }
        response.with_verdict(Verdict::Continue)
    }

    fn stand(&self, standing: Option<Standing>) {
        if standing.is_some() {
            self.shared.kept().standing = standing;
            self.shared.set(STANDS);
        }
    }
}

/// How far an answer reaches, if it could be told at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Event,
    Message,
    Session,
}
