//! The SMTP reply that a filter gives with its refusal.

mod builder;
mod enhanced_code;
mod fold;
mod parse;
mod wire;

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::Text;

pub use builder::SmtpReplyBuilder;
pub use enhanced_code::{EnhancedCode, EnhancedCodeError};

/// Longest text of one line in octets, `%` doubled, code and enhanced code not counted
/// (`libmilter/smfi.c` `MAXREPLYLEN`).
const MAX_LINE_LEN: usize = 980;

/// Most lines of one reply (`libmilter/smfi.c` `MAXREPLIES`).
const MAX_LINES: usize = 32;

/// Longest text of a line that [`SmtpReply::reject`] makes: the 512 octets of RFC 5321
/// 4.5.3.1.5, without `550-5.7.1 ` and CRLF.
const WRAP_LEN: usize = 500;

/// An SMTP reply of class 4 or 5: a code, an enhanced status code, and lines of text.
///
/// A reply is always valid: none can be built that Postfix or Sendmail would refuse. The text is
/// plain; what the wire needs (a `%` is doubled, each line carries the codes) is done in
/// [`to_wire`](Self::to_wire). A clone costs a reference count.
///
/// The code decides what happens: 4xx asks the client to come back, 5xx refuses for good, and
/// 421 also makes both MTAs close the SMTP session, as does 521 with Postfix. Sendmail shows a
/// generic text of the same class at CONNECT.
///
/// ```
/// use milter_core::{EnhancedCode, SmtpReply};
///
/// let short = SmtpReply::reject("You are on our block list");
/// assert_eq!(short.to_string(), "550 5.7.1 You are on our block list");
///
/// let full = SmtpReply::builder(452)
///     .enhanced_code(EnhancedCode::new(4, 2, 2)?)
///     .line("Mailbox 100% full")
///     .line("Try again tomorrow")
///     .build()?;
/// assert!(full.is_transient());
/// assert_eq!(
///     full.to_wire().as_ref(),
///     b"452-4.2.2 Mailbox 100%% full\r\n452 4.2.2 Try again tomorrow\0",
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # One form
///
/// A reply has one form whichever way it was made, so that equal replies are those with equal
/// bytes on the wire:
///
/// - Where no enhanced code was given and every line begins with the same one of the right
///   class, that is taken as the enhanced code.
/// - Several lines without an enhanced code get `4.0.0` or `5.0.0`, as from libmilter
///   (`libmilter/smfi.c` `smfi_setmlreply`).
/// - So does a text that begins with a digit other than the class: Postfix takes the byte after
///   `550 ` for the start of an enhanced code, and refuses a reply whose classes differ
///   (Postfix `milter8.c` `milter8_event`).
/// - One empty line is no line.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SmtpReply(Arc<Parts>);

#[derive(PartialEq, Eq, Hash)]
struct Parts {
    code: u16,
    enhanced: Option<EnhancedCode>,
    /// The lines, joined by LF, which none of them holds.
    text: Box<[u8]>,
}

impl SmtpReply {
    /// A permanent refusal, `550 5.7.1`, with this text.
    ///
    /// Any text will do: line breaks begin a new line, other control characters become spaces,
    /// lines are wrapped to the 512 octets of RFC 5321 4.5.3.1.5 (at a space if there is one),
    /// and what follows the 32nd line is cut. Use [`builder`](Self::builder) for another code, or
    /// to hear of a text that does not fit.
    ///
    /// ```
    /// use milter_core::SmtpReply;
    ///
    /// let reply = SmtpReply::reject("No.\nNot\tever.");
    /// assert_eq!(reply.to_string(), "550 5.7.1 No. / Not ever.");
    /// ```
    pub fn reject(text: impl AsRef<[u8]>) -> Self {
        Self::folded(550, text.as_ref())
    }

    /// A temporary refusal, `451 4.7.1`, with this text, which is treated as in
    /// [`reject`](Self::reject).
    ///
    /// ```
    /// use milter_core::SmtpReply;
    ///
    /// let reply = SmtpReply::tempfail("Greylisted, try again in 5 minutes");
    /// assert_eq!(reply.to_string(), "451 4.7.1 Greylisted, try again in 5 minutes");
    /// ```
    pub fn tempfail(text: impl AsRef<[u8]>) -> Self {
        Self::folded(451, text.as_ref())
    }

