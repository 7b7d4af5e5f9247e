//! The session of an MTA with a filter.

use std::fmt;

use bytes::Bytes;

use super::config::{Config, EmptyList};
use super::error::{Failure, Said, SendError};
use super::frames::Frames;
use super::order::Phase;
use crate::Text;
use crate::command::Command;
use crate::flags::{Actions, Steps, flag_names};
use crate::macros::{MacroSet, MacroStage};
use crate::modification::Modification;
use crate::negotiate::{Agreement, MIN_VERSION, Offer, OfferReply, ReplyMode};
use crate::reply::Reply;
use crate::smtp_reply::{EnhancedCode, SmtpReply};
use crate::stage::Stage;
use crate::verdict::Verdict;

/// What a modification counts besides its bytes: its place in the list.
const EDIT_COST: usize = 64;

/// An MTA's session with one filter; see the [module](super).
#[derive(Clone, Debug)]
pub struct Session {
    config: Config,
    state: State,
    agreement: Agreement,
    phase: Phase,
    awaited: Option<Awaited>,
    /// The filter's verdict on the whole SMTP session.
    final_verdict: Option<Verdict>,
    message: Message,
    edits: Vec<Modification>,
    edit_bytes: usize,
}

#[derive(Clone, Debug)]
enum State {
    Fresh,
    Open,
    Ended,
    Failed(Failure),
}

/// What the filter knows and said of the message at hand.
#[derive(Clone, Debug, Default)]
struct Message {
    /// It was sent something of it.
    told: bool,
    /// The verdict that ended it.
    verdict: Option<Verdict>,
    /// The stage of which it wants no more.
    skipped: Option<Stage>,
}

