//! What goes wrong.

use std::error::Error;

use milter_core::state::NotNegotiated;
use milter_core::{CodecError, ModificationError, NegotiationError, NotAgreed, NotAllowed};

use crate::remote::RemoteError;

/// An error of any kind, as tower's services have them.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a connection ended, other than by the MTA's wish between two messages.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The MTA sent what is no milter protocol, or reading or writing failed.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The MTA asked before it negotiated.
    #[error(transparent)]
    NotNegotiated(#[from] NotNegotiated),
    /// The MTA does not offer what the filter cannot work without.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    /// The MTA offered something else in the middle of the connection.
    #[error("the MTA negotiated a second time, with another result")]
    Renegotiated,
    /// The filter failed in the negotiation, and the settings say to close then.
    #[error("the filter failed in the negotiation")]
    NegotiateFailed(#[source] Failure),
    /// The filter refused to work on this connection.
    #[error("the filter refused the connection")]
    Refused,
    /// Something took too long.
    #[error("time-out: {0}")]
    Timeout(&'static str),
    /// All connections together hold more than they may, and this one would hold still more.
    #[error("all connections together hold more than {0} bytes (Settings::max_held_bytes)")]
    TooMuchHeld(usize),
    /// The connection was lost in the middle of a message.
    #[error("the MTA went away in the middle of a message")]
    Lost,
    /// Something of the user's panicked where it was not expected to run, or the server did.
    #[error("panicked: {0}")]
    Panic(String),
    /// The server's shutdown cut the connection.
    #[error("cut by the server's shutdown")]
    Cut,
}

/// How a filter failed at an event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The service returned an error.
    #[error(transparent)]
    Error(BoxError),
    /// The service said in `poll_ready` that it will never be ready.
    #[error("the service is not ready")]
    NotReady(#[source] BoxError),
    /// The service panicked.
    #[error("the service panicked: {0}")]
    Panic(String),
    /// The deadline passed.
    #[error("the deadline passed: the service took longer than {0:?}")]
    Deadline(std::time::Duration),
    /// The deadline passed before the service was ready: a limit held it back.
    #[error("the deadline passed: the service was not ready to be called within {0:?}")]
    NotReadyInTime(std::time::Duration),
    /// A service for the connection could not be made.
    #[error("no service could be made")]
    Make(#[source] BoxError),
    /// A service that replaces a broken one needs more than was negotiated.
    #[error("the service that replaces a broken one needs what was not negotiated")]
    Unfit,
    /// A member of a chain refuses to work on the connection, which the chain cannot do without
    /// the others.
    #[error("the service refuses to work on this connection")]
    Refuses,
    /// A member of a chain asks for a verdict before it is known whether the member sees the
    /// message.
    #[error("the member's condition is known only when the content comes, but it judges {0}")]
    JudgesTooEarly(milter_core::Stage),
    /// A member of a chain's parallel section cannot work without changing mail, but is only to
    /// judge it there.
    #[error(
        "it has to change mail, but members of a parallel section only judge it: add it to the \
         chain by itself, with `Chain::with`"
    )]
    OnlyJudges(#[source] Box<Failure>),
    /// What a chain held for the service could not be read.
    #[error("what was held of the message cannot be read")]
    Held(#[source] std::io::Error),
    /// The MTA does not offer what a member of a chain cannot work without.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    /// The service answered the negotiation with something else than its needs.
    #[error("the negotiation is answered with needs, not with {0}")]
    NotNeeds(&'static str),
    /// The service's response cannot be sent.
    #[error(transparent)]
    Verdict(#[from] NotAllowed),
    /// A modification is outside of what was negotiated.
    #[error(transparent)]
    NotAgreed(#[from] NotAgreed),
    /// A modification could not be made.
    #[error(transparent)]
    Edit(#[from] ModificationError),
    /// The MTA would refuse the message for the service's modifications, or worse.
    #[error(transparent)]
    Refused(#[from] milter_core::edit::Refused),
    /// Modifications came before the end of the message.
    #[error("a message can be changed at its end only, not at {0}")]
    EarlyEdit(milter_core::Stage),
    /// The service broke at an earlier event of the message.
    #[error("the service broke at an earlier event")]
    Broken,
    /// The message has more recipients than are kept.
    #[error("the message has more than {0} recipients")]
    TooManyRecipients(usize),
    /// The message has more headers than are taken.
    #[error("the message has more than {0} headers (Settings::max_headers)")]
    TooManyHeaders(usize),
    /// The message's headers have more bytes than are taken.
    #[error("the message has more than {0} bytes of headers (Settings::max_header_bytes)")]
    TooLargeHeaders(usize),
    /// All connections together hold more than they may.
    #[error("all connections together hold more than {0} bytes (Settings::max_held_bytes)")]
    TooMuchHeld(usize),
    /// The MTA sent a command out of order, which the filter therefore did not see.
    #[error("the MTA sent {0} where it cannot come")]
    Misplaced(milter_core::Stage),
}

impl Failure {
    /// Whether it follows from a failure that was logged.
    pub(crate) fn was_logged(&self) -> bool {
        match self {
            Self::Broken => true,
            Self::Error(error) => error
                .downcast_ref::<RemoteError>()
                .is_some_and(RemoteError::is_repeated),
            _ => false,
        }
    }

    /// Whether the service must not be called again.
    pub(crate) fn breaks_service(&self) -> bool {
        matches!(self, Self::NotReady(_) | Self::Panic(_))
    }
}