    /// Starts a reply with this code, 400 to 599.
    pub fn builder(code: u16) -> SmtpReplyBuilder {
        SmtpReplyBuilder::new(code)
    }

    /// The three-digit code, 400 to 599.
    pub fn code(&self) -> u16 {
        self.0.code
    }

    /// Whether the reply refuses for good: a code of 500 or more.
    pub fn is_permanent(&self) -> bool {
        self.code() >= 500
    }

    /// Whether the reply asks the client to try again: a code below 500.
    pub fn is_transient(&self) -> bool {
        !self.is_permanent()
    }

    /// The enhanced status code (RFC 3463); its class is the first digit of the code.
    pub fn enhanced_code(&self) -> Option<EnhancedCode> {
        self.0.enhanced
    }

    /// The lines of text, without codes and with each `%` as it will be read; 0 to 32 lines.
    ///
    /// ```
    /// use milter_core::SmtpReply;
    ///
    /// let reply = SmtpReply::reject("Too big\n100% full");
    /// let lines: Vec<_> = reply.lines().collect();
    /// assert_eq!(lines, ["Too big", "100% full"]);
    /// ```
    pub fn lines(&self) -> impl Iterator<Item = Text<'_>> {
        let lines = (!self.0.text.is_empty()).then(|| self.0.text.split(|&byte| byte == b'\n'));
        lines.into_iter().flatten().map(Text::new)
    }

    fn folded(code: u16, text: &[u8]) -> Self {
        let enhanced = EnhancedCode::of_class(code, 7, 1);
        Self::assemble(code, Some(enhanced), fold::fold(text, WRAP_LEN))
    }

    /// Brings checked parts into their one form (see the type's documentation).
    fn assemble(code: u16, enhanced: Option<EnhancedCode>, mut lines: Vec<Vec<u8>>) -> Self {
        let enhanced = enhanced
            .or_else(|| lift_enhanced_code(code, &mut lines))
            .or_else(|| {
                let class = b'0' + EnhancedCode::class_of(code);
                let misread = |line: &Vec<u8>| {
                    line.first()
                        .is_some_and(|&byte| byte.is_ascii_digit() && byte != class)
                };
                (lines.len() > 1 || lines.first().is_some_and(misread))
                    .then(|| EnhancedCode::of_class(code, 0, 0))
            });
        Self(Arc::new(Parts {
            code,
            enhanced,
            text: lines.join(&b'\n').into_boxed_slice(),
        }))
    }
}

/// Takes the enhanced code off the lines, if all begin with the same one of the right class.
fn lift_enhanced_code(code: u16, lines: &mut [Vec<u8>]) -> Option<EnhancedCode> {
    let (found, _) = EnhancedCode::split_off(lines.first()?)?;
    if found.class() != EnhancedCode::class_of(code) {
        return None;
    }
    let rest: Option<Vec<Vec<u8>>> = lines
        .iter()
        .map(|line| match EnhancedCode::split_off(line)? {
            (same, rest) if same == found => Some(rest.to_vec()),
            _ => None,
        })
        .collect();
    lines.clone_from_slice(&rest?);
    Some(found)
}

/// Shows the reply in one line: `550 5.7.1 text`, lines joined by ` / `, what is not UTF-8 as
/// U+FFFD.
impl fmt::Display for SmtpReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code())?;
        if let Some(enhanced) = self.enhanced_code() {
            write!(f, " {enhanced}")?;
        }
        for (index, line) in self.lines().enumerate() {
            write!(f, "{}{line}", if index == 0 { " " } else { " / " })?;
        }
        Ok(())
    }
}

/// Shows control characters and what is not ASCII as escapes: safe for logs.
impl fmt::Debug for SmtpReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpReply")
            .field("code", &self.code())
            .field("enhanced_code", &self.enhanced_code())
            .field("lines", &self.lines().collect::<Vec<_>>())
            .finish()
    }
}

/// A reply can be what a check fails with, so that `?` hands it on.
///
/// ```
/// use milter_core::SmtpReply;
///
/// fn check(host: &str) -> Result<(), SmtpReply> {
///     match host {
///         "localhost" => Err(SmtpReply::reject("You are not me")),
///         _ => Ok(()),
///     }
/// }
///
/// fn judge(host: &str) -> Result<(), Box<dyn std::error::Error>> {
///     check(host)?;
///     Ok(())
/// }
/// let error = judge("localhost").unwrap_err();
/// assert_eq!(error.downcast_ref::<SmtpReply>().unwrap().code(), 550);
/// ```
impl std::error::Error for SmtpReply {}

