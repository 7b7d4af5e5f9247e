//! Points in time.

use std::time::Duration;

use tokio::time::Instant;

/// As far as "never" goes: thirty years.
const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);

/// That long from then, or far in the future if no clock goes so far: `Duration::MAX` is how
/// people write "no time-out".
pub(crate) fn after(start: Instant, time: Duration) -> Instant {
    start.checked_add(time).unwrap_or_else(|| start + FAR)
}