impl Session {
    /// A session with a filter that was just connected to.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            state: State::Fresh,
            agreement: Agreement::default(),
            phase: Phase::Start,
            awaited: None,
            final_verdict: None,
            message: Message::default(),
            edits: Vec::new(),
            edit_bytes: 0,
        }
    }

    /// The offer, which must be sent first. The filter's answer to it is then awaited.
    ///
    /// # Errors
    ///
    /// It was made before, or the filter has failed.
    pub fn offer(&mut self) -> Result<Command, SendError> {
        match &self.state {
            State::Fresh => {}
            State::Open => return Err(SendError::Renegotiation),
            State::Ended => return Err(SendError::Ended),
            State::Failed(failure) => return Err(failure.clone().into()),
        }
        self.state = State::Open;
        self.awaited = Some(Awaited::Agreement);
        Ok(Command::Negotiate(self.config.offer))
    }

    /// Tells the filter a command of the SMTP session or a part of a message, and its macros
    /// before it.
    ///
    /// `values` says what the MTA knows by the name that the filter asked for (`i`,
    /// `{auth_type}`) or that is [configured](Config::macros). A header's value is to be as the
    /// [agreement](Self::agreement) says, with or without one space of those that it begins with.
    ///
    /// No frame is due for what the filter declined, for what its version of the protocol does not
    /// have (C80), and when it decided the message or the session, or skips the rest. Then,
    /// and where the filter does not reply (C26), nothing is [awaited](Self::awaited).
    ///
    /// # Errors
    ///
    /// The call comes out of order, the command or its macros are larger than what the filter
    /// reads, or the filter has failed. Nothing has changed then.
    pub fn send(
        &mut self,
        command: Command,
        values: impl FnMut(Text<'_>) -> Option<Bytes>,
    ) -> Result<Frames, SendError> {
        let code = command.code();
        let stage = command.stage().ok_or(SendError::NotAsked { code })?;
        self.check_ready(Said::Stage(stage))?;
        if let Command::Body(piece) | Command::EndOfMessage(piece) = &command {
            if piece.len() > Modification::MAX_BODY_CHUNK {
                return Err(SendError::BodyTooLarge { size: piece.len() });
            }
        }
        let macros = macro_stage(&command)
            .filter(|_| self.may_ask(stage))
            .and_then(|at| self.macro_set(at, values))
            .map(Command::Macros);
        for frame in [Some(&command), macros.as_ref()].into_iter().flatten() {
            self.check_size(stage, frame)?;
        }
        self.advance(stage)?;
        let is_nothing = matches!(&command, Command::Body(piece) if piece.is_empty());
        if is_nothing || !self.is_asked(stage) {
            return Ok(Frames::NONE);
        }
        if stage.is_of_message() {
            self.message.told = true;
        }
        if self.agreement.reply_mode(stage) != ReplyMode::Silent {
            self.awaited = Some(Awaited::Verdict(stage));
        }
        Ok(Frames::new(macros, command))
    }

    /// Whether a stage may be told, unless the rest is skipped.
    fn may_ask(&self, stage: Stage) -> bool {
        let ends_message = matches!(stage, Stage::Mail | Stage::Helo);
        self.final_verdict.is_none()
            && (self.message.verdict.is_none() || ends_message)
            && self.agreement.delivers(stage)
    }

    // C6: more than the filter reads is never sent; libmilter/comm.c mi_rd_cmd gives up on it
    fn check_size(&self, stage: Stage, frame: &Command) -> Result<(), SendError> {
        let (size, max) = (frame.payload_len(), self.agreement.max_payload());
        if size <= max || !self.may_ask(stage) {
            return Ok(());
        }
        Err(SendError::TooLarge { stage, size, max })
    }

    /// Moves on to the stage.
    fn advance(&mut self, stage: Stage) -> Result<(), SendError> {
        let begins = matches!(stage, Stage::Mail | Stage::Helo);
        if begins && self.message.verdict.is_some() {
            // HELO ends a message, too. What the filter decided needs no end that it is told of.
            self.end_message();
        }
        let at = self.phase;
        self.phase = match at.after(stage, &self.agreement) {
            Some(next) => next,
            None if self.config.any_order => {
                if stage == Stage::Mail {
                    self.end_message();
                }
                at.after_any(stage)
            }
            None if stage == Stage::Mail && at > Phase::Session => {
                return Err(SendError::MessageOpen);
            }
            None => {
                return Err(SendError::OutOfOrder {
                    stage,
                    at: at.name(),
                });
            }
        };
        Ok(())
    }

    /// Whether the filter is told of a stage.
    fn is_asked(&mut self, stage: Stage) -> bool {
        // sendmail/milter.c milter_command, Postfix milter8.c milter8_event
        let is_decided = self.final_verdict.is_some() || self.message.verdict.is_some();
        if is_decided || !self.agreement.delivers(stage) || self.message.skipped == Some(stage) {
            if stage == Stage::EndOfMessage {
                self.end_message();
            }
            return false;
        }
        // Postfix milter8.c milter8_event: a skip is over when something else is sent.
        self.message.skipped = None;
        true
    }

    /// The message is given up. What tells the filter so, if it has to be told: it saw something of
    /// the message and did not decide it (C79).
    ///
    /// Also when no message is open.
    ///
    /// # Errors
    ///
    /// The call comes out of order, or the filter has failed.
    pub fn abort(&mut self) -> Result<Option<Command>, SendError> {
        self.check_ready(Said::Abort)?;
        let is_owed = self.owes_abort();
        self.end_message();
        Ok(is_owed.then_some(Command::Abort))
    }

    /// Whether the filter must be told if the message at hand is given up.
    pub fn owes_abort(&self) -> bool {
        self.message.told && self.message.verdict.is_none()
    }

    /// The goodbye, with which the connection ends. It may also be said while a reply is awaited,
    /// which then does not come any more.
    ///
    /// # Errors
    ///
    /// The session has ended before, or the filter has failed.
    pub fn quit(&mut self) -> Result<Frames, SendError> {
        self.check_open(Said::Quit)?;
        let aborts = self.owes_abort() && self.config.abort_before_quit;
        self.end_message();
        self.awaited = None;
        self.state = State::Ended;
        Ok(Frames::new(aborts.then_some(Command::Abort), Command::Quit))
    }

    /// The SMTP session ends, and another one may follow on this connection: connect comes next.
    ///
    /// Neither Postfix nor Sendmail sends this, but filters of version 6 understand it.
    ///
    /// # Errors
    ///
    /// The call comes out of order, or the filter has failed.
    // include/libmilter/mfdef.h SMFIC_QUIT_NC
    pub fn quit_new_connection(&mut self) -> Result<Frames, SendError> {
        self.check_ready(Said::Quit)?;
        let aborts = self.owes_abort() && self.config.abort_before_quit;
        self.end_message();
        self.final_verdict = None;
        self.phase = Phase::Start;
        let abort = aborts.then_some(Command::Abort);
        Ok(Frames::new(abort, Command::QuitNewConnection))
    }

    fn end_message(&mut self) {
        self.message = Message::default();
        self.edits = Vec::new();
        self.edit_bytes = 0;
        self.phase = self.phase.min(Phase::Session);
    }

    /// Takes a reply.
    ///
    /// # Errors
    ///
    /// The reply is not what a filter may say here: the filter has failed, and the connection is
    /// of no more use.
    pub fn receive(&mut self, reply: Reply) -> Result<Heard, Failure> {
        if let State::Failed(failure) = &self.state {
            return Err(failure.clone());
        }
        let heard = match self.awaited {
            None => Err(Failure::NothingDue { code: reply.code() }),
            Some(Awaited::Agreement) => self.agree(reply),
            Some(Awaited::Verdict(stage)) => self.hear(stage, reply),
        };
        heard.map_err(|failure| self.fail(failure))
    }

    fn agree(&mut self, reply: Reply) -> Result<Heard, Failure> {
        let Reply::Negotiate(reply) = reply else {
            return Err(Failure::NoAgreement { code: reply.code() });
        };
        check_answer(&self.config.offer, &reply, self.config.strict)?;
        self.agreement = Agreement::from_answer(&self.config.offer, &reply);
        self.awaited = None;
        Ok(Heard::Agreed)
    }

    fn hear(&mut self, stage: Stage, reply: Reply) -> Result<Heard, Failure> {
        let code = reply.code();
        let at_end = stage == Stage::EndOfMessage;
        let strict = self.config.strict;
        let verdict = match reply {
            Reply::Progress => {
                let bears = !strict && self.config.progress_at.contains(stage);
                return if at_end || bears {
                    Ok(Heard::Progress)
                } else {
                    Err(Failure::NotHere { code, stage })
                };
            }
            Reply::Modify(edit) if at_end => return self.collect(edit),
            Reply::Continue => Verdict::Continue,
            Reply::Accept => Verdict::Accept,
            Reply::Reject => Verdict::Reject,
            Reply::TempFail => Verdict::TempFail,
            Reply::Discard => Verdict::Discard,
            Reply::Smtp(reply) => Verdict::Reply(reply),
            Reply::InvalidSmtp(raw) => generic(&raw),
            Reply::Skip if stage == Stage::Body => Verdict::Skip,
            // Postfix milter8.c milter8_event: a skip that has nothing to skip is `continue`.
            Reply::Skip if at_end && !strict => Verdict::Continue,
            Reply::Skip if !strict => Verdict::Skip,
            // Postfix milter8.c milter8_event; bogus to Sendmail.
            Reply::Shutdown if !strict => Verdict::Reply(closing()),
            _ => return Err(Failure::NotHere { code, stage }),
        };
        if verdict == Verdict::Skip || verdict.is_allowed_at(stage) {
            return Ok(self.settle(stage, verdict, code == b'4'));
        }
        if strict {
            return Err(Failure::NotHere { code, stage });
        }
        // Postfix milter8.c milter8_event warns of a discard at connect and HELO, and goes on. At
        // an unknown command an accept or discard would be taken for the next message (Q13).
        Ok(self.settle(stage, Verdict::Continue, false))
    }

    fn collect(&mut self, edit: Modification) -> Result<Heard, Failure> {
        self.agreement.permits(&edit)?;
        self.edit_bytes = self
            .edit_bytes
            .saturating_add(edit.payload_len() + EDIT_COST);
        if self.edit_bytes > self.config.max_edit_bytes {
            return Err(Failure::TooManyEdits {
                max: self.config.max_edit_bytes,
            });
        }
        self.edits.push(edit);
        Ok(Heard::Edit)
    }

    /// Keeps what the verdict means for what comes.
    fn settle(&mut self, stage: Stage, verdict: Verdict, ends_session: bool) -> Heard {
        self.awaited = None;
        // sendmail/milter.c milter_connect, milter_helo; Postfix milter8.c milter8_event: the
        // filter is asked no more, whether it accepts or refuses the session.
        let of_session = matches!(stage, Stage::Connect | Stage::Helo);
        if ends_session || of_session && !matches!(verdict, Verdict::Continue | Verdict::Skip) {
            // It ends a message, too, which then needs no end that the filter is told of.
            if stage == Stage::EndOfMessage {
                self.end_message();
            } else if self.message.told {
                self.message.verdict = Some(verdict.clone());
            }
            self.final_verdict = Some(verdict.clone());
        } else if verdict == Verdict::Skip {
            self.message.skipped = Some(stage);
        } else if stage == Stage::EndOfMessage {
            let edits = std::mem::take(&mut self.edits);
            self.end_message();
            return Heard::Answer(Answer {
                edits,
                ..Answer::new(stage, verdict)
            });
        } else if verdict.ends_message_at(stage) {
            self.message.verdict = Some(verdict.clone());
        }
        Heard::Answer(Answer::new(stage, verdict))
    }

    /// Gives the filter up: its time is up, its bytes cannot be read, the connection was lost.
    /// Returns the failure, or the first one if it had failed before.
    pub fn fail(&mut self, failure: impl Into<Failure>) -> Failure {
        if let State::Failed(first) = &self.state {
            return first.clone();
        }
        let failure = failure.into();
        self.awaited = None;
        self.edits = Vec::new();
        self.state = State::Failed(failure.clone());
        failure
    }

    /// Why the filter was given up, if it was.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.state {
            State::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// What the filter must answer before anything else is sent.
    pub fn awaited(&self) -> Option<Awaited> {
        self.awaited
    }

    /// The filter's verdict that ended the message or the SMTP session for it, if one did: it is
    /// told no more of it. None after the end of the message, whose verdict was just told.
    pub fn decided(&self) -> Option<&Verdict> {
        self.final_verdict
            .as_ref()
            .or(self.message.verdict.as_ref())
    }

    /// The filter's verdict that ended the SMTP session for it, if one did: it is told no more of
    /// this session, whatever messages come.
    pub fn decided_session(&self) -> Option<&Verdict> {
        self.final_verdict.as_ref()
    }

    /// What the filter agreed to; nothing before it has answered the offer.
    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// The names of the macros that the filter is sent at a stage: those it asked for, else the
    /// configured ones.
    pub fn macro_names(&self, stage: MacroStage) -> impl Iterator<Item = Text<'_>> {
        let asked = self.agreement.macros().get(stage).map(|names| {
            let mut names = names.peekable();
            let is_empty = names.peek().is_none();
            (names, is_empty)
        });
        let (asked, own) = match asked {
            Some((_, true)) if self.config.empty_list == EmptyList::MtasOwn => (None, true),
            Some((names, _)) => (Some(names), false),
            None => (None, true),
        };
        let own = own.then(|| &self.config.macros[stage.number() as usize]);
        let own = own.into_iter().flatten().map(|name| Text::new(name));
        asked.into_iter().flatten().chain(own)
    }

    /// Those macros of a stage that have a value; none if no one has.
    fn macro_set(
        &self,
        stage: MacroStage,
        mut values: impl FnMut(Text<'_>) -> Option<Bytes>,
    ) -> Option<MacroSet> {
        let names = self.macro_names(stage);
        MacroSet::of_known(stage, names.filter_map(|name| Some((name, values(name)?))))
    }

    fn check_ready(&self, what: Said) -> Result<(), SendError> {
        self.check_open(what)?;
        match self.awaited {
            None => Ok(()),
            Some(Awaited::Agreement) => Err(SendError::NotNegotiated { what }),
            Some(Awaited::Verdict(stage)) => Err(SendError::ReplyDue {
                what,
                awaited: Said::Stage(stage),
            }),
        }
    }

    fn check_open(&self, what: Said) -> Result<(), SendError> {
        match &self.state {
            State::Open => Ok(()),
            State::Fresh => Err(SendError::NotNegotiated { what }),
            State::Ended => Err(SendError::Ended),
            State::Failed(failure) => Err(failure.clone().into()),
        }
    }
}

