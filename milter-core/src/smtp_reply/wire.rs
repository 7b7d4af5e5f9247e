//! Replies as they stand in a REPLYCODE frame.

use bytes::{BufMut, Bytes, BytesMut};

use crate::Text;
use crate::lines::split_lines;

use super::{MAX_LINE_LEN, MAX_LINES, SmtpReply, SmtpReplyError, fold, lift_enhanced_code};

impl SmtpReply {
    /// The payload of an `SMFIR_REPLYCODE` frame (`y`): the lines joined by CRLF, each with the
    /// codes, `%` doubled, and one NUL.
    ///
    /// ```
    /// use milter_core::SmtpReply;
    ///
    /// let reply = SmtpReply::reject("100% spam");
    /// assert_eq!(reply.to_wire().as_ref(), b"550 5.7.1 100%% spam\0");
    /// ```
    pub fn to_wire(&self) -> Bytes {
        let mut wire = BytesMut::new();
        self.write_wire(&mut wire);
        wire.freeze()
    }

    /// Appends what [`to_wire`](Self::to_wire) returns.
    pub fn write_wire(&self, wire: &mut BytesMut) {
        let enhanced = self.enhanced_code().map(|code| code.to_string());
        let mut lines = self.lines().map(Text::as_bytes);
        // A reply without text still has its one line of codes.
        let mut line = lines.next().unwrap_or_default();
        loop {
            let next = lines.next();
            self.write_line(wire, enhanced.as_deref(), line, next.is_none());
            let Some(next) = next else { break };
            wire.put_slice(b"\r\n");
            line = next;
        }
        // sendmail/milter.c MILTER_CHECK_REPLYCODE: one NUL, at the end.
        wire.put_u8(0);
    }

    fn write_line(&self, wire: &mut BytesMut, enhanced: Option<&str>, line: &[u8], last: bool) {
        wire.put_slice(&digits(self.code()));
        // Postfix milter8.c milter8_event: a separator even where no text follows.
        wire.put_u8(if last { b' ' } else { b'-' });
        if let Some(enhanced) = enhanced {
            wire.put_slice(enhanced.as_bytes());
            if !line.is_empty() {
                wire.put_u8(b' ');
            }
        }
        // Sendmail uses the reply as a format string (`%` alone: milter.c
        // MILTER_CHECK_REPLYCODE drops the text), and Postfix undoes the doubling.
        for (index, part) in line.split(|&byte| byte == b'%').enumerate() {
            if index > 0 {
                wire.put_slice(b"%%");
            }
            wire.put_slice(part);
        }
    }

    /// Reads the payload of an `SMFIR_REPLYCODE` frame that came from a filter.
    ///
    /// Takes what either MTA takes, and shows it as that MTA would:
    ///
    /// - The NUL at the end may be missing (Postfix), and so may the separator and text after the
    ///   code (Sendmail).
    /// - `%%` is read as `%`. Of a `%` alone nothing is left, as with Postfix (`milter8.c`
    ///   `milter8_event`); Sendmail would use a generic text.
    /// - A CRLF after the last line is dropped.
    /// - A further line without the code of the first is text (Sendmail and older Postfix check
    ///   the first line only); a CR or LF alone ends a line too.
    /// - An enhanced code of another class is text (Sendmail does not compare it).
    /// - Lines of more than 980 octets are wrapped, and what follows the 32nd line is cut; no MTA
    ///   has such limits, libmilter has.
    ///
    /// # Errors
    ///
    /// If the payload does not begin with a code of 400 to 599, something other than a space or
    /// `-` follows the code, or a NUL stands before the end. Sendmail then uses a text of its
    /// own, and Postfix gives the filter up.
    ///
    /// ```
    /// use milter_core::SmtpReply;
    ///
    /// let reply = SmtpReply::from_wire(b"550-5.7.1 Go\r\n550 5.7.1 away\0")?;
    /// assert_eq!(reply.to_string(), "550 5.7.1 Go / away");
    /// assert!(SmtpReply::from_wire(b"250 fine\0").is_err());
    /// # Ok::<(), milter_core::SmtpReplyError>(())
    /// ```
    pub fn from_wire(payload: &[u8]) -> Result<Self, SmtpReplyError> {
        let payload = payload.strip_suffix(&[0]).unwrap_or(payload);
        if memchr::memchr(0, payload).is_some() {
            return Err(SmtpReplyError::EmbeddedNul);
        }
        let code = read_code(payload)?;
        let payload = payload.strip_suffix(b"\r\n").unwrap_or(payload);
        let prefix = digits(code);
        let mut lines: Vec<Vec<u8>> = split_lines(payload)
            .map(|line| single_percents(strip_code(line, prefix)))
            .take(MAX_LINES)
            .collect();
        let enhanced = lift_enhanced_code(code, &mut lines);
        let mut wrapped = Vec::with_capacity(lines.len());
        for line in &lines {
            fold::wrap(line, MAX_LINE_LEN, &mut wrapped);
        }
        Ok(Self::assemble(code, enhanced, wrapped))
    }
}

