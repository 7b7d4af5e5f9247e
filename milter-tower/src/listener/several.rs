//! Several listeners of one server.

use std::io;
use std::task::Poll;

use super::{Accepted, BoundListener, Listener, Stream};
use crate::address::Address;

/// Several listeners of one server.
///
/// A filter sees by [`Peer::listener`](crate::Peer::listener) which of them a connection came to.
///
/// ```no_run
/// # async fn example() -> Result<(), milter_tower::BoxError> {
/// use milter_tower::{Address, Listeners, Request, Response, serve};
///
/// let tcp: Address = "inet:10025@127.0.0.1".parse()?;
/// let unix: Address = "unix:/run/filter.sock".parse()?;
/// let listeners = Listeners::new()
///     .with(tcp.bind().await?.named("internal"))
///     .with(unix.bind().await?.named("public"));
/// # let filter = tower::service_fn(async |_: Request| Ok::<_, milter_tower::BoxError>(Response::proceed()));
/// serve(listeners, filter).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Listeners {
    members: Vec<BoundListener>,
    /// Which is asked first: each in its turn.
    next: usize,
}

impl Listeners {
    /// No listener.
    pub const fn new() -> Self {
        Self {
            members: Vec::new(),
            next: 0,
        }
    }

    /// Adds a listener.
    #[must_use]
    pub fn with(mut self, listener: BoundListener) -> Self {
        self.members.push(listener);
        self
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none: a server of none waits for its end.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The listeners.
    pub fn iter(&self) -> std::slice::Iter<'_, BoundListener> {
        self.members.iter()
    }

    /// Where they listen.
    pub fn addresses(&self) -> impl Iterator<Item = Address> + '_ {
        self.iter().map(BoundListener::address)
    }
}

impl From<BoundListener> for Listeners {
    fn from(listener: BoundListener) -> Self {
        Self::new().with(listener)
    }
}

impl FromIterator<BoundListener> for Listeners {
    fn from_iter<T: IntoIterator<Item = BoundListener>>(listeners: T) -> Self {
        Self {
            members: listeners.into_iter().collect(),
            next: 0,
        }
    }
}

impl Extend<BoundListener> for Listeners {
    fn extend<T: IntoIterator<Item = BoundListener>>(&mut self, listeners: T) {
        self.members.extend(listeners);
    }
}

impl IntoIterator for Listeners {
    type Item = BoundListener;
    type IntoIter = std::vec::IntoIter<BoundListener>;

    fn into_iter(self) -> Self::IntoIter {
        self.members.into_iter()
    }
}

impl<'a> IntoIterator for &'a Listeners {
    type Item = &'a BoundListener;
    type IntoIter = std::slice::Iter<'a, BoundListener>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Listener for Listeners {
    type Io = Stream;

    async fn accept(&mut self) -> io::Result<Accepted<Stream>> {
        std::future::poll_fn(|cx| {
            let count = self.members.len();
            for turn in 0..count {
                let at = (self.next + turn) % count;
                if let Poll::Ready(accepted) = self.members[at].poll_accept(cx) {
                    self.next = (at + 1) % count;
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await
    }
}
