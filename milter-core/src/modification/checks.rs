//! What the constructors of modifications take.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::lines::split_lines;

use super::ModificationError;

/// Largest index of a header: libmilter takes it as an `int` and refuses a negative one
/// (`libmilter/smfi.c` `smfi_insheader`, `smfi_chgheader`).
const MAX_INDEX: u32 = i32::MAX.unsigned_abs();

/// A header name: `1*ftext` (RFC 5322 3.6.8).
pub(crate) fn header_name(name: &[u8]) -> Result<Bytes, ModificationError> {
    let is_ftext = |byte: &u8| byte.is_ascii_graphic() && *byte != b':';
    if name.is_empty() || !name.iter().all(is_ftext) {
        return Err(ModificationError::HeaderName(
            name.escape_ascii().to_string(),
        ));
    }
    Ok(Bytes::copy_from_slice(name))
}

/// A header value whose lines are separated by LF and continued by a space or a tab.
///
/// Both MTAs would send a CR on as it is, and each has its own repair for a line that does not
/// begin with white space (`sendmail/headers.c` `put_vanilla_header`, Postfix `cleanup_out.c`
/// `cleanup_out_header`).
pub(crate) fn header_value(value: &[u8]) -> Result<Bytes, ModificationError> {
    if memchr::memchr(0, value).is_some() {
        return Err(ModificationError::HeaderValueNul);
    }
    let mut lines = split_lines(value);
    let first = lines.next().unwrap_or_default();
    let mut folded = BytesMut::with_capacity(value.len());
    folded.put_slice(first);
    // An empty line would end the headers; at the end it is only the last line's break.
    for line in lines.filter(|line| !line.is_empty()) {
        folded.put_u8(b'\n');
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            folded.put_u8(b'\t');
        }
        folded.put_slice(line);
    }
    Ok(folded.freeze())
}

/// A place among all headers, from 0.
pub(super) fn position(index: u32) -> Result<u32, ModificationError> {
    if index > MAX_INDEX {
        return Err(ModificationError::HeaderIndex(index));
    }
    Ok(index)
}

/// A place among the headers of one name, from 1.
pub(super) fn header_index(index: u32) -> Result<u32, ModificationError> {
    if index == 0 {
        return Err(ModificationError::HeaderIndexZero);
    }
    position(index)
}

/// An address or `<>`, with brackets.
pub(super) fn sender(address: &[u8]) -> Result<Bytes, ModificationError> {
    if address == b"<>" {
        return Ok(Bytes::from_static(b"<>"));
    }
    recipient(address)
}

/// An address, with brackets.
pub(super) fn recipient(address: &[u8]) -> Result<Bytes, ModificationError> {
    let mailbox = mailbox(address).map_err(|problem| ModificationError::Address {
        address: address.escape_ascii().to_string(),
        problem,
    })?;
    let mut bracketed = BytesMut::with_capacity(mailbox.len() + 2);
    bracketed.put_u8(b'<');
    bracketed.put_slice(mailbox);
    bracketed.put_u8(b'>');
    Ok(bracketed.freeze())
}

/// What is wrong with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AddressProblem {
    /// It is empty, or `<>` where a recipient is wanted.
    #[error("it is empty, and only a sender can be, written `<>`")]
    Empty,
    /// It has `<` without `>` or the other way round.
    #[error("it has only one of `<` and `>`: give both or none")]
    Unbalanced,
    /// It holds a control character, such as NUL, CR or LF.
    #[error("it holds a control character")]
    Control,
    /// It holds a character that would begin another address, a comment or the like.
    #[error("it holds {0:?} outside quotes: give one bare address at a time")]
    Special(
        /// One of space, `<`, `>`, `(`, `)`, `,`, `;` and `:`.
        char,
    ),
    /// A quoted part does not end.
    #[error("it has a `\"` without an end")]
    Quote,
}

