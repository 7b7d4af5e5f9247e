//! The ESMTP arguments of MAIL and RCPT.

use std::borrow::Cow;
use std::fmt;
use std::iter::FusedIterator;

use crate::Text;

/// The ESMTP arguments of a MAIL or RCPT command, as the client typed them.
///
/// A view over the bytes behind the address in the frame: `SIZE=1000 NUL BODY=8BITMIME NUL`.
/// Nothing is decoded until it is asked for. Keywords are compared without regard to the case of
/// ASCII letters (RFC 5321 2.4). If a keyword occurs twice, the first one counts here; MTAs
/// refuse such a command.
///
/// The MTA has accepted the command's syntax, but not every value was looked at: a helper such as
/// [`size`](Self::size) is `None` both where the argument is missing and where its value is not
/// what its RFC says. [`get`](Self::get) tells them apart.
///
/// ```
/// use milter_core::{BodyType, EsmtpArgs};
///
/// let args = EsmtpArgs::new(b"SIZE=1000\0body=8BITMIME\0SMTPUTF8\0");
/// assert_eq!(args.len(), 3);
/// assert_eq!(args.size(), Some(1000));
/// assert_eq!(args.body(), Some(BodyType::EightBitMime));
/// assert!(args.is_smtputf8());
/// assert_eq!(args.get("Size").unwrap().raw(), "SIZE=1000");
/// assert!(args.get("RET").is_none());
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct EsmtpArgs<'a>(
    /// Empty, or ends with NUL.
    &'a [u8],
);

impl<'a> EsmtpArgs<'a> {
    /// The arguments in these bytes, each ended by a NUL; what follows the last NUL is dropped
    /// (`libmilter/engine.c` `dec_argv`).
    pub fn new(raw: &'a [u8]) -> Self {
        let end = memchr::memrchr(0, raw).map_or(0, |nul| nul + 1);
        Self(&raw[..end])
    }

    /// The arguments in their order.
    pub fn iter(self) -> EsmtpArgsIter<'a> {
        EsmtpArgsIter(self.0)
    }

    /// How many arguments there are; counting them takes a pass over the bytes.
    pub fn len(self) -> usize {
        memchr::memchr_iter(0, self.0).count()
    }

    /// Whether there is no argument.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The first argument with this keyword, in any case.
    pub fn get(self, keyword: &str) -> Option<EsmtpArg<'a>> {
        self.iter()
            .find(|arg| arg.keyword().eq_ignore_ascii_case(keyword))
    }

    /// The size of the message in octets as the client declared it: `SIZE` of MAIL (RFC 1870 6).
    ///
    /// A hint that the message need not keep to. `None` also for a number above [`u64::MAX`].
    pub fn size(self) -> Option<u64> {
        let digits = self.value("SIZE")?.to_str().ok()?;
        // `u64::from_str` would take a sign.
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse().ok()).flatten()
    }

    /// What the message's body consists of: `BODY` of MAIL (RFC 6152 3, RFC 3030 3).
    pub fn body(self) -> Option<BodyType> {
        let value = self.value("BODY")?;
        [
            ("7BIT", BodyType::SevenBit),
            ("8BITMIME", BodyType::EightBitMime),
            ("BINARYMIME", BodyType::BinaryMime),
        ]
        .into_iter()
        .find_map(|(name, body)| value.eq_ignore_ascii_case(name).then_some(body))
    }

    /// Whether the client asks for internationalised mail: `SMTPUTF8` of MAIL (RFC 6531 3.4).
    pub fn is_smtputf8(self) -> bool {
        self.flag("SMTPUTF8")
    }

    /// Whether the message may only go over verified TLS: `REQUIRETLS` of MAIL (RFC 8689 2).
    pub fn requires_tls(self) -> bool {
        self.flag("REQUIRETLS")
    }

    /// Who submitted the message, according to the client: `AUTH` of MAIL (RFC 4954 5).
    ///
    /// Decoded from xtext; see [`decode_xtext`] about what it may hold. `<>` says that the
    /// client does not know or does not trust it.
    pub fn auth(self) -> Option<Cow<'a, [u8]>> {
        decode_xtext(self.value("AUTH")?.as_bytes())
    }

    /// How much of the message a failure report returns: `RET` of MAIL (RFC 3461 4.3).
    pub fn ret(self) -> Option<DsnReturn> {
        let value = self.value("RET")?;
        if value.eq_ignore_ascii_case("FULL") {
            Some(DsnReturn::Full)
        } else if value.eq_ignore_ascii_case("HDRS") {
            Some(DsnReturn::Headers)
        } else {
            None
        }
    }

    /// The sender's name for the message in reports: `ENVID` of MAIL (RFC 3461 4.4).
    ///
    /// Decoded from xtext; see [`decode_xtext`] about what it may hold.
    pub fn envid(self) -> Option<Cow<'a, [u8]>> {
        decode_xtext(self.value("ENVID")?.as_bytes())
    }

    /// When the sender wants a report: `NOTIFY` of RCPT (RFC 3461 4.1).
    pub fn notify(self) -> Option<DsnNotify> {
        DsnNotify::parse(self.value("NOTIFY")?)
    }

    /// The recipient as the sender first named it: `ORCPT` of RCPT (RFC 3461 4.2).
    pub fn orcpt(self) -> Option<OriginalRecipient<'a>> {
        OriginalRecipient::parse(self.value("ORCPT")?)
    }

    fn value(self, keyword: &str) -> Option<Text<'a>> {
        self.get(keyword)?.value()
    }

    fn flag(self, keyword: &str) -> bool {
        self.get(keyword).is_some_and(|arg| arg.value().is_none())
    }
}

