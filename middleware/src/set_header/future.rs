use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use milter_tower::Response;
use pin_project::pin_project;

use super::layer::HeaderToSet;
use super::service::Answer;

/// The future of [`SetHeader`](super::SetHeader).
#[pin_project]
#[derive(Debug)]
pub struct ResponseFuture<F> {
    #[pin]
    kind: Kind<F>,
}

#[pin_project(project = KindProj)]
#[derive(Debug)]
enum Kind<F> {
    /// The service within was not asked.
    Ready(Option<Response>),
    Negotiate {
        #[pin]
        inner: F,
        header: Arc<HeaderToSet>,
    },
    Answer {
        #[pin]
        inner: F,
        answer: Answer,
    },
}

impl<F> ResponseFuture<F> {
    pub(super) fn ready(response: Response) -> Self {
        Self {
            kind: Kind::Ready(Some(response)),
        }
    }

    pub(super) fn negotiate(inner: F, header: Arc<HeaderToSet>) -> Self {
        Self {
            kind: Kind::Negotiate { inner, header },
        }
    }

    pub(super) fn answer(inner: F, answer: Answer) -> Self {
        Self {
            kind: Kind::Answer { inner, answer },
        }
    }
}

impl<F, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project().kind.project() {
            KindProj::Ready(response) => Ok(response.take().unwrap_or_default()),
            KindProj::Negotiate { inner, header } => {
                ready!(inner.poll(cx)).map(|r| header.widen(r))
            }
            KindProj::Answer { inner, answer } => ready!(inner.poll(cx)).map(|r| answer.to(r)),
        })
    }
}
