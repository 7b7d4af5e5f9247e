use std::pin::Pin;
use std::task::{Context, Poll, ready};

use milter_tower::{BoxError, Response};
use pin_project::pin_project;

use super::service::Then;

/// The future of [`DryRun`](super::DryRun).
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
    Asks {
        #[pin]
        inner: F,
        /// None where it is for real.
        then: Option<Then>,
    },
}

impl<F> ResponseFuture<F> {
    pub(super) const fn answer(response: Response) -> Self {
        let kind = Kind::Answer(Some(response));
        Self { kind }
    }

    pub(super) const fn asks(inner: F, then: Option<Then>) -> Self {
        let kind = Kind::Asks { inner, then };
        Self { kind }
    }
}

impl<F, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project().kind.project() {
            KindProj::Answer(response) => Ok(response.take().unwrap_or_default()),
            KindProj::Asks { inner, then } => match (ready!(inner.poll(cx)), then.take()) {
                (Ok(response), Some(then)) => Ok(then.answered(response)),
                (Err(error), Some(then)) => Ok(then.failed(&error.into())),
                (answered, None) => answered,
            },
        })
    }
}
