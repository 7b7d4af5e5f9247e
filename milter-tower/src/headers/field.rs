//! Views of one field.

use std::borrow::Cow;
use std::fmt;

use milter_core::{Header, Text};

use super::decode::decode;

/// A field of [`Headers`](super::Headers).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Field<'h> {
    header: &'h Header,
}

impl<'h> Field<'h> {
    pub(super) const fn new(header: &'h Header) -> Self {
        Self { header }
    }

    /// The field itself, which owns its bytes; cloning it copies none.
    pub const fn header(self) -> &'h Header {
        self.header
    }

    /// The name, without the colon, as it is written.
    pub fn name(self) -> Text<'h> {
        self.header.name()
    }

    /// Whether this is its name; the case of ASCII letters does not count.
    pub fn is_named(self, name: impl AsRef<[u8]>) -> bool {
        self.name().eq_ignore_ascii_case(name)
    }

    /// Every byte behind the colon; folded lines are separated by LF.
    pub fn raw(self) -> Text<'h> {
        self.header.value()
    }

    /// The value without the white space around it. Folded lines stay folded.
    pub fn value(self) -> Text<'h> {
        Text::new(self.raw().as_bytes().trim_ascii())
    }

    /// The [value](Self::value) in one line: each line break is left out, the white space behind
    /// it stays (RFC 5322 2.2.3).
    ///
    /// ```
    /// use milter_tower::{Header, Headers};
    ///
    /// let headers: Headers = [Header::new("Subject", " a long\n one")].into_iter().collect();
    /// let subject = headers.get("Subject").unwrap();
    /// assert_eq!(subject.value(), "a long\n one");
    /// assert_eq!(&*subject.unfolded(), b"a long one");
    /// ```
    pub fn unfolded(self) -> Cow<'h, [u8]> {
        unfold(self.value().as_bytes())
    }

    /// The [unfolded](Self::unfolded) value as text, with encoded words decoded (RFC 2047).
    ///
    /// What is no proper encoded word stays as it is, and what is not text in its character set or
    /// in UTF-8 becomes U+FFFD. Words are decoded wherever they stand, also in quotes and in
    /// addresses: this is the text to look into, not one to parse. It may hold anything, control
    /// characters and line breaks among them. Character sets are those of the Encoding Standard
    /// (<https://encoding.spec.whatwg.org/#names-and-labels>); any other is read as UTF-8.
    ///
    /// ```
    /// # use milter_tower::{Header, Headers};
    /// let value = " =?utf-8?Q?Gr=C3=BC=C3=9Fe?= =?utf-8?B?IQ==?= from me";
    /// let headers: Headers = [Header::new("Subject", value)].into_iter().collect();
    /// assert_eq!(headers.get("Subject").unwrap().decoded(), "Grüße! from me");
    /// ```
    pub fn decoded(self) -> Cow<'h, str> {
        decode(self.unfolded())
    }
}

/// A view of a header, as it comes with an [event](crate::Event::Header).
impl<'h> From<&'h Header> for Field<'h> {
    fn from(header: &'h Header) -> Self {
        Self::new(header)
    }
}

/// Leaves out line breaks: LF as MTAs write them, and CRLF.
fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    if !value.contains(&b'\n') {
        return Cow::Borrowed(value);
    }
    let lines: Vec<&[u8]> = value
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .collect();
    Cow::Owned(lines.concat())
}

/// Shows name and value with escapes for what is not printable ASCII: safe for logs.
impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Field")
            .field(&self.name())
            .field(&self.raw())
            .finish()
    }
}