/// What a reply means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heard {
    /// The filter agreed; [`Session::agreement`] says to what.
    Agreed,
    /// It is still at work. The time for a frame begins anew, that for the whole end of the message
    /// does not (C76).
    Progress,
    /// It makes a modification, which comes with the verdict. Time is as with progress.
    Edit,
    /// It has decided: nothing more is awaited.
    Answer(Answer),
}

/// A filter's answer to what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// What it was asked.
    pub stage: Stage,
    /// What it says. A skip may come from every stage if the configuration is not
    /// [strict](Config::strict).
    pub verdict: Verdict,
    /// Its modifications in the order in which they came; only at the end of the message. They mean
    /// nothing unless the message is accepted.
    pub edits: Vec<Modification>,
}

impl Answer {
    /// An answer without modifications.
    pub const fn new(stage: Stage, verdict: Verdict) -> Self {
        Self {
            stage,
            verdict,
            edits: Vec::new(),
        }
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Awaited {
    /// The answer to the offer.
    Agreement,
    /// The verdict at this stage.
    Verdict(Stage),
}

impl Awaited {
    /// Which time-out applies.
    pub const fn timeout(self) -> Timeout {
        match self {
            Self::Verdict(Stage::EndOfMessage) => Timeout::EndOfMessage,
            Self::Verdict(Stage::Header | Stage::EndOfHeaders | Stage::Body) => Timeout::Content,
            Self::Agreement | Self::Verdict(_) => Timeout::Command,
        }
    }
}

/// The kinds of time-outs that MTAs have for a filter.
// Postfix milter_command_timeout, milter_content_timeout; Sendmail's T=R and T=E
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Timeout {
    /// For a frame in answer to the offer, or to a command of the SMTP session: 30 s in Postfix,
    /// 10 s in Sendmail.
    Command,
    /// For a frame in answer to a part of the message: 300 s in Postfix, 10 s in Sendmail.
    Content,
    /// For a frame in answer to the end of the message, as [`Content`](Self::Content); and in
    /// Sendmail for all of it, 300 s.
    EndOfMessage,
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command => "of a command",
            Self::Content => "of a part of the message",
            Self::EndOfMessage => "of the end of the message",
        })
    }
}

