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

    /// A handle for the next message: the same one if nobody holds it any more.
    pub(crate) fn renew(&mut self) {
        match Arc::get_mut(&mut self.state) {
            Some(state) => {
                *state.requested.get_mut() = false;
                state.driver.take();
            }
            None => *self = Self::default(),
        }
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
    fn an_old_handle_says_nothing_about_the_next_message() {
        let mut progress = Progress::default();
        let old = progress.clone();
        progress.renew();
        old.send();
        assert!(!progress.is_requested());
        drop(old);
        progress.send();
        progress.renew();
        assert!(!progress.is_requested());
        progress.send();
        assert!(progress.is_requested() && !progress.is_requested());
    }
}
