//! The server: accepts connections and runs the driver for each.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::{Either, FutureExt, select};
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;
use tracing::{info, warn};

use self::accept::Acceptor;
use crate::connection;
use crate::error::{BoxError, ConnectionError};
use crate::listener::{Listener, Split};
use crate::make::Cloned;
use crate::request::Request;
use crate::response::Response;
use crate::session::{Peer, PeerAddr};
use crate::settings::Settings;
use crate::stop::Level;

pub use self::control::Stats;
pub(crate) use self::control::{Busy, Control, Held};
pub use self::handle::Handle;
pub use self::threads::ServeThreads;

mod accept;
mod control;
mod handle;
mod pace;
#[cfg(feature = "systemd")]
mod systemd;
mod threads;

/// How long messages in progress may take at shutdown unless said otherwise: less than systemd
/// waits before it kills (`TimeoutStopSec`, 90 s).
const DEFAULT_GRACE: Duration = Duration::from_secs(60);
/// How long connections that were cut may take to tell their services.
const CUT_TIME: Duration = Duration::from_secs(15);

/// The number of the next connection of this process.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

type ShutdownSignal = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Serves a filter on a listener.
///
/// Each connection gets a clone of the service, once it has sent its offer; the service given
/// here is never called.
///
/// ```no_run
/// # async fn example() -> Result<(), milter_tower::BoxError> {
/// use std::convert::Infallible;
/// use milter_tower::{Address, Request, Response, serve};
/// use tower::service_fn;
///
/// let filter = service_fn(async |_: Request| Ok::<_, Infallible>(Response::proceed()));
/// let listener = "inet:10025@127.0.0.1".parse::<Address>()?.bind().await?;
/// serve(listener, filter).await?;
/// # Ok(())
/// # }
/// ```
pub fn serve<L, S>(listener: L, service: S) -> Serve<L, Cloned<S>>
where
    L: Listener,
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    serve_make(listener, Cloned::new(service))
}

/// Serves filters on a listener; each connection's service is made by `make`, any
/// `MakeService<Peer, Request>`, from what is known of the connection.
///
/// `make` is cloned for each connection, and called once it has sent its offer.
pub fn serve_make<L, M, S>(listener: L, make: M) -> Serve<L, M>
where
    L: Listener,
    M: Service<Peer, Response = S> + Clone + Send + 'static,
    M::Error: Into<BoxError>,
    M::Future: Send,
    S: Service<Request, Response = Response> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    Serve {
        listener,
        make,
        settings: Settings::new(),
        shutdown: None,
        grace: DEFAULT_GRACE,
        control: Arc::default(),
        #[cfg(feature = "systemd")]
        notify_systemd: false,
    }
}

/// Serves a filter on one connection, whatever it runs over.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), milter_tower::ConnectionError> {
/// use std::convert::Infallible;
/// use milter_tower::{Request, Response, serve_connection};
/// use tower::service_fn;
///
/// let filter = service_fn(async |_: Request| Ok::<_, Infallible>(Response::proceed()));
/// let (mta, io) = tokio::io::duplex(1024);
/// drop(mta); // A port probe: connects and leaves.
/// serve_connection(io, filter).await
/// # }
/// ```
pub fn serve_connection<IO, S>(io: IO, service: S) -> ServeConnection<IO, Cloned<S>>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    ServeConnection {
        io,
        make: Cloned::new(service),
        settings: Settings::new(),
        peer: PeerAddr::Other,
        listener: None,
    }
}

/// A connection about to be served; see [`serve_connection`]. It does nothing unless awaited.
#[must_use = "a connection is served only when it is awaited"]
pub struct ServeConnection<IO, M> {
    io: IO,
    make: M,
    settings: Settings,
    peer: PeerAddr,
    listener: Option<Arc<str>>,
}

impl<IO, M> ServeConnection<IO, M> {
    /// Sets time-outs, limits and what failures become.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Says where the connection comes from, for the session and the log.
    pub fn peer(mut self, address: PeerAddr) -> Self {
        self.peer = address;
        self
    }