impl<'a> IntoIterator for EsmtpArgs<'a> {
    type Item = EsmtpArg<'a>;
    type IntoIter = EsmtpArgsIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for EsmtpArgs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The iterator of [`EsmtpArgs::iter`].
#[derive(Debug, Clone)]
pub struct EsmtpArgsIter<'a>(&'a [u8]);

impl<'a> Iterator for EsmtpArgsIter<'a> {
    type Item = EsmtpArg<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = memchr::memchr(0, self.0)?;
        let arg = EsmtpArg(&self.0[..end]);
        self.0 = &self.0[end + 1..];
        Some(arg)
    }
}

impl FusedIterator for EsmtpArgsIter<'_> {}

/// One ESMTP argument: `KEYWORD` or `KEYWORD=value` (RFC 5321 4.1.2).
///
/// ```
/// use milter_core::EsmtpArgs;
///
/// let arg = EsmtpArgs::new(b"ENVID=a=b\0").iter().next().unwrap();
/// assert_eq!(arg.raw(), "ENVID=a=b");
/// assert_eq!(arg.keyword(), "ENVID");
/// assert_eq!(arg.value().unwrap(), "a=b");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EsmtpArg<'a>(&'a [u8]);

impl<'a> EsmtpArg<'a> {
    /// The argument as the client typed it.
    pub fn raw(self) -> Text<'a> {
        Text::new(self.0)
    }

    /// What stands before the first `=`, or all of it.
    pub fn keyword(self) -> Text<'a> {
        Text::new(&self.0[..self.equals().unwrap_or(self.0.len())])
    }

    /// What stands after the first `=`, not decoded; `None` without a `=`.
    pub fn value(self) -> Option<Text<'a>> {
        self.equals().map(|equals| Text::new(&self.0[equals + 1..]))
    }

    fn equals(self) -> Option<usize> {
        memchr::memchr(b'=', self.0)
    }
}

impl fmt::Debug for EsmtpArg<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.raw(), f)
    }
}

/// What a message's body consists of; see [`EsmtpArgs::body`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BodyType {
    /// `7BIT`: ASCII lines (RFC 6152 3).
    SevenBit,
    /// `8BITMIME`: lines of any bytes but NUL (RFC 6152 3).
    EightBitMime,
    /// `BINARYMIME`: any bytes, sent with BDAT (RFC 3030 3).
    BinaryMime,
}

/// How much of the message a failure report returns; see [`EsmtpArgs::ret`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DsnReturn {
    /// `FULL`: the message.
    Full,
    /// `HDRS`: its headers.
    Headers,
}

/// When the sender wants a report about a recipient; see [`EsmtpArgs::notify`].
///
/// ```
/// use milter_core::EsmtpArgs;
///
/// let notify = EsmtpArgs::new(b"NOTIFY=FAILURE,DELAY\0").notify().unwrap();
/// assert!(notify.on_failure() && notify.on_delay() && !notify.on_success());
/// assert!(EsmtpArgs::new(b"NOTIFY=NEVER\0").notify().unwrap().is_never());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DsnNotify {
    success: bool,
    failure: bool,
    delay: bool,
}

impl DsnNotify {
    /// Whether the sender wants no report at all: `NEVER`.
    pub fn is_never(self) -> bool {
        !(self.success || self.failure || self.delay)
    }

    /// Whether the sender wants to hear of the delivery: `SUCCESS`.
    pub fn on_success(self) -> bool {
        self.success
    }

    /// Whether the sender wants to hear of a failure: `FAILURE`.
    pub fn on_failure(self) -> bool {
        self.failure
    }

    /// Whether the sender wants to hear of a delay: `DELAY`.
    pub fn on_delay(self) -> bool {
        self.delay
    }

