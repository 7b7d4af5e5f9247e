//! The builder of replies.

use super::{EnhancedCode, MAX_LINE_LEN, MAX_LINES, SmtpReply, SmtpReplyError, fold};

/// Makes an [`SmtpReply`]; see [`SmtpReply::builder`].
///
/// Nothing is changed to make it fit: [`build`](Self::build) says what does not.
///
/// ```
/// use milter_core::{SmtpReply, SmtpReplyError};
///
/// let too_few = SmtpReply::builder(250).line("fine").build();
/// assert_eq!(too_few, Err(SmtpReplyError::Code(250)));
/// assert!(SmtpReply::builder(550).line("two\r\nlines").build().is_err());
/// assert!(SmtpReply::builder(550).lines(["two", "lines"]).build().is_ok());
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct SmtpReplyBuilder {
    code: u16,
    enhanced: Option<EnhancedCode>,
    lines: Vec<Vec<u8>>,
}

impl SmtpReplyBuilder {
    pub(super) fn new(code: u16) -> Self {
        Self {
            code,
            enhanced: None,
            lines: Vec::new(),
        }
    }

    /// Sets the enhanced status code; its class must be the first digit of the code.
    pub fn enhanced_code(mut self, enhanced: EnhancedCode) -> Self {
        self.enhanced = Some(enhanced);
        self
    }

    /// Adds a line of plain text: at most 980 octets, of which a `%` counts as two, without CR,
    /// LF and NUL.
    pub fn line(mut self, line: impl AsRef<[u8]>) -> Self {
        self.lines.push(line.as_ref().to_vec());
        self
    }

    /// Adds lines as [`line`](Self::line) does; a reply has at most 32.
    pub fn lines<I>(mut self, lines: I) -> Self
    where
        I: IntoIterator<Item: AsRef<[u8]>>,
    {
        let lines = lines.into_iter().map(|line| line.as_ref().to_vec());
        self.lines.extend(lines);
        self
    }

    /// The reply.
    ///
    /// # Errors
    ///
    /// If the code is not 400 to 599, the enhanced code is of another class, there are more than
    /// 32 lines, or a line holds a CR, LF or NUL or is too long (`libmilter/smfi.c`
    /// `smfi_setmlreply`; the class: Postfix `milter8.c` `milter8_event`).
    pub fn build(self) -> Result<SmtpReply, SmtpReplyError> {
        let Self {
            code,
            enhanced,
            lines,
        } = self;
        if !(400..=599).contains(&code) {
            return Err(SmtpReplyError::Code(code));
        }
        if let Some(enhanced) = enhanced {
            if enhanced.class() != EnhancedCode::class_of(code) {
                return Err(SmtpReplyError::EnhancedClass { code, enhanced });
            }
        }
        if lines.len() > MAX_LINES {
            return Err(SmtpReplyError::TooManyLines(lines.len()));
        }
        for (line, text) in (1..).zip(&lines) {
            if let Some(at) = memchr::memchr3(b'\r', b'\n', 0, text) {
                let byte = text[at];
                return Err(SmtpReplyError::ForbiddenByte { line, byte });
            }
            let len = fold::wire_len(text);
            if len > MAX_LINE_LEN {
                return Err(SmtpReplyError::LineTooLong { line, len });
            }
        }
        Ok(SmtpReply::assemble(code, enhanced, lines))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c65_codes_are_of_class_4_and_5() {
        for code in [0, 99, 250, 354, 399, 600, 999, u16::MAX] {
            let built = SmtpReply::builder(code).line("x").build();
            assert_eq!(built, Err(SmtpReplyError::Code(code)));
        }
        for code in [400, 421, 499] {
            let built = SmtpReply::builder(code).build();
            assert!(built.is_ok_and(|reply| reply.is_transient()));
        }
        for code in [500, 521, 599] {
            let built = SmtpReply::builder(code).build();
            assert!(built.is_ok_and(|reply| reply.is_permanent()));
        }
    }

    #[test]
    fn c65_cr_lf_and_nul_are_refused_in_a_line() {
        for byte in *b"\r\n\0" {
            let built = SmtpReply::builder(550)
                .lines([b"ok", &[b'a', byte]])
                .build();
            assert_eq!(built, Err(SmtpReplyError::ForbiddenByte { line: 2, byte }));
        }
    }

    #[test]
    fn c65_a_line_has_at_most_980_octets_on_the_wire() {
        assert!(
            SmtpReply::builder(550)
                .line("x".repeat(980))
                .build()
                .is_ok()
        );
        assert!(
            SmtpReply::builder(550)
                .line("%".repeat(490))
                .build()
                .is_ok()
        );
        assert_eq!(
            SmtpReply::builder(550).line("x".repeat(981)).build(),
            Err(SmtpReplyError::LineTooLong { line: 1, len: 981 })
        );
        assert_eq!(
            SmtpReply::builder(550).line("%".repeat(491)).build(),
            Err(SmtpReplyError::LineTooLong { line: 1, len: 982 })
        );
    }

    #[test]
    fn c65_a_reply_has_at_most_32_lines() {
        assert!(SmtpReply::builder(550).lines(["x"; 32]).build().is_ok());
        assert_eq!(
            SmtpReply::builder(550).lines(["x"; 33]).build(),
            Err(SmtpReplyError::TooManyLines(33))
        );
    }

    #[test]
    fn c66_the_enhanced_code_is_of_the_same_class() {
        let enhanced = EnhancedCode::of_class(451, 7, 1);
        assert_eq!(
            SmtpReply::builder(550).enhanced_code(enhanced).build(),
            Err(SmtpReplyError::EnhancedClass {
                code: 550,
                enhanced
            })
        );
        assert!(
            SmtpReply::builder(450)
                .enhanced_code(enhanced)
                .build()
                .is_ok()
        );
    }
}
