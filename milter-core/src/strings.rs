//! Strings on the wire: bytes ended by a NUL.

use bytes::Bytes;
use memchr::memchr;

/// The bytes before the first NUL, which must be there.
pub(crate) fn first_string(mut payload: Bytes) -> Result<Bytes, &'static str> {
    let end = memchr(0, &payload).ok_or("a string has no NUL at its end")?;
    payload.truncate(end);
    Ok(payload)
}

/// Cuts text at its first NUL, which no string on the wire can hold.
pub(crate) fn without_nul(text: impl Into<Bytes>) -> Bytes {
    let mut text = text.into();
    text.truncate(memchr(0, &text).unwrap_or(text.len()));
    text
}
