//! What can go wrong with a milter.

use std::fmt;
use std::io;
use std::sync::Arc;

use milter_core::Stage;
use milter_core::client::{Failure, SendError};

/// Why a milter was not asked, or gave no answer: what happened, at which stage, and with which
/// milter.
///
/// After most errors the connection is of no more use: see [`is_fatal`](Self::is_fatal). What an
/// MTA does then is its [`DefaultAction`](super::DefaultAction).
#[derive(Clone, Debug)]
pub struct ClientError(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    milter: Arc<str>,
    stage: Option<Stage>,
    kind: ClientErrorKind,
}

/// What happened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientErrorKind {
    /// The milter could not be reached.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The milter failed: it broke the protocol, was too slow, or went away.
    #[error(transparent)]
    Failed(Failure),
    /// The call came out of order, or with what cannot be sent. Nothing was sent, and the
    /// connection is as it was.
    #[error(transparent)]
    Misused(SendError),
    /// The body could not be read. The milter is still in the middle of the message, which can be
    /// [aborted](super::Connection::abort).
    #[error("cannot read the body: {0}")]
    Body(io::Error),
}

impl ClientError {
    pub(crate) fn new(milter: &Arc<str>, stage: Option<Stage>, kind: ClientErrorKind) -> Self {
        Self(Arc::new(Inner {
            milter: Arc::clone(milter),
            stage,
            kind,
        }))
    }

    /// What happened.
    pub fn kind(&self) -> &ClientErrorKind {
        &self.0.kind
    }

    /// What was asked when it happened; none while connecting and negotiating, and at an abort or
    /// the goodbye.
    pub fn stage(&self) -> Option<Stage> {
        self.0.stage
    }

    /// The milter, as its address was given.
    pub fn milter(&self) -> &str {
        &self.0.milter
    }

    /// How the milter failed, if it did.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.0.kind {
            ClientErrorKind::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// Whether the connection is of no more use.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self.0.kind,
            ClientErrorKind::Connect(_)
                | ClientErrorKind::Failed(_)
                | ClientErrorKind::Misused(SendError::Ended)
        )
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            milter,
            stage,
            kind,
        } = &*self.0;
        write!(f, "milter {milter}")?;
        if let Some(stage) = stage {
            write!(f, " at {stage}")?;
        }
        write!(f, ": {kind}")
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // What `kind` shows is shown here already.
        match &self.0.kind {
            ClientErrorKind::Connect(error) | ClientErrorKind::Body(error) => {
                error.get_ref()?.source()
            }
            ClientErrorKind::Failed(_) | ClientErrorKind::Misused(_) => None,
        }
    }
}
