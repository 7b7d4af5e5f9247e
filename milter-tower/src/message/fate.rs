//! What became of a message's edits: no handler may lose them unawares.

use std::sync::{Mutex, MutexGuard, PoisonError};

use milter_core::Verdict;

use super::error::MessageError;
use crate::error::BoxError;
use crate::response::Response;

/// Shared by a message and the service that lent it to a handler.
// Locked where a message is edited and where it ends, never at an event.
#[derive(Debug, Default)]
pub(super) struct Fate(Mutex<End>);

#[derive(Debug, Default)]
enum End {
    /// Nothing was changed.
    #[default]
    Unchanged,
    /// It was edited, and is still out or was let go.
    Edited,
    /// Its edits are in a response.
    GivenBack,
    /// Its edits cannot be made.
    Failed(MessageError),
    /// The handler has answered: edits come too late.
    Over,
}

impl Fate {
    fn lock(&self) -> MutexGuard<'_, End> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of an edit.
    pub(super) fn edited(&self) {
        let mut end = self.lock();
        if matches!(*end, End::Over) {
            tracing::warn!("a message was edited after its handler had answered: the edit is lost");
        } else {
            *end = End::Edited;
        }
    }

    /// Whether there are edits that were not given back.
    pub(super) fn is_edited(&self) -> bool {
        matches!(*self.lock(), End::Edited)
    }

    /// The edits came to nothing.
    pub(super) fn undone(&self) {
        *self.lock() = End::Unchanged;
    }

    /// The edits, if there are any, are in a response.
    pub(super) fn given_back(&self, any: bool) {
        *self.lock() = if any { End::GivenBack } else { End::Unchanged };
    }

    /// The edits cannot be made.
    pub(super) fn failed(&self, error: MessageError) {
        *self.lock() = End::Failed(error);
    }

    /// What the handler answered, unless that would lose edits.
    pub(super) fn judge(&self, answer: Result<Response, BoxError>) -> Result<Response, BoxError> {
        let end = std::mem::replace(&mut *self.lock(), End::Over);
        let response = answer?;
        let has_edits = !response.edits().is_empty() || response.edit_error().is_some();
        match (end, response.verdict()) {
            (End::Edited, Verdict::Continue | Verdict::Accept) => {
                Err(MessageError::EditsLost.into())
            }
            (End::GivenBack, Verdict::Continue | Verdict::Accept) if !has_edits => {
                Err(MessageError::EditsLost.into())
            }
            // What `accept` says then is tempfail: another refusal is the handler's own.
            (End::Failed(error), Verdict::Continue | Verdict::Accept | Verdict::TempFail) => {
                Err(error.into())
            }
            _ => Ok(response),
        }
    }
}

#[cfg(test)]
mod tests {
    use milter_core::SmtpReply;

    use super::*;

    fn stopped() -> MessageError {
        MessageError::Stopped
    }

    #[test]
    fn what_fails_and_what_does_not() {
        let accepts = [Response::accept(), Response::proceed()];
        let refuses = [
            Response::reject(),
            Response::discard(),
            SmtpReply::reject("no").into(),
        ];
        let judge = |set: &dyn Fn(&Fate), response: &Response| {
            let fate = Fate::default();
            set(&fate);
            fate.judge(Ok(response.clone())).is_ok()
        };
        let edited = |fate: &Fate| fate.edited();
        let undone = |fate: &Fate| {
            fate.edited();
            fate.undone();
        };
        let given_back = |fate: &Fate| fate.given_back(true);
        let failed = |fate: &Fate| fate.failed(stopped());
        for accept in &accepts {
            assert!(judge(&|_| {}, accept) && judge(&undone, accept));
            assert!(!judge(&edited, accept) && !judge(&given_back, accept));
            assert!(!judge(&failed, accept));
            let carries = accept.clone().add_header("X-A", "b");
            assert!(judge(&given_back, &carries));
            let spoilt = accept.clone().add_header("no name", "b");
            assert!(judge(&given_back, &spoilt));
        }
        for refusal in &refuses {
            assert!(judge(&edited, refusal) && judge(&given_back, refusal));
            assert!(judge(&failed, refusal));
        }
        // What `accept` answers when the edits cannot be made.
        assert!(!judge(&failed, &Response::tempfail()));
        assert!(judge(&edited, &Response::tempfail()));
    }
}
