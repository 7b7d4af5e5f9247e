//! The body of a whole message.

use std::fmt;
use std::io::{self, BufRead};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::budget::Held;
use super::file::TempFile;
use super::reader::{BlockingReader, BodyReader};

/// The body of a message as it came: lines end in CRLF, nothing is decoded.
///
/// What is larger than the [memory bound](super::MessageFilter::memory_limit) is in a file that
/// has no name and is gone when the last clone is. A clone is cheap, counted references only, and
/// holds what it is a clone of: a body that outlives its message is not bounded any more.
///
/// ```
/// use milter_tower::{Message, message};
/// use tokio::io::AsyncBufReadExt;
///
/// let filter = message(async |mail: Message| {
///     let mut lines = mail.body().reader().split(b'\n');
///     while let Some(line) = lines.next_segment().await? {
///         if line.starts_with(b"-----BEGIN PGP MESSAGE") {
///             return Ok(mail.reject());
///         }
///     }
///     Ok::<_, milter_tower::BoxError>(mail.accept())
/// });
/// ```
#[derive(Clone, Default)]
pub struct Body {
    /// The beginning, and how long it is.
    file: Option<(Arc<TempFile>, u64)>,
    /// What follows it.
    tail: Bytes,
    is_cut: bool,
    /// What of it counts among all that is in memory.
    held: Option<Arc<Held>>,
}

impl Body {
    pub(super) const fn new(file: Option<(Arc<TempFile>, u64)>, tail: Bytes, is_cut: bool) -> Self {
        Self {
            file,
            tail,
            is_cut,
            held: None,
        }
    }

    /// The same, which gives back what it takes in memory when the last clone is gone.
    pub(super) fn holding(mut self, held: Held) -> Self {
        self.held = (!self.tail.is_empty()).then(|| Arc::new(held));
        self
    }

    /// How many bytes it has.
    pub fn len(&self) -> u64 {
        self.in_file() + self.tail.len() as u64
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the message had more than this: it was longer than the
    /// [limit](super::MessageFilter::body_limit), and that said to cut it or to leave it out.
    pub const fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The bytes, if all of them are in memory.
    pub fn in_memory(&self) -> Option<&Bytes> {
        self.file.is_none().then_some(&self.tail)
    }

    /// All bytes, in memory: those of a large body are read from its file. The
    /// [limit](super::MessageFilter::body_limit) is the most that they can be.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime, if the body is in a file.
    pub async fn bytes(&self) -> io::Result<Bytes> {
        if let Some(bytes) = self.in_memory() {
            return Ok(bytes.clone());
        }
        let len = usize::try_from(self.len()).map_err(io::Error::other)?;
        self.append_to(BytesMut::with_capacity(len)).await
    }

    /// Appends all bytes to a text that has room for them.
    pub(super) async fn append_to(&self, text: BytesMut) -> io::Result<Bytes> {
        let append = |mut text: BytesMut, mut reader: BlockingReader| {
            loop {
                let piece = reader.fill_buf()?;
                if piece.is_empty() {
                    return Ok(text.freeze());
                }
                text.put_slice(piece);
                let len = piece.len();
                reader.consume(len);
            }
        };
        let reader = self.blocking_reader();
        if self.file.is_none() {
            return append(text, reader);
        }
        let appended = tokio::task::spawn_blocking(move || append(text, reader));
        appended.await.map_err(io::Error::other)?
    }

    /// A reader of it, from its beginning.
    pub fn reader(&self) -> BodyReader {
        BodyReader::new(self.clone())
    }

    /// A reader for code that may [block](super::blocking), from its beginning.
    pub fn blocking_reader(&self) -> BlockingReader {
        BlockingReader::new(self.clone())
    }

    pub(super) fn in_file(&self) -> u64 {
        self.file.as_ref().map_or(0, |(_, len)| *len)
    }

    pub(super) fn file(&self) -> Option<&Arc<TempFile>> {
        self.file.as_ref().map(|(file, _)| file)
    }

    /// What stands in memory from this position on; empty at the end, and within the file.
    pub(super) fn tail_from(&self, position: u64) -> &[u8] {
        let from = position.checked_sub(self.in_file());
        from.and_then(|from| self.tail.get(usize::try_from(from).ok()?..))
            .unwrap_or_default()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::new(None, bytes, false)
    }
}

/// Shows its length only.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("len", &self.len())
            .field("in_file", &self.in_file())
            .field("is_cut", &self.is_cut)
            .finish_non_exhaustive()
    }
}
