//! Transfer encodings (RFC 2045 section 6): what stands for what, and where.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The longest line of quoted-printable and base64 (RFC 2045 6.7, 6.8).
const MAX_LINE: usize = 76;

/// The longest line of other text (RFC 5322 2.1.1).
const MAX_PLAIN_LINE: usize = 998;

/// How the content of a part is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transfer {
    /// As it is, in ASCII.
    SevenBit,
    /// As it is, with any bytes.
    EightBit,
    QuotedPrintable,
    Base64,
}

impl Transfer {
    /// By its name in lower case.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "7bit" => Self::SevenBit,
            "8bit" | "binary" => Self::EightBit,
            "quoted-printable" => Self::QuotedPrintable,
            "base64" => Self::Base64,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SevenBit => "7bit",
            Self::EightBit => "8bit",
            Self::QuotedPrintable => "quoted-printable",
            Self::Base64 => "base64",
        }
    }

    /// Whether this can be written so without more ado.
    pub(crate) fn takes(self, content: &[u8]) -> bool {
        let mut lines = content.split(|&byte| byte == b'\n');
        let mut is_short = || lines.all(|line| line.len() <= MAX_PLAIN_LINE);
        match self {
            Self::SevenBit => content.is_ascii() && is_short(),
            Self::EightBit => is_short(),
            Self::QuotedPrintable | Self::Base64 => true,
        }
    }

    /// What the text stands for, if it can be read.
    pub(crate) fn decode(self, text: &[u8]) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::SevenBit | Self::EightBit => Some(text.into()),
            Self::QuotedPrintable => Some(Atoms::of(text).map(|(_, byte)| byte).collect()),
            Self::Base64 => decode_base64(text).map(Cow::Owned),
        }
    }

    /// The text that stands for this.
    pub(crate) fn encode(self, content: Vec<u8>) -> Vec<u8> {
        match self {
            Self::SevenBit | Self::EightBit => content,
            Self::QuotedPrintable => quoted_printable(&content),
            Self::Base64 => encode_base64(&content),
        }
    }

    /// The text with `addition` in it, at a place in what the text stands for. All else stays byte
    /// for byte, but in base64, where it cannot.
    pub(crate) fn insert(self, text: &[u8], content: &[u8], at: usize, addition: &[u8]) -> Vec<u8> {
        match self {
            Self::SevenBit | Self::EightBit => [&text[..at], addition, &text[at..]].concat(),
            Self::QuotedPrintable => {
                let at = Atoms::of(text)
                    .nth(at)
                    .map_or(text.len(), |(start, _)| start);
                let (before, after) = text.split_at(at);
                let guard: &[u8] = match before.last() {
                    // A soft line break that the text's end has cut.
                    _ if after.is_empty() && ends_softly(before) => b"\r\n",
                    // White space that does not end a line yet would be dropped if it did.
                    Some(b' ' | b'\t') if !is_line_end(after) => b"=\r\n",
                    // One that stands for itself would begin a soft line break.
                    Some(b'=') => b"3D",
                    _ => b"",
                };
                [before, guard, &quoted_printable(addition), after].concat()
            }
            Self::Base64 => encode_base64(&[&content[..at], addition, &content[at..]].concat()),
        }
    }
}

/// The bytes that a quoted-printable text stands for, each with the place where it begins.
///
/// Where the text breaks the rules, it stands for itself.
struct Atoms<'a> {
    text: &'a [u8],
    at: usize,
    /// White space before this place is no padding at a line's end.
    solid_until: usize,
}

impl<'a> Atoms<'a> {
    fn of(text: &'a [u8]) -> Self {
        Self {
            text,
            at: 0,
            solid_until: 0,
        }
    }

    /// Where white space ends that begins here, and whether the line ends there as well.
    fn padding(&self, from: usize) -> (usize, bool) {
        let rest = &self.text[from..];
        let is_solid = |byte: &u8| !matches!(byte, b' ' | b'\t');
        let len = rest.iter().position(is_solid).unwrap_or(rest.len());
        (from + len, is_line_end(&rest[len..]))
    }

