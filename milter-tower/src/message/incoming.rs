//! A body that is read while it arrives.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

use super::reader::poll_read_buffered;

/// The body of a message, while it arrives.
///
/// Take it piece by piece ([`piece`](Self::piece)), or read it with the methods of Tokio's
/// `AsyncReadExt` and `AsyncBufReadExt`.
/// It ends with the message's end; a message that ends otherwise ends its handler. A task of its
/// own that reads one gets an error then ([`UnexpectedEof`](io::ErrorKind::UnexpectedEof)).
///
/// What is not wanted need not be read: dropped or not, it is thrown away when the handler has
/// decided.
pub struct Incoming {
    pipe: Arc<Pipe>,
    /// The piece at hand.
    piece: Bytes,
}

/// The service's end of it.
#[derive(Debug)]
pub(super) struct Feed {
    pipe: Arc<Pipe>,
    /// How many bytes may wait.
    room: usize,
}

// Locked once a piece at either end: they may be in different tasks.
#[derive(Debug, Default)]
struct Pipe(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    state: State,
    is_cut: bool,
    /// The reader is gone.
    is_unwanted: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Whole,
    Lost,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Both ends. So many bytes may wait before more are held back.
pub(super) fn pipe(room: usize) -> (Feed, Incoming) {
    let pipe = Arc::<Pipe>::default();
    let feed = Feed {
        pipe: Arc::clone(&pipe),
        room,
    };
    let piece = Bytes::new();
    (feed, Incoming { pipe, piece })
}

impl Feed {
    /// Copies a piece.
    pub(super) fn push(&self, piece: &[u8]) {
        let mut waiting = self.pipe.lock();
        if waiting.is_unwanted || waiting.state != State::Open || piece.is_empty() {
            return;
        }
        waiting.bytes += piece.len();
        waiting.pieces.push_back(Bytes::copy_from_slice(piece));
        wake(waiting.reader.take(), waiting);
    }

    /// All was there, or as much as is wanted.
    pub(super) fn end(&self, is_cut: bool) {
        let mut waiting = self.pipe.lock();
        if waiting.state == State::Open {
            waiting.state = State::Whole;
            waiting.is_cut = is_cut;
            wake(waiting.reader.take(), waiting);
        }
    }

    /// Waits until no more than may wait does.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.pipe.lock();
        if waiting.is_unwanted || waiting.bytes <= self.room {
            return Poll::Ready(());
        }
        waiting.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// The message ended before its body did.
impl Drop for Feed {
    fn drop(&mut self) {
        let mut waiting = self.pipe.lock();
        if waiting.state == State::Open {
            waiting.state = State::Lost;
            wake(waiting.reader.take(), waiting);
        }
    }
}

/// Wakes with the lock released: what is woken may want it.
fn wake(waker: Option<Waker>, held: MutexGuard<'_, Waiting>) {
    drop(held);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Incoming {
    /// The next piece, cut without regard to lines; none at the end.
    ///
    /// It can be cancelled: nothing is lost.
    ///
    /// # Errors
    ///
    /// The message ended before its body was there. Only another task than the handler's can see
    /// that.
    pub async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        std::future::poll_fn(|cx| self.poll_piece(cx)).await?;
        let piece = std::mem::take(&mut self.piece);
        Ok((!piece.is_empty()).then_some(piece))
    }

    /// Whether the message had more than was read: it was longer than the
    /// [limit](super::MessageFilter::body_limit), and that said to cut it. Known at the end.
    pub fn is_cut(&self) -> bool {
        self.pipe.lock().is_cut
    }

    /// Waits until there is a piece, or the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.piece.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut waiting = self.pipe.lock();
        if let Some(piece) = waiting.pieces.pop_front() {
            waiting.bytes -= piece.len();
            self.piece = piece;
            wake(waiting.writer.take(), waiting);
            return Poll::Ready(Ok(()));
        }
        match waiting.state {
            State::Open => {
                waiting.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Whole => Poll::Ready(Ok(())),
            State::Lost => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the message ended before its body was there",
            ))),
        }
    }
}

impl AsyncBufRead for Incoming {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let incoming = self.get_mut();
        ready!(incoming.poll_piece(cx))?;
        Poll::Ready(Ok(&incoming.piece))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        let piece = &mut self.get_mut().piece;
        piece.advance(amount.min(piece.len()));
    }
}

impl AsyncRead for Incoming {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        poll_read_buffered(self, cx, into)
    }
}

/// What is not read holds nobody back.
impl Drop for Incoming {
    fn drop(&mut self) {
        let mut waiting = self.pipe.lock();
        waiting.is_unwanted = true;
        waiting.pieces = VecDeque::new();
        waiting.bytes = 0;
        wake(waiting.writer.take(), waiting);
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.pipe.lock();
        f.debug_struct("Incoming")
            .field("waiting", &(waiting.bytes + self.piece.len()))
            .field("is_cut", &waiting.is_cut)
            .finish_non_exhaustive()
    }
}
