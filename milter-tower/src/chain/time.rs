//! How the members share the time that the chain has for an event.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::clock::after;
use crate::request::Deadline;

/// The time of one event.
#[derive(Debug, Default)]
pub(super) struct Time {
    /// When the chain was first asked with this deadline, and how much there was left.
    event: Option<(Deadline, Instant, Duration)>,
    /// What was shared out since, by how many tenths were kept.
    shares: [Option<(Instant, Duration)>; 5],
    /// The deadline of the call that is polled, and how long it may take.
    call: Option<(Instant, Duration)>,
    /// A call pends, or did.
    pended: bool,
    /// One for the connection, armed only while a call pends.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Time {
    /// An event begins. Events that came in one go have one deadline, and one reading of the clock.
    pub(super) fn begin(&mut self, deadline: Deadline) {
        if self.event.is_none_or(|(of, ..)| of != deadline) {
            self.read(deadline);
        }
    }

    /// Until when a member must have answered: of what is left a tenth is kept for the chain and
    /// one for each that comes behind, but no more than half.
    pub(super) fn share(&mut self, behind: usize) -> Deadline {
        let event = self.event;
        let share = || {
            let kept = u32::try_from(behind).unwrap_or(u32::MAX).saturating_add(1);
            let (start, left) = match event {
                Some((_, start, left)) => (start, left),
                None => (Instant::now(), Duration::ZERO),
            };
            let limit = left / 10 * (10 - kept.min(5));
            (after(start, limit), limit)
        };
        let shared = self.shares.get_mut(behind.min(4));
        let call = shared.map_or_else(share, |shared| *shared.get_or_insert_with(share));
        self.call = Some(call);
        Deadline::at(call.0)
    }

    /// The members that were asked have answered. If that took time, what is left is less.
    pub(super) fn passed(&mut self) {
        if !std::mem::take(&mut self.pended) {
            return;
        }
        if let Some((deadline, ..)) = self.event {
            self.read(deadline);
        }
    }

    fn read(&mut self, deadline: Deadline) {
        let now = Instant::now();
        self.event = Some((deadline, now, deadline.remaining_at(now)));
        self.shares = [None; 5];
    }

    /// The deadline of the call that was shared out last, and how long it may take.
    pub(super) fn of_call(&self) -> (Instant, Duration) {
        self.call
            .unwrap_or_else(|| (Instant::now(), Duration::ZERO))
    }

    /// Ready, with the time that there was, when it is over.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let Some((deadline, limit)) = self.call else {
            return Poll::Pending;
        };
        self.pended = true;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx).map(|()| limit)
    }

    /// Gives back what it holds, between messages.
    pub(super) fn shrink(&mut self) {
        self.timer = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_left_is_shared() {
        let mut time = Time::default();
        time.begin(Deadline::after(Duration::from_secs(10)));
        let left = |time: &mut Time, behind| time.share(behind).remaining().as_millis();
        assert_eq!(left(&mut time, 0), 9_000);
        assert_eq!(left(&mut time, 2), 7_000);
        assert_eq!(left(&mut time, 50), 5_000, "half is for the first at least");
        let mut pass = async |seconds| {
            let pends = std::future::poll_fn(|cx| Poll::Ready(time.poll_over(cx).is_pending()));
            assert!(pends.await);
            tokio::time::advance(Duration::from_secs(seconds)).await;
            time.passed();
            left(&mut time, 0)
        };
        assert_eq!(pass(5).await, 4_500);
        assert_eq!(pass(9).await, 0);
    }
}
