//! What a filter needs of the MTA.

use std::borrow::Cow;

use super::macro_lists::MacroRequest;
use crate::flags::{Actions, DataSize, Steps};
use crate::macros::MacroStage;
use crate::stage::{Stage, Stages};

/// What a filter needs of the MTA: events, replies, actions, abilities, macros.
///
/// Needs form a lattice: [`none`](Self::none) at the bottom, [`all`](Self::all) at the top, and
/// [`join`](Self::join) gives what serves both. Whatever stands around a filter only ever widens
/// its needs.
///
/// ```
/// use milter_core::{Actions, MacroStage, Needs, Stage};
///
/// // Judges recipients and only writes the sender down.
/// let needs = Needs::none()
///     .event(Stage::Rcpt)
///     .record(Stage::Mail)
///     .action(Actions::ADD_HEADERS)
///     .macros(MacroStage::Mail, ["{auth_authen}"]);
/// assert!(needs.wants(Stage::Mail) && needs.is_silent(Stage::Mail));
/// assert!(!needs.is_silent(Stage::Rcpt) && !needs.wants(Stage::Body));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    pub(super) events: Stages,
    /// Of the events, those that get no reply.
    pub(super) silent: Stages,
    pub(super) required: Actions,
    pub(super) optional: Actions,
    pub(super) wished: Steps,
    pub(super) required_steps: Steps,
    pub(super) data_size: DataSize,
    pub(super) macros: MacroRequest,
}

impl Needs {
    /// The bottom: no event but the end of the message, no action.
    pub fn none() -> Self {
        Self {
            events: Stages::from(Stage::EndOfMessage),
            silent: Stages::NONE,
            required: Actions::empty(),
            optional: Actions::empty(),
            wished: Steps::empty(),
            required_steps: Steps::empty(),
            data_size: DataSize::Kib64,
            macros: MacroRequest::default(),
        }
    }

    /// The top: every event with a reply, every action that is offered. Neither SKIP, nor
    /// refused recipients, nor leading space, nor macros beyond the MTA's own.
    ///
    /// That is what a service gets that knows nothing of needs.
    pub fn all() -> Self {
        Self {
            events: Stages::ALL,
            optional: Actions::CHANGES,
            ..Self::none()
        }
    }

    /// Asks for an event, to be answered with a verdict.
    #[must_use]
    pub fn event(mut self, stage: Stage) -> Self {
        self.events.insert(stage);
        self.silent.remove(stage);
        self
    }

    /// Asks for several events, each to be answered with a verdict.
    #[must_use]
    pub fn events(self, stages: impl IntoIterator<Item = Stage>) -> Self {
        stages.into_iter().fold(self, Self::event)
    }

    /// Asks for an event that is only recorded: it gets no reply, and the MTA need not wait.
    ///
    /// Nothing changes for an event that is already asked for with a reply. The end of the
    /// message always has a reply.
    #[must_use]
    pub fn record(mut self, stage: Stage) -> Self {
        if !self.events.contains(stage) && stage != Stage::EndOfMessage {
            self.events.insert(stage);
            self.silent.insert(stage);
        }
        self
    }

    /// Asks for actions without which the filter cannot work. Where the MTA does not offer
    /// them the negotiation fails.
    #[must_use]
    pub fn action(mut self, actions: Actions) -> Self {
        self.required |= actions;
        self
    }

    /// Asks for actions if the MTA offers them.
    #[must_use]
    pub fn optional_action(mut self, actions: Actions) -> Self {
        self.optional |= actions;
        self
    }

    /// Takes actions back, required or not.
    #[must_use]
    pub fn without_action(mut self, actions: Actions) -> Self {
        self.required -= actions;
        self.optional -= actions;
        self
    }

    /// Wishes to be able to skip the rest of a body.
    #[must_use]
    pub fn skip(mut self) -> Self {
        self.wished |= Steps::SKIP;
        self
    }

    /// Wishes to see recipients that the MTA refused, too.
    #[must_use]
    pub fn rejected_recipients(mut self) -> Self {
        self.wished |= Steps::REJECTED_RECIPIENTS;
        self
    }

    /// Wishes for header values with their leading space, exactly as they were sent.
    ///
    /// Values that the filter adds are then written right behind the colon, without a space.
    #[must_use]
    pub fn leading_space(mut self) -> Self {
        self.wished |= Steps::LEADING_SPACE;
        self
    }

    /// Makes [`leading_space`](Self::leading_space) a condition: there is no way to make up for
    /// an MTA that does not offer it, as a signature over the exact header would need.
    #[must_use]
    pub fn require_leading_space(mut self) -> Self {
        self.wished |= Steps::LEADING_SPACE;
        self.required_steps |= Steps::LEADING_SPACE;
        self
    }

    /// Allows larger frames for headers, arguments and macros where the MTA offers them.
    #[must_use]
    pub fn data_size(mut self, most: DataSize) -> Self {
        self.data_size = self.data_size.max(most);
        self
    }

