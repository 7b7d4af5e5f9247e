//! Handlers that compute or block.

use std::fmt;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::task::JoinHandle;
use tracing::Span;

use super::mail::Message;
use crate::error::BoxError;

/// A handler that runs on Tokio's pool of threads that may block.
///
/// **When to use it:** if the handler blocks (a file, a database without an async client, a
/// library in C), or computes for more than, say, 100 µs without an `await`: looks for patterns
/// in a whole body, checks a signature, parses MIME. All connections of a thread wait meanwhile
/// otherwise. A handler that looks at some headers is better off without.
///
/// ```
/// use std::io::BufRead;
///
/// use milter_tower::BoxError;
/// use milter_tower::message::{Message, blocking, message};
///
/// let filter = message(blocking(|mut mail: Message| {
///     let lines = mail.body().blocking_reader().split(b'\n').count();
///     mail.headers_mut().append("X-Lines", lines.to_string());
///     Ok::<_, BoxError>(mail.accept())
/// }));
/// ```
///
/// # Cancellation
///
/// A thread cannot be stopped: when the deadline passes, or the MTA goes away, the closure runs on
/// to its end, and what it returns is thrown away. What did not begin yet never does. So give
/// what may last long a limit of its own: [`Message::deadline`] tells how long the answer is
/// waited for.
///
/// # How many at a time
///
/// As many as the pool has threads: 512, unless the runtime was told otherwise
/// ([`max_blocking_threads`](tokio::runtime::Builder::max_blocking_threads)); further ones wait.
/// For fewer, say as many as there are cores, wait for a permit first:
///
/// ```
/// use std::sync::Arc;
///
/// use milter_tower::BoxError;
/// use milter_tower::{Message, message};
/// use tokio::sync::Semaphore;
/// use tokio::task::spawn_blocking;
///
/// fn scan(mail: Message) -> Message {
///     mail
/// }
///
/// let cores = Arc::new(Semaphore::new(4));
/// let filter = message(move |mail: Message| {
///     let cores = Arc::clone(&cores);
///     async move {
///         let permit = cores.acquire_owned().await?;
///         let scanned = spawn_blocking(move || {
///             // It is in the thread's hands: what was cancelled still computes.
///             let _permit = permit;
///             scan(mail)
///         });
///         Ok::<_, BoxError>(scanned.await?)
///     }
/// });
/// ```
///
/// # Panics
///
/// A panic of the closure is one of the handler. The returned function panics outside of a Tokio
/// runtime.
pub fn blocking<B, F, R>(f: F) -> impl Fn(Message<B>) -> Blocking<R> + Clone + Send + Sync + 'static
where
    B: Send + 'static,
    F: Fn(Message<B>) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    let f = Arc::new(f);
    move |mail| {
        let (f, span) = (Arc::clone(&f), Span::current());
        Blocking(tokio::task::spawn_blocking(move || {
            span.in_scope(|| f(mail))
        }))
    }
}

/// What a [`blocking`] handler returns, when it is done.
#[must_use = "futures do nothing unless polled"]
pub struct Blocking<R>(JoinHandle<R>);

impl<R> Future for Blocking<R> {
    type Output = Result<R, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let done = ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(done.map_err(|error| match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime shuts down.
            Err(cancelled) => cancelled.into(),
        }))
    }
}

/// What has not begun yet need not.
impl<R> Drop for Blocking<R> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<R> fmt::Debug for Blocking<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocking").finish_non_exhaustive()
    }
}
