//! What the two sides agreed on.

use super::macro_lists::{MacroLists, MacroRequest};
use super::needs::Needs;
use super::{Offer, OfferReply, VERSION};
use crate::flags::{Actions, DataSize, Steps, flag_names};
use crate::modification::Modification;
use crate::stage::{Stage, Stages};

/// How an event is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyMode {
    /// With the filter's verdict.
    Verdict,
    /// With `continue`, whatever the filter says: the MTA waits for a reply, but the filter
    /// declined the event or its reply, and the MTA did not offer to leave it out (C15).
    Continue,
    /// Not at all.
    Silent,
}

/// What an MTA and a filter agreed on.
///
/// The default is that of a connection that has not negotiated: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    version: u32,
    actions: Actions,
    steps: Steps,
    data_size: DataSize,
    macros: MacroLists,
    /// The events that the filter wants.
    events: Stages,
    /// Of those, the ones it does not answer.
    silent: Stages,
}

impl Agreement {
    /// The offer must be normalized and have all that is required.
    pub(super) fn new(offered: &Offer, needs: &Needs) -> Self {
        let mut steps = needs.wished.intersection(offered.steps);
        for stage in Stage::ALL {
            let (Some(declining), Some(silencing)) = (stage.declining(), stage.silencing()) else {
                continue;
            };
            // NODATA and NOUNKNOWN that were not offered fall away like all others (C16): an MTA
            // that old does not send those commands.
            if needs.wants(stage) {
                if needs.is_silent(stage) {
                    steps |= silencing & offered.steps;
                }
            } else if offered.steps.contains(declining) {
                steps |= declining;
            } else {
                steps |= silencing & offered.steps;
            }
        }
        let data_size = DataSize::offered_in(offered.steps, needs.data_size);
        steps |= data_size.bit();

        let mut actions = (needs.required | needs.optional) & offered.actions;
        let mut macros = MacroLists::default();
        if offered.actions.contains(Actions::REQUEST_MACROS) {
            macros = needs.macros.to_lists();
        }
        // Whoever requires to be able to ask has that, whether or not there is something to ask.
        let asks = !macros.is_empty() || needs.required.contains(Actions::REQUEST_MACROS);
        actions.set(Actions::REQUEST_MACROS, asks);

        Self {
            version: offered.version.min(VERSION),
            actions,
            steps,
            data_size,
            macros,
            events: needs.events,
            silent: needs.silent,
        }
    }

    /// What a filter's answer to an offer means for the MTA that made the offer and checked the
    /// answer. No buffer is held by it.
    pub(crate) fn from_answer(offer: &Offer, answer: &OfferReply) -> Self {
        // Unknown commands and DATA came with versions 3 and 4 (C23, C80): sendmail/milter.c
        // milter_negotiate, Postfix milter8.c milter8_connect.
        let exists = |stage: &Stage| match stage {
            Stage::Unknown => answer.version >= 3,
            Stage::Data => answer.version >= 4,
            _ => true,
        };
        let has = |bit: Option<Steps>| bit.is_some_and(|bit| answer.steps.contains(bit));
        let stages = || Stage::ALL.into_iter();
        Self {
            version: answer.version,
            actions: answer.actions,
            steps: answer.steps,
            data_size: DataSize::offered_in(answer.steps & offer.steps, DataSize::Mib1),
            macros: answer.macros.to_owned_copy(),
            events: stages()
                .filter(|stage| exists(stage) && !has(stage.declining()))
                .collect(),
            silent: stages().filter(|stage| has(stage.silencing())).collect(),
        }
    }

    /// The version that is spoken: 2 to 6.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The actions that the filter may take.
    pub fn actions(&self) -> Actions {
        self.actions
    }

    /// The steps as they were sent to the MTA.
    pub fn steps(&self) -> Steps {
        self.steps
    }

    /// The macros that were asked for; empty where the MTA cannot be asked.
    pub fn macros(&self) -> &MacroLists {
        &self.macros
    }

    /// Whether the filter wants the event. One that comes all the same is not passed to it.
    pub fn delivers(&self, stage: Stage) -> bool {
        self.events.contains(stage)
    }

    /// How the event is answered.
    pub fn reply_mode(&self, stage: Stage) -> ReplyMode {
        if stage
            .silencing()
            .is_some_and(|bit| self.steps.contains(bit))
        {
            ReplyMode::Silent
        } else if !self.events.contains(stage) || self.silent.contains(stage) {
            ReplyMode::Continue
        } else {
            ReplyMode::Verdict
        }
    }

    /// Whether the filter may skip the rest of a body.
    pub fn skip(&self) -> bool {
        self.steps.contains(Steps::SKIP)
    }

