//! What is counted of a load test.

use std::collections::BTreeMap;
use std::time::Duration;

use milter_tower::Stage;
use milter_tower::testing::{Reaction, Step};

use super::histogram::Histogram;
use crate::ending::{Ending, Expected};

/// The most different errors that are kept.
const ERRORS: usize = 8;

/// Counts, and times of what went well.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) endings: BTreeMap<Ending, u64>,
    /// Of those that got no verdict, why.
    pub(super) errors: BTreeMap<String, u64>,
    /// From the first byte of a message to its verdict.
    pub(super) messages: Histogram,
    /// Connecting and negotiating.
    pub(super) opening: Histogram,
    stages: [Histogram; Stage::ALL.len()],
}

impl Tally {
    /// A connection is there.
    pub(super) fn opened(&mut self, took: Duration) {
        self.opening.add(took);
    }

    /// A message got its verdict.
    pub(super) fn count(&mut self, ending: Ending, took: Duration, steps: &[Step]) {
        *self.endings.entry(ending).or_default() += 1;
        self.messages.add(took);
        for step in steps {
            let is_answered = matches!(step.reaction, Reaction::Answered(_));
            let place = Stage::ALL.iter().position(|stage| *stage == step.stage);
            let times = place.and_then(|place| self.stages.get_mut(place));
            if let (Some(times), true) = (times, is_answered) {
                times.add(step.took);
            }
        }
    }

    /// A message got none.
    pub(super) fn fail(&mut self, ending: Ending, why: &str) {
        *self.endings.entry(ending).or_default() += 1;
        let is_new = !self.errors.contains_key(why);
        let why = if is_new && self.errors.len() >= ERRORS {
            "other errors"
        } else {
            why
        };
        *self.errors.entry(why.to_owned()).or_default() += 1;
    }

    /// How many messages have ended, and how many of them without a verdict.
    pub(super) fn counts(&self) -> (u64, u64) {
        let failed = self
            .endings
            .iter()
            .filter(|(ending, _)| !ending.is_verdict());
        (
            self.endings.values().sum(),
            failed.map(|(_, count)| count).sum(),
        )
    }

    /// The times of the answers at each stage at which there were some.
    pub(super) fn stages(&self) -> impl Iterator<Item = (Stage, &Histogram)> {
        let stages = Stage::ALL.into_iter().zip(&self.stages);
        stages.filter(|(_, times)| times.count() > 0)
    }

    pub(super) fn exit_code(&self, expected: Option<Expected>) -> u8 {
        let endings = self.endings.keys();
        let codes = endings.map(|ending| match expected {
            None if ending.is_verdict() => 0,
            expected => ending.exit_code_if(expected),
        });
        codes.max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_and_no_times_of_them() {
        let mut tally = Tally::default();
        tally.count(Ending::Rejected, Duration::from_millis(1), &[]);
        assert_eq!(tally.exit_code(None), 0);
        assert_eq!(tally.exit_code(Some(Expected::Reject)), 0);
        assert_eq!(tally.exit_code(Some(Expected::Accept)), 1);
        for n in 0..20 {
            tally.fail(Ending::TimedOut, &format!("error {n}"));
        }
        assert_eq!(tally.counts(), (21, 20));
        assert_eq!(tally.messages.count(), 1);
        assert_eq!(tally.errors.len(), ERRORS + 1);
        assert_eq!(tally.errors["other errors"], 12);
        assert_eq!(tally.exit_code(None), 75);
    }
}