/// Why there is no such [`SmtpReply`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SmtpReplyError {
    /// The code is not one that refuses.
    #[error(
        "a filter cannot reply with code {0}: use 400 to 499 for a temporary refusal, 500 to 599 \
         for a permanent one"
    )]
    Code(u16),
    /// The class of the enhanced code is not the first digit of the code.
    #[error(
        "enhanced code {enhanced} does not go with code {code}: both must begin with the same digit"
    )]
    EnhancedClass {
        /// The code of the reply.
        code: u16,
        /// The enhanced code that was to go with it.
        enhanced: EnhancedCode,
    },
    /// A line holds a CR, LF or NUL.
    #[error(
        "line {line} of the reply holds the byte {byte:#04x}: give each line on its own, without \
         CR, LF and NUL"
    )]
    ForbiddenByte {
        /// The line, counted from 1.
        line: usize,
        /// The byte that may not be there.
        byte: u8,
    },
    /// A line is longer than 980 octets.
    #[error(
        "line {line} of the reply takes {len} octets, a `%` counted twice: the most is 980, make \
         it several lines"
    )]
    LineTooLong {
        /// The line, counted from 1.
        line: usize,
        /// Its length in octets on the wire, without codes.
        len: usize,
    },
    /// There are more than 32 lines.
    #[error("the reply has {0} lines: the most is 32")]
    TooManyLines(usize),
    /// A text or a payload does not begin with a code, or not with one that refuses, or something
    /// other than a space or `-` follows it.
    #[error(
        "the reply does not begin with a code of 400 to 599 and a space or `-`, as in `550 5.7.1 \
         No such mailbox`"
    )]
    MalformedCode,
    /// A payload that came from a filter holds a NUL before its end.
    #[error("the filter's reply holds a NUL before its end: use a generic reply instead")]
    EmbeddedNul,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_as_small_as_a_pointer() {
        assert_eq!(size_of::<SmtpReply>(), size_of::<usize>());
        assert_eq!(size_of::<Option<SmtpReply>>(), size_of::<usize>());
    }

    #[test]
    fn shows_itself_in_one_line() {
        let reply = SmtpReply::reject(b"a\xff\r\nb");
        assert_eq!(reply.to_string(), "550 5.7.1 a\u{fffd} / b");
        assert_eq!(
            format!("{reply:?}"),
            r#"SmtpReply { code: 550, enhanced_code: Some(EnhancedCode(5.7.1)), lines: ["a\xff", "b"] }"#
        );
        assert_eq!(SmtpReply::reject("").to_string(), "550 5.7.1");
    }

    #[test]
    fn takes_the_enhanced_code_from_the_text() -> Result<(), SmtpReplyError> {
        let reply = SmtpReply::builder(550).line("5.1.1 Nobody").build()?;
        assert_eq!(reply.enhanced_code(), "5.1.1".parse().ok());
        assert_eq!(reply.lines().collect::<Vec<_>>(), ["Nobody"]);

        let lines = ["5.1.1 Nobody", "5.1.2 here"];
        let reply = SmtpReply::builder(550).lines(lines).build()?;
        assert_eq!(reply.enhanced_code(), "5.0.0".parse().ok());
        assert_eq!(reply.lines().collect::<Vec<_>>(), lines);
        Ok(())
    }

    #[test]
    fn c66_a_text_that_postfix_takes_for_another_class_gets_a_code() -> Result<(), SmtpReplyError> {
        for text in ["4 strikes", "4.7.1 no", "2.0.0 no"] {
            let reply = SmtpReply::builder(550).line(text).build()?;
            assert_eq!(reply.to_string(), format!("550 5.0.0 {text}"));
        }
        let reply = SmtpReply::builder(550).line("5 strikes").build()?;
        assert_eq!(reply.to_string(), "550 5 strikes");
        Ok(())
    }

    #[test]
    fn one_empty_line_is_no_line() -> Result<(), SmtpReplyError> {
        let none = SmtpReply::builder(451).build()?;
        assert_eq!(SmtpReply::builder(451).line("").build()?, none);
        assert_eq!(none.lines().count(), 0);
        let two = SmtpReply::builder(451).lines(["", ""]).build()?;
        assert_eq!(two.lines().count(), 2);
        Ok(())
    }
}
