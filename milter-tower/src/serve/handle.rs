//! What can be done with a server that runs.

use std::fmt;
use std::sync::Arc;

use super::control::{Control, Stats};
use crate::make::Cloned;
use crate::stop::Level;

/// What can be done with a server that runs: see how it does, give it another filter, stop it.
///
/// ```no_run
/// # async fn example() -> Result<(), milter_tower::BoxError> {
/// use milter_tower::{Address, Request, Response, serve};
/// # #[derive(Clone)]
/// # struct Filter;
/// # impl Filter { async fn load() -> Self { Self } }
/// # impl tower::Service<Request> for Filter {
/// #     type Response = Response;
/// #     type Error = milter_tower::BoxError;
/// #     type Future = std::future::Ready<Result<Response, Self::Error>>;
/// #     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> { Ok(()).into() }
/// #     fn call(&mut self, _: Request) -> Self::Future { std::future::ready(Ok(Response::proceed())) }
/// # }
/// let listener = "inet:10025@127.0.0.1".parse::<Address>()?.bind().await?;
/// let server = serve(listener, Filter::load().await);
/// let handle = server.handle();
/// tokio::spawn(async move {
///     # let mut signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).unwrap();
///     // On a signal, say: new rules, and no mail is lost.
///     while signal.recv().await.is_some() {
///         handle.replace(Filter::load().await);
///         handle.renew();
///         println!("{} messages so far", handle.stats().messages);
///     }
/// });
/// server.await?;
/// # Ok(())
/// # }
/// ```
pub struct Handle<M> {
    pub(super) control: Arc<Control>,
    pub(super) make: M,
}

impl<M> Handle<M> {
    /// What the server has done so far, and what it does now.
    pub fn stats(&self) -> Stats {
        self.control.stats()
    }

    /// Has each open connection make its service anew for its next message; new connections get
    /// a new one in any case.
    ///
    /// The new service is shown what the old one knows: the negotiation, the client and its HELO.
    /// What was negotiated stays: a service that needs less sees more than it asked for. What the
    /// old one left with the connection ([`connection_data`](crate::Session::connection_data)) is
    /// there for the new one.
    ///
    /// A message in progress stays with the old one, which hears of its end when the new one has
    /// answered. An old service stays to the end of its connection if the new one fails, needs
    /// what was not negotiated, or takes more than a quarter of the time that a call may take.
    pub fn renew(&self) {
        self.control.renew();
    }

    /// Stops the server, as [`with_graceful_shutdown`](crate::Serve::with_graceful_shutdown)
    /// does.
    pub fn shutdown(&self) {
        self.control.stop.raise(Level::Drain);
    }

    /// Stops the server at once: messages in progress are answered with the failure verdict or
    /// lost, and the MTA does what it is configured to do when a filter goes away.
    pub fn shutdown_now(&self) {
        self.control.stop.raise(Level::Cut);
    }
}

impl<S> Handle<Cloned<S>> {
    /// Gives new connections clones of another service. Connections that are open keep theirs
    /// unless they are told to [`renew`](Self::renew) it.
    pub fn replace(&self, service: S) {
        self.make.replace(service);
    }
}

impl<M: Clone> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self {
            control: Arc::clone(&self.control),
            make: self.make.clone(),
        }
    }
}

impl<M> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
