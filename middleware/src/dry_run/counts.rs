use std::sync::atomic::{AtomicU64, Ordering};

use milter_tower::Verdict;

/// What a filter would have done, over all connections.
#[derive(Debug, Default)]
pub struct Counts {
    refused: AtomicU64,
    discarded: AtomicU64,
    changed: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    /// How often it would have refused a client, a message, a recipient or a command, for good or for
    /// now.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How many messages it would have discarded.
    pub fn discarded(&self) -> u64 {
        self.discarded.load(Ordering::Relaxed)
    }

    /// How many messages it would have changed or held back.
    pub fn changed(&self) -> u64 {
        self.changed.load(Ordering::Relaxed)
    }

    /// How often it failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, verdict: &Verdict, edits: usize) {
        if verdict.is_refusal() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        } else if *verdict == Verdict::Discard {
            self.discarded.fetch_add(1, Ordering::Relaxed);
        } else if edits > 0 {
            self.changed.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_failure(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}
