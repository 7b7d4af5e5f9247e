//! Connecting to a milter.

use std::io::{self, ErrorKind};
use std::time::Duration;

use milter_tower::{Address, Stream};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Connects to a milter within this time.
///
/// # Errors
///
/// Why it cannot be connected to: [`ErrorKind::TimedOut`] if it takes longer.
pub async fn dial(address: &Address, limit: Duration) -> io::Result<Stream> {
    let connecting = async {
        Ok(match address {
            Address::Inet { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                // It is only slower without.
                let _ = stream.set_nodelay(true);
                stream.into()
            }
            Address::Unix(path) => UnixStream::connect(path).await?.into(),
            _ => return Err(ErrorKind::Unsupported.into()),
        })
    };
    let connected = timeout(limit, connecting).await;
    connected.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}
