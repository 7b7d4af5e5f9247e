//! A body in the place of another.

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memchr;

use super::{Profile, Refused};
use crate::ModificationKind;

/// A body.
#[derive(Clone, Debug, Default)]
pub(super) struct Body {
    /// In lines that end with CRLF, as it is delivered.
    lines: Bytes,
    /// The end of the last line is only added at delivery.
    is_open: bool,
}

impl Body {
    /// As the client sent it.
    pub(super) fn of_the_mail(lines: Bytes) -> Self {
        Self {
            lines,
            is_open: false,
        }
    }

    pub(super) fn delivered(&self) -> &Bytes {
        &self.lines
    }

    pub(super) fn shown(&self) -> Bytes {
        let open_end = if self.is_open { 2 } else { 0 };
        let len = self.lines.len().saturating_sub(open_end);
        self.lines.slice(..len)
    }
}

/// The pieces of a new body.
pub(super) struct Replacement {
    pieces: Option<BytesMut>,
    is_postfix: bool,
    /// Another modification came behind a piece.
    interrupted: bool,
}

impl Replacement {
    pub(super) fn new(profile: &Profile) -> Self {
        Self {
            pieces: None,
            is_postfix: profile.is_postfix(),
            interrupted: false,
        }
    }

    /// Takes note of the modification that comes next.
    // Q17: Postfix milter8.c milter8_event (body_edit_lockout)
    pub(super) fn note(&mut self, next: &ModificationKind<'_>) -> Result<(), Refused> {
        if !matches!(next, ModificationKind::ReplaceBody { .. }) {
            self.interrupted = self.pieces.is_some();
        } else if self.interrupted && self.is_postfix {
            return Err(Refused::InterruptedBody);
        }
        Ok(())
    }

    // sendmail/milter.c milter_replbody: a CR at the end of a piece waits for the next; an empty
    // piece writes it out, but does not forget it
    pub(super) fn add(&mut self, piece: &[u8]) {
        let pieces = self.pieces.get_or_insert_default();
        if piece.is_empty() && !self.is_postfix && pieces.ends_with(b"\r") {
            pieces.put_u8(b'\r');
        }
        pieces.put_slice(piece);
    }

    /// The new body, if there is one.
    // sendmail/milter.c milter_replbody, Postfix milter8.c milter8_event: a bare LF ends a line, a
    // bare CR is kept; Postfix adds a line end that is missing at once, Sendmail (deliver.c putbody)
    // when it delivers
    pub(super) fn finish(self) -> Option<Body> {
        let pieces = self.pieces?;
        let mut rest = &pieces[..];
        let mut body = BytesMut::with_capacity(rest.len() + 2);
        while let Some(at) = memchr(b'\n', rest) {
            let line = &rest[..at];
            body.put_slice(line.strip_suffix(b"\r").unwrap_or(line));
            body.put_slice(b"\r\n");
            rest = &rest[at + 1..];
        }
        let is_open = !rest.is_empty();
        if is_open {
            body.put_slice(rest);
            body.put_slice(b"\r\n");
        }
        Some(Body {
            lines: body.freeze(),
            is_open: is_open && !self.is_postfix,
        })
    }
}