/// The three digits of a code below 1000.
pub(super) fn digits(code: u16) -> [u8; 3] {
    [code / 100, code / 10, code].map(|number| b"0123456789"[usize::from(number % 10)])
}

/// The code that a reply begins with: 4 or 5, two digits, and a separator or nothing
/// (sendmail/milter.c `MILTER_CHECK_REPLYCODE`, Postfix `milter8.c` `milter8_event`).
pub(super) fn read_code(payload: &[u8]) -> Result<u16, SmtpReplyError> {
    match *payload {
        [
            class @ b'4'..=b'5',
            tens @ b'0'..=b'9',
            ones @ b'0'..=b'9',
            ref rest @ ..,
        ] if matches!(rest.first(), None | Some(b' ' | b'-' | b'\r' | b'\n')) => {
            Ok([class, tens, ones]
                .iter()
                .fold(0, |code, digit| code * 10 + u16::from(digit - b'0')))
        }
        _ => Err(SmtpReplyError::MalformedCode),
    }
}

/// A line without the code and the separator that it may begin with.
pub(super) fn strip_code(line: &[u8], code: [u8; 3]) -> &[u8] {
    match line.strip_prefix(&code) {
        Some([] | [b' ' | b'-']) => &[],
        Some([b' ' | b'-', text @ ..]) => text,
        _ => line,
    }
}

