//! A connection with a filter, as an MTA holds it.

use std::fmt;
use std::time::Duration;

use futures::{FutureExt, SinkExt, StreamExt};
use milter_core::client::{Config, Failure, Timeout};
use milter_core::{Command, MtaCodec, Reply};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::Framed;

use crate::ConnectionError;
use crate::clock::after;

/// How long a server may take to end once its connection has.
const PATIENCE: Duration = Duration::from_secs(400);

/// What a connection runs over.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The server of a filter in this process.
pub(super) type Server = JoinHandle<Result<(), ConnectionError>>;

pub(super) struct Wire {
    framed: Framed<Box<dyn Io>, MtaCodec>,
    server: Option<Server>,
}

impl Wire {
    pub(super) fn new(io: Box<dyn Io>, server: Option<Server>, config: &Config) -> Self {
        Self {
            framed: Framed::new(io, config.codec()),
            server,
        }
    }

    /// Lets frames of up to this payload be written.
    pub(super) fn set_max_write(&mut self, bytes: usize) {
        self.framed.codec_mut().set_max_write(bytes);
    }

    /// Sends commands in one piece.
    pub(super) async fn send(
        &mut self,
        commands: impl IntoIterator<Item = Command>,
        time: Duration,
    ) -> Result<(), Failure> {
        let sending = async {
            for command in commands {
                self.framed.feed(command).await?;
            }
            SinkExt::<Command>::flush(&mut self.framed).await
        };
        match timeout(time, sending).await {
            Ok(sent) => sent.map_err(|error| Failure::from(&error)),
            Err(_) => Err(Failure::Timeout(Timeout::Command)),
        }
    }

    /// The next reply, which must come within the time for a frame and before `until`.
    pub(super) async fn next(
        &mut self,
        what: Timeout,
        time: Duration,
        until: Option<Instant>,
    ) -> Result<Reply, Failure> {
        let frame = after(Instant::now(), time);
        let until = until.map_or(frame, |until| until.min(frame));
        match timeout_at(until, self.framed.next()).await {
            Ok(Some(reply)) => reply.map_err(|error| Failure::from(&error)),
            Ok(None) => Err(Failure::ConnectionLost),
            Err(_) => Err(Failure::Timeout(what)),
        }
    }

    /// A reply that has come already, though nothing was asked.
    pub(super) fn surplus(&mut self) -> Option<Result<Reply, Failure>> {
        // An end is found out at the next question.
        let reply = self.framed.next().now_or_never().flatten()?;
        Some(reply.map_err(|error| Failure::from(&error)))
    }

    /// Closes the connection and waits for a server in this process to end. Why that ended, if it
    /// was no good end.
    pub(super) async fn close(self) -> Option<String> {
        let Self { framed, server } = self;
        drop(framed);
        let ended = timeout(PATIENCE, server?).await;
        match ended {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => Some(error.to_string()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the server did not end with its connection".to_owned()),
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}
