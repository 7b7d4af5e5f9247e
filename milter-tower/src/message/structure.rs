//! The MIME structure of a text, also of one that is made to break who reads it.

use std::borrow::Cow;

use mail_parser::{Message, MessageParser, PartType};

use super::parse::ToBytesError;

/// How deep mails may be nested, one in the other.
///
/// The parser goes down without recursion, as deep as one likes; to copy what it made, and to drop
/// it, takes stack for each mail. What is deeper is no mail that somebody forwarded.
const MAX_DEPTH: usize = 16;

/// Parses a text.
pub(super) fn structure(text: &[u8]) -> Result<Option<Message<'static>>, ToBytesError> {
    let Some(mut parsed) = MessageParser::default().parse(text) else {
        return Ok(None);
    };
    if !cut_out(&mut parsed, text) {
        dismantle(parsed);
        return Err(ToBytesError::TooDeep { max: MAX_DEPTH });
    }
    Ok(Some(parsed.into_owned()))
}

/// Has each nested mail hold its own piece of the text, where the parser has it hold all of it:
/// `into_owned` would copy that for each. False if they are nested too deep.
fn cut_out<'x>(parsed: &mut Message<'x>, text: &'x [u8]) -> bool {
    let mut open = vec![(parsed, 0)];
    while let Some((mail, depth)) = open.pop() {
        for part in &mut mail.parts {
            if part.message().is_some_and(Message::is_empty) {
                // Its methods would panic. The parser does the same where a part ends so early.
                part.body = PartType::Text(Cow::Borrowed(""));
                part.is_encoding_problem = true;
            }
            let PartType::Message(nested) = &mut part.body else {
                continue;
            };
            if depth == MAX_DEPTH {
                return false;
            }
            // One that was encoded holds a text of its own.
            if matches!(nested.raw_message, Cow::Borrowed(_)) {
                narrow(nested, text);
            }
            open.push((nested, depth + 1));
        }
    }
    true
}

/// Has a mail hold no more than its own piece of the text, and count from there.
fn narrow<'x>(mail: &mut Message<'x>, text: &'x [u8]) {
    let start = mail.parts.first().map_or(0, |part| part.offset_header);
    let ends = mail.parts.iter().flat_map(|part| {
        let headers = part.headers.iter().map(|header| header.offset_end);
        headers.chain([part.offset_body, part.offset_end])
    });
    let end = ends.max().map_or(0, |end| end as usize).min(text.len());
    mail.raw_message = text.get(start as usize..end).unwrap_or_default().into();
    let move_back = |offset: &mut u32| *offset = offset.saturating_sub(start);
    for part in &mut mail.parts {
        move_back(&mut part.offset_header);
        move_back(&mut part.offset_body);
        move_back(&mut part.offset_end);
        for header in &mut part.headers {
            move_back(&mut header.offset_field);
            move_back(&mut header.offset_start);
            move_back(&mut header.offset_end);
        }
    }
}

/// Drops a mail however deep others are nested in it.
fn dismantle(parsed: Message<'_>) {
    let mut open = vec![parsed];
    while let Some(mail) = open.pop() {
        open.extend(mail.parts.into_iter().filter_map(|part| match part.body {
            PartType::Message(nested) => Some(nested),
            _ => None,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORWARD: &str = "Content-Type: message/rfc822\r\n\r\n";
    const MAIL: &str = "Subject: inner\r\n\r\nhi\r\n";

    fn nested(depth: usize) -> String {
        FORWARD.repeat(depth) + MAIL
    }

    #[test]
    fn mails_are_nested_as_deep_as_people_do() {
        let parsed = structure(nested(MAX_DEPTH).as_bytes()).unwrap().unwrap();
        let (mut mail, mut depth) = (&parsed, 0);
        while let Some(inner) = mail.parts[0].message() {
            (mail, depth) = (inner, depth + 1);
        }
        assert_eq!((depth, mail.subject()), (MAX_DEPTH, Some("inner")));
        let error = structure(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err();
        assert!(matches!(error, ToBytesError::TooDeep { max: MAX_DEPTH }));
    }

    /// Each takes stack to be dropped: this many would take more than there is.
    #[test]
    fn mails_that_are_nested_without_end_are_an_error() {
        structure(nested(200_000).as_bytes()).unwrap_err();
    }

    #[test]
    fn nested_mails_hold_their_own_text_and_no_more() {
        let count = 1_000;
        let one = |n: usize| format!("--b\r\n\r\nSubject: {n}\r\nX: y\r\n\r\n{n}\r\n");
        let digest: String = (0..count).map(one).collect();
        let text = format!("Content-Type: multipart/digest; boundary=b\r\n\r\n{digest}--b--\r\n");
        let parsed = structure(text.as_bytes()).unwrap().unwrap();
        assert_eq!(parsed.raw_message(), text.as_bytes());
        let mails: Vec<_> = parsed
            .parts
            .iter()
            .filter_map(|part| part.message())
            .collect();
        assert_eq!(mails.len(), count);
        for (n, mail) in mails.iter().enumerate() {
            assert_eq!(mail.header_raw("X"), Some(" y\r\n"));
            assert_eq!(mail.headers_raw().count(), 2);
            assert_eq!(mail.body_text(0).unwrap().trim(), n.to_string());
            assert!(
                mail.raw_message()
                    .starts_with(format!("Subject: {n}\r\n").as_bytes())
            );
        }
        let held: usize = mails.iter().map(|mail| mail.raw_message.len()).sum();
        assert!(held <= text.len(), "{held} of {}", text.len());
    }

    #[test]
    fn broken_texts_are_narrowed_too() {
        let digest = "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n";
        for text in [
            FORWARD,
            &[FORWARD, "Subject: a"].concat(),
            &[digest, FORWARD].concat(),
            &[digest, "\r\nX: y\r\n--b--"].concat(),
            &[digest, "\r\n--b\r\n\r\n"].concat(),
        ] {
            let Some(parsed) = structure(text.as_bytes()).unwrap() else {
                continue;
            };
            for nested in parsed.parts.iter().filter_map(|part| part.message()) {
                _ = (nested.raw_message(), nested.headers_raw().count());
            }
        }
    }
}
