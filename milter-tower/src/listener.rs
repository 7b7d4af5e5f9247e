//! Where MTAs connect.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{
    TcpListener, TcpSocket, TcpStream, UnixListener, UnixSocket, UnixStream, lookup_host,
};

use crate::address::Address;
use crate::session::PeerAddr;

/// How many connections may wait to be accepted; Linux takes no more than `net.core.somaxconn`.
///
/// A mail server connects once for each of its clients, and they come in bursts. Beyond this TCP
/// tries again a second later, and Postfix finds a unix socket out of order at once.
// Tokio's own `bind` has 128. Postfix src/util/unix_connect.c unix_connect: it does not wait.
const BACKLOG: u32 = 4096;

/// Something that MTAs connect to.
pub trait Listener: Send + 'static {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection. Dropping the future loses none.
    ///
    /// # Errors
    ///
    /// The operating system's. The server waits a moment and goes on.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, PeerAddr)>> + Send;
}

impl Listener for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, PeerAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        // Edits and verdict are one write; without this a second one waits for the MTA's
        // delayed acknowledgement.
        // It is only slower where it cannot be set, as on some systems for a peer that left.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer.into()))
    }
}

impl Listener for UnixListener {
    type Io = UnixStream;

    async fn accept(&mut self) -> io::Result<(UnixStream, PeerAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        Ok((
            stream,
            PeerAddr::Unix(peer.as_pathname().map(Path::to_owned)),
        ))
    }
}

/// A listener at an [`Address`], TCP or unix.
///
/// A unix socket is removed when the listener is dropped.
#[derive(Debug)]
pub struct BoundListener {
    inner: Inner,
    address: Address,
}

#[derive(Debug)]
enum Inner {
    Tcp(TcpListener),
    Unix(UnixListener, Option<Arc<SocketFile>>),
}

impl BoundListener {
    pub(crate) async fn tcp(host: &str, port: u16) -> io::Result<Self> {
        let mut failed = io::Error::new(
            io::ErrorKind::InvalidInput,
            "the host's name has no address",
        );
        for address in lookup_host((host, port)).await? {
            match listen_tcp(address) {
                Ok(listener) => return listener.try_into(),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    pub(crate) fn unix(path: &Path) -> io::Result<Self> {
        remove_stale(path)?;
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        let listener = socket.listen(BACKLOG)?;
        let file = SocketFile::new(path)?;
        Ok(Self {
            inner: Inner::Unix(listener, Some(Arc::new(file))),
            address: path.into(),
        })
    }

    /// Where this listens; with the real port if any free one was asked for.
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// A second listener for the same queue of connections, for another runtime.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub(crate) fn duplicate(&self) -> io::Result<Duplicate> {
        Ok(match &self.inner {
            Inner::Tcp(listener) => Duplicate::Tcp(listener.as_fd().try_clone_to_owned()?.into()),
            Inner::Unix(listener, file) => {
                Duplicate::Unix(listener.as_fd().try_clone_to_owned()?.into(), file.clone())
            }
        })
    }
}

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // As Tokio's own `bind`: a port is free although connections of an earlier process linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A listener that no runtime knows yet.
pub(crate) enum Duplicate {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, Option<Arc<SocketFile>>),
}

impl Duplicate {
    /// The listener, on the runtime at hand.
    pub(crate) fn register(self) -> io::Result<BoundListener> {
        match self {
            Self::Tcp(listener) => TcpListener::from_std(listener)?.try_into(),
            Self::Unix(listener, file) => {
                let mut bound = BoundListener::try_from(UnixListener::from_std(listener)?)?;
                if let Inner::Unix(_, kept) = &mut bound.inner {
                    *kept = file;
                }
                Ok(bound)
            }
        }
    }
}

impl TryFrom<TcpListener> for BoundListener {
    type Error = io::Error;

    fn try_from(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?.into();
        Ok(Self {
            inner: Inner::Tcp(listener),
            address,
        })
    }
}

/// The socket's file stays when the listener is dropped: it was made by somebody else.
impl TryFrom<UnixListener> for BoundListener {
    type Error = io::Error;

    fn try_from(listener: UnixListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let path = address.as_pathname().unwrap_or(Path::new(""));
        Ok(Self {
            address: path.into(),
            inner: Inner::Unix(listener, None),
        })
    }
}

impl Listener for BoundListener {
    type Io = Stream;

    async fn accept(&mut self) -> io::Result<(Stream, PeerAddr)> {
        match &mut self.inner {
            Inner::Tcp(listener) => {
                let (stream, peer) = Listener::accept(listener).await?;
                Ok((stream.into(), peer))
            }
            Inner::Unix(listener, _) => {
                let (stream, peer) = Listener::accept(listener).await?;
                Ok((stream.into(), peer))
            }
        }
    }
}

/// A connection over TCP or a unix socket.
#[derive(Debug)]
pub struct Stream {
    inner: StreamInner,
    /// What was read has been acknowledged, or will be by what was written since.
    acknowledged: bool,
}

#[derive(Debug)]
enum StreamInner {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    const fn new(inner: StreamInner) -> Self {
        Self {
            inner,
            acknowledged: true,
        }
    }

    /// Acknowledges what was read, if nothing was written since that did.
    ///
    /// Sendmail sends macros and command in two small writes. The second waits for the
    /// acknowledgement of the first, which the kernel would delay by 40 ms.
    fn acknowledge(&mut self) {
        let done = std::mem::replace(&mut self.acknowledged, true);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        match &self.inner {
            // Where it cannot be done it is only slower.
            StreamInner::Tcp(stream) if !done => drop(stream.set_quickack(true)),
            _ => {}
        }
    }
}

macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match &mut $stream.inner {
            StreamInner::Tcp(inner) => {
                let $inner = Pin::new(inner);
                $call
            }
            StreamInner::Unix(inner) => {
                let $inner = Pin::new(inner);
                $call
            }
        }
    };
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::new(StreamInner::Tcp(stream))
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self::new(StreamInner::Unix(stream))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = each!(self, inner => inner.poll_read(cx, buffer));
        match read {
            Poll::Ready(_) => self.acknowledged = false,
            Poll::Pending => self.acknowledge(),
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.acknowledged = true;
        each!(self, inner => inner.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => inner.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => inner.poll_shutdown(cx))
    }
}

/// The file of a socket that this process made; removed with the last listener on it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let inode = inode(path)?;
        Ok(Self {
            path: path.to_owned(),
            inode,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another process may have put its own socket there meanwhile.
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Removes what an earlier process left: only a socket, and only if nobody listens.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the file exists and is no socket",
            ));
        }
        Err(_) => return Ok(()),
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        _ => Ok(()),
    }
}
