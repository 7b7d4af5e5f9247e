//! The order of an MTA's commands.

use crate::negotiate::Agreement;
use crate::stage::Stage;

/// How far a session is, for the MTA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Before the client connected.
    Start,
    /// Between messages.
    Session,
    /// MAIL has come.
    Sender,
    /// A recipient has come.
    Recipients,
    /// A header has come.
    Headers,
    /// All headers have come.
    Body,
}

impl Phase {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Start => "before the client's connection",
            Self::Session => "between messages",
            Self::Sender => "behind MAIL",
            Self::Recipients => "behind RCPT",
            Self::Headers => "within the headers",
            Self::Body => "behind the headers",
        }
    }

    /// The phase after this stage, or none if it cannot come here.
    ///
    /// A stage that the filter declined may be left out.
    // libmilter/engine.c trans_ok
    pub(super) fn after(self, stage: Stage, agreement: &Agreement) -> Option<Self> {
        let (least, most, next) = self.around(stage);
        (self <= most && self.reaches(least, agreement)).then_some(next)
    }

    /// The phase after this stage, wherever it comes.
    pub(super) fn after_any(self, stage: Stage) -> Self {
        self.around(stage).2
    }

    /// The first and the last phase in which a stage may come, and the phase after it.
    fn around(self, stage: Stage) -> (Self, Self, Self) {
        match stage {
            Stage::Connect => (Self::Start, Self::Start, Self::Session),
            // In a message, too (Q5).
            Stage::Helo | Stage::Unknown => (
                Self::Session,
                Self::Recipients,
                self.clamp(Self::Session, Self::Recipients),
            ),
            Stage::Mail => (Self::Session, Self::Session, Self::Sender),
            // Refused DATA may come again, and other recipients before it (Q24).
            Stage::Rcpt => (Self::Sender, Self::Recipients, Self::Recipients),
            Stage::Data => (Self::Recipients, Self::Recipients, Self::Recipients),
            Stage::Header => (Self::Recipients, Self::Headers, Self::Headers),
            Stage::EndOfHeaders => (Self::Recipients, Self::Headers, Self::Body),
            Stage::Body | Stage::EndOfMessage => (Self::Body, Self::Body, Self::Body),
        }
    }

    /// Whether only stages are missing to be that far which the filter declined.
    fn reaches(self, phase: Self, agreement: &Agreement) -> bool {
        let mut at = self;
        while at < phase {
            let (missing, next) = match at {
                Self::Start => (Stage::Connect, Self::Session),
                Self::Session => (Stage::Mail, Self::Sender),
                Self::Sender => (Stage::Rcpt, Self::Recipients),
                Self::Recipients | Self::Headers | Self::Body => (Stage::EndOfHeaders, Self::Body),
            };
            if agreement.delivers(missing) {
                return false;
            }
            at = next;
        }
        true
    }
}
