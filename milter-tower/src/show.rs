//! Bytes of mail as text that people can read and snapshots can hold.

use std::fmt;

use milter_core::{EsmtpArgs, Modification, ModificationKind, Text};

use crate::Headers;
use crate::headers::Field;

/// The most bytes of a line that are shown.
pub(crate) const LINE: usize = 160;
/// The most lines of a body that are shown.
const LINES: usize = 24;
/// The most headers that are shown.
const HEADERS: usize = 100;

/// Bytes on one line: escapes for what cannot be printed, and the end of long ones left out.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a>(pub(super) &'a [u8]);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Cut(self.0, LINE), f)
    }
}

/// [`Line`] with the most bytes that are shown.
pub(crate) struct Cut<'a>(pub(super) &'a [u8], pub(super) usize);

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, rest) = cut(self.0, self.1);
        for chunk in shown.utf8_chunks() {
            for char in chunk.valid().chars() {
                match char {
                    // They need no escape where no quotes stand around.
                    '"' | '\'' => write!(f, "{char}")?,
                    _ => write!(f, "{}", char.escape_debug())?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        if rest > 0 {
            write!(f, "… ({rest} more bytes)")?;
        }
        Ok(())
    }
}

/// What is shown of a line, and how many bytes are left.
fn cut(line: &[u8], most: usize) -> (&[u8], usize) {
    if line.len() <= most {
        return (line, 0);
    }
    // Not within a character.
    let is_start = |at: &usize| line.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
    let at = (most - 3..=most).rev().find(is_start).unwrap_or(most);
    let (shown, rest) = line.split_at(at);
    (shown, rest.len())
}

/// An address of the envelope with its arguments.
pub(crate) struct Path<'a>(pub(super) Text<'a>, pub(super) EsmtpArgs<'a>);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Line(&self.0))?;
        for arg in self.1 {
            write!(f, " {}", Line(&arg.raw()))?;
        }
        Ok(())
    }
}

/// A header field as it stands in a message: each line behind the margin, and cut.
pub(crate) struct Lines<'a>(pub(super) Field<'a>, pub(super) &'a str, pub(super) usize);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(field, margin, most) = self;
        write!(f, "{margin}{}:", Line(&field.name()))?;
        for (n, line) in field.raw().split(|byte| *byte == b'\n').enumerate() {
            if n > 0 {
                write!(f, "\n{margin}")?;
            }
            write!(f, "{}", Cut(line, *most))?;
        }
        Ok(())
    }
}

/// A message, each line behind `margin`.
pub(crate) fn message(
    f: &mut fmt::Formatter<'_>,
    headers: &Headers,
    text: &[u8],
    margin: &str,
) -> fmt::Result {
    for field in headers.iter().take(HEADERS) {
        writeln!(f, "{}", Lines(field, margin, LINE))?;
    }
    if let Some(rest @ 1..) = headers.len().checked_sub(HEADERS) {
        writeln!(f, "{margin}… ({rest} more headers)")?;
    }
    writeln!(f, "{}", margin.trim_end())?;
    body(f, text, margin)
}

fn body(f: &mut fmt::Formatter<'_>, text: &[u8], margin: &str) -> fmt::Result {
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').fuse();
    for line in lines.by_ref().take(LINES) {
        writeln!(f, "{margin}{}", BodyLine(line, LINE))?;
    }
    let rest = lines.count();
    if rest > 0 {
        writeln!(
            f,
            "{margin}… ({rest} more lines, {} bytes in all)",
            text.len()
        )?;
    }
    Ok(())
}

/// A line of a body with its end, which is shown where it is odd; and cut.
pub(crate) struct BodyLine<'a>(pub(super) &'a [u8], pub(super) usize);

impl fmt::Display for BodyLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(line, most) = self;
        let shown = line.strip_suffix(b"\r\n").unwrap_or(line);
        write!(f, "{}", Cut(shown, *most))?;
        if line.ends_with(b"\n") {
            Ok(())
        } else {
            f.write_str(" (no line end)")
        }
    }
}

/// A modification on one line.
pub(crate) struct Edit<'a>(pub(super) &'a Modification);

impl fmt::Display for Edit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |text| Line(Text::as_bytes(text));
        let with_args = |f: &mut fmt::Formatter<'_>, what, address, args: Option<_>| {
            write!(f, "{what} {}", line(address))?;
            args.map_or(Ok(()), |args| write!(f, " {}", line(args)))
        };
        match self.0.kind() {
            ModificationKind::AddHeader { name, value } => {
                write!(f, "add header {}: {}", line(name), line(value))
            }
            ModificationKind::InsertHeader { index, name, value } => {
                write!(
                    f,
                    "insert header at {index} {}: {}",
                    line(name),
                    line(value)
                )
            }
            ModificationKind::ChangeHeader { name, index, value } => {
                write!(f, "change header {}[{index}]: {}", line(name), line(value))
            }
            ModificationKind::DeleteHeader { name, index } => {
                write!(f, "delete header {}[{index}]", line(name))
            }
            ModificationKind::ReplaceBody { body } => {
                write!(f, "replace body, {} bytes", body.len())
            }
            ModificationKind::ChangeSender { address, args } => {
                with_args(f, "change sender", address, args)
            }
            ModificationKind::AddRecipient { address } => {
                with_args(f, "add recipient", address, None)
            }
            ModificationKind::AddRecipientWithArgs { address, args } => {
                with_args(f, "add recipient", address, args)
            }
            ModificationKind::DeleteRecipient { address } => {
                with_args(f, "delete recipient", address, None)
            }
            ModificationKind::Quarantine { reason } => write!(f, "quarantine: {}", line(reason)),
            // Kinds that do not exist yet.
            _ => write!(f, "{:?}", self.0),
        }
    }
}
