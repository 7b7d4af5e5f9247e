//! Connecting.

use std::io;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::{Address, Stream};

/// Connects within this time.
pub(crate) async fn dial(address: &Address, limit: Duration) -> io::Result<Stream> {
    let dialed = timeout(limit, connect(address)).await;
    dialed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn connect(address: &Address) -> io::Result<Stream> {
    Ok(match address {
        Address::Inet { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            // What is written is whole: it waits for nothing.
            stream.set_nodelay(true)?;
            Stream::from(stream).without_quick_acks()
        }
        Address::Unix(path) => UnixStream::connect(path).await?.into(),
    })
}