    /// Says which listener accepted the connection, for the session.
    pub fn listener(mut self, name: &str) -> Self {
        self.listener = Some(name.into());
        self
    }
}

impl<IO, M, S> IntoFuture for ServeConnection<IO, M>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    M: Service<Peer, Response = S> + Send + 'static,
    M::Error: Into<BoxError>,
    M::Future: Send,
    S: Service<Request, Response = Response> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    type Output = Result<(), ConnectionError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let peer = next_peer(self.peer, self.listener);
        Box::pin(connection::run(
            self.io,
            self.make,
            peer,
            Arc::new(self.settings),
            Arc::default(),
        ))
    }
}

impl<IO, M> fmt::Debug for ServeConnection<IO, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeConnection")
            .field("settings", &self.settings)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// A server about to run; see [`serve`] and [`serve_make`]. It does nothing unless awaited.
#[must_use = "a server runs only when it is awaited"]
pub struct Serve<L, M> {
    listener: L,
    make: M,
    settings: Settings,
    shutdown: Option<ShutdownSignal>,
    grace: Duration,
    control: Arc<Control>,
    #[cfg(feature = "systemd")]
    notify_systemd: bool,
}

impl<L, M> Serve<L, M> {
    /// A handle to the server, for when it runs.
    pub fn handle(&self) -> Handle<M>
    where
        M: Clone,
    {
        Handle {
            control: Arc::clone(&self.control),
            make: self.make.clone(),
        }
    }

    /// Sets time-outs, limits and what failures become, for each connection.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Stops when the future is ready: no connection is accepted any more, those between two
    /// messages are closed, and messages in progress may end within the
    /// [grace period](Self::grace_period).
    ///
    /// What an SMTP client sends after that on a session whose connection was closed gets what the
    /// MTA is configured to do without the filter: have that be a tempfail (`F=T`,
    /// `milter_default_action`).
    pub fn with_graceful_shutdown(
        mut self,
        signal: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        self.shutdown = Some(Box::pin(signal));
        self
    }

    /// How long messages in progress may take to end at shutdown; then they are cut, and the
    /// MTA does what it is configured to do when a filter goes away. By default 60 s: systemd
    /// waits for 90 s unless told otherwise.
    pub const fn grace_period(mut self, time: Duration) -> Self {
        self.grace = time;
        self
    }

    /// Tells systemd when the server is ready and when it stops, and answers its watchdog
    /// (`Type=notify`, `WatchdogSec=`). Without systemd it does nothing. Needs the feature
    /// `systemd`.
    #[cfg(feature = "systemd")]
    #[cfg_attr(docsrs, doc(cfg(feature = "systemd")))]
    pub const fn notify_systemd(mut self) -> Self {
        self.notify_systemd = true;
        self
    }
}

impl<L, M> Serve<L, M> {
    fn into_parts(self) -> (Part<M>, L, ShutdownSignal) {
        tell_of_few_descriptors(&self.settings);
        let part = Part {
            make: self.make,
            settings: Arc::new(self.settings),
            control: self.control,
            grace: self.grace,
        };
        let never = || -> ShutdownSignal { Box::pin(std::future::pending()) };
        (part, self.listener, self.shutdown.unwrap_or_else(never))
    }
}

impl<L: Split, M> Serve<L, M> {
    /// Serves on several threads of its own, each with a runtime of its own, instead of on the
    /// runtime at hand.
    ///
    /// A connection stays on its thread, so nothing is handed from one to another: the cheapest
    /// way to use several processors for filters that wait little.
    pub fn threads(self, threads: NonZeroUsize) -> ServeThreads<L, M> {
        ServeThreads {
            serve: self,
            threads,
        }
    }
}

impl<L, M> fmt::Debug for Serve<L, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("settings", &self.settings)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

/// How a server ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The connections that were accepted, also those beyond a limit.
    pub accepted: u64,
    /// The connections that were turned away: a limit was reached.
    pub refused: u64,
    /// The connections that were cut in the middle of a message: it did not end within the grace
    /// period, or the server was to stop [at once](Handle::shutdown_now).
    pub cut: u64,
}

