//! What a parsed message may cost: `mail-parser` bounds neither how deep messages nest nor how much
//! it copies of each.
//!
//! Each message within another holds a copy of the whole text when it owns its bytes, and is one
//! frame more on the stack when it is copied and dropped. So a mail of a few KiB could end the
//! process, and one of 1 MiB take a hundred times its size and more. What is counted here is what the parser takes for a
//! message: a type `message/rfc822` or `message/global`, or a part of a digest.

use mail_parser::{Message, PartType};
use memchr::memmem;

use crate::base64;

/// How deep messages may nest.
const DEPTH: usize = 50;

/// How often a message within another may be encoded, as in `mail-parser`.
const ENCODED: usize = 3;

/// It would take too much.
#[derive(Debug)]
pub(super) struct TooMuch;

/// How many bytes may still be copied.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self(bytes)
    }

    fn take(&mut self, bytes: usize) -> Result<(), TooMuch> {
        self.0 = self.0.checked_sub(bytes).ok_or(TooMuch)?;
        Ok(())
    }

    /// The same message, on its own.
    pub(super) fn own(mut self, message: Message<'_>) -> Result<Message<'static>, TooMuch> {
        match self.check(&message) {
            Ok(()) => Ok(message.into_owned()),
            Err(error) => {
                dismantle(message);
                Err(error)
            }
        }
    }

    fn check(&mut self, message: &Message<'_>) -> Result<(), TooMuch> {
        let mut rest = vec![(message, 0_usize)];
        while let Some((message, depth)) = rest.pop() {
            self.take(message.raw_message.len())?;
            if depth > DEPTH {
                return Err(TooMuch);
            }
            rest.extend(message.parts.iter().filter_map(|part| match &part.body {
                PartType::Message(inner) => Some((inner, depth + 1)),
                _ => None,
            }));
        }
        Ok(())
    }

    /// Looks for messages that are encoded: the parser copies what is in them itself, before
    /// anybody can ask how much that is.
    pub(super) fn check_encoded(&mut self, text: &[u8]) -> Result<(), TooMuch> {
        self.check_level(text, ENCODED)
    }

    fn check_level(&mut self, text: &[u8], levels: usize) -> Result<(), TooMuch> {
        // Most mails have no other within them.
        let folded = text.to_ascii_lowercase();
        let is_digest = has(&folded, b"digest");
        if levels == 0 || !(is_digest || has_message(&folded)) {
            return Ok(());
        }
        let mut start = 0;
        while start < text.len() {
            let end = end_of_block(&folded, start);
            let block = &folded[start..end];
            if is_digest || has_message(block) {
                for encoding in [Encoding::Base64, Encoding::QuotedPrintable] {
                    // The parser decodes words in the name of the encoding as well.
                    if !has(block, encoding.name()) && !has(block, b"=?") {
                        continue;
                    }
                    for body in blank_lines(block) {
                        let encoded = &text[start + body..];
                        let (decoded, read) = encoding.decode(encoded);
                        self.take(read)?;
                        self.check_decoded(&decoded, levels)?;
                    }
                }
            }
            start = end;
        }
        Ok(())
    }

    fn check_decoded(&mut self, text: &[u8], levels: usize) -> Result<(), TooMuch> {
        let folded = text.to_ascii_lowercase();
        let mut count = [&b"rfc822"[..], b"global"]
            .iter()
            .map(|name| memmem::find_iter(&folded, name).count())
            .sum::<usize>();
        if has(&folded, b"digest") {
            count += memmem::find_iter(&folded, b"\n--").count();
        }
        if count > DEPTH {
            return Err(TooMuch);
        }
        self.take(text.len().saturating_mul(count))?;
        self.check_level(text, levels - 1)
    }
}

/// Takes it apart without a frame for each message in it.
fn dismantle(message: Message<'_>) {
    let mut rest = vec![message];
    while let Some(message) = rest.pop() {
        rest.extend(
            message
                .parts
                .into_iter()
                .filter_map(|part| match part.body {
                    PartType::Message(inner) => Some(inner),
                    _ => None,
                }),
        );
    }
}

