//! How a mail ended, and what exit code that is.

use std::fmt;

use clap::ValueEnum;
use milter_tower::testing::{Delivery, Failure, Fate};
use serde::Serialize;

/// How a mail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ending {
    Accepted,
    Rejected,
    Tempfailed,
    Discarded,
    Quarantined,
    /// The milter did not answer in time.
    TimedOut,
    /// It broke the protocol, or went away.
    Failed,
}

impl Ending {
    pub(crate) fn of(done: &Delivery, failure: Option<&Failure>) -> Self {
        match &done.fate {
            Fate::Accepted if done.quarantine().is_some() => Self::Quarantined,
            Fate::Accepted => Self::Accepted,
            Fate::Discarded => Self::Discarded,
            Fate::Refused(_) | Fate::NoRecipients => match done.reply() {
                Some(reply) if reply.is_transient() => Self::Tempfailed,
                _ => Self::Rejected,
            },
            _ if matches!(failure, Some(Failure::Timeout(_))) => Self::TimedOut,
            _ => Self::Failed,
        }
    }

    /// Whether the milter did its part.
    pub(crate) fn is_verdict(self) -> bool {
        !matches!(self, Self::TimedOut | Self::Failed)
    }

    /// As `--help` says.
    // 75 and 76 are EX_TEMPFAIL and EX_PROTOCOL of sysexits.h
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::Rejected => 1,
            Self::Tempfailed => 3,
            Self::Discarded => 4,
            Self::Quarantined => 5,
            Self::TimedOut => 75,
            Self::Failed => 76,
        }
    }

    /// The same where this was expected.
    pub(crate) fn exit_code_if(self, expected: Option<Expected>) -> u8 {
        match expected {
            Some(expected) if self.is_verdict() => u8::from(!expected.is(self)),
            _ => self.exit_code(),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Tempfailed => "refused for now",
            Self::Discarded => "discarded",
            Self::Quarantined => "quarantined",
            Self::TimedOut => "no answer in time",
            Self::Failed => "the milter failed",
        })
    }
}

/// What a script expects.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Expected {
    Accept,
    Reject,
    Tempfail,
    Discard,
    Quarantine,
}

impl Expected {
    fn is(self, ending: Ending) -> bool {
        let expected = match self {
            Self::Accept => Ending::Accepted,
            Self::Reject => Ending::Rejected,
            Self::Tempfail => Ending::Tempfailed,
            Self::Discard => Ending::Discarded,
            Self::Quarantine => Ending::Quarantined,
        };
        ending == expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_endings_apart() {
        let endings = [
            Ending::Accepted,
            Ending::Rejected,
            Ending::Tempfailed,
            Ending::Discarded,
            Ending::Quarantined,
            Ending::TimedOut,
            Ending::Failed,
        ];
        let mut codes = endings.map(Ending::exit_code);
        codes.sort_unstable();
        assert_eq!(codes, [0, 1, 3, 4, 5, 75, 76]);
    }

    #[test]
    fn what_was_expected_is_good_and_all_else_is_not() {
        let expected = Some(Expected::Reject);
        assert_eq!(Ending::Rejected.exit_code_if(expected), 0);
        assert_eq!(Ending::Accepted.exit_code_if(expected), 1);
        assert_eq!(Ending::Tempfailed.exit_code_if(expected), 1);
        // A milter that is broken is no milter that does something else.
        assert_eq!(Ending::Failed.exit_code_if(expected), 76);
        assert_eq!(Ending::TimedOut.exit_code_if(Some(Expected::Tempfail)), 75);
    }
}
