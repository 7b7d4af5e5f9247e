//! What one service was told, and what may be said for it.

use std::sync::Arc;

use milter_core::{Agreement, Modification, Needs, ReplyMode, Stage, Verdict};

use super::standing::{Scope, Standing};
use crate::error::Failure;
use crate::response::Response;

/// What one service agreed on, was told, and owes.
#[derive(Debug, Default)]
pub(crate) struct View {
    agreement: Arc<Agreement>,
    /// A failure that could not be told when it happened: no reply was due. Or what stands in
    /// the place of a service that is not there.
    standing: Option<Standing>,
    /// The service has seen something of the message.
    told: bool,
    /// The service wants no more of the body.
    skips: bool,
}

/// What of a response may be sent.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) verdict: Verdict,
    pub(crate) edits: Vec<Modification>,
    /// A verdict that was given where no reply is due, and is lost.
    pub(crate) lost: Option<Failure>,
}

impl View {
    pub(crate) fn agree(&mut self, agreement: Arc<Agreement>) {
        self.agreement = agreement;
    }

    pub(crate) const fn agreement(&self) -> &Arc<Agreement> {
        &self.agreement
    }

    /// Whether a verdict of the service is told at this stage.
    pub(crate) fn has_reply(&self, stage: Stage) -> bool {
        self.agreement.reply_mode(stage) != ReplyMode::Silent
    }

    /// Whether the service is asked.
    pub(crate) fn is_asked(&self, stage: Stage) -> bool {
        let skips = stage == Stage::Body && self.skips;
        self.standing.is_none() && !skips && self.agreement.delivers(stage)
    }

    /// The verdict where the service is not asked.
    pub(crate) fn foregone(&self, stage: Stage) -> Option<Verdict> {
        if self.is_asked(stage) {
            return None;
        }
        Some(match &self.standing {
            Some(standing) => standing.at(stage, self.has_reply(stage)),
            None => Verdict::Continue,
        })
    }

    /// What of a response may be sent: what the stage allows and was agreed on.
    pub(crate) fn check(&mut self, stage: Stage, response: Response) -> Result<Checked, Failure> {
        let (verdict, edits) = response.into_parts()?;
        if let Err(wrong) = verdict.check(stage, &self.agreement) {
            if self.agreement.reply_mode(stage) == ReplyMode::Verdict {
                return Err(wrong.into());
            }
            // A verdict where no reply is due is a mistake that harms nobody else.
            return Ok(Checked {
                verdict: Verdict::Continue,
                edits: Vec::new(),
                lost: Some(wrong.into()),
            });
        }
        if stage != Stage::EndOfMessage && !edits.is_empty() {
            return Err(Failure::EarlyEdit(stage));
        }
        edits
            .iter()
            .try_for_each(|edit| self.agreement.permits(edit))?;
        self.skips |= verdict == Verdict::Skip;
        Ok(Checked {
            verdict,
            edits,
            lost: None,
        })
    }

    /// What is said now of a failure with this verdict; where no reply is due, it is said at the
    /// next event that has one.
    pub(crate) fn fail(&mut self, stage: Stage, verdict: Verdict) -> Verdict {
        if self.has_reply(stage) {
            verdict
        } else {
            self.owe(stage, verdict)
        }
    }

    /// A failure that is not told now: it is at the next event that has a reply.
    pub(crate) fn owe(&mut self, stage: Stage, verdict: Verdict) -> Verdict {
        self.standing = self
            .standing
            .take()
            .or_else(|| Standing::since(stage, verdict));
        Verdict::Continue
    }

    /// Has every event answered so, as far as the scope reaches. What reaches further stays.
    pub(crate) fn stand(&mut self, scope: Scope, verdict: Verdict) {
        if self
            .standing
            .as_ref()
            .is_none_or(|standing| standing.scope <= scope)
        {
            self.standing = Some(Standing { scope, verdict });
        }
    }

    pub(crate) const fn is_standing(&self) -> bool {
        self.standing.is_some()
    }

    /// Whether nothing will ever be asked of the service: it failed in a negotiation.
    pub(crate) fn is_lost(&self) -> bool {
        let mut standing = self.standing.iter();
        standing.any(|standing| standing.scope == Scope::Connection)
    }

    pub(crate) const fn take_standing(&mut self) -> Option<Standing> {
        self.standing.take()
    }

    pub(crate) fn put_standing(&mut self, standing: Option<Standing>) {
        self.standing = standing;
    }

    /// Forgets a standing verdict that reaches no further.
    pub(crate) fn forget_standing(&mut self, scope: Scope) {
        if self
            .standing
            .as_ref()
            .is_some_and(|standing| standing.scope <= scope)
        {
            self.standing = None;
        }
    }

    /// Whether the service wants no more of the body.
    pub(crate) const fn skips(&self) -> bool {
        self.skips
    }

    /// The service was shown an event.
    pub(crate) const fn reach(&mut self, stage: Stage) {
        self.told |= stage.is_of_message();
    }

    /// The message begins or ends. Whether the service saw something of it and has to hear of the
    /// end.
    pub(crate) const fn end_message(&mut self) -> bool {
        self.skips = false;
        std::mem::replace(&mut self.told, false)
    }
}

/// What a service needs, as it answered the offer.
pub(crate) fn needs_of(response: Response) -> Result<Needs, Failure> {
    let needs = response.needs_asked().cloned().unwrap_or_default();
    let (verdict, edits) = response.into_parts()?;
    // To accept everything is what a first filter does; it will be asked everything.
    if !matches!(verdict, Verdict::Continue | Verdict::Accept) {
        // A layer that refuses whatever comes, say: its service was not asked.
        return Err(Failure::NotNeeds(verdict.name()));
    }
    if !edits.is_empty() {
        return Err(Failure::NotNeeds("modifications"));
    }
    Ok(needs)
}
