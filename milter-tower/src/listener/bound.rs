//! A listener at an address.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::net::{TcpListener, UnixListener};

use super::socket_file::SocketFile;
use super::{Accepted, Listener, Stream, hurry};
use crate::address::Address;

/// A listener at an [`Address`], TCP or unix.
///
/// The file of a unix socket is removed when the listener is dropped.
#[derive(Debug)]
pub struct BoundListener {
    pub(super) inner: Inner,
    pub(super) address: Address,
    pub(super) name: Arc<str>,
}

#[derive(Debug)]
pub(super) enum Inner {
    Tcp(TcpListener),
    Unix(UnixListener, Option<Arc<SocketFile>>),
}

impl BoundListener {
    pub(super) fn unix(listener: UnixListener, path: &Path, file: Arc<SocketFile>) -> Self {
        Self::new(Inner::Unix(listener, Some(file)), path.into())
    }

    fn new(inner: Inner, address: Address) -> Self {
        let name = address.to_string().into();
        Self {
            inner,
            address,
            name,
        }
    }

    /// Where this listens; with the real port if any free one was asked for.
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// Gives the listener a name, which filters see in
    /// [`Peer::listener`](crate::Peer::listener). Without one it is its address.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// The name of the listener.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next connection, if one is there.
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted<Stream>>> {
        let mut incoming = match &self.inner {
            Inner::Tcp(listener) => {
                let (stream, peer) = ready!(listener.poll_accept(cx))?;
                hurry(&stream);
                Accepted::new(stream.into(), peer)
            }
            Inner::Unix(listener, _) => {
                let (stream, peer) = ready!(listener.poll_accept(cx))?;
                Accepted::new(stream.into(), peer)
            }
        };
        incoming.listener = Some(Arc::clone(&self.name));
        Poll::Ready(Ok(incoming))
    }
}

impl TryFrom<TcpListener> for BoundListener {
    type Error = io::Error;

    fn try_from(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?.into();
        Ok(Self::new(Inner::Tcp(listener), address))
    }
}

/// The socket's file stays when the listener is dropped: it was made by somebody else.
impl TryFrom<UnixListener> for BoundListener {
    type Error = io::Error;

    fn try_from(listener: UnixListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        // One without a path is in Linux's abstract name space.
        let path = address.as_pathname().unwrap_or(Path::new("@"));
        let path = path.into();
        Ok(Self::new(Inner::Unix(listener, None), path))
    }
}

impl Listener for BoundListener {
    type Io = Stream;

    async fn accept(&mut self) -> io::Result<Accepted<Stream>> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }
}
