//! Adds a footer to a mail, which is otherwise left byte for byte.

use std::fmt;
use std::ops::Range;

use crate::charset::Charset;
use crate::footer::{self, Footer};
use crate::mime::{self, Leaf};
use crate::transfer::Transfer;

/// The longest header line that is written.
const MAX_FIELD: usize = 900;

/// The name and the value of a header field.
pub(crate) type Field = (&'static str, String);

/// A mail with its footer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) body: Vec<u8>,
    /// The mail's own header fields that have to change with it: their names and values.
    pub(crate) fields: Vec<Field>,
    /// Why an alternative has none, if one has none.
    pub(crate) partly: Option<LeftAlone>,
}

/// Why a mail, or a part, has no footer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LeftAlone {
    /// It is signed or encrypted.
    Signed,
    /// There is no text that is shown.
    NoText,
    /// Programs may differ in what they see in it.
    Malformed(&'static str),
    /// The character set is none that can be written.
    Charset(String),
    /// The transfer encoding is none that can be written, or not what it says.
    Transfer(String),
}

impl fmt::Display for LeftAlone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signed => f.write_str("it is signed or encrypted"),
            Self::NoText => f.write_str("it has no text"),
            Self::Malformed(what) => f.write_str(what),
            Self::Charset(name) => write!(f, "character set {}", name.escape_debug()),
            Self::Transfer(name) => write!(f, "transfer encoding {}", name.escape_debug()),
        }
    }
}

/// Adds the footer to each part that it belongs into.
///
/// `head` has the mail's header fields as lines; those that begin with `Content-` suffice.
pub(crate) fn add(head: &[u8], body: &[u8], footer: &Footer) -> Result<Changed, LeftAlone> {
    let mut edits = Vec::new();
    let mut partly = None;
    for leaf in mime::leaves(head, body)? {
        match Edit::of(leaf, body, footer) {
            Ok(edit) => edits.push(edit),
            Err(LeftAlone::Signed) => return Err(LeftAlone::Signed),
            Err(reason) => partly = Some(reason),
        }
    }
    if edits.is_empty() {
        return Err(partly.unwrap_or(LeftAlone::NoText));
    }
    // The reader goes from top to bottom, and so do the parts.
    let mut changed = Changed {
        body: Vec::with_capacity(body.len() + body.len() / 8),
        fields: Vec::new(),
        partly,
    };
    let mut done = 0;
    for edit in edits {
        match (edit.leaf.head, edit.fields) {
            (Some(head), Some(fields)) => {
                changed.body.extend_from_slice(&body[done..head.start]);
                changed
                    .body
                    .extend(with_fields(&body[head.clone()], &fields));
                done = head.end;
            }
            (None, Some(fields)) => changed.fields = fields,
            (_, None) => {}
        }
        let Range { start, end } = edit.leaf.content;
        changed.body.extend_from_slice(&body[done..start]);
        changed.body.extend(edit.content);
        done = end;
    }
    changed.body.extend_from_slice(&body[done..]);
    Ok(changed)
}

/// What changes in a part.
struct Edit {
    leaf: Leaf,
    content: Vec<u8>,
    fields: Option<Vec<Field>>,
}

