//! Async functions as handlers of events.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;

use super::FromRequest;
use super::said::Watch;
use crate::at;
use crate::error::BoxError;
use crate::into_response::{IntoResponse, answer_of};
use crate::request::Request;
use crate::response::Response;
use crate::response_future::ResponseFuture;

/// An async function or closure with up to eight arguments.
///
/// What it may take at an event [`FromRequest`] says, what it may return
/// [`IntoResponse`]. Its future owns what it needs and is `Send`. It is called through `&self`:
/// what a handler changes lies behind a lock, in [`Session::message_data`] or
/// [`Session::connection_data`]; a filter with a state of its own is better written as a
/// [`Filter`](crate::Filter).
///
/// A closure that brings something along clones it for each call; what many handlers need is
/// easier as [`State`](super::State):
///
/// ```
/// use std::sync::Arc;
///
/// use milter_tower::{Recipient, Router, SmtpReply};
///
/// let gone = Arc::new(["bob@example.org"]);
/// let filter = Router::new().on_rcpt(move |to: Recipient| {
///     let gone = Arc::clone(&gone);
///     async move {
///         let is_gone = gone.iter().any(|gone| to.mailbox() == *gone);
///         is_gone.then(|| SmtpReply::reject("He left us"))
///     }
/// });
/// # let _ = filter;
/// ```
///
/// [`Session::message_data`]: crate::Session::message_data
/// [`Session::connection_data`]: crate::Session::connection_data
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not a handler",
    note = "a handler is an async function or a closure that returns a future, with up to eight arguments taken by value",
    note = "it is called through `&self`: it must be `Fn + Send + Sync + 'static`"
)]
pub trait Handler<Args>: Send + Sync + 'static {
    /// What its future comes to.
    type Output;
    /// The future of a call.
    type Future: Future<Output = Self::Output>;

    /// Calls the function.
    fn call(&self, args: Args) -> Self::Future;
}

macro_rules! functions {
    ($($name:ident)*) => {
        impl<F, Fut, $($name),*> Handler<($($name,)*)> for F
        where
            F: Fn($($name),*) -> Fut + Send + Sync + 'static,
            Fut: Future,
        {
            type Output = Fut::Output;
            type Future = Fut;

            #[allow(non_snake_case, reason = "the types' names are those of the values")]
            fn call(&self, ($($name,)*): ($($name,)*)) -> Fut {
                self($($name),*)
            }
        }
    };
}

super::each_arity!(functions);

/// A handler whose types are forgotten.
pub(super) trait Run<T>: Send + Sync {
    /// Calls it, unless an argument says no or cannot be had.
    fn run(&self, request: &Request, state: &T, watch: Option<Watch>) -> ResponseFuture;
}

/// A handler at an event.
pub(super) struct At<S, H, Args> {
    handler: H,
    types: PhantomData<fn(Args) -> S>,
}

impl<S, H, Args> At<S, H, Args> {
    pub(super) const fn new(handler: H) -> Self {
        Self {
            handler,
            types: PhantomData,
        }
    }
}

impl<S, H, Args, T> Run<T> for At<S, H, Args>
where
    S: at::Marker,
    H: Handler<Args, Output: IntoResponse<S>, Future: Send + 'static>,
    Args: FromRequest<S, T>,
{
    fn run(&self, request: &Request, state: &T, watch: Option<Watch>) -> ResponseFuture {
        let error = match Args::from_request(request, state) {
            Ok(args) => {
                return ResponseFuture::runs(Answer::<_, S> {
                    inner: self.handler.call(args),
                    watch,
                    at: PhantomData,
                });
            }
            Err(error) => error.into(),
        };
        // A failure is kept where no reply is due; a verdict would be lost there.
        if S::STAGE.is_none() || H::Output::SILENT && !asks_for_reply::<S, T, Args>() {
            return ResponseFuture::done(Err(error));
        }
        ResponseFuture::done(heard(watch.as_ref(), answer_of(error)))
    }
}

/// Whether arguments ask that the event has a reply.
fn asks_for_reply<S: at::Marker, T, Args: FromRequest<S, T>>() -> bool {
    let needs = Args::needs();
    S::STAGE.is_some_and(|stage| needs.wants(stage) && !needs.is_silent(stage))
}

fn heard(watch: Option<&Watch>, answer: Result<Response, BoxError>) -> Result<Response, BoxError> {
    match watch {
        None => answer,
        Some(watch) => answer.map(|response| watch.heard(response)),
    }
}

#[pin_project]
struct Answer<F, S> {
    #[pin]
    inner: F,
    watch: Option<Watch>,
    at: PhantomData<fn() -> S>,
}

impl<S, F: Future<Output: IntoResponse<S>>> Future for Answer<F, S> {
    type Output = Result<Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.inner.poll(cx)).into_response();
        Poll::Ready(heard(this.watch.as_ref(), answer))
    }
}
