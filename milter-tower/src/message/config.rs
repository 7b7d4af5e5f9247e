//! What a whole-message filter is set to.

use std::borrow::Cow;

use milter_core::edit::{Profile, Unplaceable};
use milter_core::{Actions, EnhancedCode, MacroStage, Needs, SmtpReply, Stage};

use super::spool::Place;
use crate::response::Response;

/// When the handler of [`message`](super::message) runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DecideAt {
    /// At MAIL: client and sender are known, recipients, headers and body are not.
    Mail,
    /// At DATA: the recipients are known too. A refusal refuses the command, and a client that
    /// gives it again is asked about again.
    Data,
    /// At the end of the headers.
    EndOfHeaders,
    /// At the end of the message, where all is known.
    #[default]
    EndOfMessage,
}

impl DecideAt {
    pub(super) const fn stage(self) -> Stage {
        match self {
            Self::Mail => Stage::Mail,
            Self::Data => Stage::Data,
            Self::EndOfHeaders => Stage::EndOfHeaders,
            Self::EndOfMessage => Stage::EndOfMessage,
        }
    }
}

/// What becomes of a message whose body is longer than the
/// [limit](super::MessageFilter::body_limit).
///
/// The first two say so at the end of the message, or with
/// [`early_verdicts`](super::MessageFilter::early_verdicts) at once. The handler of
/// [`message`](super::message) is not called then; that of
/// [`message_streaming`](super::message_streaming) is stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnLarge {
    /// It is refused for good: `552 5.3.4 Message too large`.
    // RFC 1870 section 6.3; RFC 3463 section 3.4: X.3.4, message too big for system
    #[default]
    Reject,
    /// It is refused for now: `452 4.3.1 Insufficient system storage`.
    // RFC 5321 section 4.2.3; RFC 3463 section 3.4: X.3.1, mail system full
    TempFail,
    /// The handler decides without a body: it is empty, and [says](super::Body::is_cut) why. One
    /// that reads while the body arrives has its end there, as with [`Cut`](Self::Cut).
    Omit,
    /// The handler gets as much of it as the limit allows, and is [told](super::Body::is_cut). If it
    /// sets a body that it made of that, the message is shorter for good.
    Cut,
}

impl OnLarge {
    /// The answer, if the message is refused.
    pub(crate) fn refusal(self) -> Option<Response> {
        match self {
            Self::Reject => Some(reply(552, (5, 3, 4), "Message too large")),
            Self::TempFail => Some(reply(452, (4, 3, 1), "Insufficient system storage")),
            Self::Omit | Self::Cut => None,
        }
    }
}

fn reply(code: u16, (class, subject, detail): (u8, u16, u16), text: &str) -> Response {
    let reply = EnhancedCode::new(class, subject, detail)
        .ok()
        .and_then(|enhanced| {
            let reply = SmtpReply::builder(code).enhanced_code(enhanced);
            reply.line(text).build().ok()
        });
    reply.map_or_else(Response::tempfail, Response::reply)
}

/// What the handler does with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyUse {
    Nothing,
    /// It is kept until it is whole.
    Whole,
    /// It is read while it arrives.
    Streamed,
}

#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) decide_at: DecideAt,
    pub(super) body: BodyUse,
    /// Verdicts go out as soon as they are there.
    pub(super) early: bool,
    /// Single recipients can be refused.
    pub(super) checks_recipients: bool,
    pub(super) place: Place,
    pub(super) body_limit: u64,
    pub(super) on_large: OnLarge,
    pub(super) actions: Actions,
    /// What is needed besides.
    pub(super) needs: Needs,
    /// The one for all MTAs.
    pub(super) profile: Option<Profile>,
    pub(super) postfix: Profile,
    pub(super) sendmail: Profile,
    pub(super) unplaceable: Unplaceable,
}

impl Config {
    pub(super) fn new(body: BodyUse, needs: Needs) -> Self {
        Self {
            decide_at: DecideAt::default(),
            body,
            early: false,
            checks_recipients: false,
            place: Place::default(),
            body_limit: 100 * 1024 * 1024,
            on_large: OnLarge::default(),
            actions: Actions::CHANGES,
            needs,
            profile: None,
            postfix: Profile::postfix(),
            sendmail: Profile::sendmail(),
            unplaceable: Unplaceable::default(),
        }
    }

    pub(super) fn ask_macros<I>(&mut self, stage: MacroStage, names: I)
    where
        I: IntoIterator<Item: Into<Cow<'static, str>>>,
    {
        let needs = std::mem::replace(&mut self.needs, Needs::none());
        self.needs = needs.macros(stage, names);
    }

    /// Whether bodies are kept or read.
    pub(super) fn takes_body(&self) -> bool {
        self.body != BodyUse::Nothing && self.decide_at == DecideAt::EndOfMessage
    }

    pub(super) fn streams(&self) -> bool {
        self.body == BodyUse::Streamed
    }

    /// The stage at which the handler starts.
    pub(super) fn starts_at(&self) -> Stage {
        if self.streams() {
            Stage::EndOfHeaders
        } else {
            self.decide_at.stage()
        }
    }

    /// Whether a verdict is given at this stage.
    pub(super) fn answers(&self, stage: Stage) -> bool {
        match stage {
            Stage::Rcpt => self.checks_recipients,
            Stage::Body => self.early && self.takes_body(),
            Stage::EndOfHeaders if self.streams() => self.early,
            _ => stage == self.decide_at.stage(),
        }
    }

    /// Whether an event is wanted, if only to be written down.
    fn records(&self, stage: Stage) -> bool {
        match stage {
            Stage::Connect | Stage::Helo | Stage::Mail => true,
            Stage::Rcpt => self.decide_at > DecideAt::Mail,
            Stage::Header => self.decide_at > DecideAt::Data,
            Stage::EndOfHeaders => self.streams(),
            Stage::Body => self.takes_body(),
            _ => false,
        }
    }

    pub(super) fn needs(&self) -> Needs {
        let mut needs = self.needs.clone();
        for stage in Stage::ALL {
            if self.answers(stage) {
                needs = needs.event(stage);
            } else if self.records(stage) {
                needs = needs.record(stage);
            }
        }
        if self.answers(Stage::Body) {
            needs = needs.skip();
        }
        // Sendmail does not tell what it is unless asked: its own list lacks the version.
        // sendmail's cf/m4/cfhead.m4, confMILTER_MACROS_CONNECT
        needs
            .macros(MacroStage::Connect, [""; 0])
            .leading_space()
            .optional_action(self.actions)
    }
}
