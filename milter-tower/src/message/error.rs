//! How a whole-message filter fails.

use std::io;
use std::path::PathBuf;

use milter_core::edit::PlanError;

/// How a whole-message filter fails, apart from its handler's own errors.
///
/// It is the service's error then (as a [`BoxError`](crate::BoxError)): logged, and answered with
/// the failure verdict.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The body could not be kept in a file: the disk is full, or there is no such directory.
    #[error("the body cannot be kept in a file in {}", directory.display())]
    Spool {
        /// Where the file is, or was to be made.
        directory: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The handler edited the message, and accepted it without giving the edits back.
    #[error(
        "the handler edited the message and accepted it without its edits: return the message, or \
         what `Message::accept` makes of it"
    )]
    EditsLost,
    /// The edits of the headers cannot be done with what the protocol has.
    #[error("the edits of the headers cannot be made")]
    Plan(#[from] PlanError),
    /// The handler was stopped at an earlier event: its time was over.
    #[error("the handler was stopped before it had decided")]
    Stopped,
}
