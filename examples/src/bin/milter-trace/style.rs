//! Colours, and texts that do no harm to a terminal.

use std::fmt::{self, Write};

use milter_examples::color::{BOLD, DIM, GREEN, RED, YELLOW};

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    is_on: bool,
}

/// What a piece of a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of little interest.
    Quiet,
    /// Nothing special.
    Plain,
    /// The connection itself.
    Connection,
    /// The milter takes the mail.
    Good,
    /// It changes something.
    Change,
    /// It refuses something.
    Refusal,
    /// Something is wrong.
    Trouble,
}

impl Style {
    pub(crate) const fn new(is_on: bool) -> Self {
        Self { is_on }
    }

    /// Appends a text in the colour of its kind.
    pub(crate) fn put(self, line: &mut String, kind: Kind, text: &str) {
        let style = match kind {
            Kind::Plain => anstyle::Style::new(),
            Kind::Quiet => DIM,
            Kind::Connection => BOLD,
            Kind::Good => GREEN,
            Kind::Change => YELLOW,
            Kind::Refusal => RED,
            Kind::Trouble => RED.bold(),
        };
        if !self.is_on {
            line.push_str(text);
            return;
        }
        // Writing to a string does not fail.
        let _ = write!(line, "{style}{text}{style:#}");
    }
}

/// Bytes as text: escapes for what is not printable, which also keeps it on one line.
pub(crate) struct Escaped<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                match char {
                    '\'' => f.write_char('\'')?,
                    '\0' | '\t' | '\n' | '\r' => write!(f, "{}", char.escape_debug())?,
                    char if char.is_ascii_control() => write!(f, "\\x{:02x}", char as u32)?,
                    char => write!(f, "{}", char.escape_debug())?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// The same in quotes, and no more than so many bytes of it.
pub(crate) struct Quoted<'a>(pub(crate) &'a [u8], pub(crate) usize);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes, most) = self;
        let shown = bytes.get(..*most).unwrap_or(bytes);
        write!(f, "\"{}\"", Escaped(shown))?;
        if shown.len() < bytes.len() {
            f.write_str("…")?;
        }
        Ok(())
    }
}
