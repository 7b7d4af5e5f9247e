//! Points in time.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// As far as "never" goes: thirty years.
const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);

/// That long from then, or far in the future if no clock goes so far: `Duration::MAX` is how
/// people write "no time-out".
pub(crate) fn after(start: Instant, time: Duration) -> Instant {
    start.checked_add(time).unwrap_or_else(|| start + FAR)
}

/// The one timer of a connection. It is set anew only for an earlier time, or when it fired.
#[derive(Default)]
pub(crate) struct Clock {
    sleep: Option<Pin<Box<Sleep>>>,
    set_to: Option<Instant>,
}

impl Clock {
    /// Ready once this point in time has come.
    pub(crate) fn poll_until(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        loop {
            let sleep = self
                .sleep
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if self.set_to.is_none_or(|at| at > due) {
                sleep.as_mut().reset(due);
                self.set_to = Some(due);
            }
            ready!(sleep.as_mut().poll(cx));
            self.set_to = None;
            if Instant::now() >= due {
                return Poll::Ready(());
            }
        }
    }
}
