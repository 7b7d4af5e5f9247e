//! Telling the MTA that work goes on.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

use futures::task::AtomicWaker;

/// A handle with which a filter tells the MTA, at the end of a message, that it is still at work.
///
/// There is rarely a need to: the server tells it by itself, once a second, for as long as the
/// filter has time (see [`Request::deadline`](crate::Request::deadline)). The handle may be
/// cloned and used from other tasks; after the message's end it does nothing.
#[derive(Clone, Default)]
pub struct Progress {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    requested: AtomicBool,
    driver: AtomicWaker,
}

impl Progress {
    /// Has the MTA told that the filter is still at work.
    pub fn send(&self) {
        self.state.requested.store(true, Ordering::Release);
        self.state.driver.wake();
    }

    /// Whether [`send`](Self::send) was called since this was last asked. Wakes the task when it
    /// is called next.
    pub(crate) fn take(&self, cx: &Context<'_>) -> bool {
        self.state.driver.register(cx.waker());
        self.state.requested.swap(false, Ordering::Acquire)
    }

    #[cfg(test)]
    fn is_requested(&self) -> bool {
        self.take(&Context::from_waker(std::task::Waker::noop()))
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_seen_once() {
        let progress = Progress::default();
        assert!(!progress.is_requested());
        progress.clone().send();
        assert!(progress.is_requested() && !progress.is_requested());
    }
}
