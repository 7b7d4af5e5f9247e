//! How to listen.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket, UnixSocket, lookup_host};

use super::BoundListener;
use super::socket_file::{SocketFile, lock_folder, remove_stale};
use crate::address::{Address, BindError};

/// How many connections may wait to be accepted, unless said otherwise: MTAs connect once for each
/// of their clients, and these come in bursts. Linux takes no more than `net.core.somaxconn`.
// Postfix src/util/unix_connect.c unix_connect: it does not wait at a unix socket that is full,
// and takes the filter for out of order; over TCP the next try is a second later.
const BACKLOG: u32 = 4096;

/// How to listen at an [`Address`]: who may connect to a unix socket, and how many connections
/// may wait.
///
/// ```no_run
/// # async fn example() -> Result<(), milter_tower::BoxError> {
/// use milter_tower::{Address, ListenOptions};
///
/// let address: Address = "unix:/run/filter/filter.sock".parse()?;
/// let listener = ListenOptions::new().mode(0o660).group("postfix").bind(&address).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenOptions {
    mode: Option<u32>,
    group: Option<String>,
    backlog: u32,
}

impl ListenOptions {
    /// The defaults: the permissions that the process's umask leaves, the process's group, and
    /// 4,096 connections that may wait, or as many as the system allows.
    pub const fn new() -> Self {
        Self {
            mode: None,
            group: None,
            backlog: BACKLOG,
        }
    }

    /// The permissions of a unix socket: `0o660`. Who may write to it may connect. TCP has none.
    #[must_use]
    pub const fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// The group of a unix socket, by name or number: the MTA's, say. TCP has none.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// How many connections may wait to be accepted; the operating system may allow fewer.
    #[must_use]
    pub const fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// Listens there.
    ///
    /// A unix socket that an earlier process left is replaced: only a socket, and only if nobody
    /// listens at it. Nobody can connect before the socket has its group and its permissions.
    ///
    /// # Errors
    ///
    /// What the operating system says, with the address.
    pub async fn bind(&self, address: &Address) -> Result<BoundListener, BindError> {
        let bound = match address {
            Address::Inet { host, port } => self.tcp(host, *port).await,
            Address::Unix(path) => self.unix(path).await,
        };
        bound.map_err(|error| BindError::new(address, error))
    }

    async fn tcp(&self, host: &str, port: u16) -> io::Result<BoundListener> {
        let mut last = None;
        for address in lookup_host((host, port)).await? {
            let listen = || -> io::Result<TcpListener> {
                let socket = if address.is_ipv4() {
                    TcpSocket::new_v4()
                } else {
                    TcpSocket::new_v6()
                }?;
                // Connections of an earlier process that the system has not forgotten.
                socket.set_reuseaddr(true)?;
                socket.bind(address)?;
                socket.listen(self.backlog)
            };
            match listen() {
                Ok(listener) => return listener.try_into(),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("the host has no address")))
    }

    async fn unix(&self, path: &Path) -> io::Result<BoundListener> {
        let group = self.group.as_deref().map(group_id).transpose()?;
        let _lock = lock_folder(path).await;
        remove_stale(path).await?;
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        let file = Arc::new(SocketFile::new(path)?);
        // A socket that does not listen yet refuses everybody, whatever the umask made of it.
        if let Some(group) = group {
            file.give_to(group)?;
        }
        if let Some(mode) = self.mode {
            file.allow(mode)?;
        }
        Ok(BoundListener::unix(
            socket.listen(self.backlog)?,
            path,
            file,
        ))
    }
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self::new()
    }
}

fn group_id(group: &str) -> io::Result<u32> {
    if let Ok(id) = group.parse() {
        return Ok(id);
    }
    let found = nix::unistd::Group::from_name(group)?;
    let missing = || {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("there is no group {group:?}"),
        )
    };
    Ok(found.ok_or_else(missing)?.gid.as_raw())
}
