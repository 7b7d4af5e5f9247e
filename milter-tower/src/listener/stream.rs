//! Connections over TCP and unix sockets.

use std::cell::Cell;
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
        if REPLIES.get() {
            return;
        }
        let done = std::mem::replace(&mut self.acknowledged, true);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        match &self.inner {
            // Where it cannot be done it is only slower.
            StreamInner::Tcp(stream) if !done => drop(stream.set_quickack(true)),
            _ => {}
        }
    }
}

thread_local! {
    /// What is read at the moment has its reply to come, which acknowledges it.
    static REPLIES: Cell<bool> = const { Cell::new(false) };
}

/// Reads from an MTA that sends nothing more before it has its reply: no acknowledgement is to be
/// sent before that, which would be a system call for each reply that is not there at once.
// The stream may be deep within what it is read through.
pub(crate) fn before_a_reply<R>(read: impl FnOnce() -> R) -> R {
    REPLIES.set(true);
    let read = read();
    REPLIES.set(false);
    read
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn acknowledges_what_is_read_unless_a_reply_does() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut mta = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let mut stream = Stream::from(listener.accept().await.unwrap().0);
        mta.write_all(b"abc").await.unwrap();
        stream.read_exact(&mut [0; 3]).await.unwrap();
        assert!(!stream.acknowledged);

        let mut pends = async |quietly: bool| {
            poll_fn(|cx| {
                let (mut bytes, stream) = ([0; 8], Pin::new(&mut stream));
                let mut bytes = ReadBuf::new(&mut bytes);
                let read = || stream.poll_read(cx, &mut bytes).is_pending();
                let pends = if quietly {
                    before_a_reply(read)
                } else {
                    read()
                };
                Poll::Ready(pends)
            })
            .await
            .then_some(stream.acknowledged)
        };
        assert_eq!(pends(true).await, Some(false), "the reply will do it");
        assert_eq!(pends(false).await, Some(true));
    }
}
