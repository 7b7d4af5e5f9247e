//! Enhanced status codes.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// An enhanced mail system status code of class 4 or 5, such as `5.7.1` (RFC 3463).
///
/// ```
/// use milter_core::EnhancedCode;
///
/// let code: EnhancedCode = "5.7.1".parse()?;
/// assert_eq!(code, EnhancedCode::new(5, 7, 1)?);
/// assert_eq!(code.to_string(), "5.7.1");
/// assert!("2.0.0".parse::<EnhancedCode>().is_err());
/// # Ok::<(), milter_core::EnhancedCodeError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnhancedCode {
    class: u8,
    subject: u16,
    detail: u16,
}

impl EnhancedCode {
    /// The code `class.subject.detail`.
    ///
    /// # Errors
    ///
    /// If the class is neither 4 nor 5, or subject or detail is above 999: they have one to three
    /// digits (RFC 3463 2).
    pub const fn new(class: u8, subject: u16, detail: u16) -> Result<Self, EnhancedCodeError> {
        if class != 4 && class != 5 {
            return Err(EnhancedCodeError::Class(class));
        }
        if subject > 999 || detail > 999 {
            return Err(EnhancedCodeError::Range { subject, detail });
        }
        Ok(Self {
            class,
            subject,
            detail,
        })
    }

    /// The class: 4 for a temporary failure, 5 for a permanent one.
    pub const fn class(self) -> u8 {
        self.class
    }

    /// The subject, 0 to 999; 7 is about security or policy.
    pub const fn subject(self) -> u16 {
        self.subject
    }

    /// The detail, 0 to 999.
    pub const fn detail(self) -> u16 {
        self.detail
    }

    /// The class that goes with a reply code of 400 to 599.
    pub(super) const fn class_of(code: u16) -> u8 {
        if code < 500 { 4 } else { 5 }
    }

    /// The code of that subject and detail in the class that goes with a reply code.
    pub(super) const fn of_class(code: u16, subject: u16, detail: u16) -> Self {
        Self {
            class: Self::class_of(code),
            subject,
            detail,
        }
    }

    /// The code at the start of a line, and the text after it and one space.
    pub(super) fn split_off(line: &[u8]) -> Option<(Self, &[u8])> {
        let end = line.iter().position(|&byte| byte == b' ');
        let (code, text) = match end {
            Some(end) => (&line[..end], &line[end + 1..]),
            None => (line, &[][..]),
        };
        Some((std::str::from_utf8(code).ok()?.parse().ok()?, text))
    }
}

/// Reads `class.subject.detail`, digits without leading zeros (RFC 3463 2).
impl FromStr for EnhancedCode {
    type Err = EnhancedCodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = text.split('.').map(number);
        match [(); 4].map(|()| numbers.next()) {
            [
                Some(Some(class)),
                Some(Some(subject)),
                Some(Some(detail)),
                None,
            ] => {
                // A class of two or three digits is no class, whatever `u8` makes of it.
                let class = u8::try_from(class).map_err(|_| EnhancedCodeError::Syntax)?;
                Self::new(class, subject, detail)
            }
            _ => Err(EnhancedCodeError::Syntax),
        }
    }
}

/// One to three digits without leading zeros.
fn number(digits: &str) -> Option<u16> {
    let plain = (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let canonical = digits == "0" || !digits.starts_with('0');
    (plain && canonical).then(|| digits.parse().ok()).flatten()
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl fmt::Debug for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnhancedCode({self})")
    }
}

/// Why there is no such [`EnhancedCode`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EnhancedCodeError {
    /// The class is neither 4 nor 5.
    #[error("an enhanced code of a refusal begins with 4 or 5, not with {0}")]
    Class(u8),
    /// The subject or the detail is above 999.
    #[error("subject {subject} and detail {detail} of an enhanced code must be at most 999")]
    Range {
        /// The second number.
        subject: u16,
        /// The third number.
        detail: u16,
    },
    /// The text is not three numbers joined by dots.
    #[error(
        "an enhanced code is three numbers joined by dots, without leading zeros, such as `5.7.1`"
    )]
    Syntax,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_only_rfc_3463_codes_of_class_4_and_5() {
        for good in ["4.0.0", "5.7.1", "5.999.999", "4.10.100"] {
            let code: EnhancedCode = good.parse().expect(good);
            assert_eq!(code.to_string(), good);
        }
        for bad in [
            "", "5", "5.7", "5.7.", "5.7.1.", "5.7.1.2", "5.7.01", "5.00.1", "05.7.1", "5.1000.1",
            "5.7.+1", "5.7.1 ", "x.y.z", "500.1.1", "٥.7.1",
        ] {
            assert!(bad.parse::<EnhancedCode>().is_err(), "{bad:?}");
        }
        assert_eq!(
            "2.0.0".parse::<EnhancedCode>(),
            Err(EnhancedCodeError::Class(2))
        );
        assert!(EnhancedCode::new(5, 1000, 0).is_err());
        assert!(EnhancedCode::new(5, 0, 1000).is_err());
    }
}
