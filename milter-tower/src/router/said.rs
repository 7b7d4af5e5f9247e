//! What a router said of the message at hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use milter_core::Stage;

use crate::last_word::{LastWord, take_skip};
use crate::request::Outcome;
use crate::response::Response;

/// What was said, written down by the futures of calls. Made when it is first used.
#[derive(Default)]
pub(super) struct Said(Option<Arc<Facts>>);

#[derive(Default)]
struct Facts {
    last_word: AtomicU8,
    /// No more of the body is wanted.
    skips: AtomicBool,
}

impl Said {
    /// For the future of a call at this stage.
    pub(super) fn watch(&mut self, stage: Stage, takes_all: bool) -> Watch {
        Watch {
            said: Arc::clone(self.0.get_or_insert_default()),
            stage,
            takes_all,
        }
    }

    pub(super) fn skips(&self) -> bool {
        let facts = self.0.as_ref();
        facts.is_some_and(|facts| facts.skips.load(Ordering::Relaxed))
    }

    /// Whether the message ended by what was said.
    pub(super) fn decided(&self, outcome: &Outcome) -> bool {
        let facts = self.0.as_ref();
        facts.is_some_and(|facts| facts.last_word().decided(outcome))
    }

    /// The message is over.
    pub(super) fn forget(&self) {
        if let Some(facts) = &self.0 {
            facts.set_last_word(LastWord::None);
            facts.skips.store(false, Ordering::Relaxed);
        }
    }
}

// One call at a time: each sees what the last one wrote.
impl Facts {
    fn last_word(&self) -> LastWord {
        LastWord::from_u8(self.last_word.load(Ordering::Relaxed))
    }

    fn set_last_word(&self, word: LastWord) {
        self.last_word.store(word as u8, Ordering::Relaxed);
    }
}

/// Writes down what a handler says.
pub(super) struct Watch {
    said: Arc<Facts>,
    stage: Stage,
    /// The MTA sends all of the body whatever is said.
    takes_all: bool,
}

impl Watch {
    /// Writes down a response, and makes of it what the MTA can take.
    pub(super) fn heard(&self, mut response: Response) -> Response {
        if self.takes_all {
            let skips;
            (response, skips) = take_skip(response);
            self.said.skips.fetch_or(skips, Ordering::Relaxed);
        }
        let word = self.said.last_word().then(self.stage, &response);
        self.said.set_last_word(word);
        response
    }
}
