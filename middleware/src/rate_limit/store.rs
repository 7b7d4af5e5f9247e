use std::time::Duration;

use milter_tower::BoxError;

use super::{Key, Quota};

/// Where the buckets of a [rate limit](super) are: one for each key.
///
/// The one in [memory](super::Memory) is that of a process. A limit that several hosts share has
/// them in a store that all of them ask, over the network say: its future may take its time, as long
/// as the request's deadline is far. Where it fails, the layer does as
/// [`fail_closed`](super::RateLimitLayer::fail_closed) says.
///
/// ```
/// use std::future::{Ready, ready};
/// use std::time::Duration;
///
/// use milter_middleware::rate_limit::{Decision, Quota, RateLimitLayer, Store, Take};
/// use milter_tower::BoxError;
///
/// /// Has nothing for anybody.
/// struct Empty;
///
/// impl Store for Empty {
///     type Future = Ready<Result<Decision, BoxError>>;
///
///     fn take(&self, take: &Take<'_>) -> Self::Future {
///         println!("{} of {} for {}", take.cost, take.quota, take.key);
///         ready(Ok(Decision::Denied {
///             retry_after: Duration::from_secs(60),
///         }))
///     }
/// }
///
/// let layer = RateLimitLayer::per_client_ip(Quota::per_minute(60)).store(Empty);
/// # let _ = layer;
/// ```
pub trait Store: Send + Sync + 'static {
    /// Says whether there was enough. A future that is dropped before may have taken or not.
    type Future: Future<Output = Result<Decision, BoxError>> + Send;

    /// Takes from the bucket of a key, if there is enough: all or nothing.
    fn take(&self, take: &Take<'_>) -> Self::Future;
}

/// What is to be taken.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Take<'a> {
    /// From which bucket.
    pub key: &'a Key,
    /// How much, at least 1. More than the [burst](Quota::burst_size) is the burst.
    pub cost: u64,
    /// What bucket it is. A layer has one for all its keys.
    pub quota: Quota,
}

impl<'a> Take<'a> {
    /// So much of the bucket of a key, as tests of a store ask for it.
    pub const fn new(key: &'a Key, cost: u64, quota: Quota) -> Self {
        Self { key, cost, quota }
    }
}

/// What a [`Store`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// There was enough, and it was taken.
    Allowed,
    /// There was not, and nothing was taken.
    Denied {
        /// In what time there will be, if nobody else takes of it.
        retry_after: Duration,
    },
}
