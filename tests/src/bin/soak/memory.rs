//! Whether memory stays where it was.

/// By how many KiB it may grow in any case.
const SLACK: u64 = 2 << 10;

/// What became of the memory, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Growth {
    /// The median of the run's second tenth.
    pub(crate) early: u64,
    /// The median of its last quarter.
    pub(crate) late: u64,
}

impl Growth {
    /// Of samples at equal distances over the whole run. None when there are too few.
    pub(crate) fn of(samples: &[u64]) -> Option<Self> {
        let count = samples.len();
        Some(Self {
            early: median(&samples[count / 10..count / 5])?,
            late: median(&samples[count - count / 4..])?,
        })
    }

    /// The most that `late` may be.
    pub(crate) fn most(self) -> u64 {
        self.early + (self.early / 10).max(SLACK)
    }

    pub(crate) fn is_flat(self) -> bool {
        self.late <= self.most()
    }
}

fn median(samples: &[u64]) -> Option<u64> {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_growing_is_not_flat() {
        // From 10 MiB to 20 MiB; and with a peak that passes; and that grows only at first.
        let grows: Vec<u64> = (0..100).map(|n| (10 << 10) + n * 100).collect();
        assert!(!Growth::of(&grows).unwrap().is_flat());
        let peak: Vec<u64> = (0..100)
            .map(|n| if n == 50 { 90_000 } else { 9000 })
            .collect();
        assert!(Growth::of(&peak).unwrap().is_flat());
        let settles: Vec<u64> = (0..100).map(|n| 9000 * (n + 1).min(10)).collect();
        assert_eq!(
            Growth::of(&settles),
            Some(Growth {
                early: 90_000,
                late: 90_000
            })
        );
        assert_eq!(Growth::of(&[1, 2, 3]), None);
    }

    #[test]
    fn a_tenth_or_two_mebibytes_more_are_no_growth() {
        let growth = |early, late| Growth { early, late };
        assert!(growth(5000, 5000 + 2048).is_flat());
        assert!(!growth(5000, 5000 + 2049).is_flat());
        assert!(growth(100_000, 110_000).is_flat());
        assert!(!growth(100_000, 110_001).is_flat());
    }
}
