//! Negotiation: the MTA's offer and the filter's needs in, an agreement out.
//!
//! [`negotiate`] is a pure function. What the MTA does not offer is either made up for here and
//! by the server (events that were declined are dropped, replies that were not wanted are sent
//! as `continue`), or the negotiation fails with an error that names it.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::flags::{Actions, Steps, flag_names};

mod agreement;
mod macro_lists;
mod needs;

pub use agreement::{Agreement, NotAgreed, ReplyMode};
pub use macro_lists::{MacroLists, MacroRequestError};
pub use needs::Needs;

/// The newest version of the protocol that is spoken here.
// include/libmilter/mfdef.h SMFI_PROT_VERSION
pub(crate) const VERSION: u32 = 6;
/// The oldest version of the protocol that is understood.
pub(crate) const MIN_VERSION: u32 = 2;
/// Bytes of an offer, and of the answer to it without its lists of macros.
// include/libmilter/mfdef.h MILTER_OPTLEN
const OPTION_LEN: usize = 12;

/// What an MTA offers (`O` from the MTA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The version of the protocol.
    pub version: u32,
    /// The actions that the MTA would carry out.
    pub actions: Actions,
    /// The steps that the MTA could leave out or add.
    pub steps: Steps,
}

impl Offer {
    /// What Sendmail 8.14 and later and Postfix 2.6 and later offer.
    // sendmail/milter.c milter_negotiate; Postfix milter8.c milter8_connect
    pub const V6: Self = Self {
        version: VERSION,
        actions: Actions::from_bits_retain(0x1ff),
        steps: Steps::from_bits_retain(0x1f_ffff),
    };

    /// Reads the payload of an offer. What follows its twelve bytes is ignored (C21).
    ///
    /// # Errors
    ///
    /// Less than twelve bytes, or a version below 2 (C10).
    // libmilter/engine.c st_optionneg
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, &'static str> {
        let offer = Self::parse_words(payload).ok_or("an offer has less than twelve bytes")?;
        if offer.version < MIN_VERSION {
            return Err("the MTA offers a version of the protocol below 2");
        }
        Ok(offer)
    }

    /// The three words that an offer and the answer to it begin with.
    fn parse_words(payload: &[u8]) -> Option<Self> {
        let words = payload.first_chunk::<OPTION_LEN>()?;
        let word = |at: usize| {
            u32::from_be_bytes([words[at], words[at + 1], words[at + 2], words[at + 3]])
        };
        Some(Self {
            version: word(0),
            actions: Actions::from_bits_retain(word(4)),
            steps: Steps::from_bits_retain(word(8)),
        })
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.version);
        out.put_u32(self.actions.bits());
        out.put_u32(self.steps.bits());
    }

    /// The offer with what an empty word stands for (C12).
    // libmilter/engine.c st_optionneg: SMFI_V1_ACTS, SMFI_V1_PROT
    #[must_use]
    pub fn normalized(mut self) -> Self {
        if self.actions.is_empty() {
            self.actions = Actions::from_bits_retain(0x0f);
        }
        if self.steps.is_empty() {
            self.steps = Steps::from_bits_retain(0x3f);
        }
        self
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            actions,
            steps,
        } = self;
        write!(
            f,
            "version {version}, actions {}, steps {}",
            flag_names(actions),
            flag_names(steps)
        )
    }
}

/// A filter's answer to an offer, as it goes over the wire (`O` from the filter).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferReply {
    /// The version that will be spoken.
    pub version: u32,
    /// The actions that the filter may take.
    pub actions: Actions,
    /// The steps as the filter wants them.
    pub steps: Steps,
    /// The macros that the filter asks for.
    pub macros: MacroLists,
}

impl OfferReply {
    pub(crate) fn parse(payload: &Bytes) -> Result<Self, &'static str> {
        let Offer {
            version,
            actions,
            steps,
        } = Offer::parse_words(payload)
            .ok_or("an answer to the offer has less than twelve bytes")?;
        Ok(Self {
            version,
            actions,
            steps,
            macros: MacroLists::parse(payload.slice(OPTION_LEN..))?,
        })
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.version);
        out.put_u32(self.actions.bits());
        out.put_u32(self.steps.bits());
        out.put_slice(self.macros.as_bytes());
    }
}

/// Why the two sides cannot work together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NegotiationError {
    /// The MTA lacks something that the filter cannot work without.
    #[error(
        "the MTA does not offer {missing}, which the filter needs (offered: {offered}; wished: {wished}); \
         use a newer milter protocol at the MTA or ask for less in the filter's needs"
    )]
    NotOffered {
        /// The names of what is missing.
        missing: String,
        /// The names of what the MTA offers.
        offered: String,
        /// The names of what the filter wished for.
        wished: String,
    },
    /// The list of macros cannot be sent.
    #[error(transparent)]
    Macros(#[from] MacroRequestError),
}

/// Finds the agreement between what an MTA offers and what a filter needs.
///
/// The result holds nothing that was not offered. Events that cannot be declined and replies
/// that cannot be left out are made up for by the server: see [`Agreement::delivers`] and
/// [`Agreement::reply_mode`].
///
/// ```
/// use milter_core::{Actions, Needs, Offer, Stage, negotiate};
///
/// let needs = Needs::none().event(Stage::Rcpt).action(Actions::ADD_HEADERS);
/// let agreement = negotiate(&Offer::V6, &needs)?;
/// assert!(agreement.delivers(Stage::Rcpt) && !agreement.delivers(Stage::Body));
///
/// let poor = Offer { actions: Actions::CHANGE_BODY, ..Offer::V6 };
/// let error = negotiate(&poor, &needs).unwrap_err();
/// assert!(error.to_string().contains("does not offer ADD_HEADERS"));
/// # Ok::<(), milter_core::NegotiationError>(())
/// ```
///
/// # Errors
///
/// An action or ability without which the filter cannot work is not offered, or the macros
/// asked for cannot be sent.
pub fn negotiate(offer: &Offer, needs: &Needs) -> Result<Agreement, NegotiationError> {
    needs.macros.check()?;
    let offered = offer.normalized();
    let missing_actions = needs.required.difference(offered.actions);
    let missing_steps = needs.required_steps.difference(offered.steps);
    if !missing_actions.is_empty() || !missing_steps.is_empty() {
        return Err(NegotiationError::NotOffered {
            missing: both_names(missing_actions, missing_steps),
            offered: both_names(offered.actions, offered.steps),
            wished: both_names(needs.required | needs.optional, needs.wished),
        });
    }
    Ok(Agreement::new(&offered, needs))
}

fn both_names(actions: Actions, steps: Steps) -> String {
    match (actions.is_empty(), steps.is_empty()) {
        (_, true) => flag_names(&actions),
        (true, false) => flag_names(&steps),
        (false, false) => format!("{}, {}", flag_names(&actions), flag_names(&steps)),
    }
}

#[cfg(test)]
mod tests;