/// The stage of the macros that go before a command.
const fn macro_stage(command: &Command) -> Option<MacroStage> {
    MacroStage::from_command_code(command.code())
}

// sendmail/milter.c milter_negotiate, Postfix milter8.c milter8_connect (C22, C23, Q20)
fn check_answer(offer: &Offer, answer: &OfferReply, strict: bool) -> Result<(), Failure> {
    if answer.version > offer.version || answer.version < MIN_VERSION {
        return Err(Failure::Version {
            offered: offer.version,
            answered: answer.version,
        });
    }
    let offered = offer.normalized();
    let actions: Actions = answer.actions.difference(offered.actions);
    if !actions.is_empty() {
        return Err(Failure::NotOffered {
            asked: flag_names(&actions),
        });
    }
    let steps: Steps = answer.steps.difference(offered.steps);
    if strict && !steps.is_empty() {
        return Err(Failure::NotOffered {
            asked: flag_names(&steps),
        });
    }
    Ok(())
}

/// What is left of a reply whose text no MTA would take: its class (C81).
// sendmail/milter.c MILTER_CHECK_REPLYCODE; where not even the class can be read Postfix answers
// 451 (milter8.c milter8_conf_error)
fn generic(raw: &[u8]) -> Verdict {
    if raw.first() == Some(&b'5') {
        Verdict::Reject
    } else {
        Verdict::TempFail
    }
}

/// `4` from a filter: 421, and the MTA hangs up.
fn closing() -> SmtpReply {
    let enhanced = EnhancedCode::new(4, 7, 0).ok();
    let builder = SmtpReply::builder(421).line("Service unavailable - try again later");
    let builder = match enhanced {
        Some(code) => builder.enhanced_code(code),
        None => builder,
    };
    builder
        .build()
        .unwrap_or_else(|_| SmtpReply::tempfail("Service unavailable - try again later"))
}
