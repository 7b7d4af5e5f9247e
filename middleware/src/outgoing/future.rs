use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use milter_tower::gate::Turn;
use milter_tower::{Response, Verdict};
use pin_project::pin_project;

use super::{Edits, End};

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
        edits: Arc<dyn Edits>,
    },
    Asks {
        #[pin]
        inner: F,
        turn: Turn,
        end: Option<End>,
    },
}

impl<F> ResponseFuture<F> {
    pub(super) const fn answer(response: Response) -> Self {
        let kind = Kind::Answer(Some(response));
        Self { kind }
    }

    pub(super) const fn widens(inner: F, edits: Arc<dyn Edits>) -> Self {
        let kind = Kind::Widens { inner, edits };
        Self { kind }
    }

    pub(super) const fn asks(inner: F, turn: Turn, end: Option<End>) -> Self {
        let kind = Kind::Asks { inner, turn, end };
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
            KindProj::Widens { inner, edits } => {
                ready!(inner.poll(cx)).map(|response| response.widen(edits.needs()))
            }
            KindProj::Asks { inner, turn, end } => {
                ready!(inner.poll(cx)).map(|response| answered(response, turn, end.as_ref()))
            }
        })
    }
}

/// What becomes of the answer of the service within.
fn answered(response: Response, turn: &Turn, end: Option<&End>) -> Response {
    match (response.verdict(), end) {
        (Verdict::Continue | Verdict::Accept, Some(end)) if !response.is_refused() => {
            end.edit(response)
        }
        // The headers and the end are still to come. Of the body nobody here wants more.
        (Verdict::Accept, None) => turn.go_on(response),
        _ => response,
    }
}
