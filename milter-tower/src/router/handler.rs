//! Async functions as handlers of events.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;

use super::FromRequest;
use crate::at;
use crate::error::BoxError;
use crate::into_response::{IntoResponse, answer_of};
use crate::request::Request;
use crate::response::Response;

/// An async function or closure with up to eight arguments.
///
/// What it may take at an event [`FromRequest`] says, what it may return
/// [`IntoResponse`]. Its future owns what it needs and is `Send`. It is called through `&self`:
/// what a handler changes lies behind a lock, in [`Session::message_data`] or
/// [`Session::connection_data`]; a filter with a state of its own is better written as a
/// `Filter`.
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

/// The future of a handler, its output made a response.
pub(super) type Boxed = Pin<Box<dyn Future<Output = Result<Response, BoxError>> + Send>>;

/// What came of calling a handler.
pub(super) enum Called {
    /// It runs.
    Runs(Boxed),
    /// It was not called: an argument said no, or could not be had.
    Not(Result<Response, BoxError>),
}

/// A handler whose types are forgotten.
pub(super) trait Run<T>: Send + Sync {
    fn run(&self, request: &Request, state: &T) -> Called;
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
    fn run(&self, request: &Request, state: &T) -> Called {
        match Args::from_request(request, state) {
            Ok(args) => Called::Runs(Box::pin(Answer::<_, S> {
                inner: self.handler.call(args),
                at: PhantomData,
            })),
            // A failure is kept where no reply is due; a verdict would be lost there.
            Err(error) if H::Output::SILENT && !asks_for_reply::<S, T, Args>() => {
                Called::Not(Err(error.into()))
            }
            Err(error) => Called::Not(answer_of::<S>(error.into())),
        }
    }
}

/// Whether arguments ask that the event has a reply.
fn asks_for_reply<S: at::Marker, T, Args: FromRequest<S, T>>() -> bool {
    let needs = Args::needs();
    S::STAGE.is_some_and(|stage| needs.wants(stage) && !needs.is_silent(stage))
}

#[pin_project]
struct Answer<F, S> {
    #[pin]
    inner: F,
    at: PhantomData<fn() -> S>,
}

impl<S, F: Future<Output: IntoResponse<S>>> Future for Answer<F, S> {
    type Output = Result<Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(self.project().inner.poll(cx)).into_response())
    }
}
