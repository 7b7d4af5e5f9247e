//! The connection with the milter, which remembers what came.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use milter_tower::{Address, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::trouble::Trouble;

/// How much of what came is kept.
const KEPT: usize = 64;

/// Connects to the milter.
pub(crate) async fn dial(address: &Address, limit: Duration) -> Result<Stream, Trouble> {
    let connected = milter_examples::dial::dial(address, limit).await;
    connected.map_err(|error| Trouble::Connect(address.clone(), error))
}

/// What came since something was sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<Mutex<(Vec<u8>, usize)>>);

impl Heard {
    /// The first bytes of it, and how many there were.
    pub(crate) fn bytes(&self) -> (Vec<u8>, usize) {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.clone()
    }

    fn forget(&self) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.0.clear();
        heard.1 = 0;
    }

    fn keep(&self, bytes: &[u8]) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT.saturating_sub(heard.0.len()).min(bytes.len());
        heard.0.extend_from_slice(&bytes[..room]);
        heard.1 = heard.1.saturating_add(bytes.len());
    }
}

/// A connection that takes down what comes.
pub(crate) struct Tap<Io> {
    io: Io,
    heard: Heard,
}

impl<Io> Tap<Io> {
    pub(crate) fn new(io: Io) -> (Self, Heard) {
        let heard = Heard::default();
        let this = Self {
            io,
            heard: heard.clone(),
        };
        (this, heard)
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Tap<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.heard.keep(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Tap<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.heard.forget();
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_came_since_the_last_word_is_kept() {
        let (io, mut peer) = duplex(1024);
        let (mut tap, heard) = Tap::new(io);
        peer.write_all(b"old").await.unwrap();
        tap.read_exact(&mut [0; 3]).await.unwrap();
        tap.write_all(b"question").await.unwrap();
        peer.write_all(&[b'x'; 100]).await.unwrap();
        tap.read_exact(&mut [0; 100]).await.unwrap();
        assert_eq!(heard.bytes(), (vec![b'x'; KEPT], 100));
    }
}
