//! Filters in other processes, as services.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use milter_core::{Offer, Stage};
use tokio::sync::Mutex;
use tower_service::Service;

use crate::Address;
use crate::client::Timeouts;
use crate::request::{Event, Request};
use crate::response::Response;

mod circuit;
mod connector;
mod error;
mod failure;
mod future;
mod macros;
mod open;
mod pool;
mod state;

pub use self::circuit::{CircuitBreaker, CircuitBreakerLayer, CircuitFuture, CircuitOpen};
pub use self::connector::{Connector, Dial, DialFuture, Target};
pub use self::error::{RemoteError, RemoteErrorKind};
pub use self::failure::OnRemoteFailure;
pub use self::future::RemoteFuture;
pub use self::pool::{NoBackend, Pool, PoolFuture, PooledStream, RemotePool};

use self::future::{Asks, Lent, Writes};
use self::open::negotiate;
use self::state::{Next, State};

/// A filter in another process, as a service.
pub struct Remote<C: Connector = Dial> {
    connector: C,
    settings: Arc<Settings>,
    /// None before the first call.
    place: Option<Arc<Mutex<State<C>>>>,
}

/// How backends are treated.
#[derive(Clone, Debug)]
struct Settings {
    connect_timeout: Duration,
    times: Timeouts,
    on_failure: OnRemoteFailure,
    quit_new_connection: bool,
}

impl Remote {
    /// The filter at this address, whatever it is written in.
    pub fn new(address: Address) -> Self {
        Self::with_connector(Dial::new(address))
    }
}

impl<C: Connector> Remote<C> {
    /// A filter to which connections are opened by this [connector](Connector).
    ///
    /// ```
    /// use std::time::Duration;
    /// use milter_tower::Remote;
    /// use milter_tower::remote::{CircuitBreakerLayer, Dial};
    /// use tower::ServiceBuilder;
    ///
    /// let dial = Dial::new("inet:8891@127.0.0.1".parse()?);
    /// let connector = ServiceBuilder::new()
    ///     // At most so many sessions are opened at a time.
    ///     .concurrency_limit(50)
    ///     .layer(CircuitBreakerLayer::new().name("dkim"))
    ///     .timeout(Duration::from_secs(2))
    ///     .service(dial);
    /// let remote = Remote::with_connector(connector);
    /// # let _ = remote;
    /// # Ok::<(), milter_tower::AddressError>(())
    /// ```
    pub fn with_connector(connector: C) -> Self {
        Self {
            connector,
            settings: Arc::new(Settings {
                connect_timeout: Duration::from_secs(5),
                times: Timeouts::postfix(),
                on_failure: OnRemoteFailure::default(),
                quit_new_connection: false,
            }),
            place: None,
        }
    }

    /// How long it may take to connect and to negotiate. By default 5 s, and never longer than the
    /// request's deadline: it must be less than the MTA waits for the answer to its own offer.
    #[must_use]
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.settings_mut().connect_timeout = time;
        self
    }

    /// How long the backend may take for each answer. By default as [Postfix](Timeouts::postfix)
    /// lets it, and never longer than the request's deadline. Of the time to connect see
    /// [`connect_timeout`](Self::connect_timeout).
    #[must_use]
    pub fn timeouts(mut self, times: Timeouts) -> Self {
        self.settings_mut().times = times;
        self
    }

    /// What becomes of mail if the backend cannot be reached, or fails. By default the call fails,
    /// which a server answers with tempfail.
    #[must_use]
    pub fn on_failure(mut self, on_failure: impl Into<OnRemoteFailure>) -> Self {
        self.settings_mut().on_failure = on_failure.into();
        self
    }

    /// Whether a backend is kept from one SMTP session to the next where the MTA keeps its
    /// connection, by `QUIT_NC`. By default not, and there is rarely a reason: neither Postfix nor
    /// Sendmail keeps its connection, and libmilter understands the goodbye only right after the
    /// end of a message.
    // libmilter/engine.c: NX_QUITNC
    #[must_use]
    pub fn quit_new_connection(mut self, keep: bool) -> Self {
        self.settings_mut().quit_new_connection = keep;
        self
    }

    fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }

    fn lend(&mut self) -> Result<Lent<C>, RemoteError> {
        let place = self.place.get_or_insert_with(|| {
            let (connector, settings) = (self.connector.clone(), Arc::clone(&self.settings));
            Arc::new(Mutex::new(State::new(connector, settings)))
        });
        let lent = Arc::clone(place).try_lock_owned().map(Lent::new);
        lent.map_err(|_| RemoteError::new(None, RemoteErrorKind::Busy))
    }

    fn ask(&mut self, request: Request, stage: Stage) -> RemoteFuture<C> {
        let mut lent = match self.lend() {
            Ok(lent) => lent,
            Err(busy) => return RemoteFuture::done(Err(busy)),
        };
        let begins = lent.enter(stage);
        match lent.ask(&request, stage, begins) {
            Next::Answer(answer) => {
                lent.done();
                RemoteFuture::done(answer)
            }
            Next::Hear(rest) => RemoteFuture::asks(Asks::new(lent, request, stage, rest, begins)),
            Next::Write => RemoteFuture::writes(Writes::event(lent, request, stage)),
            Next::Open => RemoteFuture::opens(Box::pin(open::replace(lent, request, stage))),
        }
    }

    fn negotiate(&mut self, request: Request, offer: Offer) -> RemoteFuture<C> {
        // Whatever was before is another connection's.
        self.place = None;
        match self.lend() {
            Ok(lent) => RemoteFuture::opens(Box::pin(negotiate(lent, request, offer))),
            Err(busy) => RemoteFuture::done(Err(busy)),
        }
    }

    fn end(&mut self, event: &Event) -> RemoteFuture<C> {
        let Ok(mut lent) = self.lend() else {
            // There is nobody to tell.
            return RemoteFuture::done(Ok(Response::proceed()));
        };
        let (writes, closes) = match event {
            Event::MessageEnd(_) => (lent.end_message(), false),
            event => lent.end_session(matches!(event, Event::Close)),
        };
        if writes {
            return RemoteFuture::writes(Writes::end(lent, closes));
        }
        lent.done();
        RemoteFuture::done(Ok(Response::proceed()))
    }
}

impl<C: Connector> Service<Request> for Remote<C> {
    type Response = Response;
    type Error = RemoteError;
    type Future = RemoteFuture<C>;

    /// Always ready: the connector is asked when it is needed.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), RemoteError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> RemoteFuture<C> {
        match request.event() {
            Event::Negotiate(offer) => {
                let offer = *offer;
                self.negotiate(request, offer)
            }
            event => match event.stage() {
                Some(stage) => self.ask(request, stage),
                None => self.end(event),
            },
        }
    }
}

/// A fresh instance, without a connection, for another connection with an MTA.
impl<C: Connector> Clone for Remote<C> {
    fn clone(&self) -> Self {
        Self {
            connector: self.connector.clone(),
            settings: Arc::clone(&self.settings),
            place: None,
        }
    }
}

impl<C: Connector> fmt::Debug for Remote<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
