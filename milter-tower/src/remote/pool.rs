//! Several filters of one job, and which of them gets a session.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use milter_core::client::{Failure, Timeout};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use super::circuit::{Circuit, CircuitBreakerLayer, CircuitOpen};
use super::connector::Target;
use super::failure::OnRemoteFailure;
use super::future::RemoteFuture;
use super::{Remote, RemoteError};
use crate::client::dial::dial;
use crate::client::{ClientError, ClientErrorKind, Connection, Timeouts};
use crate::request::Request;
use crate::response::Response;
use crate::{Address, Stream};

/// Filters at several addresses that all do one job, as one service.
///
/// Each session gets one of them: of two taken by chance the one with fewer sessions. One that
/// cannot be reached is passed over, and after a few failures [left alone](super::CircuitBreaker) for a
/// while; the session goes to another within the time that there is to connect. A session stays with
/// its backend, unless that is lost between two messages: then any other takes its place.
///
/// It is a [`Remote`] with a [`Pool`] for its connector.
///
/// ```
/// use milter_tower::RemotePool;
///
/// let scanners = RemotePool::new([
///     "inet:7357@192.0.2.10".parse()?,
///     "inet:7357@192.0.2.11".parse()?,
///     "inet:7357@192.0.2.12".parse()?,
/// ]);
/// # let _ = scanners;
/// # Ok::<(), milter_tower::AddressError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RemotePool(Remote<Pool>);

impl RemotePool {
    /// The filters at these addresses. Without any, nothing can be reached.
    pub fn new(addresses: impl IntoIterator<Item = Address>) -> Self {
        Pool::new(addresses).into()
    }

    /// How long it may take until one of them is connected and has negotiated: see
    /// [`Remote::connect_timeout`]. Each that is tried has an equal part of what is left.
    #[must_use]
    pub fn connect_timeout(self, time: Duration) -> Self {
        Self(self.0.connect_timeout(time))
    }

    /// How long a backend may take for each answer: see [`Remote::timeouts`].
    #[must_use]
    pub fn timeouts(self, times: Timeouts) -> Self {
        Self(self.0.timeouts(times))
    }

    /// What becomes of mail if no backend can be reached, or one fails: see [`Remote::on_failure`].
    #[must_use]
    pub fn on_failure(self, on_failure: impl Into<OnRemoteFailure>) -> Self {
        Self(self.0.on_failure(on_failure))
    }

    /// When one that cannot be reached is left alone, and for how long.
    #[must_use]
    pub fn circuit_breaker(mut self, circuit: CircuitBreakerLayer) -> Self {
        self.0.connector = self.0.connector.circuit_breaker(circuit);
        self
    }

    /// The addresses, each with the number of its sessions.
    pub fn sessions(&self) -> impl Iterator<Item = (&Address, usize)> {
        self.0.connector.sessions()
    }
}

impl From<Pool> for RemotePool {
    fn from(pool: Pool) -> Self {
        Self(Remote::with_connector(pool))
    }
}

impl Service<Request> for RemotePool {
    type Response = Response;
    type Error = RemoteError;
    type Future = RemoteFuture<Pool>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RemoteError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> RemoteFuture<Pool> {
        self.0.call(request)
    }
}

/// The connector of a [`RemotePool`].
///
/// All clones share what is known of the backends.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    backends: Vec<Backend>,
    /// With the number of a choice, chance.
    random: RandomState,
    choices: AtomicU64,
}

#[derive(Debug)]
struct Backend {
    address: Address,
    circuit: Circuit,
    sessions: Arc<AtomicUsize>,
}

impl Pool {
    /// A connector for these addresses.
    pub fn new(addresses: impl IntoIterator<Item = Address>) -> Self {
        Self::build(addresses, &CircuitBreakerLayer::new())
    }

    /// When an address is left alone, and for how long. What was known of the addresses is
    /// forgotten.
    #[must_use]
    #[allow(
        clippy::needless_pass_by_value,
        reason = "it is given as all settings are"
    )]
    pub fn circuit_breaker(self, circuit: CircuitBreakerLayer) -> Self {
        let addresses = self.0.backends.iter().map(|backend| &backend.address);
        Self::build(addresses.cloned(), &circuit)
    }

    fn build(addresses: impl IntoIterator<Item = Address>, settings: &CircuitBreakerLayer) -> Self {
        let mut backends = Vec::new();
        for address in addresses {
            backends.push(Backend {
                circuit: Circuit::new(settings.clone().name(address.to_string())),
                address,
                sessions: Arc::default(),
            });
        }
        Self(Arc::new(Shared {
            backends,
            random: RandomState::new(),
            choices: AtomicU64::new(0),
        }))
    }

    /// The addresses, each with the number of its sessions.
    pub fn sessions(&self) -> impl Iterator<Item = (&Address, usize)> {
        let backends = self.0.backends.iter();
        backends.map(|backend| (&backend.address, backend.sessions.load(Ordering::Relaxed)))
    }
}

