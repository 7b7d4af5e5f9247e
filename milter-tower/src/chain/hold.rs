//! Content that is held for members that see it later than it comes.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use milter_core::edit::{Mail, PlanError, Planner, Profile, Refused, Unplaceable};
use milter_core::{Header, Modification, ModificationKind, Stage};

use super::feed::Feed;
use crate::member::View;

/// The largest piece of a body that both MTAs send.
// include/libmilter/mfdef.h MILTER_CHUNK_SIZE
const PIECE: usize = 65_535;

/// The content of one message.
pub(super) struct Hold {
    /// The headers as the members so far left them.
    mail: Mail,
    /// The headers as they came, with their leading space.
    came: Vec<Header>,
    ends_headers: bool,
    body: Vec<u8>,
    /// What a member put in the place of the body.
    replaced: Option<Bytes>,
    /// The MTA shows leading space.
    leading_space: bool,
}

impl Hold {
    pub(super) fn new(profile: Profile, leading_space: bool) -> Self {
        Self {
            mail: Mail::new(profile),
            came: Vec::new(),
            ends_headers: false,
            body: Vec::new(),
            replaced: None,
            leading_space,
        }
    }

    pub(super) fn push_header(&mut self, header: &Header) {
        // What the MTA left out is put back, and what is kept holds no buffer.
        let space = if self.leading_space { "" } else { " " };
        let value = [space.as_bytes(), header.value().as_bytes()].concat();
        let header = Header::new(header.name().as_bytes().to_vec(), value);
        self.came.push(header.clone());
        self.mail.push_header(header);
    }

    pub(super) fn end_headers(&mut self) {
        self.ends_headers = true;
    }

    pub(super) fn has_body(&self) -> bool {
        !self.body.is_empty()
    }

    pub(super) fn push_body(&mut self, piece: &[u8]) {
        self.body.extend_from_slice(piece);
    }

    /// What a member is shown from this stage on, as it is now.
    pub(super) fn feed(&self, from: Stage, view: &View) -> Feed {
        let leading_space = view.agreement().leading_space();
        let (headers, ends_headers) = if from <= Stage::Header {
            (
                self.mail.shown_headers(leading_space).collect(),
                self.ends_headers,
            )
        } else {
            (Vec::new(), false)
        };
        let body = match &self.replaced {
            Some(body) => body.clone(),
            None => Bytes::copy_from_slice(&self.body),
        };
        Feed::new(headers, ends_headers, Pieces { body })
    }

    /// Applies what one member wants changed.
    pub(super) fn apply(
        &mut self,
        edits: &[Modification],
        leading_space: bool,
    ) -> Result<(), Refused> {
        self.mail.apply(edits, leading_space)?;
        let replaces =
            |edit: &Modification| matches!(edit.kind(), ModificationKind::ReplaceBody { .. });
        if edits.iter().any(replaces) {
            self.replaced = Some(self.mail.body().clone());
        }
        Ok(())
    }

    /// The modifications of headers that do at once what the members did one after the other.
    pub(super) fn plan(&self) -> Result<Vec<Modification>, PlanError> {
        Planner::new(self.mail.profile())
            .leading_space(self.leading_space)
            .unplaceable(Unplaceable::Nearest)
            .plan(&self.came, self.mail.edited())
    }
}

/// A body, piece by piece.
pub(super) struct Pieces {
    body: Bytes,
}

impl Pieces {
    pub(super) fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let piece = self.body.split_to(self.body.len().min(PIECE));
        Poll::Ready(Ok(Some(piece).filter(|piece| !piece.is_empty())))
    }
}
