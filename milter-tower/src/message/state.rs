//! What there is of a message between two events.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use milter_core::Header;

use super::config::{Config, OnLarge};
use super::error::MessageError;
use super::fate::Fate;
use super::filter::Decision;
use super::incoming::Feed;
use super::spool::Spool;
use crate::response::Response;

/// What most headers of a message fit into.
const HEADERS: usize = 4096;

/// Where a filter stands in a message.
#[derive(Debug, Default)]
pub(super) enum State {
    /// Nothing of one is kept.
    #[default]
    Empty,
    /// It is written down.
    Draft(Box<Draft>),
    /// Its handler has started.
    Begun(Box<Begun>),
    /// It is answered so at its end, without its handler.
    Settled(Response),
    /// It was answered.
    Over,
}

impl State {
    /// What is written down, also if that is nothing yet.
    pub(super) fn draft(&mut self) -> Option<&mut Draft> {
        if matches!(self, Self::Empty) {
            *self = Self::Draft(Box::default());
        }
        match self {
            Self::Draft(draft) => Some(draft),
            _ => None,
        }
    }
}

/// How much of a body came.
#[derive(Debug, Default)]
pub(super) struct Count {
    bytes: u64,
    pub(super) is_cut: bool,
}

impl Count {
    /// How much of a piece is taken, and whether it is the first that goes beyond the limit.
    pub(super) fn take(&mut self, piece: usize, limit: u64) -> (usize, bool) {
        if self.is_cut {
            return (0, false);
        }
        let room = limit.saturating_sub(self.bytes);
        let taken = usize::try_from(room).map_or(piece, |room| room.min(piece));
        self.bytes += taken as u64;
        self.is_cut = taken < piece;
        (taken, self.is_cut)
    }
}

/// A message that is written down.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) headers: Vec<Header>,
    /// What headers are copied to.
    text: BytesMut,
    pub(super) spool: Spool,
    pub(super) body: Count,
}

impl Draft {
    pub(super) fn add_header(&mut self, header: &Header) {
        let len = header.name().len() + header.value().len() + 1;
        if self.text.capacity() < len {
            self.text = BytesMut::with_capacity(HEADERS.max(len));
        }
        self.headers.push(header.copy_to(&mut self.text));
    }

    /// Adds a piece of the body. What is to be answered if that is too much of it.
    pub(super) fn add_body(
        &mut self,
        piece: &[u8],
        config: &Config,
    ) -> Result<Option<Response>, MessageError> {
        let (taken, is_too_much) = self.body.take(piece.len(), config.body_limit);
        if is_too_much {
            if let Some(refusal) = config.on_large.refusal() {
                return Ok(Some(refusal));
            }
            if config.on_large == OnLarge::Omit {
                self.spool = Spool::default();
                return Ok(None);
            }
        }
        let piece = piece.get(..taken).unwrap_or(piece);
        self.spool.add(piece, &config.place)?;
        Ok(None)
    }
}

/// A message whose handler has started before its end.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) later: Arc<Later>,
    pub(super) body: Count,
}

/// What calls hand on to each other: a call's future cannot reach the service.
// Locked at most twice an event, and never by two at a time.
#[derive(Debug, Default)]
pub(super) struct Later {
    kept: Mutex<Kept>,
    pub(super) feed: Option<Feed>,
}

#[derive(Default)]
pub(super) enum Kept {
    /// A call has it, or was dropped with it.
    #[default]
    Nothing,
    /// The handler is not done.
    Running(Decision, Arc<Fate>),
    /// To be said at the end.
    Decided(Response),
    /// All was said.
    Over,
}

impl Later {
    pub(super) fn new(feed: Option<Feed>) -> Self {
        Self {
            kept: Mutex::default(),
            feed,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self) -> Kept {
        std::mem::take(&mut *self.lock())
    }

    pub(super) fn put(&self, kept: Kept) {
        *self.lock() = kept;
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("Nothing"),
            Self::Running(..) => f.write_str("Running"),
            Self::Decided(response) => f.debug_tuple("Decided").field(response).finish(),
            Self::Over => f.write_str("Over"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_limit_is_told_once() {
        let mut count = Count::default();
        assert_eq!(count.take(60, 100), (60, false));
        assert_eq!(count.take(40, 100), (40, false));
        assert_eq!(count.take(1, 100), (0, true));
        assert_eq!(count.take(1, 100), (0, false));
        assert!(count.is_cut);
        assert_eq!(Count::default().take(101, 100), (100, true));
        assert_eq!(Count::default().take(1, 0), (0, true));
        assert_eq!(Count::default().take(0, 0), (0, false));
    }
}
