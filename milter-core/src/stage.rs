//! The stages at which a filter is asked, and sets of them.

use std::fmt;

use crate::flags::Steps;

/// A point of the SMTP session at which the MTA asks the filter for a verdict.
///
/// The order is that of the protocol; [`Unknown`](Self::Unknown) may come at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// A client connected (`C`).
    Connect,
    /// HELO or EHLO (`H`).
    Helo,
    /// MAIL FROM (`M`).
    Mail,
    /// RCPT TO (`R`), once for each recipient.
    Rcpt,
    /// DATA (`T`); since protocol version 4.
    Data,
    /// A command that the MTA does not know (`U`); since protocol version 3.
    Unknown,
    /// A header field (`L`).
    Header,
    /// The blank line after the header (`N`).
    EndOfHeaders,
    /// A piece of the body (`B`).
    Body,
    /// The end of the message (`E`). It can be neither declined nor left without a reply.
    EndOfMessage,
}

impl Stage {
    /// All stages, in the order of the protocol.
    pub const ALL: [Self; 10] = [
        Self::Connect,
        Self::Helo,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Unknown,
        Self::Header,
        Self::EndOfHeaders,
        Self::Body,
        Self::EndOfMessage,
    ];

    /// The bit that declines the stage; none for the end of the message.
    // include/libmilter/mfdef.h SMFIP_NO*
    pub const fn declining(self) -> Option<Steps> {
        Some(match self {
            Self::Connect => Steps::NO_CONNECT,
            Self::Helo => Steps::NO_HELO,
            Self::Mail => Steps::NO_MAIL,
            Self::Rcpt => Steps::NO_RCPT,
            Self::Data => Steps::NO_DATA,
            Self::Unknown => Steps::NO_UNKNOWN,
            Self::Header => Steps::NO_HEADERS,
            Self::EndOfHeaders => Steps::NO_END_OF_HEADERS,
            Self::Body => Steps::NO_BODY,
            Self::EndOfMessage => return None,
        })
    }

    /// The bit that says that no reply comes at the stage; none for the end of the message.
    // include/libmilter/mfdef.h SMFIP_NR_*
    pub const fn silencing(self) -> Option<Steps> {
        Some(match self {
            Self::Connect => Steps::NR_CONNECT,
            Self::Helo => Steps::NR_HELO,
            Self::Mail => Steps::NR_MAIL,
            Self::Rcpt => Steps::NR_RCPT,
            Self::Data => Steps::NR_DATA,
            Self::Unknown => Steps::NR_UNKNOWN,
            Self::Header => Steps::NR_HEADER,
            Self::EndOfHeaders => Steps::NR_END_OF_HEADERS,
            Self::Body => Steps::NR_BODY,
            Self::EndOfMessage => return None,
        })
    }

    /// The name as a user would write it: `end of headers`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Helo => "helo",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Unknown => "unknown command",
            Self::Header => "header",
            Self::EndOfHeaders => "end of headers",
            Self::Body => "body",
            Self::EndOfMessage => "end of message",
        }
    }

    /// Whether the stage belongs to a message (all but connect, HELO and unknown commands).
    pub const fn is_of_message(self) -> bool {
        !matches!(self, Self::Connect | Self::Helo | Self::Unknown)
    }
}

/// The [name](Stage::name).
impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of [`Stage`]s.
///
/// ```
/// use milter_core::{Stage, Stages};
///
/// let stages = Stages::from_iter([Stage::Mail, Stage::Rcpt]);
/// assert!(stages.contains(Stage::Rcpt));
/// assert_eq!(stages.union(Stage::Data.into()).iter().count(), 3);
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Stages(u16);

impl Stages {
    /// No stage.
    pub const NONE: Self = Self(0);
    /// Every stage.
    pub const ALL: Self = Self((1 << Stage::ALL.len()) - 1);

    /// Whether the stage is in the set.
    pub const fn contains(self, stage: Stage) -> bool {
        self.0 & 1 << stage as u16 != 0
    }

    /// Whether every stage of `other` is in this set.
    pub const fn contains_all(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// The stages in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The stages in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The stages of this set that are not in the other.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether no stage is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds a stage.
    pub const fn insert(&mut self, stage: Stage) {
        self.0 |= 1 << stage as u16;
    }

    /// Takes a stage out.
    pub const fn remove(&mut self, stage: Stage) {
        self.0 &= !(1 << stage as u16);
    }

    /// The stages of the set, in the order of the protocol.
    pub fn iter(self) -> StagesIter {
        self.into_iter()
    }
}

impl From<Stage> for Stages {
    fn from(stage: Stage) -> Self {
        Self(1 << stage as u16)
    }
}

impl FromIterator<Stage> for Stages {
    fn from_iter<I: IntoIterator<Item = Stage>>(stages: I) -> Self {
        let mut set = Self::NONE;
        for stage in stages {
            set.insert(stage);
        }
        set
    }
}

impl IntoIterator for Stages {
    type Item = Stage;
    type IntoIter = StagesIter;

    fn into_iter(self) -> StagesIter {
        StagesIter { left: self }
    }
}

/// The stages of a [set](Stages), in the order of the protocol.
#[derive(Clone, Debug)]
pub struct StagesIter {
    left: Stages,
}

impl Iterator for StagesIter {
    type Item = Stage;

    fn next(&mut self) -> Option<Stage> {
        let stage = Stage::ALL
            .into_iter()
            .find(|stage| self.left.contains(*stage))?;
        self.left.remove(stage);
        Some(stage)
    }
}

impl fmt::Debug for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_stages() {
        let mut set = Stages::from(Stage::Helo);
        set.insert(Stage::EndOfMessage);
        assert!(Stages::ALL.contains_all(set) && !set.contains_all(Stages::ALL));
        assert_eq!(
            set.iter().collect::<Vec<_>>(),
            [Stage::Helo, Stage::EndOfMessage]
        );
        set.remove(Stage::Helo);
        assert!(!set.contains(Stage::Helo));
        assert!(set.difference(set).is_empty());
        assert_eq!(Stages::ALL.iter().collect::<Vec<_>>(), Stage::ALL);
    }

    #[test]
    fn every_stage_but_the_end_has_both_bits() {
        for stage in Stage::ALL {
            let has = stage != Stage::EndOfMessage;
            assert_eq!(stage.declining().is_some(), has, "{stage}");
            assert_eq!(stage.silencing().is_some(), has, "{stage}");
        }
    }
}
