//! What the futures of layers have in common that answer themselves, or have something done to the
//! answer of the service within.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use milter_tower::Response;
use pin_project::pin_project;

/// What becomes of the answer of the service within.
pub(crate) trait Then<E> {
    fn then(self, answer: Result<Response, E>) -> Result<Response, E>;
}

/// An answer of the layer's own, or a call of the service within.
#[pin_project(project = AskedProj)]
#[derive(Debug)]
pub(crate) enum Asked<F, T> {
    /// The service within is not asked.
    Answer(Option<Response>),
    Asks {
        #[pin]
        inner: F,
        /// None if its answer stays as it is.
        then: Option<T>,
    },
}

impl<F, T, E> Future for Asked<F, T>
where
    F: Future<Output = Result<Response, E>>,
    T: Then<E>,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project() {
            AskedProj::Answer(response) => Ok(response.take().unwrap_or_default()),
            AskedProj::Asks { inner, then } => {
                let answer = ready!(inner.poll(cx));
                match then.take() {
                    Some(then) => then.then(answer),
                    None => answer,
                }
            }
        })
    }
}

/// The future of a layer, of which a [`Then`] says what becomes of the answer, and what errors are to be for that.
macro_rules! response_future {
    ($(#[$doc:meta])* $then:ty $(, $bound:path)?) => {
        $(#[$doc])*
        #[pin_project::pin_project]
        #[derive(Debug)]
        pub struct ResponseFuture<F> {
            #[pin]
            asked: $crate::asked::Asked<F, $then>,
        }

        impl<F> ResponseFuture<F> {
            pub(super) const fn answer(response: milter_tower::Response) -> Self {
                let asked = $crate::asked::Asked::Answer(Some(response));
                Self { asked }
            }

            pub(super) const fn asks(inner: F, then: Option<$then>) -> Self {
                let asked = $crate::asked::Asked::Asks { inner, then };
                Self { asked }
            }
        }

        impl<F, E> Future for ResponseFuture<F>
        where
            F: Future<Output = Result<milter_tower::Response, E>>,
            $(E: $bound,)?
        {
            type Output = Result<milter_tower::Response, E>;

            fn poll(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Self::Output> {
                self.project().asked.poll(cx)
            }
        }
    };
}
pub(crate) use response_future;
