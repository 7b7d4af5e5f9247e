use std::cell::Cell;
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::future::{Ready, ready};
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::RateLimiter;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use milter_tower::BoxError;
use tokio::time::Instant;

use super::quota::Measure;
use super::{Decision, Key, Quota, Store, Take};

/// How many keys are kept unless told otherwise.
pub(super) const MAX_KEYS: usize = 100_000;
/// Below that many keys none is looked for that could go.
const FEW: usize = 128;
/// A store that is full is not gone through more often.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The buckets of a [rate limit](super) in memory: the [`Store`] that a layer has unless told
/// otherwise.
///
/// A key whose bucket has become full again is as one that never came, and goes: whenever there are
/// twice as many keys as were left the last time. Beyond the [most](super::RateLimitLayer::max_keys)
/// none is added, and what comes by a new one is as the layer's
/// [`fail_closed`](super::RateLimitLayer::fail_closed) says.
pub struct Memory {
    max_keys: usize,
    measure: Measure,
    begin: Instant,
    buckets: Mutex<Buckets>,
}

struct Buckets {
    limiter: RateLimiter<Bucket, InKey, Now, NoOpMiddleware<Nanos>>,
    of: HashMap<Key, Bucket>,
    /// With that many keys those that can go do.
    sweep_at: usize,
    next_sweep: Duration,
}

impl Memory {
    pub(super) fn new(quota: Quota, max_keys: usize) -> Self {
        let measure = Measure::new(quota);
        Self {
            max_keys: max_keys.max(1),
            measure,
            begin: Instant::now(),
            buckets: Mutex::new(Buckets {
                limiter: RateLimiter::new(measure.quota(), InKey, Now::default()),
                of: HashMap::new(),
                sweep_at: FEW,
                next_sweep: Duration::ZERO,
            }),
        }
    }

    /// How many keys there are.
    pub fn keys(&self) -> usize {
        self.buckets().of.len()
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, take: &Take<'_>) -> Result<Decision, Full> {
        let mut buckets = self.buckets();
        let now = self.begin.elapsed();
        let cells = self.measure.cells(take.cost);
        buckets.limiter.clock().0.set(now.into());
        if let Some(bucket) = buckets.of.get(take.key) {
            return Ok(match buckets.limiter.check_key_n(bucket, cells) {
                Ok(Ok(())) => Decision::Allowed,
                Ok(Err(until)) => Decision::Denied {
                    retry_after: until.wait_time_from(now.into()),
                },
                // No more cells are asked for than a bucket has.
                Err(_) => Decision::Denied {
                    retry_after: take.quota.period(),
                },
            });
        }
        buckets.make_room(self.max_keys, now)?;
        let bucket = Bucket::default();
        // A full one has enough for all.
        let _ = buckets.limiter.check_key_n(&bucket, cells);
        buckets.of.insert(take.key.clone(), bucket);
        Ok(Decision::Allowed)
    }
}

impl Buckets {
    /// Has room for one more key.
    fn make_room(&mut self, most: usize, now: Duration) -> Result<(), Full> {
        let count = self.of.len();
        if count < self.sweep_at.min(most) {
            return Ok(());
        }
        if count < most || now >= self.next_sweep {
            self.next_sweep = now + SWEEP_EVERY;
            let now: Nanos = now.into();
            self.of.retain(|_, bucket| !bucket.is_full(now));
            self.sweep_at = FEW.max(self.of.len().saturating_mul(2));
            self.of.shrink_to(self.sweep_at);
        }
        if self.of.len() < most {
            Ok(())
        } else {
            Err(Full)
        }
    }
}

impl Store for Memory {
    type Future = Ready<Result<Decision, BoxError>>;

    fn take(&self, take: &Take<'_>) -> Self::Future {
        ready(self.decide(take).map_err(Into::into))
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("keys", &self.keys())
            .field("max_keys", &self.max_keys)
            .finish_non_exhaustive()
    }
}

/// There is no room for another key.
#[derive(Debug)]
struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the store of the rate limit is full: too many clients, senders or what it counts",
        )
    }
}

impl Error for Full {}

/// The state of a bucket: when it will be full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Bucket(Cell<Option<Nanos>>);

impl Bucket {
    fn is_full(&self, now: Nanos) -> bool {
        self.0.get().is_none_or(|full| full <= now)
    }
}

/// The limiter wants it of a key. Nobody hashes a bucket.
impl Hash for Bucket {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.get().map(Nanos::as_u64).hash(state);
    }
}

/// The limiter is given a bucket in the place of a key: who has the lock looks it up, and finds out
/// whether there is room.
struct InKey;

impl StateStore for InKey {
    type Key = Bucket;

    fn measure_and_replace<T, F, E>(&self, bucket: &Bucket, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (decided, full) = decide(bucket.0.get())?;
        bucket.0.set(Some(full));
        Ok(decided)
    }
}

/// The time since the store's begin, read once for each event: by Tokio's clock, which tests pause.
#[derive(Default)]
struct Now(Cell<Nanos>);

impl Clock for Now {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.get()
    }
}
