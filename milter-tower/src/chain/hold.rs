//! Content that is held for members that see it later than it comes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use milter_core::edit::{Mail, PlanError, Planner, Profile, Refused, Unplaceable};
use milter_core::{Header, Modification, ModificationKind, Stage};
use tokio::io::AsyncBufRead;

use super::feed::Feed;
use crate::member::View;
use crate::message::{Body, BodyReader, MessageError, Place, Spool};

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
    spool: Spool,
    body_len: u64,
    /// The body, when all of it has come or a member has put another in its place.
    body: Body,
    /// The MTA shows leading space.
    leading_space: bool,
}

impl Hold {
    pub(super) fn new(profile: Profile, leading_space: bool) -> Self {
        Self {
            mail: Mail::new(profile),
            came: Vec::new(),
            ends_headers: false,
            spool: Spool::default(),
            body_len: 0,
            body: Body::default(),
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

    /// How many bytes of the body are held.
    pub(super) fn body_len(&self) -> u64 {
        self.body_len
    }

    /// Waits until more of the body can be taken, or all of it read.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.spool.poll_ready(cx)
    }

    pub(super) fn push_body(&mut self, piece: &[u8], place: &Place) -> Result<(), MessageError> {
        self.body_len += piece.len() as u64;
        self.spool.add(piece, place)
    }

    pub(super) fn end_body(&mut self, place: &Place) -> Result<(), MessageError> {
        self.body = std::mem::take(&mut self.spool).finish(place, false)?;
        Ok(())
    }

    /// What a member is shown from this stage on, as it is now.
    pub(super) fn feed(&self, from: Stage, view: &View) -> Feed {
        self.feed_with(from, view, &self.body)
    }

    /// The same while the body still comes, if what has come of it is at hand.
    pub(super) fn feed_so_far(&self, from: Stage, view: &View, place: &Place) -> Option<Feed> {
        let body = self.spool.so_far(place)?;
        Some(self.feed_with(from, view, &body))
    }

    fn feed_with(&self, from: Stage, view: &View, body: &Body) -> Feed {
        let leading_space = view.agreement().leading_space();
        let (headers, ends_headers) = if from <= Stage::Header {
            (
                self.mail.shown_headers(leading_space).collect(),
                self.ends_headers,
            )
        } else {
            (Vec::new(), false)
        };
        Feed::new(headers, ends_headers, Pieces::of(body))
    }

    /// The headers as they are now, without leading space.
    pub(super) fn shown(&self) -> impl Iterator<Item = Header> {
        self.mail.shown_headers(false)
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
            self.body = self.mail.shown_body().into();
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

/// A body, piece by piece, cut as an MTA cuts it.
pub(super) enum Pieces {
    Memory(Bytes),
    File(BodyReader, BytesMut),
}

impl Pieces {
    pub(super) const fn none() -> Self {
        Self::Memory(Bytes::new())
    }

    fn of(body: &Body) -> Self {
        match body.in_memory() {
            Some(bytes) => Self::Memory(bytes.clone()),
            None => Self::File(body.reader(), BytesMut::new()),
        }
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let piece = match self {
            Self::Memory(bytes) => bytes.split_to(bytes.len().min(PIECE)),
            Self::File(reader, piece) => {
                while piece.len() < PIECE {
                    let mut reader = Pin::new(&mut *reader);
                    let found = ready!(reader.as_mut().poll_fill_buf(cx))?;
                    if found.is_empty() {
                        break;
                    }
                    let more = found.len().min(PIECE - piece.len());
                    piece.extend_from_slice(&found[..more]);
                    reader.consume(more);
                }
                piece.split().freeze()
            }
        };
        Poll::Ready(Ok(Some(piece).filter(|piece| !piece.is_empty())))
    }
}