    /// Asks for macros at a stage.
    ///
    /// A list *replaces* the MTA's own for that stage, so those that the session's facts come
    /// from (queue id, TLS, authentication …) are asked for with it. For the exact list see
    /// [`macros_exact`](Self::macros_exact).
    #[must_use]
    pub fn macros<I>(mut self, stage: MacroStage, names: I) -> Self
    where
        I: IntoIterator<Item: Into<Cow<'static, str>>>,
    {
        self.macros.add_with_facts(stage, names);
        self
    }

    /// Asks for these macros at a stage and no others; an empty list asks for none.
    #[must_use]
    pub fn macros_exact<I>(mut self, stage: MacroStage, names: I) -> Self
    where
        I: IntoIterator<Item: Into<Cow<'static, str>>>,
    {
        self.macros.add(stage, names);
        self
    }

    /// Takes out the macros beyond the fifty that Sendmail takes for one stage, and returns them: the
    /// last in order, but none that the session's facts come from.
    ///
    /// For needs that were [joined](Self::join), where nobody asks for too many. What one filter
    /// asks for is an error of [`negotiate`](super::negotiate()) instead.
    // sendmail/milter.c milter_getsymlist: cuts the list, and does not tell the filter
    pub fn drop_excess_macros(&mut self) -> Vec<(MacroStage, Cow<'static, str>)> {
        self.macros.drop_excess()
    }

    /// Declines an event that was asked for. The end of the message cannot be declined.
    #[must_use]
    pub fn without(mut self, stage: Stage) -> Self {
        if stage != Stage::EndOfMessage {
            self.events.remove(stage);
            self.silent.remove(stage);
        }
        self
    }

    /// What serves both: the least needs that are no less than either.
    ///
    /// A stage whose macros only one side asks for gets those that the session's facts come from
    /// too, since the other side counts on them; so a list of
    /// [`macros_exact`](Self::macros_exact) stays exact only where both sides have one.
    #[must_use]
    pub fn join(mut self, other: &Self) -> Self {
        // An event stays without a reply only if nobody wants to answer it.
        let answered = self
            .events
            .difference(self.silent)
            .union(other.events.difference(other.silent));
        self.events = self.events.union(other.events);
        self.silent = self.events.difference(answered);
        self.required |= other.required;
        self.optional |= other.optional;
        self.wished |= other.wished;
        self.required_steps |= other.required_steps;
        self.data_size = self.data_size.max(other.data_size);
        self.macros.join(&other.macros);
        self
    }

    /// Whether the event is asked for.
    pub fn wants(&self, stage: Stage) -> bool {
        self.events.contains(stage)
    }

    /// Whether the event is asked for without a reply.
    pub fn is_silent(&self, stage: Stage) -> bool {
        self.silent.contains(stage)
    }

    /// The events asked for.
    pub fn wanted(&self) -> Stages {
        self.events
    }

    /// The actions without which the filter cannot work.
    pub fn required_actions(&self) -> Actions {
        self.required
    }

    /// The actions asked for if they are offered.
    pub fn optional_actions(&self) -> Actions {
        self.optional
    }

    /// The abilities wished for: of [`Steps::SKIP`], [`Steps::REJECTED_RECIPIENTS`] and
    /// [`Steps::LEADING_SPACE`].
    pub fn abilities(&self) -> Steps {
        self.wished
    }
}

/// [`Needs::all`].
impl Default for Needs {
    fn default() -> Self {
        Self::all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_the_top_and_none_the_bottom() {
        let some = Needs::none()
            .event(Stage::Rcpt)
            .record(Stage::Mail)
            .optional_action(Actions::CHANGE_BODY);
        assert_eq!(some.clone().join(&Needs::none()), some);
        assert_eq!(some.clone().join(&Needs::all()), Needs::all());
        assert_eq!(Needs::all().join(&some), Needs::all());
        assert_eq!(some.clone().join(&some), some);
    }

    #[test]
    fn a_reply_wanted_by_one_is_a_reply() {
        let records = Needs::none().record(Stage::Mail).record(Stage::Helo);
        let judges = Needs::none().event(Stage::Mail);
        for both in [records.clone().join(&judges), judges.join(&records)] {
            assert!(both.wants(Stage::Mail) && !both.is_silent(Stage::Mail));
            assert!(both.is_silent(Stage::Helo));
        }
        assert!(
            !Needs::none()
                .event(Stage::Mail)
                .record(Stage::Mail)
                .is_silent(Stage::Mail)
        );
        assert!(
            !Needs::none()
                .record(Stage::EndOfMessage)
                .is_silent(Stage::EndOfMessage)
        );
        let taken = Needs::all()
            .action(Actions::QUARANTINE)
            .without_action(Actions::QUARANTINE);
        assert!(!(taken.required | taken.optional).contains(Actions::QUARANTINE));
        assert!(
            Needs::none()
                .without(Stage::EndOfMessage)
                .wants(Stage::EndOfMessage)
        );
    }
}
