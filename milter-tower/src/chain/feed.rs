//! Content that was held for a member, event by event.

use std::io;
use std::task::{Context, Poll, ready};

use milter_core::{Header, Stage};

use super::hold::Pieces;
use crate::member::View;
use crate::request::Event;

/// What a member is shown of what was held.
pub(super) struct Feed {
    /// The envelope, for a member that did not see it when it came.
    envelope: std::vec::IntoIter<Event>,
    headers: std::vec::IntoIter<Header>,
    /// The end of the headers is still to be shown.
    ends_headers: bool,
    body: Pieces,
    /// The stage of the event that the member is being shown.
    pub(super) shown: Option<Stage>,
}

impl Feed {
    pub(super) fn new(headers: Vec<Header>, ends_headers: bool, body: Pieces) -> Self {
        Self {
            envelope: Vec::new().into_iter(),
            headers: headers.into_iter(),
            ends_headers,
            body,
            shown: None,
        }
    }

    /// The same behind the envelope.
    pub(super) fn behind(mut self, envelope: Vec<Event>) -> Self {
        self.envelope = envelope.into_iter();
        self
    }

    /// The same behind what is left of another one's envelope.
    pub(super) fn behind_that_of(mut self, other: Self) -> Self {
        self.envelope = other.envelope;
        self
    }

    /// The next event that the member is to be shown.
    pub(super) fn poll_next(
        &mut self,
        view: &View,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Event>>> {
        // A failure may stand where no reply was due.
        let is_shown = |stage| view.agreement().delivers(stage) && view.foregone(stage).is_none();
        let envelope = &mut self.envelope;
        if let Some(event) = envelope.find(|event| event.stage().is_some_and(is_shown)) {
            return Poll::Ready(Ok(Some(event)));
        }
        if is_shown(Stage::Header) {
            if let Some(header) = self.headers.next() {
                return Poll::Ready(Ok(Some(Event::Header(header))));
            }
        }
        if std::mem::take(&mut self.ends_headers) && is_shown(Stage::EndOfHeaders) {
            return Poll::Ready(Ok(Some(Event::EndOfHeaders)));
        }
        if is_shown(Stage::Body) {
            let piece = ready!(self.body.poll_next(cx))?;
            return Poll::Ready(Ok(piece.map(Event::Body)));
        }
        Poll::Ready(Ok(None))
    }
}
