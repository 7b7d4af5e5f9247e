//! What the service within said of a message.

use std::sync::{Mutex, MutexGuard, PoisonError};

use milter_tower::{Modification, ModificationKind, Response, Session, Stage, Verdict};

use crate::classify::{FailureClass, names};

/// What the service within said of the message at hand, or before it of the session: written by the
/// futures of its calls where there is something to write, read when a line is.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Answers>);

#[derive(Debug, Default)]
pub(super) struct Answers {
    /// How many recipients it refused.
    pub(super) refused: u32,
    /// Its last verdict but to go on, and where.
    pub(super) verdict: Option<(Stage, Verdict)>,
    pub(super) edits: [u32; names::EDITS.len()],
    pub(super) quarantine: Option<Vec<u8>>,
    /// Its first failure, and at which event.
    pub(super) failure: Option<(FailureClass, &'static str)>,
    /// What was known when a call was given up.
    pub(super) session: Option<Session>,
}

impl Told {
    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self) -> Answers {
        std::mem::take(&mut self.lock())
    }

    /// Takes note of an answer other than to go on.
    pub(super) fn answer(&self, stage: Stage, response: &Response) {
        if stage == Stage::Unknown {
            // It is part of nothing.
            return;
        }
        let mut answers = self.lock();
        let verdict = response.verdict();
        if stage == Stage::Rcpt && verdict.is_refusal() {
            answers.refused += 1;
        }
        if !matches!(verdict, Verdict::Continue | Verdict::Skip) {
            answers.verdict = Some((stage, verdict.clone()));
        }
        if stage == Stage::EndOfMessage {
            answers.edits(response.edits());
        }
    }

    pub(super) fn failure(&self, class: FailureClass, at: &'static str) {
        self.lock().failure.get_or_insert((class, at));
    }

    /// A call was given up: the service may be, too, and hear of no end.
    pub(super) fn given_up(&self, session: Session) {
        self.lock().session = Some(session);
    }
}

impl Answers {
    fn edits(&mut self, edits: &[Modification]) {
        for edit in edits {
            let kind = edit.kind();
            if let Some(at) = names::edit(&kind) {
                self.edits[at] += 1;
            }
            if let ModificationKind::Quarantine { reason } = kind {
                self.quarantine = Some(reason.to_vec());
            }
        }
    }
}