fn has(text: &[u8], what: &[u8]) -> bool {
    memmem::find(text, what).is_some()
}

fn has_message(text: &[u8]) -> bool {
    has(text, b"rfc822") || has(text, b"global")
}

/// The end of what may be one block of headers: behind the next empty line.
fn end_of_block(text: &[u8], start: usize) -> usize {
    let rest = &text[start..];
    let mut ends = memchr::memchr_iter(b'\n', rest).map(|end| end + 1);
    let end = ends.find_map(|end| match &rest[end..] {
        [b'\n', ..] => Some(end + 1),
        [b'\r', b'\n', ..] => Some(end + 2),
        _ => None,
    });
    end.map_or(text.len(), |end| start + end)
}

/// Behind each line that is empty or white space: the body may begin there.
fn blank_lines(block: &[u8]) -> impl Iterator<Item = usize> {
    let ends = memchr::memchr_iter(b'\n', block);
    ends.filter_map(|end| {
        let next = memchr::memchr(b'\n', &block[end + 1..])? + end + 1;
        block[end + 1..next]
            .trim_ascii()
            .is_empty()
            .then_some(next + 1)
    })
}

#[derive(Clone, Copy)]
enum Encoding {
    Base64,
    QuotedPrintable,
}

impl Encoding {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Base64 => b"base64",
            Self::QuotedPrintable => b"quoted-printable",
        }
    }

    /// At least what the parser decodes, and how much was read for it.
    fn decode(self, text: &[u8]) -> (Vec<u8>, usize) {
        match self {
            Self::Base64 => decode_base64(text),
            Self::QuotedPrintable => (decode_quoted_printable(text), text.len()),
        }
    }
}

fn decode_base64(text: &[u8]) -> (Vec<u8>, usize) {
    // A boundary begins with two dashes; one alone is passed over.
    let is_nothing = |byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'-');
    let mut decoded = Vec::new();
    let read = base64::decode(text, is_nothing, &mut decoded);
    (decoded, read)
}