    /// Whether recipients that the MTA refused are sent too.
    pub fn rejected_recipients(&self) -> bool {
        self.steps.contains(Steps::REJECTED_RECIPIENTS)
    }

    /// Whether header values have their leading space, in both directions.
    pub fn leading_space(&self) -> bool {
        self.steps.contains(Steps::LEADING_SPACE)
    }

    /// The largest payload of a frame in bytes: 65,535 unless more was agreed on.
    pub fn max_payload(&self) -> usize {
        self.data_size.max_payload()
    }

    /// Whether the modification may be sent at the end of a message.
    ///
    /// # Errors
    ///
    /// Its action was not agreed on, or it does not fit into a frame (C6, C75).
    // libmilter/engine.c mi_sendok
    pub fn permits(&self, modification: &Modification) -> Result<(), NotAgreed> {
        let action = match modification.code() {
            b'h' | b'i' => Actions::ADD_HEADERS,
            b'm' => Actions::CHANGE_HEADERS,
            b'b' => Actions::CHANGE_BODY,
            b'e' => Actions::CHANGE_SENDER,
            b'+' => Actions::ADD_RECIPIENTS,
            b'2' => Actions::ADD_RECIPIENTS_WITH_ARGS,
            b'-' => Actions::DELETE_RECIPIENTS,
            _ => Actions::QUARANTINE,
        };
        if !self.actions.contains(action) {
            return Err(NotAgreed::Action {
                action: flag_names(&action),
                agreed: flag_names(&self.actions),
            });
        }
        let size = modification.payload_len();
        // A new body is sent in pieces.
        if action != Actions::CHANGE_BODY && size > self.max_payload() {
            return Err(NotAgreed::Size {
                size,
                max: self.max_payload(),
            });
        }
        Ok(())
    }

    /// Whether a filter with these needs can take over under this agreement.
    ///
    /// Macros are not compared: an MTA may have no value for any of them, so no filter can count
    /// on one. Nor are skip and larger frames, which are only ever allowed, not needed.
    pub fn serves(&self, needs: &Needs) -> bool {
        let answered = needs.events.difference(needs.silent);
        let abilities = Steps::REJECTED_RECIPIENTS | Steps::LEADING_SPACE;
        self.events.contains_all(needs.events)
            && answered.iter().all(|stage| self.reply_mode(stage) == ReplyMode::Verdict)
            && self.actions.contains(needs.required)
            && self.steps.contains(needs.required_steps)
            // What the filter would not expect must not come.
            && needs.wished.contains(self.steps & abilities)
    }

    /// The needs of the filter that agreed to this: what is to be asked for by whoever stands
    /// between it and the MTA, and was offered no less than it offers.
    ///
    /// Macros are asked for [exactly](Needs::macros_exact) as the filter asks for them.
    ///
    /// ```
    /// use milter_core::{Actions, Needs, Offer, Stage, negotiate};
    ///
    /// let needs = Needs::none().event(Stage::Rcpt).record(Stage::Mail).action(Actions::ADD_HEADERS);
    /// let agreement = negotiate(&Offer::V6, &needs)?;
    /// let again = negotiate(&Offer::V6, &agreement.needs())?;
    /// assert_eq!(again.to_reply(), agreement.to_reply());
    /// # Ok::<(), milter_core::NegotiationError>(())
    /// ```
    pub fn needs(&self) -> Needs {
        Needs {
            events: self.events,
            // A reply that is declined is one bit, whether or not the event is.
            silent: self.events.intersection(self.silent),
            required: self.actions,
            optional: Actions::empty(),
            wished: self.steps.intersection(Steps::ABILITIES),
            required_steps: Steps::empty(),
            data_size: self.data_size,
            macros: MacroRequest::of(&self.macros),
        }
    }

    /// The answer to the MTA's offer.
    pub fn to_reply(&self) -> OfferReply {
        OfferReply {
            version: self.version,
            actions: self.actions,
            steps: self.steps,
            macros: self.macros.clone(),
        }
    }
}

/// Why something a filter asked for is not within the agreement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAgreed {
    /// The action was not negotiated.
    #[error(
        "{action} was not negotiated (agreed: {agreed}): ask for it in the filter's needs, \
         as with `Needs::action(Actions::{action})`"
    )]
    Action {
        /// The name of the action.
        action: String,
        /// The names of those agreed on.
        agreed: String,
    },
    /// The modification is larger than a frame may be.
    #[error("the modification has {size} bytes, but a frame holds {max}")]
    Size {
        /// The bytes of the modification.
        size: usize,
        /// The bytes that fit.
        max: usize,
    },
}
