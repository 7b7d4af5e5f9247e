//! What a router said of the message at hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use milter_core::{Stage, Verdict};

use crate::request::Outcome;
use crate::response::Response;

/// It gave its final verdict, and did not refuse.
const LET_PASS: u8 = 1;
/// It gave its final verdict, and refused.
const REFUSED: u8 = 1 << 1;
/// It wants no more of the body.
const SKIPS: u8 = 1 << 2;

/// What was said, written down by the futures of calls. Made when it is first used.
#[derive(Default)]
pub(super) struct Said(Option<Arc<AtomicU8>>);

impl Said {
    /// For the future of a call at this stage.
    pub(super) fn watch(&mut self, stage: Stage, takes_all: bool) -> Watch {
        Watch {
            said: Arc::clone(self.0.get_or_insert_default()),
            stage,
            takes_all,
        }
    }

    fn bits(&self) -> u8 {
        self.0
            .as_ref()
            .map_or(0, |bits| bits.load(Ordering::Relaxed))
    }

    pub(super) fn skips(&self) -> bool {
        self.bits() & SKIPS != 0
    }

    /// Whether the message ended by what was said. Only a failure puts a refusal in the place of
    /// something else.
    pub(super) fn had_the_last_word(&self, outcome: &Outcome) -> bool {
        let bits = self.bits();
        let is_refused = matches!(outcome, Outcome::Verdict(verdict) if verdict.is_refusal());
        bits & REFUSED != 0 || bits & LET_PASS != 0 && !is_refused
    }

    /// The message is over.
    pub(super) fn forget(&self) {
        if let Some(bits) = &self.0 {
            bits.store(0, Ordering::Relaxed);
        }
    }
}

/// Writes down what a handler says.
pub(super) struct Watch {
    said: Arc<AtomicU8>,
    stage: Stage,
    /// The MTA sends all of the body whatever is said.
    takes_all: bool,
}

impl Watch {
    /// Writes down a response, and makes of it what the MTA can take.
    pub(super) fn heard(&self, response: Response) -> Response {
        let verdict = response.verdict();
        if self.takes_all && *verdict == Verdict::Skip {
            self.said.fetch_or(SKIPS, Ordering::Relaxed);
            return response.with_verdict(Verdict::Continue);
        }
        if verdict.ends_message_at(self.stage) {
            let what = if verdict.is_refusal() {
                REFUSED
            } else {
                LET_PASS
            };
            self.said.fetch_or(what, Ordering::Relaxed);
        }
        response
    }
}
