//! The talk of an MTA with a filter, in that MTA's habits.

use std::sync::Arc;

use bytes::Bytes;
use milter_core::client::{self, Failure, SendError};
use milter_core::{Command, MacroSet, MacroStage, Stage, Text, Verdict};

use super::MtaProfile;
use super::mail::copied;
use super::profile::Kind;
use super::values::Values;
use super::wire::{Io, Server, Wire, ended};
use crate::client::link::Link;

/// An MTA and a filter at both ends of a wire.
pub(super) struct Dialogue {
    pub(super) profile: Arc<MtaProfile>,
    pub(super) link: Link<Box<dyn Io>>,
    pub(super) values: Values,
    /// None once it ended.
    server: Option<Server>,
    /// Why there is no filter.
    failure: Option<String>,
    /// The filter answered to go on at MAIL.
    passed_mail: bool,
    /// Parts of the message were told.
    in_content: bool,
}

impl Dialogue {
    /// Negotiates, or says why there is no filter.
    pub(super) async fn open(profile: Arc<MtaProfile>, wire: Result<Wire, String>) -> Self {
        let (config, times) = (profile.config(), profile.times);
        let (link, server, failure) = match wire {
            Ok(Wire { io, server }) => (Link::new(io, config, times), server, None),
            Err(error) => (Link::closed(config, times), None, Some(error)),
        };
        let mut this = Self {
            values: Values::new(profile.kind),
            profile,
            link,
            server,
            failure,
            passed_mail: false,
            in_content: false,
        };
        if this.link.is_open() && this.link.offer().is_ok() {
            if let Err(failure) = this.link.hear(|_| ()).await {
                this.fail(failure).await;
            }
        }
        this
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Whether an answer is due that was not waited for to its end.
    pub(super) fn is_waiting(&self) -> bool {
        self.link.session().awaited().is_some()
    }

    /// Tells the filter a command, and takes its answer if one is due; otherwise there is none.
    pub(super) async fn ask(
        &mut self,
        stage: Stage,
        command: Command,
    ) -> Result<Option<client::Answer>, String> {
        if let Some(why) = &self.failure {
            return Err(why.clone());
        }
        if let Some(why) = self.find_surplus().await {
            return Err(why);
        }
        let code = command.code();
        let is_told = self.link.session().decided().is_none();
        if !is_told && stage.is_of_message() && stage != Stage::Mail {
            // Its verdict is kept for the end of the message.
            return Ok(None);
        }
        let is_content = matches!(
            stage,
            Stage::Header | Stage::EndOfHeaders | Stage::Body | Stage::EndOfMessage
        );
        self.in_content |= is_told && is_content;
        let frames = match self.link.session_mut().send(command, |_| None) {
            Ok(frames) => frames,
            // The MTA said goodbye when the filter wanted no more of the session.
            Err(SendError::Ended) => return Ok(None),
            Err(SendError::Failed(failure)) => return Err(self.fail(failure).await),
            Err(error) => panic!("a step that cannot be taken: {error}"),
        };
        let heard = async {
            let macros = (!frames.is_empty() || is_told && self.tells_macros_of(stage))
                .then(|| self.macro_set(code))
                .flatten();
            let macros = macros.map(Command::Macros).into_iter();
            self.write(macros.chain(frames)).await?;
            self.link.hear(|_| ()).await
        };
        let answer = match heard.await {
            Ok(answer) => answer,
            Err(failure) => return Err(self.fail(failure).await),
        };
        if let Some(answer) = &answer {
            self.passed_mail |= stage == Stage::Mail && answer.verdict == Verdict::Continue;
            self.part_after(answer).await;
        }
        Ok(answer)
    }

    /// A filter that has answered what it was not asked is out of step, and given up: an MTA
    /// would take that for the answer to its next question.
    async fn find_surplus(&mut self) -> Option<String> {
        if self.is_waiting() {
            return None;
        }
        // An end is found out at the next question.
        let surplus = self.link.surplus();
        let failure = surplus.filter(|failure| *failure != Failure::ConnectionLost)?;
        Some(self.fail(failure).await)
    }

    /// Passes over a recipient that the MTA refused.
    // Q2: sendmail/milter.c milter_command has sent its macros by then
    pub(super) async fn skip_rcpt(&mut self) {
        let is_told = self.profile.is_sendmail() && self.link.session().decided().is_none();
        if let (Some(macros), true) = (self.macro_set(b'R'), is_told && self.link.is_open()) {
            // A filter that is gone is found out at the next question.
            let _ = self.write([Command::Macros(macros)]).await;
        }
    }

    /// Whether the macros of a stage go out though the filter declined it.
    // Q2: sendmail/milter.c milter_command, Postfix milter8.c milter8_event: not for those that the
    // version does not have
    fn tells_macros_of(&self, stage: Stage) -> bool {
        let agreement = self.link.agreement();
        let exists = match stage {
            Stage::Connect | Stage::Helo | Stage::Mail | Stage::Rcpt => true,
            Stage::Data => agreement.version() >= 4,
            Stage::Unknown => agreement.version() >= 3 && self.profile.is_postfix(),
            _ => false,
        };
        exists && !agreement.delivers(stage) && self.profile.kind != Kind::Stalwart
    }

    fn asks_for(&self, stage: MacroStage) -> bool {
        self.link.agreement().macros().get(stage).is_some()
    }

    /// The names of the macros that the MTA looks up at a stage.
    // Q14: sendmail/milter.c milter_data asks for the list of the end of headers before it uses
    // that of the end of message, and has no other then
    fn names_for(&self, stage: MacroStage) -> Box<dyn Iterator<Item = Text<'_>> + '_> {
        let asked = (
            self.asks_for(MacroStage::EndOfHeaders),
            self.asks_for(stage),
        );
        let is_mixed_up = self.profile.is_sendmail() && stage == MacroStage::EndOfMessage;
        match asked {
            (false, true) if is_mixed_up => Box::new(self.profile.own_macros(stage)),
            (true, false) if is_mixed_up => Box::new(std::iter::empty()),
            _ => Box::new(self.link.session().macro_names(stage)),
        }
    }

    fn macro_set(&self, code: u8) -> Option<MacroSet> {
        let mut pairs: Vec<(Bytes, Bytes)> = Vec::new();
        let mut listed = 0;
        if let Some(stage) = self.profile.macros_before(code) {
            // What a test sets is in the MTA's own list; a filter's replaces that.
            let is_asked = self.asks_for(stage);
            let given = self.values.given_at(stage).filter(|_| !is_asked);
            for name in self.names_for(stage).chain(given) {
                listed += 1;
                let is_there = pairs.iter().any(|(there, _)| *there == name.as_bytes());
                if let (Some(value), false) = (self.values.get(stage, name), is_there) {
                    pairs.push((copied(name), value));
                }
            }
        }
        self.profile
            .sends_macros(code, listed)
            .then(|| MacroSet::for_command(code, pairs))
    }

    async fn write(&mut self, frames: impl IntoIterator<Item = Command>) -> Result<(), Failure> {
        let mut frames = frames.into_iter().peekable();
        if frames.peek().is_none() {
            return Ok(());
        }
        for frame in frames {
            self.link.queue(&frame)?;
        }
        self.link.flush().await
    }

    /// The filter and the MTA part early, where the MTA does so.
    async fn part_after(&mut self, answer: &client::Answer) {
        let (verdict, stage) = (&answer.verdict, answer.stage);
        let of_session = matches!(stage, Stage::Connect | Stage::Helo);
        let is_out = of_session && (verdict.is_refusal() || *verdict == Verdict::Accept);
        match self.profile.kind {
            // Q6: Postfix milter8.c milter8_close_stream
            Kind::Postfix if is_out => drop(self.close().await),
            // sendmail/milter.c milter_connect: goodbye at once; one that refused HELO stays
            Kind::Sendmail if is_out && !(stage == Stage::Helo && verdict.is_refusal()) => {
                self.quit().await;
            }
            // Stalwart crates/smtp/src/inbound/milter/message.rs run
            Kind::Stalwart if verdict.is_refusal() => drop(self.close().await),
            _ => {}
        }
    }

    /// The message is over for the MTA.
    pub(super) async fn end_message(&mut self) {
        // Q4: sendmail/milter.c milter_send_command marks a message when MAIL is answered with
        // `continue`, or when its content begins, and milter_abort_filter looks at that; a discard
        // leaves the mark.
        let is_marked = self.in_content || self.passed_mail;
        let is_discarded =
            self.link.session().decided() == Some(&Verdict::Discard) && !self.in_content;
        let is_owed = match self.link.session_mut().abort() {
            Err(error @ SendError::ReplyDue { .. }) => {
                panic!("a step that cannot be taken: {error}")
            }
            abort => matches!(abort, Ok(Some(_))),
        };
        let is_sent = match self.profile.kind {
            // Q3: Postfix smtpd.c mail_reset
            Kind::Postfix => true,
            Kind::Sendmail => (is_owed || is_discarded) && is_marked,
            Kind::Stalwart => false,
        };
        self.in_content = false;
        self.passed_mail = false;
        self.values.end_message();
        if is_sent {
            self.say_abort().await;
        }
    }

    /// An abort, whether or not one is owed.
    pub(super) async fn say_abort(&mut self) {
        if self.find_surplus().await.is_none() && self.link.is_open() {
            // A filter that is gone is found out at the next question.
            let _ = self.write([Command::Abort]).await;
        }
    }

    pub(super) async fn quit(&mut self) {
        self.find_surplus().await;
        if let (Ok(frames), true) = (self.link.session_mut().quit(), self.link.is_open()) {
            // The aborts that are an MTA's habit were sent before.
            let quit = frames.into_iter().filter(|frame| *frame == Command::Quit);
            let _ = self.write(quit).await;
        }
        self.close().await;
    }

    /// Closes the connection, and waits for the end of a server in this process. Why that ended
    /// badly, if it did.
    pub(super) async fn close(&mut self) -> Option<String> {
        self.link.close();
        ended(self.server.take()?).await
    }

    /// Gives the filter up. Why.
    async fn fail(&mut self, failure: Failure) -> String {
        let failure = self.link.fail(failure);
        let ended = self.close().await;
        let why = match ended {
            Some(ended) if failure == Failure::ConnectionLost => format!("{failure}: {ended}"),
            _ => failure.to_string(),
        };
        self.failure.get_or_insert(why).clone()
    }
}