impl Edit {
    fn of(leaf: Leaf, body: &[u8], footer: &Footer) -> Result<Self, LeftAlone> {
        let text = &body[leaf.content.clone()];
        let unclear = || LeftAlone::Transfer(leaf.encoding.clone());
        let transfer = Transfer::named(&leaf.encoding).ok_or_else(unclear)?;
        let content = transfer.decode(text).ok_or_else(unclear)?;
        if is_pgp(&content) {
            return Err(LeftAlone::Signed);
        }
        let foreign = || LeftAlone::Charset(leaf.charset.clone());
        let charset = Charset::named(&leaf.charset).ok_or_else(foreign)?;
        let footer = footer.in_format(leaf.format);
        let (content, fields) = match charset.encode(footer, leaf.format) {
            Some(footer) if transfer.takes(&footer) => {
                let (at, addition) = footer::place(&content, leaf.format, &footer);
                (transfer.insert(text, &content, at, &addition), None)
            }
            // What was ASCII so far is no longer, or a line is too long.
            Some(footer) => {
                let (at, addition) = footer::place(&content, leaf.format, &footer);
                let whole = [&content[..at], &addition, &content[at..]].concat();
                let transfer = Transfer::QuotedPrintable;
                (transfer.encode(whole), Some(vec![encoded(transfer)]))
            }
            // UTF-8 has characters for both.
            None => {
                let mut whole = charset.decode(&content).ok_or_else(foreign)?.into_bytes();
                let (_, addition) = footer::place(&whole, leaf.format, footer.as_bytes());
                whole.extend(addition);
                let transfer = match transfer {
                    Transfer::Base64 => transfer,
                    _ => Transfer::QuotedPrintable,
                };
                let kind = leaf.in_utf8().ok_or_else(foreign)?;
                (transfer.encode(whole), Some(vec![kind, encoded(transfer)]))
            }
        };
        if has_delimiter(&content, &leaf.boundaries) {
            return Err(LeftAlone::Malformed("the footer would end a part"));
        }
        Ok(Self {
            leaf,
            content,
            fields,
        })
    }
}

fn encoded(transfer: Transfer) -> Field {
    ("Content-Transfer-Encoding", transfer.name().to_owned())
}

impl Leaf {
    /// Its Content-Type with another character set, if it can be written plainly.
    fn in_utf8(&self) -> Option<Field> {
        // HTML names what its character set does not have, and so never gets here.
        let mut value = "text/plain; charset=utf-8".to_owned();
        for (name, text) in self.parameters.iter().filter(|(name, _)| name != "charset") {
            let is_token = |text: &str| {
                let special = |byte| b"()<>@,;:\\\"/[]?=".contains(&byte);
                !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !special(b))
            };
            let is_quotable =
                |c: char| c == ' ' || c.is_ascii_graphic() && !matches!(c, '"' | '\\');
            if is_token(name) && is_token(text) {
                value.extend(["; ", name, "=", text]);
            } else if is_token(name) && text.chars().all(is_quotable) {
                value.extend(["; ", name, "=\"", text, "\""]);
            } else {
                return None;
            }
        }
        (value.len() <= MAX_FIELD).then_some(("Content-Type", value))
    }
}

/// A text that was signed or encrypted within itself (RFC 9580 6.2).
fn is_pgp(content: &[u8]) -> bool {
    let mut lines = content.split(|&byte| byte == b'\n');
    lines.any(|line| line.starts_with(b"-----BEGIN PGP "))
}

fn has_delimiter(content: &[u8], boundaries: &[Vec<u8>]) -> bool {
    let starts = |line: &[u8], boundary: &Vec<u8>| {
        line.strip_prefix(b"--")
            .is_some_and(|rest| rest.starts_with(boundary))
    };
    let mut lines = content.split(|&byte| byte == b'\n');
    lines.any(|line| boundaries.iter().any(|boundary| starts(line, boundary)))
}

/// The header fields of a part with others in the place of those of the same names.
fn with_fields(head: &[u8], fields: &[Field]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(head.len() + 100);
    let mut keep = true;
    for line in head.split_inclusive(|&byte| byte == b'\n') {
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            let mut parts = line.splitn(2, |&byte| byte == b':');
            let name = parts.next().unwrap_or_default().trim_ascii_end();
            keep = !fields
                .iter()
                .any(|(n, _)| n.as_bytes().eq_ignore_ascii_case(name));
        }
        if keep {
            whole.extend_from_slice(line);
        }
    }
    for (name, value) in fields {
        whole.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    whole
}

#[cfg(test)]
mod tests;
