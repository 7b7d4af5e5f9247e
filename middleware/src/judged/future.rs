use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use milter_tower::gate::Turn;
use milter_tower::{Needs, Response};
use pin_project::pin_project;

/// The future of this layer's service.
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
    Widens {
        #[pin]
        inner: F,
        needs: Arc<Needs>,
    },
    Asks {
        #[pin]
        inner: F,
        /// None if the layer need not see all of the message.
        turn: Option<Turn>,
    },
}

impl<F> ResponseFuture<F> {
    pub(super) const fn answer(response: Response) -> Self {
        let kind = Kind::Answer(Some(response));
        Self { kind }
    }

    pub(super) const fn widens(inner: F, needs: Arc<Needs>) -> Self {
        let kind = Kind::Widens { inner, needs };
        Self { kind }
    }

    pub(super) const fn asks(inner: F, turn: Option<Turn>) -> Self {
        let kind = Kind::Asks { inner, turn };
        Self { kind }
    }
}

impl<F, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project().kind.project() {
            KindProj::Answer(response) => Ok(response.take().unwrap_or_default()),
            KindProj::Widens { inner, needs } => {
                ready!(inner.poll(cx)).map(|response| response.widen(needs))
            }
            KindProj::Asks { inner, turn } => ready!(inner.poll(cx)).map(|response| match turn {
                Some(turn) => turn.go_on(response),
                None => response,
            }),
        })
    }
}
