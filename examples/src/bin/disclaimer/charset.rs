//! Character sets: how a footer is written in that of a part.

use encoding_rs::{Encoding, ISO_2022_JP, UTF_8};

use crate::mime::Format;

/// The character set of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charset {
    Ascii,
    Other {
        encoding: &'static Encoding,
        /// It has no characters between 0x80 and 0x9F, where the encoding that stands in for it
        /// has some: the web reads ISO-8859-1 as windows-1252.
        without_c1: bool,
    },
}

impl Charset {
    /// By its name in lower case; none if ASCII text does not look the same in it, or it is not
    /// known.
    pub(crate) fn named(label: &str) -> Option<Self> {
        if matches!(
            label,
            "" | "us-ascii" | "ascii" | "ansi_x3.4-1968" | "iso646-us"
        ) {
            return Some(Self::Ascii);
        }
        let encoding = Encoding::for_label_no_replacement(label.as_bytes())?;
        // Text in ISO-2022-JP begins and ends in ASCII (RFC 1468).
        if !encoding.is_ascii_compatible() && encoding != ISO_2022_JP {
            return None;
        }
        let is_microsofts = label.contains("windows") || label.contains("cp");
        let stands_in = encoding.name().starts_with("windows-");
        Some(Self::Other {
            encoding,
            without_c1: stands_in && !is_microsofts,
        })
    }

    /// The text in this character set, if it has all characters of it. HTML can name those that
    /// are not there.
    pub(crate) fn encode(self, text: &str, format: Format) -> Option<Vec<u8>> {
        match self {
            _ if text.is_ascii() => Some(text.into()),
            Self::Other { encoding, .. } if encoding == UTF_8 => Some(text.into()),
            _ if format == Format::Html => Some(with_references(text).into()),
            Self::Ascii => None,
            Self::Other {
                encoding,
                without_c1,
            } => {
                let (bytes, _, is_lossy) = encoding.encode(text);
                let has_c1 = || bytes.iter().any(|byte| matches!(byte, 0x80..=0x9f));
                let fits = !(is_lossy || without_c1 && has_c1());
                fits.then(|| bytes.into_owned())
            }
        }
    }

    /// What the bytes say, if all of them say something.
    pub(crate) fn decode(self, bytes: &[u8]) -> Option<String> {
        match self {
            Self::Ascii => bytes
                .is_ascii()
                .then(|| String::from_utf8_lossy(bytes).into_owned()),
            Self::Other { encoding, .. } => encoding
                .decode_without_bom_handling_and_without_replacement(bytes)
                .map(std::borrow::Cow::into_owned),
        }
    }
}

/// HTML in ASCII.
fn with_references(html: &str) -> String {
    let mut ascii = String::with_capacity(html.len() * 2);
    for c in html.chars() {
        if c.is_ascii() {
            ascii.push(c);
        } else {
            ascii.extend(["&#", &u32::from(c).to_string(), ";"]);
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(label: &str, text: &str, format: Format) -> Option<Vec<u8>> {
        Charset::named(label).unwrap().encode(text, format)
    }

    #[test]
    fn text_that_fits() {
        for (label, text, bytes) in [
            ("us-ascii", "a", &b"a"[..]),
            ("utf-8", "ü", b"\xc3\xbc"),
            ("utf8", "€", b"\xe2\x82\xac"),
            ("iso-8859-1", "ü", b"\xfc"),
            ("latin1", "ü", b"\xfc"),
            ("iso-8859-15", "€", b"\xa4"),
            ("windows-1252", "€", b"\x80"),
            ("koi8-r", "я", b"\xd1"),
            ("shift_jis", "あ", b"\x82\xa0"),
            ("iso-2022-jp", "あ", b"\x1b$B$\"\x1b(B"),
        ] {
            let encoded = encode(label, text, Format::Plain);
            assert_eq!(encoded.as_deref(), Some(bytes), "{label}");
        }
    }

    #[test]
    fn text_that_does_not_fit() {
        for (label, text) in [
            ("us-ascii", "ü"),
            ("iso-8859-1", "€"),
            ("iso-8859-1", "я"),
            ("iso-8859-9", "€"),
            ("iso-8859-15", "“"),
            ("shift_jis", "ß"),
        ] {
            assert_eq!(encode(label, text, Format::Plain), None, "{label}");
            let html = encode(label, text, Format::Html).unwrap();
            assert!(html.is_ascii() && html.starts_with(b"&#"), "{label}");
        }
        assert_eq!(
            encode("us-ascii", "<b>ü</b>", Format::Html).unwrap(),
            b"<b>&#252;</b>"
        );
    }

    #[test]
    fn what_is_no_kind_of_ascii() {
        for label in [
            "utf-16",
            "utf-16le",
            "utf-7",
            "iso-2022-kr",
            "hz-gb-2312",
            "ebcdic",
            "x",
        ] {
            assert_eq!(Charset::named(label), None, "{label}");
        }
    }

    #[test]
    fn reads_only_what_is_right() {
        let decode = |label, bytes: &[u8]| Charset::named(label).unwrap().decode(bytes);
        assert_eq!(decode("iso-8859-1", b"\xfc").unwrap(), "ü");
        assert_eq!(decode("us-ascii", b"u").unwrap(), "u");
        assert_eq!(decode("us-ascii", b"\xfc"), None);
        assert_eq!(decode("utf-8", b"\xfc"), None);
    }
}