    /// `NEVER`, or a list of the other words (RFC 3461 4.1: `NEVER` must stand alone).
    fn parse(value: Text<'_>) -> Option<Self> {
        let mut notify = Self {
            success: false,
            failure: false,
            delay: false,
        };
        if value.eq_ignore_ascii_case("NEVER") {
            return Some(notify);
        }
        for word in value.split(|&byte| byte == b',').map(Text::new) {
            if word.eq_ignore_ascii_case("SUCCESS") {
                notify.success = true;
            } else if word.eq_ignore_ascii_case("FAILURE") {
                notify.failure = true;
            } else if word.eq_ignore_ascii_case("DELAY") {
                notify.delay = true;
            } else {
                return None;
            }
        }
        Some(notify)
    }
}

/// A recipient as the sender first named it, `type;address`; see [`EsmtpArgs::orcpt`].
///
/// ```
/// use milter_core::EsmtpArgs;
///
/// let orcpt = EsmtpArgs::new(b"ORCPT=rfc822;a+2Bb@example.org\0").orcpt().unwrap();
/// assert!(orcpt.address_type().eq_ignore_ascii_case("rfc822"));
/// assert_eq!(orcpt.address(), b"a+b@example.org");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OriginalRecipient<'a> {
    address_type: Text<'a>,
    address: Cow<'a, [u8]>,
}

impl<'a> OriginalRecipient<'a> {
    /// The address type as typed, not empty: `rfc822` in most cases, `utf-8` with RFC 6533 (whose
    /// `\x{..}` escapes are left as they are).
    pub fn address_type(&self) -> Text<'a> {
        self.address_type
    }

    /// The address, decoded from xtext; see [`decode_xtext`] about what it may hold.
    pub fn address(&self) -> &[u8] {
        &self.address
    }

    fn parse(value: Text<'a>) -> Option<Self> {
        let value = value.as_bytes();
        let semicolon = memchr::memchr(b';', value).filter(|&at| at > 0)?;
        Some(Self {
            address_type: Text::new(&value[..semicolon]),
            address: decode_xtext(&value[semicolon + 1..])?,
        })
    }
}

