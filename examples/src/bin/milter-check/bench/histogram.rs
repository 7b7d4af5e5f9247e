//! Times, counted in memory that does not grow with their number.

use std::time::Duration;

/// Each power of two is cut into so many parts, as a power of two: a time is kept to three parts
/// in a hundred.
const PARTS: u32 = 5;

/// How often times occurred.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    /// In nanoseconds, exact.
    sum: u128,
    min: Option<Duration>,
    max: Duration,
}

/// A row of a drawing: times up to this, and how many there were.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) up_to: Duration,
    pub(crate) count: u64,
}

impl Histogram {
    pub(crate) fn add(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let place = place(nanos);
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] += 1;
        self.count += 1;
        self.sum += u128::from(nanos);
        self.min = Some(self.min.map_or(time, |min| min.min(time)));
        self.max = self.max.max(time);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn min(&self) -> Duration {
        self.min.unwrap_or_default()
    }

    pub(crate) fn max(&self) -> Duration {
        self.max
    }

    pub(crate) fn mean(&self) -> Duration {
        let mean = self.sum / u128::from(self.count.max(1));
        Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The time that so many of a thousand did not exceed.
    pub(crate) fn per_mille(&self, part: u64) -> Duration {
        let wanted = u128::from(self.count) * u128::from(part);
        let wanted = u64::try_from(wanted.div_ceil(1000)).unwrap_or(u64::MAX);
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted.max(1) {
                return Duration::from_nanos(upper(place)).min(self.max);
            }
        }
        self.max
    }

    /// At most so many rows from the shortest time to the longest, each as many times wider than
    /// the one before.
    pub(crate) fn rows(&self, most: u32) -> Vec<Row> {
        let (low, high) = (place(nanos(self.min())), place(nanos(self.max)));
        let places = high.saturating_sub(low) + 1;
        let step = places.div_ceil(usize::try_from(most.max(1)).unwrap_or(1));
        let counts = self.counts.get(low..=high).unwrap_or_default();
        let rows = counts.chunks(step).enumerate().map(|(nth, counts)| {
            let last = low + nth * step + counts.len() - 1;
            Row {
                up_to: Duration::from_nanos(upper(last)).min(self.max),
                count: counts.iter().sum(),
            }
        });
        rows.collect()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The place of a number: its leading bits, and how many follow.
fn place(number: u64) -> usize {
    let bits = 64 - number.leading_zeros();
    let shift = bits.saturating_sub(PARTS + 1);
    let lead = number >> shift;
    let place = (u64::from(shift) << PARTS) + lead;
    usize::try_from(place).unwrap_or(usize::MAX)
}

/// The largest number that has this place.
fn upper(place: usize) -> u64 {
    let place = place as u64;
    let shift = (place >> PARTS).saturating_sub(1);
    let lead = place - (shift << PARTS);
    let next = u128::from(lead + 1) << shift;
    u64::try_from(next - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_each_other_and_are_narrow() {
        assert_eq!((place(0), upper(0)), (0, 0));
        for place_of in 0..place(u64::MAX) {
            let last = upper(place_of);
            assert_eq!(place(last), place_of, "{last}");
            assert_eq!(place(last + 1), place_of + 1, "{last}");
            let width = upper(place_of + 1) - last;
            assert!(width <= last / 32 + 1, "{last} {width}");
        }
        assert_eq!(upper(place(u64::MAX)), u64::MAX);
    }

    fn of(millis: impl IntoIterator<Item = u64>) -> Histogram {
        let mut times = Histogram::default();
        millis
            .into_iter()
            .for_each(|ms| times.add(Duration::from_millis(ms)));
        times
    }

    #[test]
    fn percentiles_are_near_the_truth_and_never_below() {
        let times = of(1..=1000);
        assert_eq!(times.count(), 1000);
        assert_eq!(
            (times.min().as_millis(), times.max().as_millis()),
            (1, 1000)
        );
        assert_eq!(times.mean(), Duration::from_micros(500_500));
        for (part, truth) in [(500, 500), (900, 900), (990, 990), (999, 999), (1000, 1000)] {
            let found = times.per_mille(part).as_secs_f64() * 1e3;
            let truth = f64::from(truth);
            assert!(found >= truth && found <= truth * 1.04, "{part}: {found}");
        }
        assert!(of([10, 1000]).per_mille(500).as_millis() < 11);
        assert_eq!(Histogram::default().per_mille(500), Duration::ZERO);
        assert_eq!(of([7]).per_mille(1).as_millis(), 7);
    }

    #[test]
    fn rows_hold_all() {
        let times = of((1..=1000).chain([60_000]));
        for most in [1, 2, 7, 12, 1000] {
            let rows = times.rows(most);
            assert!(rows.len() <= most as usize, "{most}: {rows:?}");
            assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), 1001);
            assert_eq!(rows.last().unwrap().up_to, times.max());
            assert!(rows.is_sorted_by_key(|row| row.up_to));
        }
        assert_eq!(
            of([5, 5]).rows(12),
            [Row {
                up_to: Duration::from_millis(5),
                count: 2
            }]
        );
        assert_eq!(Histogram::default().rows(12), []);
    }
}
