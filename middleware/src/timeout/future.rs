use std::pin::Pin;
use std::task::{Context, Poll, ready};

use milter_tower::gate::Turn;
use milter_tower::{BoxError, Response};
use pin_project::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::service::Call;

/// The future of [`Timeout`](super::Timeout).
#[pin_project]
#[derive(Debug)]
pub struct ResponseFuture<F> {
    #[pin]
    kind: Kind<F>,
}

#[pin_project(project = KindProj)]
#[derive(Debug)]
enum Kind<F> {
    /// The service within is not asked.
    Answer(Option<Response>),
    /// Nor is it where no time is left.
    Over(Option<(Call, Turn)>),
    Asks {
        #[pin]
        inner: F,
        call: Option<(Call, Turn)>,
        /// Set when the service within does not answer at once.
        #[pin]
        timer: Option<Sleep>,
    },
}

impl<F> ResponseFuture<F> {
    pub(super) const fn answer(response: Response) -> Self {
        let kind = Kind::Answer(Some(response));
        Self { kind }
    }

    pub(super) const fn over(call: Call, turn: Turn) -> Self {
        let kind = Kind::Over(Some((call, turn)));
        Self { kind }
    }

    pub(super) const fn asks(inner: F, call: Call, turn: Turn) -> Self {
        let kind = Kind::Asks {
            inner,
            call: Some((call, turn)),
            timer: None,
        };
        Self { kind }
    }
}

impl<F, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let timed_out = match self.project().kind.project() {
            KindProj::Answer(response) => {
                return Poll::Ready(Ok(response.take().unwrap_or_default()));
            }
            KindProj::Over(call) => call.take(),
            KindProj::Asks {
                inner,
                call,
                mut timer,
            } => {
                if let Poll::Ready(answer) = inner.poll(cx) {
                    // Its time is taken here, not when the future is dropped.
                    drop(call.take());
                    return Poll::Ready(answer.map_err(Into::into));
                }
                if let (None, Some((call, _))) = (timer.as_ref().as_pin_ref(), &call) {
                    let until = Instant::from_std(call.until.instant());
                    timer.set(Some(sleep_until(until)));
                }
                if let Some(timer) = timer.as_pin_mut() {
                    ready!(timer.poll(cx));
                }
                call.take()
            }
        };
        Poll::Ready(match timed_out {
            Some((call, turn)) => call.time_out(turn),
            // Polled after its end, which means nothing.
            None => Ok(Response::proceed()),
        })
    }
}
