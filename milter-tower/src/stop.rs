//! The signal that ends connections.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// How urgently connections should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Level {
    /// Not at all.
    Run = 0,
    /// Between two messages.
    Drain = 1,
    /// At once.
    Cut = 2,
}

/// Tells all connections of a server to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    level: AtomicU8,
    notify: Arc<Notify>,
}

impl Stop {
    pub(crate) fn raise(&self, level: Level) {
        self.0.level.fetch_max(level as u8, Ordering::SeqCst);
        self.0.notify.notify_waiters();
    }

    /// Waits until that level is reached.
    pub(crate) async fn reached(&self, level: Level) {
        let mut signal = self.signal();
        std::future::poll_fn(|cx| {
            if signal.poll(cx) >= level {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    pub(crate) fn signal(&self) -> StopSignal {
        StopSignal {
            stop: self.clone(),
            notified: None,
            registered: None,
        }
    }

    fn level(&self) -> Level {
        match self.0.level.load(Ordering::SeqCst) {
            0 => Level::Run,
            1 => Level::Drain,
            _ => Level::Cut,
        }
    }
}

/// One connection's view of a [`Stop`].
#[derive(Debug)]
pub(crate) struct StopSignal {
    stop: Stop,
    notified: Option<Pin<Box<OwnedNotified>>>,
    /// The waker that is to be woken. A task's waker hardly ever changes, so that nothing is
    /// locked on most calls.
    registered: Option<Waker>,
}

impl StopSignal {
    /// The level. The task is woken when it is raised.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Level {
        if !self
            .registered
            .as_ref()
            .is_some_and(|w| w.will_wake(cx.waker()))
        {
            self.register(cx);
        }
        let level = self.stop.level();
        if level == Level::Drain
            && self
                .notified
                .as_mut()
                .is_some_and(|n| n.as_mut().poll_ready(cx))
        {
            // The notification was used up: wait for the next level.
            self.register(cx);
            return self.stop.level();
        }
        level
    }

    fn register(&mut self, cx: &mut Context<'_>) {
        loop {
            let notify = Arc::clone(&self.stop.0.notify);
            let mut notified = Box::pin(notify.notified_owned());
            let ready = notified.as_mut().poll_ready(cx);
            self.notified = Some(notified);
            if !ready {
                break;
            }
        }
        self.registered = Some(cx.waker().clone());
    }
}

trait PollReady {
    fn poll_ready(self, cx: &mut Context<'_>) -> bool;
}

impl PollReady for Pin<&mut OwnedNotified> {
    fn poll_ready(self, cx: &mut Context<'_>) -> bool {
        Future::poll(self, cx).is_ready()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn each_level_wakes_the_task() {
        let stop = Stop::default();
        let mut signal = stop.signal();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        assert_eq!(signal.poll(&mut cx), Level::Run);
        assert_eq!(signal.poll(&mut cx), Level::Run);
        stop.raise(Level::Drain);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert_eq!(signal.poll(&mut cx), Level::Drain);
        assert_eq!(signal.poll(&mut cx), Level::Drain);
        stop.raise(Level::Cut);
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
        assert_eq!(signal.poll(&mut cx), Level::Cut);
    }

    #[test]
    fn a_level_raised_before_is_seen() {
        let stop = Stop::default();
        stop.raise(Level::Cut);
        stop.raise(Level::Drain);
        assert_eq!(
            stop.signal().poll(&mut Context::from_waker(Waker::noop())),
            Level::Cut
        );
    }
}
