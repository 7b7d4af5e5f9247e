//! The message as one text, and as a MIME structure.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};

use super::mail::Message;
#[cfg(feature = "mail-parser")]
use super::nesting::{Budget, TooMuch};
use crate::headers::Headers;

/// How many bytes headers have as text.
fn text_len(headers: &Headers) -> usize {
    let lines = |raw: &[u8]| raw.split(|byte| *byte == b'\n').count();
    let field = headers.iter();
    field
        .map(|field| field.name().len() + field.raw().len() + lines(&field.raw()) + 2)
        .sum()
}

/// Writes headers as text.
fn put_text(headers: &Headers, text: &mut BytesMut) {
    for field in headers {
        text.put_slice(&field.name());
        text.put_u8(b':');
        // The MTA shows LF where the message has CRLF.
        for line in field.raw().split_inclusive(|byte| *byte == b'\n') {
            match line.strip_suffix(b"\n") {
                None => text.put_slice(line),
                Some(line) => {
                    text.put_slice(line);
                    text.put_slice(b"\r\n");
                }
            }
        }
        text.put_slice(b"\r\n");
    }
}

impl<B> Message<B> {
    /// The headers as they are now, as text: each line ends in CRLF, and the empty line that
    /// would follow is not there.
    pub fn header_text(&self) -> Bytes {
        let headers = self.headers();
        let mut text = BytesMut::with_capacity(text_len(headers));
        put_text(headers, &mut text);
        text.freeze()
    }
}

impl Message {
    /// The message as it is now, in one piece of memory: headers, an empty line, body, lines ended
    /// by CRLF.
    ///
    /// # Errors
    ///
    /// The message has more than `max_bytes`, or its body cannot be read.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime, if the body is in a file.
    pub async fn to_bytes(&self, max_bytes: usize) -> Result<Bytes, ToBytesError> {
        let (headers, body) = (self.headers(), self.body());
        let size = (text_len(headers) as u64).saturating_add(2 + body.len());
        let room = usize::try_from(size).ok().filter(|size| *size <= max_bytes);
        let Some(room) = room else {
            let max = max_bytes;
            return Err(ToBytesError::TooLarge { size, max });
        };
        let mut text = BytesMut::with_capacity(room);
        put_text(headers, &mut text);
        text.put_slice(b"\r\n");
        body.append_to(text).await.map_err(ToBytesError::Body)
    }

    /// The MIME structure of the message as it is now, by the crate
    /// [`mail-parser`](crate::mail_parser). Needs the feature `mail-parser`.
    ///
    /// It is made of a copy of the message and holds another one, so three times `max_bytes` may be
    /// taken. Each message within the message holds one more copy: these may take seven times
    /// `max_bytes`, and nest 50 deep. None if there is nothing in it that looks like a mail. A
    /// message of more than 64 KiB is parsed on Tokio's blocking pool. Text in the character sets of East Asia is decoded if
    /// the program itself depends on `mail-parser` with its feature `full_encoding`. Attachments are
    /// those of the outer mail: one that it forwards is a part, and has its own
    /// (`MessagePart::message`).
    ///
    /// ```
    /// use milter_tower::message::{Message, OnLarge, message};
    /// use milter_tower::BoxError;
    ///
    /// let filter = message(async |mail: Message| {
    ///     let parsed = mail.parse(12 * 1024 * 1024).await?;
    ///     if parsed.is_some_and(|mail| mail.attachment_count() > 100) {
    ///         return Ok(mail.reject());
    ///     }
    ///     Ok::<_, BoxError>(mail.accept())
    /// })
    /// // What has more is refused for good.
    /// .body_limit(10 * 1024 * 1024, OnLarge::Reject);
    /// ```
    ///
    /// # Errors
    ///
    /// As [`to_bytes`](Self::to_bytes), and if there are too many messages within the message
    /// ([`Nested`](ToBytesError::Nested)), or the parser panics ([`Parser`](ToBytesError::Parser)).
    /// Passed on with `?` from a handler, an error has the client come back, for days if the mail is
    /// too large: set a [`body_limit`](super::MessageFilter::body_limit) (the headers have at most
    /// [`max_header_bytes`](crate::Settings::max_header_bytes) besides), or look at the
    /// [error](ToBytesError) and decide.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime, if the message is large.
    #[cfg(feature = "mail-parser")]
    #[cfg_attr(docsrs, doc(cfg(feature = "mail-parser")))]
    pub async fn parse(
        &self,
        max_bytes: usize,
    ) -> Result<Option<mail_parser::Message<'static>>, ToBytesError> {
        let text = self.to_bytes(max_bytes).await?;
        let mut budget = Budget::new(max_bytes.saturating_mul(8));
        let parse = move |text: &[u8]| {
            let nested = |TooMuch| ToBytesError::Nested;
            budget.check_encoded(text).map_err(nested)?;
            // The parser's versions for Rust 1.85 panic at a field `Received` that ends within.
            let parse = || mail_parser::MessageParser::default().parse(text);
            let parsed = std::panic::catch_unwind(parse).map_err(|_| ToBytesError::Parser)?;
            let owned = parsed.map(|message| budget.own(message));
            owned.transpose().map_err(nested)
        };
        if text.len() <= 64 * 1024 {
            return parse(&text);
        }
        let parsed = tokio::task::spawn_blocking(move || parse(&text)).await;
        parsed.map_err(|error| ToBytesError::Body(io::Error::other(error)))?
    }
}

/// Why a message cannot be had in one piece.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToBytesError {
    /// It is too large.
    #[error("the message has {size} bytes, more than {max}")]
    TooLarge {
        /// The bytes that it has.
        size: u64,
        /// The bytes that were allowed.
        max: usize,
    },
    /// The messages within it nest too deep, or their copies would take too much.
    #[error("the messages within the message nest too deep, or are too many")]
    Nested,
    /// The parser failed on it, which is a mistake of the parser.
    #[error("the message cannot be parsed")]
    Parser,
    /// Its body cannot be read.
    #[error("the message's body cannot be read")]
    Body(#[source] io::Error),
}
