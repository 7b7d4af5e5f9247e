//! Replies as people write them.

use std::str::FromStr;

use super::wire::{digits, read_code, strip_code};
use super::{EnhancedCode, SmtpReply, SmtpReplyError};

/// Reads a reply as it is written in a list of rules or a log: `552 5.3.4 Message too large`.
///
/// The enhanced code may be left out, and so may the text. Several lines are separated by LF or
/// CRLF, and those after the first may begin with the code again, as in SMTP. A `%` is just that.
///
/// ```
/// use milter_core::{SmtpReply, SmtpReplyError};
///
/// let reply: SmtpReply = "552 5.3.4 Message too large".parse()?;
/// assert_eq!((reply.code(), reply.enhanced_code()), (552, "5.3.4".parse().ok()));
/// let several: SmtpReply = "450-4.2.2 100% full\n450 4.2.2 Try later".parse()?;
/// assert_eq!(several.lines().count(), 2);
/// assert!("250 fine".parse::<SmtpReply>().is_err());
/// # Ok::<(), SmtpReplyError>(())
/// ```
///
/// # Errors
///
/// It does not begin with a code of 400 to 599, or is not what a
/// [builder](SmtpReply::builder) takes.
impl FromStr for SmtpReply {
    type Err = SmtpReplyError;

    fn from_str(text: &str) -> Result<Self, SmtpReplyError> {
        let code = read_code(text.as_bytes())?;
        let prefix = digits(code);
        let mut reply = Self::builder(code);
        let text = text.strip_suffix('\n').unwrap_or(text);
        for line in text.split('\n') {
            let line = line.strip_suffix('\r').unwrap_or(line);
            let line = strip_code(line.as_bytes(), prefix);
            if let Some((enhanced, _)) = EnhancedCode::split_off(line) {
                if enhanced.class() != EnhancedCode::class_of(code) {
                    return Err(SmtpReplyError::EnhancedClass { code, enhanced });
                }
            }
            reply = reply.line(line);
        }
        reply.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_read() -> Result<(), SmtpReplyError> {
        for reply in [
            SmtpReply::reject("Not here, 100% sure"),
            SmtpReply::tempfail("Later"),
            SmtpReply::builder(521).build()?,
            SmtpReply::builder(450).line("no code").build()?,
        ] {
            assert_eq!(reply.to_string().parse::<SmtpReply>()?, reply);
        }
        Ok(())
    }

    #[test]
    fn lines_may_repeat_the_code() -> Result<(), SmtpReplyError> {
        let want = SmtpReply::builder(550)
            .lines(["5.1.1 a", "5.1.1 b"])
            .build()?;
        for text in ["550-5.1.1 a\r\n550 5.1.1 b\r\n", "550 5.1.1 a\n5.1.1 b"] {
            assert_eq!(text.parse::<SmtpReply>()?, want);
        }
        Ok(())
    }

    #[test]
    fn c65_c66_what_is_no_reply() {
        for text in ["", "5", "550x", "250 ok", "600 no", "no 550"] {
            assert_eq!(
                text.parse::<SmtpReply>(),
                Err(SmtpReplyError::MalformedCode),
                "{text}"
            );
        }
        assert!(matches!(
            "550 4.7.1 no".parse::<SmtpReply>(),
            Err(SmtpReplyError::EnhancedClass { .. })
        ));
        assert!("550 a\0b".parse::<SmtpReply>().is_err());
        assert!(
            format!("550 {}", "x".repeat(981))
                .parse::<SmtpReply>()
                .is_err()
        );
    }
}
