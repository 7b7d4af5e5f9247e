//! What leads to a filter.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::ConnectionError;

/// How long a server may take to end once its connection has.
const PATIENCE: Duration = Duration::from_secs(400);

/// What a connection runs over.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The server of a filter in this process.
pub(super) type Server = JoinHandle<Result<(), ConnectionError>>;

pub(super) struct Wire {
    pub(super) io: Box<dyn Io>,
    pub(super) server: Option<Server>,
}

impl Wire {
    pub(super) fn new(io: Box<dyn Io>, server: Option<Server>) -> Self {
        Self { io, server }
    }
}

/// Waits for a server in this process to end, whose connection was closed. Why it ended, if that
/// was no good end.
pub(super) async fn ended(server: Server) -> Option<String> {
    match timeout(PATIENCE, server).await {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(error))) => Some(error.to_string()),
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("the server did not end with its connection".to_owned()),
    }
}
