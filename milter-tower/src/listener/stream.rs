//! Connections over TCP and unix sockets.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connection over TCP or a unix socket.
#[derive(Debug)]
pub struct Stream {
    inner: StreamInner,
    /// What was read has been acknowledged, or will be by what was written since.
    acknowledged: bool,
    /// The other end may wait for acknowledgements.
    acknowledges: bool,
}

#[derive(Debug)]
enum StreamInner {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    const fn new(inner: StreamInner) -> Self {
        Self {
            inner,
            acknowledged: true,
            acknowledges: true,
        }
    }

    /// The same for a connection whose other end is a filter: it writes its replies at once.
    pub(crate) fn without_quick_acks(mut self) -> Self {
        self.acknowledges = false;
        self
    }

    /// Acknowledges what was read, if nothing was written since that did.
    ///
    /// Sendmail sends macros and command in two small writes. The second waits for the
    /// acknowledgement of the first, which the kernel would delay by 40 ms.
    fn acknowledge(&mut self) {
        let done = std::mem::replace(&mut self.acknowledged, true);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        match &self.inner {
            // Where it cannot be done it is only slower.
            StreamInner::Tcp(stream) if !done => drop(stream.set_quickack(true)),
            _ => {}
        }
    }
}

macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match &mut $stream.inner {
            StreamInner::Tcp(inner) => {
                let $inner = Pin::new(inner);
                $call
            }
            StreamInner::Unix(inner) => {
                let $inner = Pin::new(inner);
                $call
            }
        }
    };
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::new(StreamInner::Tcp(stream))
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self::new(StreamInner::Unix(stream))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = each!(self, inner => inner.poll_read(cx, buffer));
        match read {
            Poll::Ready(_) => self.acknowledged = !self.acknowledges,
            Poll::Pending => self.acknowledge(),
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.acknowledged = true;
        each!(self, inner => inner.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => inner.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => inner.poll_shutdown(cx))
    }
}