/// The address without brackets.
///
/// Sendmail reads the string as a header's address list (`sendmail/parseaddr.c` `prescan`), and
/// Postfix does so too (`tok822_parse`), so whatever has a meaning there must be in quotes.
fn mailbox(address: &[u8]) -> Result<&[u8], AddressProblem> {
    let mailbox = match address {
        [b'<', inner @ .., b'>'] => inner,
        [b'<', ..] | [.., b'>'] => return Err(AddressProblem::Unbalanced),
        bare => bare,
    };
    if mailbox.is_empty() {
        return Err(AddressProblem::Empty);
    }
    if mailbox.iter().any(u8::is_ascii_control) {
        return Err(AddressProblem::Control);
    }
    let mut quoted = false;
    // A colon is part of an address literal, `[IPv6:::1]`; elsewhere it ends a group's name or a
    // source route.
    let mut literal = false;
    let mut bytes = mailbox.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            // RFC 5321 4.1.2: quoted-pairSMTP, in a quoted string only. What follows is literal.
            b'\\' if quoted => _ = bytes.next(),
            _ if quoted => {}
            b'[' => literal = true,
            b']' => literal = false,
            b':' if literal => {}
            b' ' | b'<' | b'>' | b'(' | b')' | b',' | b';' | b':' => {
                return Err(AddressProblem::Special(char::from(byte)));
            }
            _ => {}
        }
    }
    if quoted {
        return Err(AddressProblem::Quote);
    }
    Ok(mailbox)
}

/// The second string of CHGFROM and `ADDRCPT_PAR`: all arguments, or `None` if they are blank.
pub(super) fn esmtp_args(
    args: &[u8],
    with_value: &[&[u8]],
) -> Result<Option<Bytes>, ModificationError> {
    if memchr::memchr3(0, b'\r', b'\n', args).is_some() {
        return Err(ModificationError::EsmtpArgs);
    }
    if let Some(arg) = fatal_arg(args, with_value) {
        return Err(ModificationError::EsmtpArg(arg.escape_ascii().to_string()));
    }
    Ok((!args.trim_ascii().is_empty()).then(|| Bytes::copy_from_slice(args)))
}

/// The arguments of MAIL that must have a value.
pub(crate) const OF_SENDERS: &[&[u8]] = &[b"RET", b"ENVID", b"SIZE", b"BODY", b"AUTH", b"BY"];

/// The arguments of RCPT that must have a value.
pub(crate) const OF_RECIPIENTS: &[&[u8]] = &[b"NOTIFY", b"ORCPT"];

/// The first argument that ends Sendmail's process without a reply to the client, if there is one:
/// one of these names without a value, or an `ORCPT` without `;`.
// sendmail/srvrsmtp.c parse_esmtp_args, mail_esmtp_args, rcpt_esmtp_args: they count on usrerr not
// to return, and for a filter it returns
pub(crate) fn fatal_arg<'a>(args: &'a [u8], with_value: &[&[u8]]) -> Option<&'a [u8]> {
    let mut rest = args.trim_ascii_start();
    while !rest.is_empty() {
        let len = prefix_len(rest, |byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let (keyword, behind) = rest.split_at(len);
        let value = behind.strip_prefix(b"=").map(|behind| {
            // `=` ends a value too.
            let ends = |byte: u8| byte == b' ' || byte == b'=' || byte.is_ascii_control();
            &behind[..prefix_len(behind, |byte| !ends(byte))]
        });
        let name = with_value
            .iter()
            .find(|name| keyword.eq_ignore_ascii_case(name));
        let is_fatal = name.is_some_and(|name| match value {
            Some(value) => *name == b"ORCPT" && !value.contains(&b';'),
            None => true,
        });
        let len = len + value.map_or(0, |value| value.len() + 1);
        if is_fatal {
            return Some(&rest[..len]);
        }
        // One more byte ends the argument, whatever it is.
        rest = rest[len..].get(1..).unwrap_or_default().trim_ascii_start();
    }
    None
}

fn prefix_len(bytes: &[u8], is_part: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| is_part(**byte)).count()
}