fn decode_quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'=' {
            decoded.push(*byte);
            continue;
        }
        // The parser passes over white space behind the sign.
        let white = after
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | 0x0c));
        let after = &after[white.count()..];
        if let [b'\n', after @ ..] = after {
            rest = after;
        } else if let [high, low, after @ ..] = after {
            let [high, low] = [high, low].map(|digit| char::from(*digit).to_digit(16));
            if let (Some(high), Some(low)) = (high, low) {
                decoded.extend((high << 4 | low).to_le_bytes().first());
                rest = after;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use mail_parser::MessageParser;

    use super::*;

    const INNER: &str = "Content-Type: message/rfc822\r\n\r\n";

    /// What becomes of a text if copies may take eight times as much.
    fn parse(text: &str) -> Result<Option<Message<'static>>, TooMuch> {
        let mut budget = Budget::new(8 * text.len());
        budget.check_encoded(text.as_bytes())?;
        let parsed = MessageParser::default().parse(text);
        parsed.map(|message| budget.own(message)).transpose()
    }

    fn base64(text: &str) -> String {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut encoded = String::new();
        for (at, three) in text.as_bytes().chunks(3).enumerate() {
            let bits = (0..3).fold(0, |bits, n| {
                bits << 8 | usize::from(*three.get(n).unwrap_or(&0))
            });
            for digit in 0..4 {
                let value = bits >> (18 - 6 * digit) & 63;
                let is_there = digit <= three.len();
                encoded.push(if is_there {
                    char::from(DIGITS[value])
                } else {
                    '='
                });
            }
            if at % 19 == 18 {
                encoded.push_str("\r\n");
            }
        }
        encoded
    }

    fn quoted(text: &str) -> String {
        let bytes: Vec<_> = text
            .bytes()
            .map(|byte| format!("={byte:02X}=\r\n"))
            .collect();
        bytes.concat()
    }

    fn encoded(encoding: &str, body: &str) -> String {
        format!(
            "Content-Type: Message/RFC822\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{body}"
        )
    }

    fn flat(count: usize, size: usize) -> String {
        let one = format!("--x\r\n{INNER}Subject: a\r\n\r\n{}\r\n", "x".repeat(size));
        let all = one.repeat(count);
        format!("Content-Type: multipart/mixed; boundary=x\r\n\r\n{all}--x--\r\n")
    }

    fn is_ok(text: &str) -> bool {
        matches!(parse(text), Ok(Some(_)))
    }

    #[test]
    fn messages_within_messages() {
        let mail = format!("{INNER}Subject: inner\r\n\r\nhello\r\n");
        for text in [
            mail.clone(),
            encoded("base64", &base64(&mail)),
            encoded("quoted-printable", &quoted(&mail)),
        ] {
            let parsed = parse(&text).unwrap().unwrap();
            let PartType::Message(inner) = &parsed.parts[0].body else {
                panic!("{parsed:?}");
            };
            assert!(
                inner.subject() == Some("inner")
                    || matches!(inner.parts[0].body, PartType::Message(_))
            );
        }
        assert!(is_ok(&flat(6, 1000)) && is_ok("Subject: a\r\n\r\nb"));
        assert!(is_ok(&format!(
            "{}Subject: a\r\n\r\n{}",
            INNER.repeat(5),
            "x".repeat(1000)
        )));
    }

    #[test]
    fn too_many_are_not_copied() {
        assert!(!is_ok(&flat(8, 1000)));
        let digest = flat(200, 10)
            .replace("mixed", "digest")
            .replace(INNER, "\r\n");
        assert!(!is_ok(&digest));
        for inner in [flat(60, 1000), digest] {
            for (name, body) in [
                ("base64", base64(&inner)),
                ("BASE64", base64(&inner)),
                ("=?utf-8?q?base64?=", base64(&inner)),
                ("quoted-printable", quoted(&inner)),
                (
                    "quoted-printable",
                    quoted(&inner).replace('=', "= ").replace("= \r", "=\r"),
                ),
                ("quoted-printable", inner.replace('=', "=3D")),
                ("base64", base64(&encoded("base64", &base64(&inner)))),
                (
                    "base64",
                    base64(&encoded("quoted-printable", &quoted(&inner))),
                ),
            ] {
                let text = encoded(name, &body);
                assert!(
                    Budget::new(8 * text.len())
                        .check_encoded(text.as_bytes())
                        .is_err(),
                    "{text}"
                );
            }
        }
    }

    /// Neither the parser nor what is behind it takes a frame for each.
    #[test]
    fn deep_ones_end_no_process() {
        assert!(!is_ok(&INNER.repeat(100_000)));
        assert!(!is_ok(&format!(
            "{}Subject: a\r\n\r\nb",
            INNER.repeat(100_000)
        )));
        let deep = format!("{}Subject: a\r\n\r\nb", INNER.repeat(10_000));
        assert!(!is_ok(&encoded("base64", &base64(&deep))));
        let at_most = format!("{}Subject: a\r\n\r\nb", INNER.repeat(DEPTH));
        let text = format!("{at_most}{}", "x".repeat(10));
        let mut budget = Budget::new(usize::MAX);
        budget.check_encoded(text.as_bytes()).unwrap();
        let parsed = MessageParser::default().parse(&text).unwrap();
        assert!(budget.own(parsed).is_ok());
    }

    /// What looks for them takes no long time where there are many.
    #[test]
    fn looking_is_bounded() {
        let many = encoded("base64 quoted-printable", "").repeat(100_000);
        let blank = format!(
            "rfc822 base64 quoted-printable{}",
            "\n \n\t".repeat(1_000_000)
        );
        for text in [many, blank] {
            let begun = std::time::Instant::now();
            _ = Budget::new(8 * text.len()).check_encoded(text.as_bytes());
            assert!(begun.elapsed() < std::time::Duration::from_secs(10));
        }
    }
}
