//! A body in the place of another.

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memchr;

use super::{Profile, Refused};
use crate::ModificationKind;

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

    pub(super) fn add(&mut self, piece: &[u8]) {
        self.pieces.get_or_insert_default().put_slice(piece);
    }

    /// The new body, if there is one, in lines that end with CRLF.
    // sendmail/milter.c milter_replbody, Postfix cleanup_milter.c cleanup_repl_body and
    // cleanup_body_edit.c: a bare LF ends a line, a bare CR is kept; at the end of the mail a line
    // end is added where it is missing
    pub(super) fn finish(self) -> Option<Bytes> {
        let pieces = self.pieces?;
        let mut rest = &pieces[..];
        let mut body = BytesMut::with_capacity(rest.len() + 2);
        while !rest.is_empty() {
            let (line, more) = match memchr(b'\n', rest) {
                Some(at) => (&rest[..at], &rest[at + 1..]),
                None => (rest, &b""[..]),
            };
            body.put_slice(line.strip_suffix(b"\r").unwrap_or(line));
            body.put_slice(b"\r\n");
            rest = more;
        }
        Some(body.freeze())
    }
}