impl Report {
    fn new(control: &Control) -> Self {
        let stats = control.stats();
        Self {
            accepted: stats.accepted,
            refused: stats.refused,
            cut: control.cut(),
        }
    }
}

impl<L, M, S> IntoFuture for Serve<L, M>
where
    L: Listener,
    M: Service<Peer, Response = S> + Clone + Send + 'static,
    M::Error: Into<BoxError>,
    M::Future: Send,
    S: Service<Request, Response = Response> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    type Output = io::Result<Report>;
    type IntoFuture = Pin<Box<dyn Future<Output = io::Result<Report>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        #[cfg(feature = "systemd")]
        if self.notify_systemd {
            let control = Arc::clone(&self.control);
            return Box::pin(systemd::tell(control, run(self)));
        }
        Box::pin(run(self))
    }
}

async fn run<L, M, S>(server: Serve<L, M>) -> io::Result<Report>
where
    L: Listener,
    M: Service<Peer, Response = S> + Clone + Send + 'static,
    M::Error: Into<BoxError>,
    M::Future: Send,
    S: Service<Request, Response = Response> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let (part, listener, shutdown) = server.into_parts();
    let control = Arc::clone(&part.control);
    run_part(part, listener, shutdown).await;
    Ok(Report::new(&control))
}

/// What each thread of a server needs.
#[derive(Clone)]
struct Part<M> {
    make: M,
    settings: Arc<Settings>,
    control: Arc<Control>,
    grace: Duration,
}

/// Serves until the server stops.
async fn run_part<L, M, S>(
    part: Part<M>,
    mut listener: L,
    shutdown: impl Future<Output = ()> + Send,
) where
    L: Listener,
    M: Service<Peer, Response = S> + Clone + Send + 'static,
    M::Error: Into<BoxError>,
    M::Future: Send,
    S: Service<Request, Response = Response> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let Part {
        make,
        settings,
        control,
        grace,
    } = part;
    let stop = &control.stop;
    let _stop = StopAtDrop(Arc::clone(&control));
    let mut acceptor = Acceptor::new(make, settings, Arc::clone(&control));
    let (shutdown, stopped) = (pin!(shutdown), pin!(stop.reached(Level::Drain)));
    let stopping = pin!(select(shutdown, stopped).map(drop));
    acceptor.run(&mut listener, stopping).await;

    // Nobody else may connect; what waits in the queue is refused.
    drop(listener);
    let tasks = acceptor.tasks;
    info!(
        connections = tasks.len(),
        "stopping: messages in progress may end within {grace:?}"
    );
    tasks.close();
    stop.raise(Level::Drain);
    let cutting = pin!(stop.reached(Level::Cut));
    let drained = pin!(tokio::time::timeout(grace, tasks.wait()));
    match select(drained, cutting).await {
        Either::Left((Ok(()), _)) => return,
        Either::Left((Err(_), _)) => warn!(
            connections = tasks.len(),
            "the grace period is over: messages are cut"
        ),
        Either::Right(_) => {}
    }
    stop.raise(Level::Cut);
    let _ = tokio::time::timeout(CUT_TIME, tasks.wait()).await;
}

/// Ends the connections of a server whose future is dropped, each between two messages.
struct StopAtDrop(Arc<Control>);

impl Drop for StopAtDrop {
    fn drop(&mut self) {
        self.0.stop.raise(Level::Drain);
    }
}

/// Says so if the system's limit is the narrower one.
fn tell_of_few_descriptors(settings: &Settings) {
    use nix::sys::resource::{Resource, getrlimit};
    let Ok((allowed, _)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    if usize::try_from(allowed).is_ok_and(|allowed| allowed <= settings.max_connections) {
        info!(
            allowed,
            max_connections = settings.max_connections,
            "the process may open fewer files than connections (LimitNOFILE=, ulimit -n)"
        );
    }
}

fn next_peer(address: PeerAddr, listener: Option<Arc<str>>) -> Peer {
    let peer = Peer::new(NEXT_ID.fetch_add(1, Ordering::Relaxed), address);
    match listener {
        Some(listener) => peer.at_listener(listener),
        None => peer,
    }
}
