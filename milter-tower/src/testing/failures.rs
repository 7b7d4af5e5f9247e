//! How a filter failed, as the server saw it.

use std::error::Error;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Failure;

/// The most that is taken down: a filter may fail at each of many headers.
const MOST: usize = 100;

/// Where the server takes down what it logs of a filter, shared by its clones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failures(Arc<Mutex<Vec<String>>>);

impl Failures {
    /// Takes down a failure of the filter's own: passing a limit is not its fault, nor what the
    /// MTA does.
    pub(crate) fn note(&self, at: &str, failure: &Failure) {
        let is_its_own = !matches!(
            failure,
            Failure::TooManyRecipients(_)
                | Failure::TooManyHeaders(_)
                | Failure::TooLargeHeaders(_)
                | Failure::TooMuchHeld(_)
                | Failure::Misplaced(_)
        );
        if !is_its_own {
            return;
        }
        let mut text = format!("{at}: {failure}");
        let mut source = failure.source();
        while let Some(error) = source {
            let _ = write!(text, ": {error}");
            source = error.source();
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < MOST {
            all.push(text);
        }
    }

    /// What was taken down since it was asked for last.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
