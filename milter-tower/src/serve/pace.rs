//! How fast something that fails is tried again, and how often it is told.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// The first wait after a failure.
const FIRST: Duration = Duration::from_millis(10);
/// The longest.
const LONGEST: Duration = Duration::from_secs(1);
/// How often the same thing is logged.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Waits that grow with each failure, and differ from one server to the next.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after a failure.
    pub(super) fn next(&mut self) -> Duration {
        let whole = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        // Between half and whole: servers that failed together do not try again together.
        // A hasher's seed is the randomness that the standard library has.
        let random = u32::try_from(RandomState::new().hash_one(0_u8) >> 32).unwrap_or(0);
        whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Lets a log line pass that has not passed for a while.
#[derive(Debug, Default)]
pub(super) struct Gate {
    passed: Option<Instant>,
    held_back: u64,
}

impl Gate {
    /// Whether to log; and then how many lines were held back before.
    pub(super) fn pass(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.passed.is_some_and(|at| now < at + LOG_EVERY) {
            self.held_back += 1;
            return None;
        }
        self.passed = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_second_and_begin_anew() {
        let mut backoff = Backoff::default();
        let mut whole = FIRST;
        for _ in 0..100 {
            let wait = backoff.next();
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
            whole = (whole * 2).min(LONGEST);
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }

    #[test]
    fn waits_differ() {
        let waits = || Backoff { failures: 9 }.next();
        let first = waits();
        assert!((0..20).any(|_| waits() != first));
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_line_passes_once_a_minute() {
        let mut gate = Gate::default();
        assert_eq!(gate.pass(), Some(0));
        assert_eq!((gate.pass(), gate.pass()), (None, None));
        tokio::time::advance(LOG_EVERY).await;
        assert_eq!(gate.pass(), Some(2));
    }
}
