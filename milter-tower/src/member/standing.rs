//! Verdicts that stand: given to every event that can carry them, as far as they reach.

use milter_core::{Stage, Verdict};

/// How far a verdict reaches that is given without asking the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    Message,
    Session,
    Connection,
}

/// A verdict that is given in the place of a service's, and how far it reaches.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) scope: Scope,
    pub(crate) verdict: Verdict,
}

impl Standing {
    /// What stands after this verdict could not be told at a stage: no reply is due there, or none
    /// like it is allowed. An unknown command is part of nothing that comes later.
    pub(crate) fn since(stage: Stage, verdict: Verdict) -> Option<Self> {
        let scope = match stage {
            Stage::Unknown => return None,
            stage if stage.is_of_message() => Scope::Message,
            _ => Scope::Session,
        };
        Some(Self { scope, verdict })
    }

    /// What is told at a stage: the verdict if one is due that is like it, else to go on.
    pub(crate) fn at(&self, stage: Stage, is_due: bool) -> Verdict {
        if is_due && self.verdict.is_allowed_at(stage) {
            self.verdict.clone()
        } else {
            Verdict::Continue
        }
    }
}
