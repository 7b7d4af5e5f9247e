//! Encoded words (RFC 2047).

use std::borrow::Cow;

use encoding_rs::Encoding;
use memchr::{memchr, memmem};

use crate::base64;

/// Decodes a value in one line.
pub(super) fn decode(value: Cow<'_, [u8]>) -> Cow<'_, str> {
    match value {
        Cow::Borrowed(value) => decode_words(value),
        Cow::Owned(value) => Cow::Owned(decode_words(&value).into_owned()),
    }
}

fn decode_words(value: &[u8]) -> Cow<'_, str> {
    let mut decoded = Decoded::default();
    let mut rest = value;
    let mut from = 0;
    while let Some(at) = memmem::find(&rest[from..], b"=?") {
        let start = from + at;
        let Some((word, end)) = Word::parse(&rest[start..]) else {
            from = start + 2;
            continue;
        };
        decoded.add(&rest[..start], word);
        rest = &rest[start + end..];
        from = 0;
    }
    if decoded.is_empty() {
        return String::from_utf8_lossy(value);
    }
    Cow::Owned(decoded.finish(rest))
}

/// An encoded word.
struct Word<'v> {
    charset: &'v [u8],
    bytes: Vec<u8>,
}

impl<'v> Word<'v> {
    /// The word that the text begins with, and where it ends.
    // RFC 2047 2; RFC 2231 5: a language behind the character set. White space and any length are
    // taken too, since they are seen. As none of its parts holds a `?`, looking at each `=?` of a
    // text reads no byte more than a few times.
    fn parse(text: &'v [u8]) -> Option<(Self, usize)> {
        let inner = text.strip_prefix(b"=?")?;
        let (charset, rest) = inner.split_at_checked(memchr(b'?', inner)?)?;
        let charset = charset.split(|byte| *byte == b'*').next()?;
        let &[b'?', encoding, b'?', ref data @ ..] = rest else {
            return None;
        };
        let end = memchr(b'?', data)?;
        data[end..].strip_prefix(b"?=")?;
        if charset.is_empty() {
            return None;
        }
        let (data, after) = (&data[..end], &data[end + 2..]);
        let bytes = match encoding {
            b'B' | b'b' => decode_b(data),
            b'Q' | b'q' => decode_q(data),
            _ => None,
        }?;
        let end = text.len() - after.len();
        Some((Self { charset, bytes }, end))
    }
}

// RFC 2047 4.1: base64. Padding may lack, and white space in it means nothing
fn decode_b(data: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(data.len() / 4 * 3 + 2);
    let read = base64::decode(data, |byte| matches!(byte, b' ' | b'\t'), &mut bytes);
    (read == data.len()).then_some(bytes)
}

// RFC 2047 4.2
fn decode_q(data: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(data.len());
    let mut rest = data.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'_' => b' ',
            b'=' => hex(*rest.next()?)? << 4 | hex(*rest.next()?)?,
            byte => *byte,
        });
    }
    Some(bytes)
}

