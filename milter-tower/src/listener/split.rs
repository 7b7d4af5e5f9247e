//! Second listeners for the same queues of connections, for other runtimes.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};

use super::bound::Inner;
use super::socket_file::SocketFile;
use super::{BoundListener, Listener, Listeners};
use crate::address::Address;

/// A listener that several threads can accept from; see
/// [`Serve::threads`](crate::Serve::threads).
///
/// [`BoundListener`] and [`Listeners`] are.
pub trait Split: Listener + sealed::Sealed + Sized {
    /// A duplicate that no runtime knows yet.
    #[doc(hidden)]
    type Duplicate: Send + 'static;

    #[doc(hidden)]
    fn duplicate(&self) -> io::Result<Self::Duplicate>;

    /// The duplicate's listener, on the runtime at hand.
    #[doc(hidden)]
    fn register(duplicate: Self::Duplicate) -> io::Result<Self>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::BoundListener {}
    impl Sealed for super::Listeners {}
}

#[doc(hidden)]
#[derive(Debug)]
pub struct Duplicate {
    socket: Socket,
    address: Address,
    name: Arc<str>,
}

#[derive(Debug)]
enum Socket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, Option<Arc<SocketFile>>),
}

impl Split for BoundListener {
    type Duplicate = Duplicate;

    fn duplicate(&self) -> io::Result<Duplicate> {
        let socket = match &self.inner {
            Inner::Tcp(listener) => Socket::Tcp(listener.as_fd().try_clone_to_owned()?.into()),
            Inner::Unix(listener, file) => {
                Socket::Unix(listener.as_fd().try_clone_to_owned()?.into(), file.clone())
            }
        };
        Ok(Duplicate {
            socket,
            address: self.address.clone(),
            name: Arc::clone(&self.name),
        })
    }

    fn register(duplicate: Duplicate) -> io::Result<Self> {
        let inner = match duplicate.socket {
            Socket::Tcp(listener) => Inner::Tcp(TcpListener::from_std(listener)?),
            Socket::Unix(listener, file) => Inner::Unix(UnixListener::from_std(listener)?, file),
        };
        Ok(Self {
            inner,
            address: duplicate.address,
            name: duplicate.name,
        })
    }
}

impl Split for Listeners {
    type Duplicate = Vec<Duplicate>;

    fn duplicate(&self) -> io::Result<Vec<Duplicate>> {
        self.iter().map(Split::duplicate).collect()
    }

    fn register(duplicate: Vec<Duplicate>) -> io::Result<Self> {
        duplicate.into_iter().map(BoundListener::register).collect()
    }
}