/// Decodes xtext, in which `+2B` stands for `+` (RFC 3461 4).
///
/// `None` if a `+` is not followed by two hexadecimal digits. Otherwise as liberal as the MTAs
/// are: the digits may be lower case, and bytes that should have been encoded stand for
/// themselves.
///
/// The result may hold any byte, also NUL, CR, LF and others that were not allowed in the SMTP
/// command: look at it before it goes into a header, a query or a log.
///
/// ```
/// use milter_core::decode_xtext;
///
/// assert_eq!(decode_xtext(b"1+2B1+3d2").as_deref(), Some(&b"1+1=2"[..]));
/// assert_eq!(decode_xtext(b"1+1"), None);
/// ```
pub fn decode_xtext(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut parts = text.split(|&byte| byte == b'+');
    // `split` yields at least one part, the one before the first `+`.
    let first = parts.next()?;
    if first.len() == text.len() {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    decoded.extend_from_slice(first);
    for part in parts {
        let [high, low, rest @ ..] = part else {
            return None;
        };
        decoded.push(hex_digit(*high)? << 4 | hex_digit(*low)?);
        decoded.extend_from_slice(rest);
    }
    Some(Cow::Owned(decoded))
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn args(raw: &[u8]) -> EsmtpArgs<'_> {
        EsmtpArgs::new(raw)
    }

    #[test]
    fn c38_arguments_are_split_at_nul() {
        let args = args(b"SIZE=1\0\0SMTPUTF8\0");
        let raw: Vec<_> = args.iter().map(EsmtpArg::raw).collect();
        assert_eq!(raw, ["SIZE=1", "", "SMTPUTF8"]);
        assert_eq!(args.len(), 3);
        assert!(!args.is_empty());
        assert_eq!(format!("{args:?}"), r#"["SIZE=1", "", "SMTPUTF8"]"#);
    }

    #[test]
    fn c39_an_unterminated_tail_is_dropped() {
        assert_eq!(args(b"SIZE=1\0BODY=7BIT"), args(b"SIZE=1\0"));
        assert!(args(b"SIZE=1").is_empty());
        assert!(args(b"").is_empty());
        assert_eq!(args(b"").len(), 0);
    }

    #[test]
    fn keyword_and_value_part_at_the_first_equals_sign() {
        let arg = args(b"a=b=c\0").iter().next();
        assert!(arg.is_some_and(|arg| arg.keyword() == "a" && arg.value() == Some("b=c".into())));
        let arg = args(b"a=\0").iter().next();
        assert!(arg.is_some_and(|arg| arg.value() == Some("".into())));
        let arg = args(b"a\0").iter().next();
        assert!(arg.is_some_and(|arg| arg.keyword() == "a" && arg.value().is_none()));
    }

    #[test]
    fn size_is_a_plain_number() {
        assert_eq!(args(b"size=0\0").size(), Some(0));
        assert_eq!(args(b"SIZE=18446744073709551615\0").size(), Some(u64::MAX));
        for bad in [
            &b"SIZE=18446744073709551616\0"[..],
            b"SIZE=+1\0",
            b"SIZE=-1\0",
            b"SIZE= 1\0",
            b"SIZE=\0",
            b"SIZE\0",
            b"SIZES=1\0",
        ] {
            assert_eq!(args(bad).size(), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn body_type_in_any_case() {
        assert_eq!(args(b"BODY=7bit\0").body(), Some(BodyType::SevenBit));
        assert_eq!(
            args(b"body=8BitMime\0").body(),
            Some(BodyType::EightBitMime)
        );
        assert_eq!(
            args(b"BODY=BINARYMIME\0").body(),
            Some(BodyType::BinaryMime)
        );
        assert_eq!(args(b"BODY=9BIT\0").body(), None);
    }

    #[test]
    fn flags_have_no_value() {
        assert!(args(b"smtputf8\0").is_smtputf8());
        assert!(!args(b"SMTPUTF8=1\0").is_smtputf8());
        assert!(args(b"REQUIRETLS\0").requires_tls());
        assert!(!args(b"REQUIRETLS=no\0").requires_tls());
        assert!(!args(b"").requires_tls());
    }

    #[test]
    fn auth_is_decoded_and_keeps_the_unknown_sender() {
        assert_eq!(args(b"AUTH=<>\0").auth().as_deref(), Some(&b"<>"[..]));
        assert_eq!(
            args(b"AUTH=e+3Dmc2@example.com\0").auth().as_deref(),
            Some(&b"e=mc2@example.com"[..])
        );
        assert_eq!(args(b"AUTH=a+zz\0").auth(), None);
    }

    #[test]
    fn dsn_arguments_of_mail() {
        assert_eq!(args(b"RET=full\0").ret(), Some(DsnReturn::Full));
        assert_eq!(args(b"RET=HDRS\0").ret(), Some(DsnReturn::Headers));
        assert_eq!(args(b"RET=HALF\0").ret(), None);
        assert_eq!(args(b"ENVID=a+20b\0").envid().as_deref(), Some(&b"a b"[..]));
    }

    #[test]
    fn notify_is_never_or_a_list() {
        let never = args(b"NOTIFY=never\0").notify();
        assert!(never.is_some_and(DsnNotify::is_never));
        let all = args(b"NOTIFY=success,FAILURE,Delay\0").notify();
        assert!(all.is_some_and(|n| n.on_success() && n.on_failure() && n.on_delay()));
        assert!(all.is_some_and(|n| !n.is_never()));
        for bad in [
            &b"NOTIFY=NEVER,DELAY\0"[..],
            b"NOTIFY=\0",
            b"NOTIFY=DELAY,\0",
        ] {
            assert_eq!(args(bad).notify(), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn orcpt_needs_a_type() {
        for bad in [&b"ORCPT=a@b\0"[..], b"ORCPT=;a@b\0", b"ORCPT=rfc822;a+b\0"] {
            assert_eq!(args(bad).orcpt(), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn xtext_needs_two_digits_after_each_plus() {
        for bad in [&b"+"[..], b"a+", b"a+2", b"a+2+2B", b"+G0", b"+0G"] {
            assert_eq!(decode_xtext(bad), None, "{}", bad.escape_ascii());
        }
        assert!(matches!(
            decode_xtext(b"plain"),
            Some(Cow::Borrowed(b"plain"))
        ));
        assert_eq!(decode_xtext(b"+00+fF").as_deref(), Some(&[0, 0xff][..]));
        assert_eq!(decode_xtext(b"").as_deref(), Some(&b""[..]));
    }

    proptest! {
        #[test]
        fn xtext_gives_back_what_was_encoded(plain in prop::collection::vec(any::<u8>(), 0..50)) {
            let mut encoded = String::new();
            for byte in &plain {
                match byte {
                    b'+' | b'=' | 0..=32 | 127.. => write!(encoded, "+{byte:02X}")?,
                    _ => encoded.push(char::from(*byte)),
                }
            }
            let decoded = decode_xtext(encoded.as_bytes());
            prop_assert_eq!(decoded.as_deref(), Some(&plain[..]));
        }

        #[test]
        fn any_bytes_are_arguments(raw in prop::collection::vec(any::<u8>(), 0..50)) {
            let args = EsmtpArgs::new(&raw);
            prop_assert_eq!(args.iter().count(), args.len());
            prop_assert_eq!(args.iter().next().is_none(), args.is_empty());
        }
    }
}
