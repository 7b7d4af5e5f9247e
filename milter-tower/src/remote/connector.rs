//! Opening connections with filters elsewhere.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use milter_core::{Actions, Offer, Steps};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use crate::client::{Client, ClientError, ClientErrorKind, Connection, Timeouts};
use crate::error::BoxError;
use crate::{Address, Stream};

/// What a connection is opened for: what is to be offered, and how much time there is.
///
/// It is the request of a [connector](Connector), whatever that does with it.
#[derive(Clone, Debug)]
pub struct Target {
    offer: Offer,
    times: Timeouts,
    deadline: Instant,
}

impl Target {
    pub(super) fn new(offer: Offer, times: Timeouts, deadline: Instant) -> Self {
        Self {
            offer,
            times,
            deadline,
        }
    }

    /// What is to be offered: what the MTA offers, or the chain around, as far as it is known here.
    pub const fn offer(&self) -> Offer {
        self.offer
    }

    /// How long the backend may take once it agreed.
    pub const fn timeouts(&self) -> Timeouts {
        self.times
    }

    /// How much time is left to connect and to negotiate.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    pub(super) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The same with less time.
    #[must_use]
    pub fn within(mut self, time: Duration) -> Self {
        self.deadline = self.deadline.min(crate::clock::after(Instant::now(), time));
        self
    }

    /// A client that offers this to a backend at that address.
    pub fn client(&self, address: Address) -> Client {
        self.set(Client::new(address))
    }

    /// The same for a backend that is reached in some other way.
    pub fn client_without_address(&self) -> Client<()> {
        self.set(Client::without_address())
    }

    fn set<A>(&self, client: Client<A>) -> Client<A> {
        client.offer(self.offer).timeouts(self.times)
    }

    /// Connects with a backend at this address, and negotiates, within the time that is left.
    ///
    /// # Errors
    ///
    /// The backend cannot be reached, does not agree, or does not answer in time.
    pub async fn connect(&self, address: &Address) -> Result<Connection, ClientError> {
        let client = self.client(address.clone());
        let connected = timeout_at(self.deadline, client.connect()).await;
        connected.unwrap_or_else(|_| {
            let error = io::Error::new(io::ErrorKind::TimedOut, "it takes too long");
            let kind = ClientErrorKind::Connect(error);
            Err(ClientError::new(&Arc::from(client.name()), None, kind))
        })
    }
}

/// What an MTA offers, without what is not known here: nobody could say what is meant by it.
pub(super) fn known(offer: Offer) -> Offer {
    const STEPS: Steps = Steps::from_bits_retain(Offer::V6.steps.bits())
        .union(Steps::DATA_256K)
        .union(Steps::DATA_1M);
    const ACTIONS: Actions = Offer::V6.actions;
    let offer = offer.normalized();
    Offer {
        version: offer.version.min(Offer::V6.version),
        actions: offer.actions.intersection(ACTIONS),
        steps: offer.steps.intersection(STEPS),
    }
}

/// A service that opens connections with backends: for each SMTP session one, connected and
/// negotiated.
///
/// Every `Service<Target>` that makes [`Connection`]s is one, be it [`Dial`], a function, or
/// either within layers of tower's: `retry`, `timeout`, a limit, a
/// [circuit breaker](super::CircuitBreaker). They apply where a session begins, not at each event.
///
/// Each session opens its connection by a clone of the connector.
pub trait Connector:
    Service<
        Target,
        Response = Connection<Self::Io>,
        Error: Into<BoxError>,
        Future: Future<Output = Result<Connection<Self::Io>, Self::Error>> + Send,
    > + Clone
    + Send
    + 'static
{
    /// What the connections run over.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
}

impl<C, IO> Connector for C
where
    C: Service<Target, Response = Connection<IO>> + Clone + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Io = IO;
}

/// The connector for one address.
#[derive(Clone, Debug)]
pub struct Dial {
    address: Arc<Address>,
}

impl Dial {
    /// A connector for this address.
    pub fn new(address: Address) -> Self {
        Self {
            address: Arc::new(address),
        }
    }

    /// The address.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl Service<Target> for Dial {
    type Response = Connection;
    type Error = ClientError;
    type Future = DialFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Target) -> DialFuture {
        let address = Arc::clone(&self.address);
        DialFuture(Box::pin(async move { target.connect(&address).await }))
    }
}

/// The future of [`Dial`].
#[must_use = "futures do nothing unless polled"]
pub struct DialFuture<IO = Stream>(
    pub(super) Pin<Box<dyn Future<Output = Result<Connection<IO>, ClientError>> + Send>>,
);

impl<IO> Future for DialFuture<IO> {
    type Output = Result<Connection<IO>, ClientError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<IO> fmt::Debug for DialFuture<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DialFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_is_offered() {
        let odd = Offer {
            version: 99,
            actions: Actions::from_bits_retain(0xffff_ffff),
            steps: Steps::from_bits_retain(0xffff_ffff),
        };
        let known = known(odd);
        assert_eq!((known.version, known.actions.bits()), (6, 0x1ff));
        assert_eq!(known.steps.bits(), 0x301f_ffff);
    }
}
