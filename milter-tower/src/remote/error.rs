//! What goes wrong with a filter elsewhere.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use milter_core::client::{Failure, SendError};

use crate::error::BoxError;

/// Why a filter elsewhere gave no answer: what happened, and with which one.
#[derive(Debug)]
pub struct RemoteError {
    backend: Option<Arc<str>>,
    kind: RemoteErrorKind,
}

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum RemoteErrorKind {
    /// No connection could be opened: what the connector says.
    Connect(BoxError),
    /// It broke the protocol, was too slow, or went away in the middle of something.
    Failed(Failure),
    /// It did not answer within the time that the request had.
    Deadline,
    /// It is still at another event: calls are made one at a time.
    Busy,
    /// It was asked out of order, by whoever calls the service.
    Misused(SendError),
    /// One that takes the place of another asks for what was not negotiated with the MTA.
    Unfit,
    /// It failed before, at this message or in this session, and is not asked again before the next.
    Repeated,
}

impl RemoteError {
    pub(super) const fn new(backend: Option<Arc<str>>, kind: RemoteErrorKind) -> Self {
        Self { backend, kind }
    }

    /// What happened.
    pub const fn kind(&self) -> &RemoteErrorKind {
        &self.kind
    }

    /// The filter, as its address was given; none if that is not known.
    pub fn backend(&self) -> Option<&str> {
        self.backend.as_deref()
    }

    /// Whether it only follows from another failure, which was told when it happened.
    pub const fn is_repeated(&self) -> bool {
        matches!(self.kind, RemoteErrorKind::Repeated)
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.kind, &self.backend) {
            // It says where.
            (RemoteErrorKind::Connect(error), None) => return write!(f, "no backend: {error}"),
            (_, Some(backend)) => write!(f, "backend {backend}: ")?,
            (_, None) => f.write_str("the backend: ")?,
        }
        match &self.kind {
            RemoteErrorKind::Connect(error) => error.fmt(f),
            RemoteErrorKind::Failed(failure) => failure.fmt(f),
            RemoteErrorKind::Misused(error) => error.fmt(f),
            RemoteErrorKind::Deadline => f.write_str("no answer before the deadline"),
            RemoteErrorKind::Unfit => {
                f.write_str("it takes another's place, and asks for what was not negotiated")
            }
            RemoteErrorKind::Busy => {
                f.write_str("still at another event: calls are made one at a time")
            }
            RemoteErrorKind::Repeated => f.write_str("it failed before"),
        }
    }
}

impl Error for RemoteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            // What it says itself is shown already.
            RemoteErrorKind::Connect(error) => error.source(),
            _ => None,
        }
    }
}
