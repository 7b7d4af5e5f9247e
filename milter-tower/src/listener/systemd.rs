//! Sockets from systemd (feature `systemd`).

use std::env;
use std::io;

use listenfd::ListenFd;
use tokio::net::{TcpListener, UnixListener};

use super::{BoundListener, Listeners};

impl Listeners {
    /// The listeners that systemd passes to a service that it starts for a socket unit
    /// (`sd_listen_fds(3)`), named as there (`FileDescriptorName=`); none if it passes none.
    ///
    /// It takes them once and clears the variables that tell of them: call it before anything
    /// else reads or changes the environment. Permissions and the removal of a unix socket's file
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

fn take(sockets: &mut ListenFd, at: usize) -> io::Result<Option<BoundListener>> {
    if let Ok(listener) = sockets.take_unix_listener(at) {
        let Some(listener) = listener else {
            return Ok(None);
        };
        listener.set_nonblocking(true)?;
        return UnixListener::from_std(listener)?.try_into().map(Some);
    }
    let Some(listener) = sockets.take_tcp_listener(at)? else {
        return Ok(None);
    };
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)?.try_into().map(Some)
}
