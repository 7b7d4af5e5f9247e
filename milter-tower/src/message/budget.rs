//! How much of all bodies together is in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the bodies of a filter's clones may take in memory together.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(bytes),
        })
    }

    fn take(&self, bytes: usize) -> bool {
        let take = |left: usize| left.checked_sub(bytes);
        // It orders nothing else.
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What one body takes of a budget, which has it back when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Held {
    of: Option<Arc<Budget>>,
    bytes: usize,
}

impl Held {
    /// Has it cover so many bytes. Whether there was enough left.
    pub(super) fn cover(&mut self, bytes: usize, budget: &Arc<Budget>) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 {
            let budget = self.of.get_or_insert_with(|| Arc::clone(budget));
            if !budget.take(more) {
                return false;
            }
            self.bytes += more;
        }
        true
    }

    /// Whether it covers so many bytes.
    pub(super) const fn covers(&self, bytes: usize) -> bool {
        bytes <= self.bytes
    }

    /// Gives all of it back.
    pub(super) fn release(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if let Some(budget) = &self.of {
            budget.give_back(bytes);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_can_be_taken_again() {
        let budget = Budget::new(100);
        let (mut first, mut second) = (Held::default(), Held::default());
        assert!(first.cover(60, &budget) && first.cover(60, &budget) && first.cover(80, &budget));
        assert!(!second.cover(30, &budget) && second.cover(20, &budget));
        assert!(first.covers(80) && !first.covers(81));
        drop(first);
        assert!(second.cover(100, &budget));
        second.release();
        second.release();
        assert!(Held::default().cover(100, &budget) && second.cover(100, &budget));
        assert!(!Held::default().cover(1, &budget));
    }
}
