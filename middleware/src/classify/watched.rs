//! Calls that somebody watches to their end, whichever that is.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use milter_tower::{Deadline, Request, Response};
use pin_project::pin_project;

use super::FailureClass;

/// Watches one call. Dropped before it was [answered](Self::answered), the call was given up.
pub(crate) trait Watch<E> {
    /// Polls the call.
    fn poll<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T>;

    /// The call is done. What the layer answers.
    fn answered(self, answer: Result<Response, E>) -> Result<Response, E>;
}

/// A future with somebody who watches it, or nobody.
#[pin_project]
#[derive(Debug)]
pub(crate) struct Watched<F, W> {
    #[pin]
    inner: F,
    watch: Option<W>,
}

impl<F, W> Watched<F, W> {
    pub(crate) const fn new(inner: F, watch: Option<W>) -> Self {
        Self { inner, watch }
    }
}

impl<F, W, E> Future for Watched<F, W>
where
    F: Future<Output = Result<Response, E>>,
    W: Watch<E>,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(watch) = this.watch else {
            return this.inner.poll(cx);
        };
        let answer = ready!(watch.poll(|| this.inner.poll(cx)));
        Poll::Ready(match this.watch.take() {
            Some(watch) => watch.answered(answer),
            None => answer,
        })
    }
}

/// What became of a call.
#[derive(Debug)]
pub(crate) struct Fate {
    deadline: Deadline,
    is_answered: bool,
    /// It is being called or polled. Found so when it is dropped, it panicked.
    runs: bool,
}

impl Fate {
    /// Directly before the call.
    pub(crate) fn of(request: &Request) -> Self {
        Self {
            deadline: request.deadline(),
            is_answered: false,
            runs: true,
        }
    }

    /// The call returned.
    pub(crate) const fn called(&mut self) {
        self.runs = false;
    }

    pub(crate) fn poll<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        self.runs = true;
        let polled = poll();
        self.runs = false;
        polled
    }

    /// The call has an answer.
    pub(crate) const fn answered(&mut self) {
        self.is_answered = true;
    }

    /// Why a call has no answer: none if it has one, or if the mail server went away and nobody
    /// waited for it.
    pub(crate) fn given_up(&self) -> Option<FailureClass> {
        if self.is_answered {
            None
        } else if self.runs {
            Some(FailureClass::PANIC)
        } else if self.deadline.remaining().is_zero() {
            Some(FailureClass::DEADLINE)
        } else {
            None
        }
    }
}