fn hex(digit: u8) -> Option<u8> {
    let digit = char::from(digit).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// What was decoded so far.
#[derive(Default)]
struct Decoded<'v> {
    text: String,
    /// The bytes of words that follow one another, and their character set: a character may be
    /// divided between two, though it must not be (RFC 2047 5).
    pending: Option<(&'v [u8], Vec<u8>)>,
}

impl<'v> Decoded<'v> {
    fn is_empty(&self) -> bool {
        self.pending.is_none()
    }

    fn add(&mut self, before: &[u8], word: Word<'v>) {
        // RFC 2047 6.2: white space between two words is not shown
        let follows = self.pending.is_some() && before.trim_ascii().is_empty();
        match &mut self.pending {
            Some((charset, bytes)) if follows && charset.eq_ignore_ascii_case(word.charset) => {
                bytes.extend(word.bytes);
            }
            _ => {
                self.flush();
                if !follows {
                    self.text.push_str(&String::from_utf8_lossy(before));
                }
                self.pending = Some((word.charset, word.bytes));
            }
        }
    }

    fn flush(&mut self) {
        let Some((charset, bytes)) = self.pending.take() else {
            return;
        };
        let text = match Encoding::for_label_no_replacement(charset) {
            Some(encoding) => encoding.decode_with_bom_removal(&bytes).0,
            None => String::from_utf8_lossy(&bytes),
        };
        self.text.push_str(&text);
    }

    fn finish(mut self, after: &[u8]) -> String {
        self.flush();
        self.text.push_str(&String::from_utf8_lossy(after));
        self.text
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn decoded(value: &str) -> String {
        decode_words(value.as_bytes()).into_owned()
    }

    #[test]
    fn words_are_decoded_as_rfc_2047_8_shows() {
        for (value, text) in [
            ("plain", "plain"),
            (
                "=?US-ASCII?Q?Keith_Moore?= <moore@cs.utk.edu>",
                "Keith Moore <moore@cs.utk.edu>",
            ),
            ("=?ISO-8859-1?Q?Patrik_F=E4ltstr=F6m?=", "Patrik Fältström"),
            ("=?utf-8?B?w6k=?=", "é"),
            ("=?UTF-8*en?q?a?=", "a"),
            ("(=?ISO-8859-1?Q?a?=)", "(a)"),
            ("(=?ISO-8859-1?Q?a?= b)", "(a b)"),
            ("(=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=)", "(ab)"),
            ("(=?ISO-8859-1?Q?a?=  \t =?utf-8?Q?b?=)", "(ab)"),
            ("(=?ISO-8859-1?Q?a_b?=)", "(a b)"),
            ("(=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=)", "(a b)"),
            ("=?utf-8?Q?a?= b =?utf-8?Q?c?=", "a b c"),
            ("=?us-ascii?B?YQ?==?us-ascii?b?Y  mM?=", "abc"),
            ("=?us-ascii?B?YQ==YmM=?=", "abc"),
            ("=?us-ascii?B?YWJj?=", "abc"),
            ("=?us-ascii?Q?a b=3d=3D?=", "a b=="),
            // One character in two words.
            ("=?utf-8?Q?=C3?= =?UTF-8?B?qQ==?=!", "é!"),
            ("two  spaces =?utf-8?q?a?=  here", "two  spaces a  here"),
        ] {
            assert_eq!(decoded(value), text, "{value}");
        }
    }

    #[test]
    fn what_is_no_word_stays() {
        for value in [
            "=?",
            "=??q?a?=",
            "=?utf-8?q?a",
            "=?utf-8?q?a?",
            "=?utf-8?x?a?=",
            "=?utf-8?qq?a?=",
            "=?utf-8?q?=ZZ?=",
            "=?utf-8?b?\u{e9}?=",
            "=?utf-8?q",
            "= ?utf-8?q?a?=",
            "=?*en?q?a?=",
        ] {
            assert_eq!(decoded(value), value);
        }
        assert_eq!(decoded("=?x =?utf-8?q?a?="), "=?x a");
    }

    #[test]
    fn what_is_not_text_is_replaced() {
        assert_eq!(
            decode_words(b"\xe9 =?utf-8?q?=E9?= \xe9"),
            "\u{fffd} \u{fffd} \u{fffd}"
        );
        assert_eq!(decoded("=?x-unknown?q?a=E9?="), "a\u{fffd}");
        assert_eq!(decoded("=?big5?b??="), "");
        assert_eq!(decoded("=?iso-2022-kr?q?a?="), "a");
    }

    #[test]
    fn east_asian_character_sets() {
        assert_eq!(decoded("=?ISO-2022-JP?B?GyRCRnxLXBsoQg==?="), "日本");
        assert_eq!(decoded("=?gb2312?B?1tC5+g==?="), "中国");
    }

    /// Each `=?` could be the beginning of a word that goes on to the end of a long text.
    #[test]
    fn long_values_that_never_become_a_word_take_no_long_time() {
        let begun = Instant::now();
        for piece in ["=?", "=?aa", "=?aa?q?", "=?aa?b?", "=?aa?q?a?"] {
            let piece = format!("{piece}{}", "x".repeat(60));
            decoded(&piece.repeat(4_000_000 / piece.len()));
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    fn charset() -> impl Strategy<Value = String> {
        let known = prop::sample::select(
            &[
                "utf-8",
                "utf-7",
                "utf-16",
                "utf-16be",
                "utf-16le",
                "iso-8859-1",
                "koi8-r",
                "big5",
                "gbk",
                "gb18030",
                "shift_jis",
                "iso-2022-jp",
                "iso-2022-kr",
                "euc-jp",
                "euc-kr",
                "cp850",
                "tis-620",
            ][..],
        );
        prop_oneof![known.prop_map(str::to_owned), "[a-z?*=]{0,60}"]
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            value in prop::collection::vec(
                prop_oneof![any::<u8>(), prop::sample::select(&b"=?=?qQbB_ \t+-*a"[..])], 0..80),
        ) {
            decode_words(&value);
        }

        #[test]
        fn no_word_makes_it_panic(
            words in prop::collection::vec(
                (charset(), "[qQbBx]", "([A-Za-z0-9+/=_-]|=[0-9A-F]{2}|\\PC){0,24}"), 0..4),
        ) {
            let words: Vec<_> = words
                .iter()
                .map(|(charset, encoding, data)| format!("=?{charset}?{encoding}?{data}?="))
                .collect();
            decoded(&words.join(" "));
        }

        #[test]
        fn text_without_words_stays_as_it_is(value in "\\PC{0,40}") {
            prop_assume!(!value.contains("=?"));
            prop_assert_eq!(decoded(&value), value);
        }
    }
}
