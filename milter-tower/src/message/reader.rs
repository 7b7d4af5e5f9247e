//! Readers of a body.

use std::future::Future;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncSeek, ReadBuf};
use tokio::task::JoinHandle;

use super::body::Body;

/// What is read from the file at a time.
const PIECE: usize = 128 * 1024;

/// A part of the file in memory.
#[derive(Debug, Default)]
struct Window {
    /// Empty, or [`PIECE`] bytes.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Window {
    fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn consume(&mut self, amount: usize) {
        self.start = (self.start + amount).min(self.end);
    }

    fn forget(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Reads from the file what stands at this position, of which there is something.
    fn fill(&mut self, body: &Body, position: u64) -> io::Result<()> {
        self.forget();
        let Some(file) = body.file() else {
            return Ok(());
        };
        self.buffer.resize(PIECE, 0);
        let left = body.in_file().saturating_sub(position);
        let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let piece = self.buffer.get_mut(..most).unwrap_or_default();
        file.read_at(piece, position)?;
        self.end = most;
        Ok(())
    }
}

/// Where a seek leads.
fn target(body: &Body, position: u64, to: SeekFrom) -> io::Result<u64> {
    let found = match to {
        SeekFrom::Start(at) => Some(at),
        SeekFrom::Current(by) => position.checked_add_signed(by),
        SeekFrom::End(by) => body.len().checked_add_signed(by),
    };
    found.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a seek to before the body"))
}

/// Reads a [`Body`], for tasks: what is in a file is read on Tokio's blocking pool.
///
/// It owns what it reads and may go to another task. Reading from a file needs a Tokio runtime.
#[derive(Debug)]
pub struct BodyReader {
    body: Body,
    position: u64,
    window: Window,
    reading: Option<JoinHandle<(Window, io::Result<()>)>>,
}

impl BodyReader {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            position: 0,
            window: Window::default(),
            reading: None,
        }
    }

    /// Fills the window, if what comes next is in the file.
    fn poll_window(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.window.rest().is_empty() || self.position >= self.body.in_file() {
            return Poll::Ready(Ok(()));
        }
        let reading = self.reading.get_or_insert_with(|| {
            let (body, position) = (self.body.clone(), self.position);
            let mut window = std::mem::take(&mut self.window);
            tokio::task::spawn_blocking(move || {
                let filled = window.fill(&body, position);
                (window, filled)
            })
        });
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        let (window, filled) = read.map_err(io::Error::other)?;
        filled?;
        self.window = window;
        Poll::Ready(Ok(()))
    }
}

/// Reads from what a reader has buffered.
pub(super) fn poll_read_buffered<R: AsyncBufRead>(
    mut reader: Pin<&mut R>,
    cx: &mut Context<'_>,
    into: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    let found = ready!(reader.as_mut().poll_fill_buf(cx))?;
    let amount = found.len().min(into.remaining());
    into.put_slice(&found[..amount]);
    reader.consume(amount);
    Poll::Ready(Ok(()))
}

impl AsyncBufRead for BodyReader {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let reader = self.get_mut();
        ready!(reader.poll_window(cx))?;
        Poll::Ready(Ok(match reader.window.rest() {
            [] => reader.body.tail_from(reader.position),
            rest => rest,
        }))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        let reader = self.get_mut();
        reader.window.consume(amount);
        reader.position += amount as u64;
    }
}

impl AsyncRead for BodyReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        poll_read_buffered(self, cx, into)
    }
}

impl AsyncSeek for BodyReader {
    fn start_seek(self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let reader = self.get_mut();
        reader.position = target(&reader.body, reader.position, to)?;
        reader.window.forget();
        // What is being read is not wanted any more.
        reader.reading = None;
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.position))
    }
}

/// Reads a [`Body`], for threads that may block: within [`blocking`](super::blocking), say.
#[derive(Debug)]
pub struct BlockingReader {
    body: Body,
    position: u64,
    window: Window,
}

impl BlockingReader {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            position: 0,
            window: Window::default(),
        }
    }
}

impl BufRead for BlockingReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.window.rest().is_empty() && self.position < self.body.in_file() {
            self.window.fill(&self.body, self.position)?;
        }
        Ok(match self.window.rest() {
            [] => self.body.tail_from(self.position),
            rest => rest,
        })
    }

    fn consume(&mut self, amount: usize) {
        self.window.consume(amount);
        self.position += amount as u64;
    }
}

impl Read for BlockingReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let found = self.fill_buf()?;
        let amount = found.len().min(into.len());
        into[..amount].copy_from_slice(&found[..amount]);
        self.consume(amount);
        Ok(amount)
    }
}

impl Seek for BlockingReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = target(&self.body, self.position, to)?;
        self.window.forget();
        Ok(self.position)
    }
}