    /// Where the next line begins, if a soft line break is here.
    fn soft_break(&self) -> Option<usize> {
        match self.padding(self.at + 1) {
            (end, true) => Some(match self.text[end..] {
                [] => end,
                [b'\n', ..] => end + 1,
                _ => end + 2,
            }),
            _ => None,
        }
    }
}

impl Iterator for Atoms<'_> {
    type Item = (usize, u8);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let start = self.at;
            match *self.text.get(start..)? {
                [] => return None,
                [b'=', high, low, ..] if is_hex(high) && is_hex(low) => {
                    self.at += 3;
                    return Some((start, hex(high) << 4 | hex(low)));
                }
                [b'=', ..] if self.soft_break().is_some() => {
                    self.at = self.soft_break()?;
                }
                [b' ' | b'\t', ..] if start >= self.solid_until => {
                    let (end, line_ends) = self.padding(start);
                    if line_ends {
                        self.at = end;
                    } else {
                        self.solid_until = end;
                    }
                }
                [byte, ..] => {
                    self.at += 1;
                    return Some((start, byte));
                }
            }
        }
    }
}

fn is_line_end(text: &[u8]) -> bool {
    matches!(text, [] | [b'\n', ..] | [b'\r', b'\n', ..])
}

fn ends_softly(text: &[u8]) -> bool {
    let is_solid = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let last = text.iter().rfind(|byte| is_solid(byte));
    last == Some(&b'=')
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// Text with CRLF line ends in quoted-printable.
fn quoted_printable(content: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(content.len() + content.len() / 8);
    let mut line = 0;
    let mut rest = content;
    while let Some((&byte, after)) = rest.split_first() {
        if let Some(next) = rest.strip_prefix(b"\r\n") {
            text.extend_from_slice(b"\r\n");
            (line, rest) = (0, next);
            continue;
        }
        let line_ends = after.is_empty() || after.starts_with(b"\r\n");
        let literal = match byte {
            b' ' | b'\t' => !line_ends,
            _ => byte.is_ascii_graphic() && byte != b'=',
        };
        let width = if literal { 1 } else { 3 };
        // A line that goes on needs room for the `=` of the soft line break.
        if line + width > MAX_LINE - usize::from(!line_ends) {
            text.extend_from_slice(b"=\r\n");
            line = 0;
        }
        if literal {
            text.push(byte);
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            let digit = |nibble: u8| DIGITS[usize::from(nibble & 15)];
            text.extend([b'=', digit(byte >> 4), digit(byte)]);
        }
        line += width;
        rest = after;
    }
    text
}

/// Padding is not always there where it should be.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let dense: Vec<u8> = text
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    BASE64.decode(dense).ok()
}

