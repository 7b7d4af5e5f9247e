//! Replies: made of parts, made of text, and read as a filter may send them.
//!
//! The input is two lines and a text: the code, the enhanced code, and the lines of the reply.

use bytes::BytesMut;
use milter_core::{EnhancedCode, FilterCodec, MtaCodec, Reply, SmtpReply};
use tokio_util::codec::{Decoder, Encoder};

use super::input::Choices;

/// Longest line that a reply of any text has: RFC 5321 4.5.3.1.5.
const MAX_LINE: usize = 512;

/// Whatever the builder takes is legal on the wire and is read as it was made; it takes all that
/// is within its rules. Any text makes a reply, and what a filter sends is taken or refused by
/// the mail servers' rules.
///
/// # Panics
///
/// If something is wrong.
pub fn smtp_reply(data: &[u8]) {
    let mut input = Choices::new(data);
    let code = number(input.line());
    let enhanced = input.line();
    let text = input.rest();
    built(code, enhanced, text);
    folded(text);
    read(text);
    read(&[code.to_string().as_bytes(), text].concat());
}

fn number(line: &[u8]) -> u16 {
    let digits = std::str::from_utf8(line).ok();
    let number = digits.and_then(|digits| digits.parse().ok());
    // What is no number is a code that mostly may be given.
    number.unwrap_or_else(|| 390 + Choices::new(line).pair() % 220)
}

fn built(code: u16, enhanced: &[u8], text: &[u8]) {
    let enhanced = std::str::from_utf8(enhanced).ok();
    let enhanced = enhanced.and_then(|text| {
        let code: EnhancedCode = text.parse().ok()?;
        assert_eq!(code.to_string(), text);
        Some(code)
    });
    let lines: Vec<&[u8]> = if text.is_empty() {
        Vec::new()
    } else {
        text.split(|&byte| byte == b'\n').collect()
    };
    let mut builder = SmtpReply::builder(code).lines(&lines);
    if let Some(enhanced) = enhanced {
        builder = builder.enhanced_code(enhanced);
    }
    let is_allowed = (400..600).contains(&code)
        && enhanced.is_none_or(|enhanced| u16::from(enhanced.class()) == code / 100)
        && lines.len() <= 32
        && lines.iter().all(|line| {
            let doubled = line.split(|&byte| byte == b'%').count() - 1;
            line.len() + doubled <= 980 && !line.iter().any(|byte| b"\r\n\0".contains(byte))
        });
    let reply = match builder.build() {
        Ok(reply) => reply,
        Err(error) => {
            assert!(!is_allowed, "{error}");
            return;
        }
    };
    assert!(is_allowed, "{reply:?}");
    survives(&reply);
    assert_eq!(reply.code(), code);
    let kept: Vec<Vec<u8>> = reply.lines().map(|line| line.to_vec()).collect();
    if enhanced.is_some() {
        assert_eq!(reply.enhanced_code(), enhanced);
        if kept.is_empty() {
            assert!(lines.concat().is_empty());
        } else {
            assert_eq!(kept, lines);
        }
    } else if kept.len() == lines.len() {
        // Of each line no more than an enhanced code went.
        for (kept, line) in kept.iter().zip(&lines) {
            assert!(line.ends_with(kept));
            assert!(line.len() - kept.len() <= "5.999.999 ".len());
        }
    } else {
        assert!(lines.len() == 1 && kept.is_empty());
    }
}