impl Shared {
    /// The better of two that are taken by chance.
    fn choose<'a>(&self, among: &[&'a Backend]) -> Option<(usize, &'a Backend)> {
        let at = |number: usize| Some((number, *among.get(number)?));
        if among.len() < 2 {
            return at(0);
        }
        let choice = self.choices.fetch_add(1, Ordering::Relaxed);
        let chance = usize::try_from(self.random.hash_one(choice) >> 33).unwrap_or(0);
        let first = chance % among.len();
        // Any but the first.
        let step = 1 + (chance / among.len()) % (among.len() - 1);
        let (first, second) = (at(first)?, at((first + step) % among.len())?);
        let sessions = |one: (usize, &Backend)| one.1.sessions.load(Ordering::Relaxed);
        Some(if sessions(second) < sessions(first) {
            second
        } else {
            first
        })
    }

    async fn open(&self, target: Target) -> Result<Connection<PooledStream>, NoBackend> {
        // To the same point in time as who waits for this, so that one that hangs is taken note of.
        let deadline = target.deadline();
        let mut none = NoBackend::default();
        let mut left = Vec::with_capacity(self.backends.len());
        for backend in &self.backends {
            match backend.circuit.open() {
                None => left.push(backend),
                Some(open) => none.open.push(open),
            }
        }
        while let Some((at, backend)) = self.choose(&left) {
            let tries = u32::try_from(left.len()).unwrap_or(u32::MAX);
            left.swap_remove(at);
            let mut pass = match backend.circuit.enter() {
                Ok(pass) => pass,
                Err(open) => {
                    none.open.push(open);
                    continue;
                }
            };
            match backend.open(&target, share(deadline, tries)).await {
                Ok(connection) => {
                    pass.end(None);
                    return Ok(connection);
                }
                Err(error) => {
                    pass.end(Some(&error));
                    none.failed.push(error);
                }
            }
        }
        Err(none)
    }
}

/// Until when one of so many that are left may be tried: each has an equal part of the time.
fn share(deadline: Instant, tries: u32) -> Instant {
    if tries <= 1 {
        return deadline;
    }
    let now = Instant::now();
    now + deadline.saturating_duration_since(now) / tries
}

impl Backend {
    async fn open(
        &self,
        target: &Target,
        deadline: Instant,
    ) -> Result<Connection<PooledStream>, ClientError> {
        let client = target.client(self.address.clone());
        let wrong = |kind| ClientError::new(&Arc::from(client.name()), None, kind);
        // From here on, so that those who come at the same time do not all choose the same.
        let session = Counted::new(&self.sessions);
        let opening = async {
            let time = deadline.saturating_duration_since(Instant::now());
            let stream = dial(&self.address, time).await;
            let stream = stream.map_err(|error| wrong(ClientErrorKind::Connect(error)))?;
            let stream = PooledStream {
                stream,
                _session: session,
            };
            client.over(stream).await
        };
        timeout_at(deadline, opening).await.unwrap_or_else(|_| {
            let late = Failure::Timeout(Timeout::Command);
            Err(wrong(ClientErrorKind::Failed(late)))
        })
    }
}

impl Service<Target> for Pool {
    type Response = Connection<PooledStream>;
    type Error = NoBackend;
    type Future = PoolFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoBackend>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Target) -> PoolFuture {
        let shared = Arc::clone(&self.0);
        PoolFuture(Box::pin(async move { shared.open(target).await }))
    }
}

/// The future of a [`Pool`].
#[must_use = "futures do nothing unless polled"]
pub struct PoolFuture(Opening);

type Opening = Pin<Box<dyn Future<Output = Result<Connection<PooledStream>, NoBackend>> + Send>>;

impl Future for PoolFuture {
    type Output = Result<Connection<PooledStream>, NoBackend>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for PoolFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolFuture").finish_non_exhaustive()
    }
}

/// No backend of a pool can be reached.
#[derive(Debug, Default)]
pub struct NoBackend {
    failed: Vec<ClientError>,
    open: Vec<CircuitOpen>,
}

impl NoBackend {
    /// What went wrong with those that were tried.
    pub fn failed(&self) -> &[ClientError] {
        &self.failed
    }

    /// Those that were not tried, since they failed before.
    pub fn open(&self) -> &[CircuitOpen] {
        &self.open
    }
}

impl fmt::Display for NoBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.failed.is_empty() && self.open.is_empty() {
            return f.write_str("the pool has no addresses");
        }
        let mut separator = "";
        for error in &self.failed {
            write!(f, "{separator}{error}")?;
            separator = "; ";
        }
        for open in &self.open {
            write!(f, "{separator}{open}")?;
            separator = "; ";
        }
        Ok(())
    }
}

impl std::error::Error for NoBackend {}

/// One session of a backend, as long as it is there.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(sessions: &Arc<AtomicUsize>) -> Self {
        sessions.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(sessions))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection with a backend of a pool, which counts as a session of it until it is dropped.
#[derive(Debug)]
pub struct PooledStream {
    stream: Stream,
    _session: Counted,
}

impl AsyncRead for PooledStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for PooledStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