fn encode_base64(content: &[u8]) -> Vec<u8> {
    let dense = BASE64.encode(content);
    let lines = dense.as_bytes().chunks(MAX_LINE);
    lines
        .flat_map(|line| [line, b"\r\n"])
        .flatten()
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(text: &str) -> String {
        let bytes = Transfer::QuotedPrintable.decode(text.as_bytes()).unwrap();
        String::from_utf8(bytes.into_owned()).unwrap()
    }

    #[test]
    fn reads_quoted_printable() {
        for (text, content) in [
            ("J=C3=BCrgen =3D\r\n", "Jürgen =\r\n"),
            ("one =\r\nline=\r\n", "one line"),
            ("soft = \t\r\nbreak", "soft break"),
            ("padding \t \r\ngone \t", "padding\r\ngone"),
            ("a  b", "a  b"),
            ("=c3=bc=", "ü"),
            ("a=zz=1", "a=zz=1"),
            ("bare=\nlf\n", "barelf\n"),
        ] {
            assert_eq!(decoded(text), content, "{text:?}");
        }
    }

    #[test]
    fn writes_quoted_printable() {
        let write =
            |content: &str| String::from_utf8(quoted_printable(content.as_bytes())).unwrap();
        assert_eq!(write("Jürgen = 1\r\n"), "J=C3=BCrgen =3D 1\r\n");
        assert_eq!(write("-- \r\na\tb\t"), "--=20\r\na\tb=09");
        assert_eq!(write("a\rb\nc"), "a=0Db=0Ac");
        let full = "x".repeat(76);
        assert_eq!(
            write(&format!("{full}\r\n{full}")),
            format!("{full}\r\n{full}")
        );
        let (x75, rest) = full.split_at(75);
        assert_eq!(write(&format!("{full}y")), format!("{x75}=\r\n{rest}y"));
    }

    #[test]
    fn inserts_where_it_was_told_to() {
        let insert = |text: &str, at: usize, addition: &str| {
            let content = decoded(text);
            let text = Transfer::QuotedPrintable.insert(
                text.as_bytes(),
                content.as_bytes(),
                at,
                addition.as_bytes(),
            );
            String::from_utf8(text).unwrap()
        };
        // What was there stays as it was, also what could be written in another way.
        assert_eq!(insert("=41=\r\n=42c", 2, "\r\nü"), "=41=\r\n=42\r\n=C3=BCc");
        assert_eq!(insert("a  b", 3, "\r\n"), "a  =\r\n\r\nb");
        assert_eq!(insert("end=", 3, "\r\nx"), "end=\r\n\r\nx");
        assert_eq!(insert("end=\r\n", 3, "\r\nx"), "end=\r\n\r\nx");
    }

    #[test]
    fn base64_without_its_padding() {
        let decode = |text: &[u8]| Transfer::Base64.decode(text).map(Cow::into_owned);
        assert_eq!(decode(b"YW\r\n Jj\tZA").unwrap(), b"abcd");
        assert_eq!(decode(b"YWJjZA==\r\n").unwrap(), b"abcd");
        assert_eq!(decode(b"YWJj!"), None);
        assert_eq!(encode_base64(&[0; 60])[74..], *b"AA\r\nAAAA\r\n");
        assert_eq!(encode_base64(b""), b"");
    }

    /// Text in CRLF lines, with what is hard for encodings.
    fn text() -> impl Strategy<Value = String> {
        let pieces = prop_oneof![
            Just("\r\n"),
            Just(" "),
            Just("\t"),
            Just("="),
            Just("ü"),
            Just("-- "),
            Just("abc"),
            Just("0123456789012345678901234567890123456789"),
            Just("\r"),
            Just("\n"),
        ];
        proptest::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(content in text()) {
            for transfer in [Transfer::QuotedPrintable, Transfer::Base64] {
                let text = transfer.encode(content.clone().into_bytes());
                prop_assert!(text.is_ascii());
                for line in text.split(|&byte| byte == b'\n') {
                    prop_assert!(line.strip_suffix(b"\r").unwrap_or(line).len() <= MAX_LINE);
                    prop_assert!(!line.ends_with(b" \r") && !line.ends_with(b"\t\r"));
                }
                let read = transfer.decode(&text);
                prop_assert_eq!(read.as_deref(), Some(content.as_bytes()));
            }
        }

        #[test]
        fn an_addition_is_read_where_it_was_put(raw in "([ a=\r\n]|=41|=\r\n|\r\n){0,30}", at in 0..30_usize) {
            for transfer in [Transfer::EightBit, Transfer::QuotedPrintable, Transfer::Base64] {
                let text = match transfer {
                    Transfer::Base64 => encode_base64(raw.as_bytes()),
                    _ => raw.clone().into_bytes(),
                };
                let content = transfer.decode(&text).unwrap().into_owned();
                let mut at = at.min(content.len());
                // Within a line break nothing is ever put.
                while content[..at].ends_with(b"\r") {
                    at -= 1;
                }
                let whole = transfer.insert(&text, &content, at, b"\r\n+\xc3\r\n");
                let read = transfer.decode(&whole).unwrap().into_owned();
                let (before, after) = content.split_at(at);
                let wanted = [before, b"\r\n+\xc3\r\n", after].concat();
                prop_assert_eq!(read, wanted, "{:?}", String::from_utf8_lossy(&whole));
            }
        }
    }
}
