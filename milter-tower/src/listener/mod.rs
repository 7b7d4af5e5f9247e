//! Where MTAs connect.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::session::PeerAddr;

pub use self::bound::BoundListener;
pub use self::options::ListenOptions;
pub use self::several::Listeners;
pub use self::split::Split;
pub use self::stream::Stream;
pub(crate) use self::stream::before_a_reply;

mod bound;
mod options;
mod several;
mod socket_file;
mod split;
mod stream;
#[cfg(feature = "systemd")]
pub(crate) mod systemd;

/// Something that MTAs connect to.
pub trait Listener: Send + 'static {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection. Dropping the future loses none.
    ///
    /// # Errors
    ///
    /// The operating system's. The server waits a moment and goes on.
    fn accept(&mut self) -> impl Future<Output = io::Result<Accepted<Self::Io>>> + Send;
}

/// A connection that a [`Listener`] accepted.
#[derive(Debug)]
#[non_exhaustive]
pub struct Accepted<Io> {
    /// The connection.
    pub io: Io,
    /// Where it comes from.
    pub peer: PeerAddr,
    /// The name of the listener that accepted it, if it has one.
    pub listener: Option<Arc<str>>,
}

impl<Io> Accepted<Io> {
    /// A connection, accepted by a listener without a name.
    pub fn new(io: Io, peer: impl Into<PeerAddr>) -> Self {
        Self {
            io,
            peer: peer.into(),
            listener: None,
        }
    }
}

impl Listener for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<Accepted<TcpStream>> {
        let (stream, peer) = Self::accept(self).await?;
        hurry(&stream);
        Ok(Accepted::new(stream, peer))
    }
}

impl Listener for UnixListener {
    type Io = UnixStream;

    async fn accept(&mut self) -> io::Result<Accepted<UnixStream>> {
        let (stream, peer) = Self::accept(self).await?;
        Ok(Accepted::new(stream, peer))
    }
}

/// Sends what is written at once.
fn hurry(stream: &TcpStream) {
    // Edits and verdict are one write; without this a second one waits for the MTA's delayed
    // acknowledgement. It is only slower where it cannot be set, as on some systems for a peer
    // that left.
    let _ = stream.set_nodelay(true);
}

impl From<tokio::net::unix::SocketAddr> for PeerAddr {
    fn from(address: tokio::net::unix::SocketAddr) -> Self {
        Self::Unix(address.as_pathname().map(Path::to_owned))
    }
}
