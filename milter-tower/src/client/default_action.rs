//! What becomes of mail whose milter fails.

use milter_core::{SmtpReply, Verdict};

use super::words::reply;

/// What an MTA does when a milter cannot be reached, or fails: Postfix's `milter_default_action`,
/// Sendmail's flags of a filter.
///
/// | here | Postfix | Sendmail | the client is told |
/// | --- | --- | --- | --- |
/// | [`Accept`](Self::Accept) | `accept` | no flag | nothing: the mail goes on unfiltered |
/// | [`TempFail`](Self::TempFail) | `tempfail` (default before 3.11) | `F=T` | 451, also to what else it says |
/// | [`Reject`](Self::Reject) | `reject` | `F=R` | 550, also to what else it says |
/// | [`Shutdown`](Self::Shutdown) | `shutdown` (default since 3.11) | `F=4` | 421, and the connection is closed |
/// | [`Quarantine`](Self::Quarantine) | `quarantine` | | nothing: the mail is held back |
///
/// The default is `TempFail`: no mail passes unfiltered, and none is lost.
// Postfix milter8.c milter8_comm_error, proto/postconf.proto milter_default_action;
// sendmail/milter.c milter_error
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DefaultAction {
    /// The mail goes on as if there were no milter.
    Accept,
    /// The client is to try again later.
    #[default]
    TempFail,
    /// The client is refused for good.
    Reject,
    /// The client is to try again later, over another connection.
    Shutdown,
    /// The mail goes on, but is held back for someone to look at.
    Quarantine,
}

impl DefaultAction {
    /// The reason that a mail in quarantine has.
    // Postfix milter8.c milter8_comm_error: `Hdefault_action`
    pub const QUARANTINE_REASON: &str = "default_action";

    /// What the client is told, if it is refused.
    // Postfix milter8.c milter8_comm_error has these words
    pub fn reply(self) -> Option<SmtpReply> {
        let later = "Service unavailable - try again later";
        match self {
            Self::Accept | Self::Quarantine => None,
            Self::TempFail => Some(reply(451, 7, 1, later)),
            Self::Reject => Some(reply(550, 5, 0, "Service unavailable")),
            Self::Shutdown => Some(reply(421, 7, 1, later)),
        }
    }

    /// The verdict that stands in for the milter's: with [`reply`](Self::reply), or to accept.
    ///
    /// A mail to be held back is accepted too: see [`holds`](Self::holds).
    pub fn verdict(self) -> Verdict {
        self.reply().map_or(Verdict::Accept, Verdict::Reply)
    }

    /// Whether the mail is held back.
    pub const fn holds(self) -> bool {
        matches!(self, Self::Quarantine)
    }
}
