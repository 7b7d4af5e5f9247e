use std::error::Error;
use std::fmt;
use std::time::Duration;

use milter_tower::Stage;

/// The error of [`Timeout`](super::Timeout): the filter took too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedOut {
    pub(super) stage: Option<Stage>,
    pub(super) limit: Limit,
}

/// Which limit it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Event(Duration),
    Message(Duration),
    Mta,
}

impl Limit {
    pub(super) const fn is_of_message(self) -> bool {
        matches!(self, Self::Message(_))
    }
}

impl TimedOut {
    /// At which stage; none in the negotiation, and where something ended.
    pub fn stage(&self) -> Option<Stage> {
        self.stage
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the filter took too long")?;
        if let Some(stage) = self.stage {
            write!(f, " at {stage}")?;
        }
        match self.limit {
            Limit::Event(limit) => write!(f, ": more than {limit:?}"),
            Limit::Message(limit) => write!(f, ": more than {limit:?} for the message"),
            Limit::Mta => f.write_str(": the MTA waits no longer"),
        }
    }
}

impl Error for TimedOut {}
