//! What can go wrong: with the filter, and with whoever drives the session.

use std::fmt;

use crate::codec::CodecError;
use crate::negotiate::NotAgreed;
use crate::stage::Stage;

use super::session::Timeout;

/// Why a filter is of no more use on this connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// It answered the offer with something else.
    #[error("the filter answers the offer with {:?}, which is no answer to one", *.code as char)]
    NoAgreement {
        /// The reply's letter.
        code: u8,
    },
    /// It wants to speak a version that was not offered, or one before 2 (C23).
    #[error("the filter wants version {answered} of the protocol; {offered} was offered")]
    Version {
        /// What was offered.
        offered: u32,
        /// What it answered.
        answered: u32,
    },
    /// It asks for actions or steps that were not offered (C22).
    #[error("the filter asks for {asked}, which was not offered")]
    NotOffered {
        /// The names of what was not offered.
        asked: String,
    },
    /// A reply came where none was due.
    #[error("the filter sends {:?} where no reply is due: it is out of step", *.code as char)]
    NothingDue {
        /// The reply's letter.
        code: u8,
    },
    /// The reply means nothing at this stage (C78, Q9, Q10).
    #[error("the filter answers {:?} at {stage}, where that is not possible", *.code as char)]
    NotHere {
        /// The reply's letter.
        code: u8,
        /// Where it came.
        stage: Stage,
    },
    /// It sends a modification that it did not ask for in the negotiation.
    #[error("the filter makes a modification that it may not: {0}")]
    NotAgreed(#[from] NotAgreed),
    /// Its modifications of one message are larger than what is taken.
    #[error("the filter's modifications of one message exceed {max} bytes")]
    TooManyEdits {
        /// The bytes that are taken.
        max: usize,
    },
    /// Its bytes cannot be read as replies (C77).
    #[error("the filter cannot be understood: {0}")]
    Unreadable(String),
    /// It did not answer in time (C83).
    #[error("the filter did not answer in time ({0})")]
    Timeout(Timeout),
    /// It closed the connection, or that was lost.
    #[error("the connection with the filter ended")]
    ConnectionLost,
}

impl From<&CodecError> for Failure {
    fn from(error: &CodecError) -> Self {
        match error {
            CodecError::Io(_) | CodecError::Truncated { .. } => Self::ConnectionLost,
            other => Self::Unreadable(other.to_string()),
        }
    }
}

/// Why nothing was sent: the call came out of order, or the filter has failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The filter did not answer the offer yet, or was not made one.
    #[error("{what} comes before the negotiation: make the offer and take its answer first")]
    NotNegotiated {
        /// What was to be sent.
        what: Said,
    },
    /// The offer was made before: there is one in a connection.
    #[error("the offer was made before")]
    Renegotiation,
    /// The filter has not answered yet.
    #[error("{what} comes before the filter has answered at {awaited}: take its reply first")]
    ReplyDue {
        /// What was to be sent.
        what: Said,
        /// What it was asked.
        awaited: Said,
    },
    /// The command cannot come here.
    #[error("{stage} cannot come here: the MTA is {at}")]
    OutOfOrder {
        /// What was to be sent.
        stage: Stage,
        /// Where the session is.
        at: &'static str,
    },
    /// MAIL came while a message is open.
    #[error("a message begins while one is open: end or abort that first")]
    MessageOpen,
    /// The command is none that a filter is asked about.
    #[error(
        "the command {:?} is not sent so: see `offer`, `abort`, `quit` and `quit_new_connection`",
        *.code as char
    )]
    NotAsked {
        /// The command's letter.
        code: u8,
    },
    /// A piece of the body is too large.
    // include/libmilter/mfdef.h MILTER_CHUNK_SIZE
    #[error(
        "a piece of the body has {size} bytes, but at most 65535 are sent at a time: cut it \
         (`Modification::body_chunks` does)"
    )]
    BodyTooLarge {
        /// Its bytes.
        size: usize,
    },
    /// A command or its macros are larger than what the filter reads.
    #[error("{stage} takes {size} bytes with what belongs to it, but the filter reads only {max}")]
    TooLarge {
        /// What was to be sent.
        stage: Stage,
        /// Its bytes.
        size: usize,
        /// The bytes that the filter reads.
        max: usize,
    },
    /// The session ended.
    #[error("the session ended: its filter was told goodbye")]
    Ended,
    /// The filter has failed before.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Something that an MTA says, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Said {
    /// The offer.
    Offer,
    /// A command that is due a reply.
    Stage(Stage),
    /// The end of a message that was given up.
    Abort,
    /// The end of the SMTP session.
    Quit,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offer => f.write_str("the offer"),
            Self::Stage(stage) => stage.fmt(f),
            Self::Abort => f.write_str("abort"),
            Self::Quit => f.write_str("quit"),
        }
    }
}
