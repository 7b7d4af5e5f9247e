//! Filters in other processes, as services.
//!
//! A [`Remote`] is a milter at some address, whatever it is written in, as one more
//! `Service<Request>`: in a [`Chain`](crate::Chain), behind layers, or alone behind
//! [`serve`](crate::serve), which makes a proxy of it. The guide tells how it is used:
//! [filters elsewhere](crate::guide::elsewhere).
//!
//! ```no_run
//! use milter_tower::{Chain, Remote, Router, SmtpReply, serve};
//! # use milter_tower::{Address, BoxError, Recipient};
//!
//! # async fn example() -> Result<(), BoxError> {
//! let no_root = Router::new().on_rcpt(async |to: Recipient| {
//!     to.is("root@example.org").then(|| SmtpReply::reject("Not by mail"))
//! });
//! let filter = Chain::new()
//!     .with("no root", no_root)
//!     .with("dkim", Remote::new("inet:8891@127.0.0.1".parse()?));
//! let listener = "inet:10025@127.0.0.1".parse::<Address>()?.bind().await?;
//! serve(listener, filter).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # A connection with a backend
//!
//! It is opened when the MTA negotiates, by a [connector](Connector), and belongs to that one
//! connection with the MTA. The backend is offered what the MTA offers, and what it asks for is
//! asked of the MTA: events, replies, actions, abilities, macros by name, sizes of frames. From then
//! on it is told what the MTA tells, with the macros of each stage, and what it answers is passed
//! on: verdicts in its own words, modifications in the order in which they came, and at the end of
//! the message that it is still at work. Nobody waits for a step without a reply: it is written
//! together with what comes next.
//!
//! What an MTA could not bear does not pass: a skip outside the body, or one that was not agreed on,
//! is kept in mind here, and the MTA is told to go on.
//!
//! # Its end
//!
//! | what happens | what the backend is told |
//! | --- | --- |
//! | a message ends that it saw and did not decide | `A`, at once |
//! | the MTA's connection ends | `Q` |
//! | the MTA keeps its connection for another session | `Q`, and a new connection is opened; or `K`, where [asked for](Remote::quit_new_connection) |
//! | a call is dropped in its middle | nothing: it is out of step, and its connection is closed |
//!
//! # When it is lost
//!
//! Between two messages another one takes its place: a new connection, negotiated by the same offer,
//! that is shown the client and its HELO with their macros. What it asks for must be within what was
//! agreed on with the MTA; what it says of the client holds for the mail that follows. Within a
//! message that message fails, as [`OnRemoteFailure`] says, and the next one gets a new connection.
//! A backend that says what it was not asked is lost, too.
//!
//! The server's own time-outs hold in any case ([`Request::deadline`]); those of a
//! `Remote` can be shorter.
//!
//! # Connectors
//!
//! What opens connections is a `Service<Target>`, made for each session by `Clone`: [`Dial`] for one
//! address, [`Pool`] for several, or a function. Layers of tower's go around it, and apply where a
//! session begins, never at an event: `retry`, `timeout`, a concurrency limit, and the
//! [`CircuitBreaker`] of this module.
//!
//! tower's `balance` works within its `Buffer`, but is not used by the pool. It is one service that all
//! have to share by a task and a channel, takes an endpoint out when that is not ready, and does not know when a session ends;
//! what is needed here is a choice among a few addresses, and a number for each.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use milter_core::{Offer, Stage};
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

use self::future::{Asks, Back, Lent, Writes};
use self::open::negotiate;
use self::state::{Next, State};

/// A filter in another process, as a service: see the [module](self).
///
/// A clone is a fresh instance for another connection with an MTA: it has the same settings and no
/// connection of its own yet.
///
/// ```no_run
/// use std::time::Duration;
/// use milter_tower::{Address, OnFailure, Remote, serve};
///
/// # async fn example() -> Result<(), milter_tower::BoxError> {
/// // A proxy.
/// let remote = Remote::new("unix:/run/opendkim/opendkim.sock".parse()?)
///     .connect_timeout(Duration::from_secs(2))
///     .on_failure(OnFailure::TempFail);
/// let listener = "inet:10025@127.0.0.1".parse::<Address>()?.bind().await?;
/// serve(listener, remote).await?;
/// # Ok(())
/// # }
/// ```
pub struct Remote<C: Connector = Dial> {
    connector: C,
    settings: Arc<Settings>,
    /// None before the first call.
    place: Option<Place<C>>,
}

/// Where the state of a connection is.
struct Place<C: Connector> {
    /// None while it is lent to the future of a call.
    here: Option<Box<State<C>>>,
    back: Back<C>,
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

    /// The state, unless it is lent.
    fn place(&mut self) -> &mut Place<C> {
        let place = self.place.get_or_insert_with(|| {
            let (connector, settings) = (self.connector.clone(), Arc::clone(&self.settings));
            Place {
                here: Some(Box::new(State::new(connector, settings))),
                back: Back::default(),
            }
        });
        if place.here.is_none() {
            place.here = place.back.take();
        }
        place
    }

    fn ask(&mut self, request: Request, stage: Stage) -> RemoteFuture<C> {
        let place = self.place();
        let Some(own) = &mut place.here else {
            return RemoteFuture::done(Err(busy()));
        };
        let begins = own.enter(stage);
        let next = match own.ask(&request, stage, begins) {
            Next::Answer(answer) => return RemoteFuture::done(answer),
            next => next,
        };
        let Some(lent) = place.lend() else {
            return RemoteFuture::done(Err(busy()));
        };
        match next {
            Next::Answer(answer) => RemoteFuture::done(answer),
            Next::Hear(rest) => RemoteFuture::asks(Asks::new(lent, request, stage, rest, begins)),
            Next::Write => RemoteFuture::writes(Writes::event(lent, request, stage)),
            Next::Open => RemoteFuture::opens(Box::pin(open::replace(lent, request, stage))),
        }
    }

    fn negotiate(&mut self, request: Request, offer: Offer) -> RemoteFuture<C> {
        // Whatever was before is another connection's.
        self.place = None;
        match self.place().lend() {
            Some(lent) => RemoteFuture::opens(Box::pin(negotiate(lent, request, offer))),
            None => RemoteFuture::done(Err(busy())),
        }
    }

    fn end(&mut self, event: &Event) -> RemoteFuture<C> {
        let place = self.place();
        let Some(state) = &mut place.here else {
            // There is nobody to tell.
            return RemoteFuture::done(Ok(Response::proceed()));
        };
        let (writes, closes) = match event {
            Event::MessageEnd(_) => (state.end_message(), false),
            event => state.end_session(matches!(event, Event::Close)),
        };
        let lent = if writes { place.lend() } else { None };
        lent.map_or_else(
            || RemoteFuture::done(Ok(Response::proceed())),
            |lent| RemoteFuture::writes(Writes::end(lent, closes)),
        )
    }
}

impl<C: Connector> Place<C> {
    fn lend(&mut self) -> Option<Lent<C>> {
        let state = self.here.take()?;
        Some(Lent::new(state, self.back.clone()))
    }
}

/// The future of a call before this one was not dropped.
const fn busy() -> RemoteError {
    RemoteError::new(None, RemoteErrorKind::Busy)
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
