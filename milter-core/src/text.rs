//! A borrowed view of bytes that are usually text.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::str::{self, Utf8Error};

/// Bytes of a mail or an SMTP command that are usually, but not surely, text.
///
/// Mail is bytes: header values and addresses may hold anything but NUL. `Text` shows them as
/// bytes ([`as_bytes`](Self::as_bytes)), as a string where they are valid UTF-8
/// ([`to_str`](Self::to_str)), or as a string with replacement characters
/// ([`to_string_lossy`](Self::to_string_lossy)), and leaves the choice to the filter.
///
/// ```
/// use milter_core::Text;
///
/// let text = Text::new(b"caf\xe9");
/// assert!(text.to_str().is_err());
/// assert_eq!(text.to_string_lossy(), "caf\u{fffd}");
/// assert_eq!(text, b"caf\xe9");
/// assert!(Text::new(b"X-Spam").eq_ignore_ascii_case("x-spam"));
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// A view of these bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes as they came.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The bytes as a string.
    ///
    /// # Errors
    ///
    /// The position of the first byte that is not UTF-8.
    pub fn to_str(self) -> Result<&'a str, Utf8Error> {
        str::from_utf8(self.0)
    }

    /// The bytes as a string, with U+FFFD for whatever is not UTF-8.
    pub fn to_string_lossy(self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.0)
    }

    /// Whether these bytes stand somewhere in it.
    pub fn contains(self, needle: impl AsRef<[u8]>) -> bool {
        memchr::memmem::find(self.0, needle.as_ref()).is_some()
    }

    /// Whether it ends with these bytes, but for the case of ASCII letters.
    pub fn ends_with_ignore_ascii_case(self, end: impl AsRef<[u8]>) -> bool {
        let end = end.as_ref();
        let start = self.0.len().checked_sub(end.len());
        start.is_some_and(|start| self.0[start..].eq_ignore_ascii_case(end))
    }

    /// Whether the two are equal but for the case of ASCII letters.
    pub fn eq_ignore_ascii_case(self, other: impl AsRef<[u8]>) -> bool {
        self.0.eq_ignore_ascii_case(other.as_ref())
    }
}

impl Deref for Text<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0
    }
}

impl AsRef<[u8]> for Text<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

impl<'a> From<&'a [u8]> for Text<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(text.as_bytes())
    }
}

impl PartialEq<[u8]> for Text<'_> {
    fn eq(&self, other: &[u8]) -> bool {
        self.0 == other
    }
}

impl PartialEq<&[u8]> for Text<'_> {
    fn eq(&self, other: &&[u8]) -> bool {
        self.0 == *other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Text<'_> {
    fn eq(&self, other: &&[u8; N]) -> bool {
        self.0 == other.as_slice()
    }
}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Text<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

/// Shows what is not UTF-8 as U+FFFD.
impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_str("\u{fffd}")?;
            }
        }
        Ok(())
    }
}

/// Shows what is not printable ASCII as escapes, in quotes: safe for logs.
impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_bytes_safely() {
        let text = Text::new(b"a\"\r\n\xff");
        assert_eq!(format!("{text:?}"), r#""a\"\r\n\xff""#);
        assert_eq!(text.to_string(), "a\"\r\n\u{fffd}");
        assert_eq!(Text::from("x"), "x");
        assert_eq!(Text::from("x").len(), 1);
        let text = Text::from("Spam@Example.ORG");
        assert!(text.contains("Example") && !text.contains("example") && text.contains(""));
        assert!(text.ends_with_ignore_ascii_case("@example.org"));
        assert!(!text.ends_with_ignore_ascii_case("a much longer end than the text"));
    }
}