/// Any text at all.
fn folded(text: &[u8]) {
    for reply in [SmtpReply::reject(text), SmtpReply::tempfail(text)] {
        survives(&reply);
        assert_ne!(reply.is_permanent(), reply.is_transient());
        let wire = reply.to_wire();
        let lines = wire.split(|&byte| byte == b'\n');
        assert!(lines.into_iter().all(|line| line.len() < MAX_LINE));
        let mut kept = Vec::new();
        for line in reply.lines() {
            assert!(!line.iter().any(u8::is_ascii_control), "{line:?}");
            assert!(std::str::from_utf8(text).is_err() || line.to_str().is_ok());
            kept.extend_from_slice(&line);
        }
        // Nothing is lost before the end but white space.
        let is_text = |byte: &&u8| !byte.is_ascii_control() && **byte != b' ';
        let mut given = text.iter().filter(is_text);
        assert!(
            kept.iter()
                .filter(is_text)
                .all(|byte| given.next() == Some(byte))
        );
        // The 32 lines may end with empty ones, which go.
        let breaks = text.iter().filter(|byte| b"\r\n".contains(byte));
        let is_long = breaks.count() + text.len() / 100 >= 31;
        assert!(given.next().is_none() || reply.lines().count() == 32 || is_long);
    }
}

/// As it came from a filter.
fn read(payload: &[u8]) {
    // sendmail/milter.c MILTER_CHECK_REPLYCODE, Postfix milter8.c milter8_event
    let text = payload.strip_suffix(b"\0").unwrap_or(payload);
    let is_code = matches!(
        text,
        [b'4' | b'5', b'0'..=b'9', b'0'..=b'9', rest @ ..]
            if matches!(rest.first(), None | Some(b' ' | b'-' | b'\r' | b'\n'))
    );
    match SmtpReply::from_wire(payload) {
        Ok(reply) => {
            assert!(is_code && !text.contains(&0), "{reply:?}");
            survives(&reply);
            assert_eq!(reply.code().to_string().as_bytes(), &text[..3]);
        }
        Err(error) => assert!(!is_code || text.contains(&0), "{error}"),
    }
}

/// The reply can be sent, and is the same when it is read.
fn survives(reply: &SmtpReply) {
    let wire = reply.to_wire();
    is_legal(&wire);
    assert_eq!(SmtpReply::from_wire(&wire).as_ref(), Ok(reply));
    let (sent, mut frame) = (Reply::Smtp(reply.clone()), BytesMut::new());
    FilterCodec::new().encode(&sent, &mut frame).expect("fits");
    let read = MtaCodec::new().decode(&mut frame).expect("readable");
    assert_eq!(read, Some(sent));
    assert!(!reply.to_string().contains('\n'));
    assert!(format!("{reply:?}").is_ascii());
}

/// What both mail servers and libmilter take.
// sendmail/milter.c MILTER_CHECK_REPLYCODE, Postfix milter8.c milter8_event, libmilter/smfi.c
pub(super) fn is_legal(wire: &[u8]) {
    let shown = wire.escape_ascii();
    let (&nul, text) = wire.split_last().expect("at least the NUL");
    assert!(nul == 0 && !text.contains(&0), "NUL: {shown}");
    let mut lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
    assert!(lines.len() <= 32, "{shown}");
    let last = lines.pop().expect("at least one");
    let mut classes = Vec::new();
    for (line, separator) in lines.iter().map(|line| (line, b'-')).chain([(&last, b' ')]) {
        let line = if separator == b'-' {
            line.strip_suffix(b"\r").expect("a bare LF")
        } else {
            line
        };
        assert!(!line.contains(&b'\r'), "CR: {shown}");
        let [class, tens, ones, after, rest @ ..] = line else {
            panic!("no code: {shown}");
        };
        assert!(matches!(class, b'4' | b'5'), "{shown}");
        assert!(tens.is_ascii_digit() && ones.is_ascii_digit(), "{shown}");
        assert_eq!(*after, separator, "{shown}");
        classes.push([*class, *tens, *ones]);
        // Postfix takes a digit there for the class of an enhanced code.
        let digit = rest.first().filter(|byte| byte.is_ascii_digit());
        assert!(digit.is_none_or(|digit| digit == class), "{shown}");
        assert!(rest.len() <= "5.999.999 ".len() + 980, "{shown}");
        let percents = rest.split(|&byte| byte != b'%').map(<[u8]>::len);
        assert!(percents.into_iter().all(|run| run % 2 == 0), "%: {shown}");
    }
    classes.dedup();
    assert_eq!(classes.len(), 1, "{shown}");
}
