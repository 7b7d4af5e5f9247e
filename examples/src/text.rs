//! Bytes of mail as text that is safe to show: what a terminal would obey becomes an escape.

use std::fmt;
use std::time::Duration;

/// The most bytes of a line that are shown.
pub const LINE: usize = 160;

/// Bytes on one line.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(
    /// The bytes.
    pub &'a [u8],
);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                match char {
                    '"' | '\'' | '\\' => write!(f, "{char}")?,
                    // Control characters, and those that turn the direction of text.
                    _ => write!(f, "{}", char.escape_debug())?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// The same, at most so many bytes of it.
pub fn cut(bytes: &[u8], most: usize) -> String {
    if bytes.len() <= most {
        return Shown(bytes).to_string();
    }
    let at = char_start(bytes, most);
    let rest = bytes.len() - at;
    format!("{}… ({rest} more bytes)", Shown(&bytes[..at]))
}

/// The beginning of the character that stands at a place.
pub fn char_start(bytes: &[u8], at: usize) -> usize {
    let is_start = |at: &usize| bytes.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
    let first = at.saturating_sub(3);
    (first..=at).rev().find(is_start).unwrap_or(at)
}

/// A time in the unit that fits.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.001 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.2} s")
    }
}

/// A count, to divide it.
#[allow(
    clippy::cast_precision_loss,
    reason = "what is shown of it has fewer digits"
)]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// A number and its noun.
pub fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        let text = "caf\u{e9} \x1b[2J\u{202e}\x07\u{9b}31m\r\t\u{0}".as_bytes();
        let shown = Shown(&[text, b"\xff"].concat()).to_string();
        assert_eq!(
            shown,
            "café \\u{1b}[2J\\u{202e}\\u{7}\\u{9b}31m\\r\\t\\0\\xff"
        );
        assert!(!shown.chars().any(char::is_control));
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        assert_eq!(cut("aé".as_bytes(), 3), "aé");
        assert_eq!(cut("aéb".as_bytes(), 2), "a… (3 more bytes)");
        assert_eq!(cut(&[0x80; 9], 4), "\\x80\\x80\\x80\\x80… (5 more bytes)");
    }

    #[test]
    fn times_have_units() {
        assert_eq!(time(Duration::from_micros(7)), "7 µs");
        assert_eq!(time(Duration::from_micros(1234)), "1.2 ms");
        assert_eq!(time(Duration::from_millis(61_500)), "61.50 s");
    }
}
