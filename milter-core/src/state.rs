//! The state of a connection: what each command means, given those before it.
//!
//! A pure step function. It is more forgiving than libmilter, which drops commands that do not
//! fit without a reply and so stalls the MTA (`libmilter/engine.c` `trans_ok`, `mi_engine`; Q25):
//! here every command that is due a reply gets one. What a command does in each state:
//!
//! | command | before `O` | no message open | message open | message decided |
//! | --- | --- | --- | --- | --- |
//! | `O` | negotiate | the same agreement again | the same | the same |
//! | `D` of `M` | nothing | keep macros | ends the message; keep macros | forgets it; keep macros |
//! | other `D` | nothing | keep macros | keep macros | keep macros |
//! | `C` | error | deliver; ends a session that had begun | the same, ends message and session | the same |
//! | `H` | error | deliver | ends the message; deliver | deliver |
//! | `M` | error | begins a message; deliver | ends the message; begins one; deliver | begins one; deliver |
//! | `R` `T` | error | begins a message; deliver | deliver before the content, else misplaced | decided |
//! | `L` `N` | error | begins a message; deliver | deliver before the body, else misplaced | decided |
//! | `B` `E` | error | begins a message; deliver | deliver | decided |
//! | `U` | error | deliver | deliver | deliver |
//! | `A` | nothing | nothing | ends the message | forgets it |
//! | `K` | nothing | ends the session | ends message and session | ends the session |
//! | `Q` | close | close | close | close |
//!
//! A message begins without `M` because that stage may have been declined. Both MTAs send the
//! macros of a stage all the same (`sendmail/milter.c` `milter_command`, Postfix `milter8.c`
//! `milter8_event`; Q2), so those of `M` end the message before them too: Sendmail sends a filter
//! that declined `M` no abort (`milter_send_command`; Q4), and what is known of one message must
//! not be taken for the next.
//!
//! A message is *decided* once the filter's own verdict has ended it
//! ([`Verdict::ends_message_at`]); what comes for it after that is answered with the same verdict
//! and not delivered. Only a message that began with `M` is: neither MTA sends a filter more of a
//! message that it has decided, so without `M` what comes is the next message, and to answer that
//! with the verdict of the last one would let mail pass unseen. After the filter accepted a whole
//! connection everything is decided until the next session.

use crate::command::Command;
use crate::macros::MacroStage;
use crate::stage::Stage;
use crate::verdict::Verdict;

/// What a command ends that had begun before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ends {
    /// The open message: it was given up.
    Message,
    /// The SMTP session, and with it an open message.
    Session,
}

/// What is to be done about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Negotiate.
    Negotiate,
    /// Answer a repeated offer as the first one, or give up.
    Renegotiate,
    /// Keep the macros; no reply. Those of MAIL may end a message that had begun.
    Macros,
    /// Ask the filter.
    Deliver {
        /// What for.
        stage: Stage,
        /// Whether the message begins with this command.
        begins_message: bool,
    },
    /// Answer with the verdict that decided the message or the connection.
    Decided {
        /// What was asked.
        stage: Stage,
    },
    /// The command cannot come here. Answer it with a refusal, so that nothing passes that the
    /// filter did not see.
    Misplaced {
        /// What was asked.
        stage: Stage,
    },
    /// No reply is due, and nothing is to be done but what [`Transition::ends`] says.
    Nothing,
    /// The MTA ends the connection.
    Close,
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// What had begun and ends now, before the step.
    pub ends: Option<Ends>,
    /// What to do.
    pub step: Step,
}

/// A command came before the negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the command {:?} came before the negotiation", *.code as char)]
pub struct NotNegotiated {
    /// The letter of the command.
    pub code: u8,
}

/// How far the open message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Envelope,
    Headers,
    Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    None,
    Open {
        phase: Phase,
        /// Whether it began with MAIL.
        has_mail: bool,
    },
    Decided,
}

/// The state of a connection, filter's side.
///
/// ```
/// use milter_core::state::{Ends, StateMachine, Step};
/// use milter_core::{Command, Offer, Sender, Stage};
///
/// let mut state = StateMachine::new();
/// state.step(&Command::Negotiate(Offer::V6))?;
/// let mail = Command::Mail(Sender::new("<a@example.org>", [""; 0]));
/// let first = state.step(&mail)?;
/// assert_eq!(first.step, Step::Deliver { stage: Stage::Mail, begins_message: true });
/// // Another MAIL gives the first message up, though no abort was sent.
/// assert_eq!(state.step(&mail)?.ends, Some(Ends::Message));
/// # Ok::<(), milter_core::state::NotNegotiated>(())
/// ```
#[derive(Clone, Debug)]
pub struct StateMachine {
    negotiated: bool,
    /// Something of an SMTP session was delivered.
    in_session: bool,
    /// The filter accepted the whole connection.
    accepted: bool,
    message: Message,
}