/// The text as Postfix reads it: a `%` is dropped, and what follows it is taken as it is.
fn single_percents(line: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(line.len());
    let mut bytes = line.iter();
    while let Some(&byte) = bytes.next() {
        text.extend(if byte == b'%' {
            bytes.next()
        } else {
            Some(&byte)
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::EnhancedCode;

    /// What both MTAs check: sendmail/milter.c `MILTER_CHECK_REPLYCODE`, Postfix `milter8.c`
    /// `milter8_event`, and the limits of libmilter.
    fn check(wire: &[u8]) {
        let shown = wire.escape_ascii();
        let (&nul, text) = wire.split_last().expect("at least the NUL");
        assert_eq!(nul, 0, "{shown}");
        assert!(!text.contains(&0), "{shown}");
        let text = text.to_vec();
        let mut lines = vec![vec![]];
        let mut bytes = text.iter().peekable();
        while let Some(&byte) = bytes.next() {
            match byte {
                b'\r' => {
                    assert_eq!(bytes.next(), Some(&b'\n'), "bare CR: {shown}");
                    lines.push(vec![]);
                }
                b'\n' => panic!("bare LF: {shown}"),
                _ => lines.last_mut().expect("never empty").push(byte),
            }
        }
        assert!(lines.len() <= 32, "{shown}");
        for (index, line) in lines.iter().enumerate() {
            assert!(line.len() >= 4, "{shown}");
            assert!(matches!(line[0], b'4' | b'5'), "{shown}");
            assert!(line[1..3].iter().all(u8::is_ascii_digit), "{shown}");
            assert_eq!(line[..3], lines[0][..3], "{shown}");
            let last = index + 1 == lines.len();
            assert_eq!(line[3], if last { b' ' } else { b'-' }, "{shown}");
            if let Some(byte) = line.get(4).filter(|byte| byte.is_ascii_digit()) {
                assert_eq!(*byte, line[0], "{shown}");
            }
            assert!(line.len() <= 4 + "5.999.999 ".len() + 980, "{shown}");
            let mut rest = &line[4..];
            while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
                assert_eq!(rest.get(at + 1), Some(&b'%'), "{shown}");
                rest = &rest[at + 2..];
            }
        }
    }

    #[track_caller]
    fn read(wire: &[u8]) -> SmtpReply {
        SmtpReply::from_wire(wire).expect("a readable reply")
    }

    #[test]
    fn c67_every_percent_is_doubled_once() {
        let wire = SmtpReply::reject("%% 100% %s").to_wire();
        assert_eq!(wire.as_ref(), b"550 5.7.1 %%%% 100%% %%s\0");
        assert_eq!(read(&wire).lines().collect::<Vec<_>>(), ["%% 100% %s"]);
    }

    #[test]
    fn c68_every_line_carries_the_codes() {
        let wire = SmtpReply::tempfail("a\n\nc").to_wire();
        assert_eq!(wire.as_ref(), b"451-4.7.1 a\r\n451-4.7.1\r\n451 4.7.1 c\0");
    }

    #[test]
    fn c68_several_lines_get_an_enhanced_code() -> Result<(), SmtpReplyError> {
        let reply = SmtpReply::builder(554).lines(["a", "b"]).build()?;
        assert_eq!(reply.to_wire().as_ref(), b"554-5.0.0 a\r\n554 5.0.0 b\0");
        let reply = SmtpReply::builder(421).lines(["a", "b"]).build()?;
        assert_eq!(reply.to_wire().as_ref(), b"421-4.0.0 a\r\n421 4.0.0 b\0");
        Ok(())
    }

    #[test]
    fn a_separator_always_follows_the_code() -> Result<(), SmtpReplyError> {
        assert_eq!(
            SmtpReply::builder(550).build()?.to_wire().as_ref(),
            b"550 \0"
        );
        assert_eq!(SmtpReply::reject("").to_wire().as_ref(), b"550 5.7.1\0");
        Ok(())
    }

    #[test]
    fn c81_reads_what_either_mta_takes() {
        for (wire, shown) in [
            (&b"550\0"[..], "550"),
            (b"550", "550"),
            (b"550 ", "550"),
            (b"550-", "550"),
            (b"550 No", "550 No"),
            (b"550 5.7.1", "550 5.7.1"),
            (b"550 5.7.1 No\0", "550 5.7.1 No"),
            (b"550 4.7.1 No\0", "550 5.0.0 4.7.1 No"),
            (b"550 5.07.1 No\0", "550 5.07.1 No"),
            (b"550 100%% a % b %\0", "550 5.0.0 100% a  b "),
            (b"550-a\r\n550 b\0", "550 5.0.0 a / b"),
            (b"550-5.1.1 a\r\n550 5.1.1 b\0", "550 5.1.1 a / b"),
            (
                b"550-5.1.1 a\r\nb\r\n551 c\0",
                "550 5.0.0 5.1.1 a / b / 551 c",
            ),
            (b"550 a\r\n\0", "550 a"),
            (b"550-a\n550\0", "550 5.0.0 a / "),
        ] {
            assert_eq!(read(wire).to_string(), shown, "{}", wire.escape_ascii());
        }
    }

    #[test]
    fn c81_refuses_what_neither_mta_takes() {
        for wire in [
            &b""[..],
            b"\0",
            b"55",
            b"250 ok\0",
            b"650 no\0",
            b"5x0 no\0",
            b"55x no\0",
            b"5500 no\0",
            b" 550 no\0",
        ] {
            let read = SmtpReply::from_wire(wire);
            assert_eq!(read, Err(SmtpReplyError::MalformedCode), "{wire:?}");
        }
        for wire in [&b"550 a\0b\0"[..], b"550 a\0\0"] {
            assert_eq!(SmtpReply::from_wire(wire), Err(SmtpReplyError::EmbeddedNul));
        }
    }

    #[test]
    fn c65_what_a_filter_sent_too_long_is_wrapped_and_cut() {
        let wire = read(&[b"550 ", &b"x".repeat(5_000)[..]].concat()).to_wire();
        check(&wire);
        assert_eq!(read(&b"550 x\r\n".repeat(100)).lines().count(), 32);
    }

    fn enhanced() -> impl Strategy<Value = (u16, u16)> {
        (0..1000_u16, 0..1000_u16)
    }

    fn line() -> impl Strategy<Value = Vec<u8>> {
        let text = prop::collection::vec(any::<u8>(), 0..40);
        let coded = r"[245]\.[0-9]{1,3}\.[0-9]{1,3}( .{0,9})?".prop_map(String::into_bytes);
        let awkward = r"[ 45%.0-]{0,8}".prop_map(String::into_bytes);
        prop_oneof![text, coded, awkward].prop_map(|mut line| {
            line.retain(|byte| !b"\r\n\0".contains(byte));
            line
        })
    }

    proptest! {
        #[test]
        fn c65_whatever_is_rejected_is_taken_by_both(text in prop::collection::vec(any::<u8>(), 0..2_000)) {
            check(&SmtpReply::reject(&text).to_wire());
            check(&SmtpReply::tempfail(&text).to_wire());
        }

        #[test]
        fn c68_a_reply_survives_the_wire(
            code in 400..600_u16,
            enhanced in prop::option::of(enhanced()),
            lines in prop::collection::vec(line(), 0..=32),
        ) {
            let mut builder = SmtpReply::builder(code).lines(&lines);
            if let Some((subject, detail)) = enhanced {
                builder = builder.enhanced_code(EnhancedCode::of_class(code, subject, detail));
            }
            let reply = builder.build().expect("valid parts");
            let wire = reply.to_wire();
            check(&wire);
            prop_assert_eq!(read(&wire), reply.clone());
            prop_assert_eq!(reply.code(), code);
            if let Some((subject, detail)) = enhanced {
                let code = reply.enhanced_code().expect("as given");
                prop_assert_eq!((code.subject(), code.detail()), (subject, detail));
                let kept: Vec<_> = reply.lines().map(|line| line.to_vec()).collect();
                if kept.is_empty() {
                    prop_assert!(lines.concat().is_empty());
                } else {
                    prop_assert_eq!(kept, lines);
                }
            }
        }

        #[test]
        fn c81_whatever_is_read_is_taken_by_both(
            code in "[45][0-9]{2}[ -]?",
            text in prop::collection::vec(any::<u8>(), 0..2_000),
        ) {
            if let Ok(reply) = SmtpReply::from_wire(&[code.as_bytes(), &text].concat()) {
                let wire = reply.to_wire();
                check(&wire);
                prop_assert_eq!(read(&wire), reply);
            }
        }
    }
}
