//! Header fields.

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memchr;

use crate::modification::{header_name, header_value};
use crate::strings::without_nul;
use crate::{ModificationError, Text};

/// A header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Name, NUL, value.
    raw: Bytes,
    name_len: u32,
}

impl Header {
    /// A header field, the value as the negotiation wants it (see [`value`](Self::value)).
    /// NULs cut name and value.
    pub fn new(name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        let name = without_nul(name);
        let mut raw = BytesMut::from(&name[..]);
        raw.put_u8(0);
        raw.put_slice(&without_nul(value));
        Self {
            raw: raw.freeze(),
            name_len: u32::try_from(name.len()).unwrap_or(u32::MAX),
        }
    }

    /// A header field that may be written into a mail: name and value are as the
    /// [rules for modifications](crate::Modification#header-names-and-values) have them.
    ///
    /// ```
    /// use milter_core::Header;
    ///
    /// let header = Header::checked("Subject", " two\r\nlines")?;
    /// assert_eq!(header.value(), " two\n\tlines");
    /// assert!(Header::checked("no name", "x").is_err());
    /// # Ok::<(), milter_core::ModificationError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the name or the value is not allowed.
    pub fn checked(
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Self, ModificationError> {
        let name = header_name(name.as_ref())?;
        Ok(Self::new(name, header_value(value.as_ref())?))
    }

    // libmilter/engine.c st_header: both strings and a NUL at the end (C41)
    pub(crate) fn parse(mut raw: Bytes) -> Result<Self, &'static str> {
        let name = memchr(0, &raw).ok_or("a header name has no NUL at its end")?;
        let value = memchr(0, &raw[name + 1..]).ok_or("a header value has no NUL at its end")?;
        raw.truncate(name + 1 + value);
        Ok(Self {
            raw,
            name_len: u32::try_from(name).map_err(|_| "a header name is too long")?,
        })
    }

    /// Name and value as they are sent, but for the last NUL.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The same in a buffer that many headers can share, which holds no other part of a
    /// connection's buffer.
    #[must_use]
    pub fn copy_to(&self, buffer: &mut BytesMut) -> Self {
        buffer.extend_from_slice(&self.raw);
        Self {
            raw: buffer.split().freeze(),
            name_len: self.name_len,
        }
    }

    /// The name, without the colon.
    pub fn name(&self) -> Text<'_> {
        Text::new(&self.raw[..self.name_len as usize])
    }

    /// The value. Folded lines are separated by a bare LF and keep their white space.
    ///
    /// One space after the colon is left out, unless leading space was negotiated, in which case
    /// the value begins right behind the colon. Encoded words (RFC 2047) are not decoded.
    pub fn value(&self) -> Text<'_> {
        Text::new(&self.raw[self.name_len as usize + 1..])
    }

    /// The name as a slice of the connection's buffer, without copying.
    pub fn name_bytes(&self) -> Bytes {
        self.raw.slice(..self.name_len as usize)
    }

    /// The value as a slice of the connection's buffer, without copying.
    pub fn value_bytes(&self) -> Bytes {
        self.raw.slice(self.name_len as usize + 1..)
    }
}