impl StateMachine {
    /// The state of a fresh connection.
    pub const fn new() -> Self {
        Self {
            negotiated: false,
            in_session: false,
            accepted: false,
            message: Message::None,
        }
    }

    /// Takes a command.
    ///
    /// # Errors
    ///
    /// A command that is due a reply came before the negotiation: the connection is of no use.
    pub fn step(&mut self, command: &Command) -> Result<Transition, NotNegotiated> {
        let Some(stage) = command.stage() else {
            return Ok(self.step_without_reply(command));
        };
        if !self.negotiated {
            return Err(NotNegotiated {
                code: command.code(),
            });
        }
        let ends = match stage {
            Stage::Connect => self.end_session(),
            // Sendmail sends an abort before HELO, Postfix after it (Q5).
            Stage::Helo | Stage::Mail => self.end_message(),
            _ => None,
        };
        Ok(Transition {
            ends,
            step: self.step_at(stage),
        })
    }

    fn step_without_reply(&mut self, command: &Command) -> Transition {
        let (ends, step) = match command {
            Command::Negotiate(_) if !self.negotiated => {
                self.negotiated = true;
                (None, Step::Negotiate)
            }
            Command::Negotiate(_) => (None, Step::Renegotiate),
            Command::Macros(set) if self.negotiated => {
                let begins = set.stage() == Some(MacroStage::Mail);
                let ends = begins.then(|| self.end_message()).flatten();
                (ends, Step::Macros)
            }
            // Sent by Postfix also between messages, and twice (Q3): once is enough.
            Command::Abort => (self.end_message(), Step::Nothing),
            Command::QuitNewConnection => (self.end_session(), Step::Nothing),
            Command::Quit => (self.end_session(), Step::Close),
            _ => (None, Step::Nothing),
        };
        Transition { ends, step }
    }

    fn step_at(&mut self, stage: Stage) -> Step {
        if self.accepted {
            return Step::Decided { stage };
        }
        self.in_session = true;
        if !stage.is_of_message() {
            return Step::Deliver {
                stage,
                begins_message: false,
            };
        }
        let (begins_message, now, has_mail) = match self.message {
            Message::Decided => {
                if stage == Stage::EndOfMessage {
                    self.message = Message::None;
                }
                return Step::Decided { stage };
            }
            Message::None => (true, Phase::Envelope, stage == Stage::Mail),
            Message::Open { phase, has_mail } => (false, phase, has_mail),
        };
        // How far a message may be when the command comes, and how far it is then.
        let (latest, next) = match stage {
            // Refused DATA may be followed by RCPT and by DATA again (Q24).
            Stage::Rcpt | Stage::Data => (Phase::Envelope, Phase::Envelope),
            Stage::Header => (Phase::Headers, Phase::Headers),
            Stage::EndOfHeaders => (Phase::Headers, Phase::Body),
            Stage::Body | Stage::EndOfMessage => (Phase::Body, Phase::Body),
            // MAIL comes here after the message before it was ended.
            _ => (Phase::Body, Phase::Envelope),
        };
        if now > latest {
            return Step::Misplaced { stage };
        }
        self.message = Message::Open {
            phase: next,
            has_mail,
        };
        Step::Deliver {
            stage,
            begins_message,
        }
    }

    /// Takes the verdict that was given at a stage, so that what follows is known to be decided.
    ///
    /// Returns whether the message is over for the filter.
    pub fn settle(&mut self, stage: Stage, verdict: &Verdict) -> bool {
        if matches!(stage, Stage::Connect | Stage::Helo) {
            self.accepted = *verdict == Verdict::Accept;
        }
        let Message::Open { has_mail, .. } = self.message else {
            return false;
        };
        let over = verdict.ends_message_at(stage);
        if over {
            self.message = if has_mail && stage != Stage::EndOfMessage {
                Message::Decided
            } else {
                Message::None
            };
        }
        over
    }

    /// Whether a message is open: begun, and neither decided nor given up.
    pub fn has_message(&self) -> bool {
        matches!(self.message, Message::Open { .. })
    }

    /// Whether an SMTP session has begun.
    pub fn has_session(&self) -> bool {
        self.in_session
    }

    fn end_message(&mut self) -> Option<Ends> {
        let open = self.has_message();
        self.message = Message::None;
        open.then_some(Ends::Message)
    }

    fn end_session(&mut self) -> Option<Ends> {
        self.message = Message::None;
        self.accepted = false;
        std::mem::take(&mut self.in_session).then_some(Ends::Session)
    }
}

impl Default for StateMachine {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
