use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// How much is let through in which time: the measure of a token bucket.
///
/// The bucket holds the [burst](Self::burst), is full at first, and fills evenly at the rate of the
/// quota. So in any stretch of time no more gets through than the burst and what the rate makes of
/// the stretch.
///
/// Nothing and no time are not possible: 0 is taken as 1, and no time as one nanosecond.
///
/// ```
/// use std::time::Duration;
///
/// use milter_middleware::rate_limit::Quota;
///
/// // One a second, of which five may come at once.
/// let quota = Quota::per_minute(60).burst(5);
/// assert_eq!(quota, Quota::new(60, Duration::from_secs(60)).burst(5));
/// assert_eq!(quota.to_string(), "60 in 60s, at most 5 at once");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    count: u64,
    period: Duration,
    burst: u64,
}

impl Quota {
    /// So much in that time, all of which may come at once.
    pub const fn new(count: u64, period: Duration) -> Self {
        let count = if count == 0 { 1 } else { count };
        let period = if period.is_zero() {
            Duration::from_nanos(1)
        } else {
            period
        };
        Self {
            count,
            period,
            burst: count,
        }
    }

    /// So much a second.
    pub const fn per_second(count: u64) -> Self {
        Self::new(count, Duration::from_secs(1))
    }

    /// So much a minute.
    pub const fn per_minute(count: u64) -> Self {
        Self::new(count, Duration::from_secs(60))
    }

    /// So much an hour.
    pub const fn per_hour(count: u64) -> Self {
        Self::new(count, Duration::from_secs(60 * 60))
    }

    /// So much in 24 hours.
    pub const fn per_day(count: u64) -> Self {
        Self::new(count, Duration::from_secs(24 * 60 * 60))
    }

    /// That much may come at once, less than the count or more. What is larger by itself, a message
    /// of more bytes say, counts as that much.
    #[must_use]
    pub const fn burst(mut self, burst: u64) -> Self {
        self.burst = if burst == 0 { 1 } else { burst };
        self
    }

    /// How much is let through in the [period](Self::period).
    pub const fn count(self) -> u64 {
        self.count
    }

    /// In which time the [count](Self::count) is let through.
    pub const fn period(self) -> Duration {
        self.period
    }

    /// How much is let through at once.
    pub const fn burst_size(self) -> u64 {
        self.burst
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, period, .. } = self;
        write!(f, "{count} in {period:?}, at most {} at once", self.burst)
    }
}

/// A quota in what the token bucket reckons with: 32 bits of cells, and whole nanoseconds. What does
/// not come out even is rounded so that less gets through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    burst: u64,
    /// Into which the burst is divided.
    cells: NonZeroU32,
    /// In which time one fills, in nanoseconds.
    cell: u64,
}

/// A cell fills in no less time than this many nanoseconds, if there is more than one, so that
/// rounding is by a thousandth at the most.
const LEAST_CELL: u128 = 1000;
/// A bucket takes no longer to fill, in nanoseconds: 36 years. The token bucket adds such times up, and
/// panics at what is beyond 64 bits.
const LONGEST: u128 = 1 << 60;

impl Measure {
    pub(super) fn new(quota: Quota) -> Self {
        let period = quota.period.as_nanos();
        let count = u128::from(quota.count);
        let most = LONGEST.saturating_mul(count) / period;
        let burst = u128::from(quota.burst).min(most).max(1);
        let fill = burst.saturating_mul(period).div_ceil(count).min(LONGEST);
        let cells = burst.min(u128::from(u32::MAX)).min(fill / LEAST_CELL);
        let cells = u32::try_from(cells).unwrap_or(u32::MAX);
        let cells = NonZeroU32::new(cells).unwrap_or(NonZeroU32::MIN);
        let cell = fill.div_ceil(u128::from(cells.get()));
        Self {
            burst: u64::try_from(burst).unwrap_or(u64::MAX),
            cells,
            cell: u64::try_from(cell).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn quota(self) -> governor::Quota {
        let one = governor::Quota::per_second(NonZeroU32::MIN);
        let rate = governor::Quota::with_period(Duration::from_nanos(self.cell));
        rate.unwrap_or(one).allow_burst(self.cells)
    }

    /// How many cells so much takes: at least one, at most all.
    pub(super) fn cells(self, cost: u64) -> NonZeroU32 {
        let cost = u128::from(cost.min(self.burst)) * u128::from(self.cells.get());
        let cells = u32::try_from(cost.div_ceil(u128::from(self.burst))).unwrap_or(u32::MAX);
        NonZeroU32::new(cells).unwrap_or(NonZeroU32::MIN)
    }
}
