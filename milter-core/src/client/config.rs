//! How an MTA treats a filter.

use bytes::Bytes;

use crate::codec::{MAX_PAYLOAD, MtaCodec};
use crate::macros::MacroStage;
use crate::negotiate::Offer;
use crate::stage::Stages;
use crate::strings::without_nul;

/// What an MTA offers to a filter, and how much it bears.
///
/// The default offers everything, is tolerant where Postfix is, and has no macros to send unless
/// the filter asks for some.
///
/// ```
/// use milter_core::client::Config;
/// use milter_core::{MacroStage, Offer};
///
/// let old = Offer { version: 2, ..Offer::V6 };
/// let config = Config::new().offer(old).macros(MacroStage::Mail, ["i", "{auth_authen}"]);
/// ```
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "they are settings, and any set of them may be true"
)]
pub struct Config {
    pub(super) offer: Offer,
    pub(super) strict: bool,
    pub(super) macros: [Vec<Bytes>; 7],
    pub(super) empty_list: EmptyList,
    pub(super) progress_at: Stages,
    pub(super) abort_before_quit: bool,
    pub(super) any_order: bool,
    pub(super) max_read: usize,
    pub(super) max_edit_bytes: usize,
}

impl Config {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            offer: Offer::V6,
            strict: false,
            macros: Default::default(),
            empty_list: EmptyList::Nothing,
            progress_at: Stages::ALL,
            abort_before_quit: true,
            any_order: false,
            max_read: MAX_PAYLOAD,
            max_edit_bytes: 256 * 1024 * 1024,
        }
    }

    /// What is offered. By default all of version 6, as Postfix and Sendmail do.
    #[must_use]
    pub fn offer(mut self, offer: Offer) -> Self {
        self.offer = offer;
        self
    }

    /// Whether the filter fails for what Sendmail gives it up for, while Postfix makes the best
    /// of it: steps that were not offered (Q20), a skip outside the body (Q9), progress and `4`
    /// before the end of the message (Q10), and verdicts that mean nothing at their stage. By
    /// default not.
    // sendmail/milter.c milter_negotiate, milter_send_command; Postfix milter8.c milter8_connect,
    // milter8_event
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// The macros that are sent at a stage if the filter does not ask for others. By default none.
    #[must_use]
    pub fn macros(
        mut self,
        stage: MacroStage,
        names: impl IntoIterator<Item = impl Into<Bytes>>,
    ) -> Self {
        self.macros[stage.number() as usize] = names.into_iter().map(without_nul).collect();
        self
    }

    /// What a filter gets that asks for no macro at all at a stage (C25). By default none.
    #[must_use]
    pub fn empty_list(mut self, means: EmptyList) -> Self {
        self.empty_list = means;
        self
    }

    /// Where the filter may say that it is still at work, besides the end of the message. By
    /// default everywhere, as with Postfix; nowhere if [`strict`](Self::strict).
    #[must_use]
    pub fn progress_at(mut self, stages: Stages) -> Self {
        self.progress_at = stages;
        self
    }

    /// Whether a message that is open at the end of the connection is aborted before the
    /// goodbye (C79), as Postfix does. By default yes; Sendmail just says goodbye.
    // Postfix smtpd.c mail_reset; sendmail/milter.c milter_quit
    #[must_use]
    pub fn abort_before_quit(mut self, abort: bool) -> Self {
        self.abort_before_quit = abort;
        self
    }

    /// Whether commands are sent in whatever order they come, for tests of filters: no MTA does so.
    /// A MAIL within a message then gives that up without a word. By default not.
    #[must_use]
    pub fn any_order(mut self, any: bool) -> Self {
        self.any_order = any;
        self
    }

    /// The largest payload of a frame that is read from the filter, in bytes (C82). By default,
    /// and at most, 1 MiB.
    #[must_use]
    pub fn max_read(mut self, bytes: usize) -> Self {
        self.max_read = bytes.min(MAX_PAYLOAD);
        self
    }

    /// How many bytes of modifications are taken for one message, a new body among them. By
    /// default 256 MiB. Each counts 64 bytes more than it carries.
    #[must_use]
    pub fn max_edit_bytes(mut self, bytes: usize) -> Self {
        self.max_edit_bytes = bytes;
        self
    }

    /// A codec that reads as much as the configuration says.
    ///
    /// Once the filter has agreed, [`MtaCodec::set_max_write`] with
    /// [`Agreement::max_payload`](crate::Agreement::max_payload) lets it write as much as the
    /// filter reads.
    pub fn codec(&self) -> MtaCodec {
        let mut codec = MtaCodec::new();
        codec.set_max_read(self.max_read);
        codec
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

/// What an empty list of macros means, in a filter's answer to the offer (Q15).
// sendmail/milter.c milter_getsymlist; Postfix milter.c MILTER_MACRO_EVAL
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EmptyList {
    /// No macros at that stage, as documented and as Sendmail does.
    #[default]
    Nothing,
    /// The MTA's own list, as Postfix does.
    MtasOwn,
}
