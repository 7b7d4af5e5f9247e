//! What a router said of the message at hand.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use std::sync::{Arc, OnceLock};

use milter_core::{Needs, Stage};

use crate::asked::{Asked, drop_verdict};
use crate::last_word::{LastWord, take_skip, takes_all};
use crate::request::Outcome;
use crate::response::Response;
use crate::session::Session;

/// What was said, written down by the futures of calls. Made when it is first used.
#[derive(Default)]
pub(super) struct Said(Option<Arc<Facts>>);

#[derive(Default)]
struct Facts {
    last_word: AtomicU8,
    /// No more of the body is wanted.
    skips: AtomicBool,
    /// What was asked of the MTA, if a handler of the negotiation said that; otherwise each event
    /// with a handler, and those with a reply whose handler may say something.
    asked: OnceLock<Asked>,
}

impl Said {
    /// For the future of a call at this stage.
    pub(super) fn watch(&mut self, stage: Stage, session: &Session) -> Watch {
        let said = Arc::clone(self.0.get_or_insert_default());
        said.set_last_word(said.last_word().asked(stage));
        Watch {
            stage,
            takes_all: takes_all(stage, session),
            is_overruled: said.asked().is_overruled(stage, session),
            said,
        }
    }

    /// For the future of the negotiation.
    pub(super) fn asking(&mut self) -> Asking {
        Asking(Arc::clone(self.0.get_or_insert_default()))
    }

    /// What was asked of the MTA.
    pub(super) fn asked(&self) -> Asked {
        self.0.as_ref().map_or(Asked::ALL, |facts| facts.asked())
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

    fn asked(&self) -> Asked {
        self.asked.get().copied().unwrap_or(Asked::ALL)
    }
}

/// Writes down what a handler of the negotiation asks for.
pub(super) struct Asking(Arc<Facts>);

impl Asking {
    /// There is one negotiation.
    pub(super) fn asks(&self, needs: &Needs) {
        let _ = self.0.asked.set(needs.into());
    }
}

/// Writes down what a handler says.
pub(super) struct Watch {
    said: Arc<Facts>,
    stage: Stage,
    /// The MTA sends all of the body whatever is said.
    takes_all: bool,
    /// What is said does not count, though the MTA waits for it.
    is_overruled: bool,
}

impl Watch {
    /// Writes down a response, and makes of it what the MTA can take.
    pub(super) fn heard(&self, mut response: Response) -> Response {
        if self.takes_all {
            let skips;
            (response, skips) = take_skip(response);
            self.said.skips.fetch_or(skips, Ordering::Relaxed);
        }
        if self.is_overruled {
            response = drop_verdict(self.stage, response);
        }
        if !self.said.asked().is_silent(self.stage) {
            let word = self.said.last_word().then(self.stage, &response);
            self.said.set_last_word(word);
        }
        response
    }
}