/// The reason of a quarantine in one line.
pub(super) fn quarantine_reason(reason: &[u8]) -> Result<Bytes, ModificationError> {
    if memchr::memchr(0, reason).is_some() {
        return Err(ModificationError::QuarantineReasonNul);
    }
    let printable: Bytes = reason
        .iter()
        .map(|byte| if byte.is_ascii_control() { b' ' } else { *byte })
        .collect();
    if printable.trim_ascii().is_empty() {
        return Err(ModificationError::QuarantineReasonBlank);
    }
    Ok(printable)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn value(given: &[u8]) -> Bytes {
        header_value(given).expect("a value without NUL")
    }

    #[test]
    fn header_names_are_printable_ascii_without_colon() {
        for good in ["X", "X-Spam-Flag", "!#$%&'*+.^_`|~0;<>@[]"] {
            assert!(header_name(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a:", "a\t", "a\0", "a\r\nb", "ä", "\x7f"] {
            assert!(header_name(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn c70_line_breaks_in_values_become_lf_and_white_space() {
        assert_eq!(value(b"a\r\n b"), "a\n b");
        assert_eq!(value(b"a\r\tb"), "a\n\tb");
        assert_eq!(value(b"a\nb"), "a\n\tb");
        assert_eq!(value(b"a\r\n\r\nBcc: x"), "a\n\tBcc: x");
        assert_eq!(value(b"a\n"), "a");
        assert_eq!(value(b"a\r\n\r\n"), "a");
        assert_eq!(value(b"\na"), "\n\ta");
        assert_eq!(value(b"\n"), "");
        assert_eq!(value(b" \xff\t"), &b" \xff\t"[..]);
    }

    #[test]
    fn c70_nul_in_a_value_is_refused() {
        assert_eq!(header_value(b"a\0"), Err(ModificationError::HeaderValueNul));
    }

    #[test]
    fn c71_index_0_is_refused_where_headers_are_counted() {
        assert_eq!(header_index(0), Err(ModificationError::HeaderIndexZero));
        assert_eq!(header_index(1), Ok(1));
        assert_eq!(header_index(MAX_INDEX), Ok(MAX_INDEX));
        let beyond = MAX_INDEX + 1;
        assert_eq!(
            header_index(beyond),
            Err(ModificationError::HeaderIndex(beyond))
        );
    }

    #[test]
    fn c72_index_0_is_the_top_where_headers_are_inserted() {
        assert_eq!(position(0), Ok(0));
        let beyond = MAX_INDEX + 1;
        assert_eq!(
            position(beyond),
            Err(ModificationError::HeaderIndex(beyond))
        );
    }

    #[test]
    fn c74_an_address_is_one_address() {
        for good in [
            "a@b",
            "<a@b>",
            "a",
            r#""a b"@c"#,
            r#"<"a,b<c>"@d>"#,
            r#""a\"b, c"@d"#,
            r#""a\\"@d"#,
            r#""a:b"@c"#,
            "a@[IPv6:::1]",
            "ä@ö",
        ] {
            assert!(recipient(good.as_bytes()).is_ok(), "{good}");
        }
        for (bad, problem) in [
            ("", AddressProblem::Empty),
            ("<>", AddressProblem::Empty),
            ("<a@b", AddressProblem::Unbalanced),
            ("a@b>", AddressProblem::Unbalanced),
            ("<", AddressProblem::Unbalanced),
            ("a\0@b", AddressProblem::Control),
            ("\"a\r\nb\"@c", AddressProblem::Control),
            ("a@b\x7f", AddressProblem::Control),
            ("a@b,c@d", AddressProblem::Special(',')),
            ("<a@b>,<c@d>", AddressProblem::Special('>')),
            ("<<a@b>>", AddressProblem::Special('<')),
            ("A <a@b>", AddressProblem::Unbalanced),
            ("a@b ", AddressProblem::Special(' ')),
            ("<@a,@b:c@d>", AddressProblem::Special(',')),
            ("a(b)@c", AddressProblem::Special('(')),
            ("a:b;", AddressProblem::Special(':')),
            ("b;", AddressProblem::Special(';')),
            ("<@a:b@c>", AddressProblem::Special(':')),
            ("list:a@b", AddressProblem::Special(':')),
            ("[a]:b@c", AddressProblem::Special(':')),
            ("\"a@b", AddressProblem::Quote),
            ("\"a\\\"@b", AddressProblem::Quote),
            ("\"a\\\\\",b@c", AddressProblem::Special(',')),
            ("a\\,b@c", AddressProblem::Special(',')),
        ] {
            assert_eq!(mailbox(bad.as_bytes()), Err(problem), "{bad:?}");
        }
    }

    #[test]
    fn c74_only_a_sender_can_be_null() {
        assert_eq!(sender(b"<>").as_deref(), Ok(&b"<>"[..]));
        assert!(sender(b"").is_err());
        assert!(recipient(b"<>").is_err());
    }

    #[test]
    fn c74_arguments_are_one_string() {
        for bad in [&b"A=1\0B=2"[..], b"A=1\r", b"A=1\n"] {
            assert_eq!(
                esmtp_args(bad, OF_SENDERS),
                Err(ModificationError::EsmtpArgs)
            );
        }
        let args = Bytes::from_static(b"RET=HDRS ENVID=x");
        assert_eq!(esmtp_args(&args, OF_SENDERS), Ok(Some(args.clone())));
    }

    #[test]
    fn arguments_do_not_end_sendmail() {
        for (bad, with_value) in [
            ("ORCPT=none", OF_RECIPIENTS),
            ("orcpt=", OF_RECIPIENTS),
            ("ORCPT", OF_RECIPIENTS),
            ("NOTIFY", OF_RECIPIENTS),
            ("NOTIFY ORCPT=rfc822;a@b", OF_RECIPIENTS),
            ("RET=HDRS ENVID", OF_SENDERS),
            ("RET+x", OF_SENDERS),
            ("ENVID=a=RET", OF_SENDERS),
            ("  RET", OF_SENDERS),
        ] {
            let error = esmtp_args(bad.as_bytes(), with_value).expect_err(bad);
            assert!(matches!(error, ModificationError::EsmtpArg(_)), "{bad}");
        }
        for (good, with_value) in [
            ("NOTIFY= RET", OF_RECIPIENTS),
            ("ORCPT=rfc822;a@b NOTIFY=NEVER", OF_RECIPIENTS),
            ("X", OF_RECIPIENTS),
            ("RET= ENVID=", OF_SENDERS),
            ("SMTPUTF8 BODY=8BITMIME ORCPT", OF_SENDERS),
            ("ENVID=RET", OF_SENDERS),
        ] {
            assert!(esmtp_args(good.as_bytes(), with_value).is_ok(), "{good}");
        }
    }

    #[test]
    fn c64_a_quarantine_has_a_reason_in_one_line() {
        let reason = quarantine_reason(b"a\r\nb\tc");
        assert_eq!(reason.as_deref(), Ok(&b"a  b c"[..]));
        for blank in [&b""[..], b" ", b"\r\n"] {
            let reason = quarantine_reason(blank);
            assert_eq!(reason, Err(ModificationError::QuarantineReasonBlank));
        }
        let reason = quarantine_reason(b"a\0");
        assert_eq!(reason, Err(ModificationError::QuarantineReasonNul));
    }

    proptest! {
        #[test]
        fn c70_no_value_leaves_its_header(text in r"[ \t\r\na:é]{0,20}") {
            let value = header_value(text.as_bytes()).expect("no NUL");
            prop_assert!(!value.contains(&b'\r'));
            for line in value.split(|&byte| byte == b'\n').skip(1) {
                prop_assert!(line.starts_with(b" ") || line.starts_with(b"\t"));
            }
            // What the rules made follows the rules.
            prop_assert_eq!(header_value(&value), Ok(value.clone()));
        }
    }
}
