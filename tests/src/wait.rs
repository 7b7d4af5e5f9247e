//! Bounded waits for a condition.

use std::thread;
use std::time::{Duration, Instant};

/// How long most things may take before a test calls them stuck.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks `probe` again and again until it has an answer.
///
/// # Errors
///
/// Says what was waited for when there is no answer within `limit`.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Option<T>,
) -> Result<T, String> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(answer) = probe() {
            return Ok(answer);
        }
        if start.elapsed() >= limit {
            return Err(format!("waited {limit:?} in vain for {what}"));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
