//! Whether a filter had the last word on the message at hand.

use milter_core::{Stage, Verdict};

use crate::request::Outcome;
use crate::response::Response;
use crate::session::Session;

/// What a filter said last of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum LastWord {
    /// No final verdict.
    #[default]
    None,
    /// A final verdict that does not refuse.
    LetPass,
    /// A refusal.
    Refused,
}

impl LastWord {
    pub(crate) const fn from_u8(word: u8) -> Self {
        match word {
            1 => Self::LetPass,
            2 => Self::Refused,
            _ => Self::None,
        }
    }

    /// What is left of it when the filter is asked at a stage: whoever is asked more of a message
    /// did not have the last word on it (a layer let pass what it had refused).
    pub(crate) const fn asked(self, stage: Stage) -> Self {
        if stage.is_of_message() {
            Self::None
        } else {
            self
        }
    }

    /// What a response at a stage makes of it.
    pub(crate) fn then(self, stage: Stage, response: &Response) -> Self {
        let verdict = response.verdict();
        if !verdict.ends_message_at(stage) {
            self
        } else if verdict.is_refusal() {
            Self::Refused
        } else {
            Self::LetPass
        }
    }

    /// Whether the message ended by it. Only a failure puts a refusal in the place of something
    /// else; and what was given up ended by nobody's verdict.
    pub(crate) fn decided(self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (Self::LetPass, Outcome::Verdict(verdict)) => !verdict.is_refusal(),
            (Self::Refused, Outcome::Verdict(_)) => true,
            _ => false,
        }
    }
}

/// Whether the MTA sends all of a body whatever is said: its rest is to be taken and shown to
/// nobody.
pub(crate) fn takes_all(stage: Stage, session: &Session) -> bool {
    stage == Stage::Body && session.agreement().is_some_and(|agreed| !agreed.skip())
}

/// Puts going on in the place of a skip. Whether there was one.
pub(crate) fn take_skip(response: Response) -> (Response, bool) {
    if *response.verdict() == Verdict::Skip {
        (response.with_verdict(Verdict::Continue), true)
    } else {
        (response, false)
    }
}
