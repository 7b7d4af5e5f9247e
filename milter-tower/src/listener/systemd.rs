//! Sockets from systemd (feature `systemd`).

use std::env;
use std::io;
use std::os::fd::AsFd;

use listenfd::ListenFd;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::AcceptConn;
use tokio::net::{TcpListener, UnixListener};

use super::{BoundListener, Listeners};

#[cfg_attr(docsrs, doc(cfg(feature = "systemd")))]
impl Listeners {
    /// The listeners that systemd passes to a service that it starts for a socket unit
    /// (`sd_listen_fds(3)`), named as there (`FileDescriptorName=`); none if it passes none.
    /// Needs the feature `systemd`.
    ///
    /// It takes them once, and removes `LISTEN_FDS` and `LISTEN_PID` from the environment: call it
    /// early, before something else reads or changes that. Permissions and the removal of a unix socket's file
    /// are the socket unit's (`SocketMode=`, `SocketGroup=`, `RemoveOnStop=`).
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), milter_tower::BoxError> {
    /// use milter_tower::{Address, Listeners};
    ///
    /// let mut listeners = Listeners::from_systemd()?;
    /// if listeners.is_empty() {
    ///     let address: Address = "inet:10025@127.0.0.1".parse()?;
    ///     listeners = address.bind().await?.into();
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What was passed is no listening stream socket, TCP or unix.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn from_systemd() -> io::Result<Self> {
        // Cleared by `ListenFd`, but for the names.
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut sockets = ListenFd::from_env();
        let mut listeners = Self::new();
        for at in 0..sockets.len() {
            let name = names.next().filter(|name| !name.is_empty());
            let Some(listener) = take(&mut sockets, at)? else {
                continue;
            };
            listeners = listeners.with(match name {
                // What systemd calls a socket that nobody named.
                None | Some("unknown") => listener,
                Some(name) => listener.named(name),
            });
        }
        Ok(listeners)
    }
}

/// Whether the socket listens (`Accept=no`), and is no connection (`Accept=yes`).
fn check(socket: &impl AsFd) -> io::Result<()> {
    if getsockopt(socket, AcceptConn)? {
        return Ok(());
    }
    let text = "systemd passed a socket that does not listen: the socket unit needs Accept=no";
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

fn take(sockets: &mut ListenFd, at: usize) -> io::Result<Option<BoundListener>> {
    if let Ok(listener) = sockets.take_unix_listener(at) {
        let Some(listener) = listener else {
            return Ok(None);
        };
        check(&listener)?;
        listener.set_nonblocking(true)?;
        return UnixListener::from_std(listener)?.try_into().map(Some);
    }
    let Some(listener) = sockets.take_tcp_listener(at)? else {
        return Ok(None);
    };
    check(&listener)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)?.try_into().map(Some)
}
