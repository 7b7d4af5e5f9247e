//! What every step of an SMTP session does.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use milter_core::{Command, Header, Recipient, Stage, Verdict};

use super::dialogue::Dialogue;
use super::profile::Kind;
use super::values::HOST;
use super::{Answer, Delivery, Fate, MtaProfile, SmtpSession};

/// The most bytes of a header that Postfix keeps where milters are.
// Q29: Postfix cleanup_message.c (KLUDGE_HEADER_LIMIT)
const POSTFIX_HEADER: usize = 60_000;

impl SmtpSession {
    /// What became of the message. The next one may come.
    pub(super) async fn finish(&mut self) -> Delivery {
        let letter = std::mem::take(&mut self.letter);
        let edits = self.profile().edits.clone();
        let leading_space = self.agreement().leading_space();
        let mut delivery = letter.finish(edits, Some(self.received()), leading_space);
        let had_failed = self.failure().is_some();
        if self.in_mail {
            self.reset().await;
        }
        delivery.failures = self.failures_since(had_failed);
        delivery
    }

    /// The MTA's own `Received`, always of the same time.
    fn received(&self) -> Header {
        let Dialogue {
            profile, values, ..
        } = &self.dialogue;
        let helo = values
            .helo_name()
            .map_or_else(String::new, |name| format!(" from {name}"));
        let id = values.queue_id().unwrap_or("unknown");
        let line = format!(
            "{helo} ({})\n\tby {HOST} ({}) with ESMTP id {id};\n\tThu, 01 Jan 2026 12:00:01 +0000",
            values.client_shown(),
            profile.name(),
        );
        Header::new(Bytes::from_static(b"Received"), line)
    }

    /// How the filter failed, as its server saw it, and as the MTA did if not before.
    pub(super) fn failures_since(&self, had_failed: bool) -> Vec<String> {
        let mut failures = self.failures.take();
        let failure = self.failure().filter(|_| !had_failed);
        failures.extend(failure.map(str::to_owned));
        failures
    }

    /// The message is over for the MTA.
    pub(super) async fn reset(&mut self) {
        self.in_mail = false;
        self.dialogue.end_message().await;
    }

    /// How far the client is, as far as it can be told.
    pub(super) fn stage_reached(&self) -> Stage {
        match &self.letter.sender {
            Some(_) if !self.letter.recipients.is_empty() => Stage::Rcpt,
            Some(_) => Stage::Mail,
            None if self.greeted => Stage::Helo,
            None => Stage::Connect,
        }
    }

    /// Which MTA this is.
    pub(super) fn profile(&self) -> &MtaProfile {
        &self.dialogue.profile
    }

    /// The message gets a queue id, unless it has one.
    pub(super) fn enqueue(&mut self) {
        if self.dialogue.values.queue_id().is_none() {
            let number = self.messages.fetch_add(1, Ordering::Relaxed) + 1;
            self.dialogue.values.enqueue(number);
        }
    }

    /// What the MTA answers by itself, where it does.
    pub(super) fn refuse(&mut self, stage: Stage) -> Option<Answer> {
        let reply = self.refused.clone()?;
        self.letter.end(stage, Fate::Refused(reply.clone()));
        Some(Answer::new(stage, Verdict::Continue).with_reply(reply))
    }

    /// A header as the MTA keeps it.
    pub(super) fn kept(&self, header: Header) -> Header {
        let most = POSTFIX_HEADER.saturating_sub(header.name().len() + 1);
        if self.profile().is_sendmail() || header.value().len() <= most {
            return header;
        }
        Header::new(header.name_bytes(), header.value_bytes().slice(..most))
    }

    /// A header as the filter is shown it.
    // sendmail/milter.c milter_headers, Postfix milter8.c milter8_header: without one space
    pub(super) fn shown(&self, header: Header) -> Header {
        let value = header.value_bytes();
        let shown = if self.profile().kind == Kind::Stalwart {
            value.slice_ref(value.trim_ascii())
        } else if value.first() == Some(&b' ') && !self.agreement().leading_space() {
            value.slice(1..)
        } else {
            return header;
        };
        Header::new(header.name_bytes(), shown)
    }

    /// Asks the filter, as far as it is to be asked, and takes down what it says.
    pub(super) async fn ask(&mut self, stage: Stage, command: Command) -> Answer {
        self.ask_about(stage, command, None).await
    }

    /// The same concerning a recipient.
    pub(super) async fn ask_about(
        &mut self,
        stage: Stage,
        command: Command,
        recipient: Option<Recipient>,
    ) -> Answer {
        if let Some(reply) = self
            .refused
            .clone()
            .filter(|it| self.profile().is_final(it))
        {
            // The client is gone.
            return Answer::new(stage, Verdict::Continue).with_reply(reply);
        }
        let heard = match self.dialogue.ask(stage, command).await {
            Ok(heard) => heard,
            Err(why) => {
                self.letter.end(stage, Fate::Failed(why));
                let reply = self.profile().without_filter();
                return Answer::new(stage, Verdict::Continue).with_reply(reply);
            }
        };
        let Some(heard) = heard else {
            return Answer::new(stage, Verdict::Continue);
        };
        self.letter.edits(heard.edits);
        let mut answer = Answer::new(stage, heard.verdict);
        if let Some(recipient) = recipient {
            answer = answer.with_recipient(recipient);
        }
        if let Some(reply) = self.profile().reply_to(&answer.verdict, stage) {
            let is_of_session = matches!(stage, Stage::Connect | Stage::Helo);
            let is_final = self.profile().is_final(&reply);
            if is_of_session || is_final {
                self.refused = Some(reply.clone());
            }
            if is_final {
                self.letter.end(stage, Fate::Refused(reply.clone()));
            }
            answer = answer.with_reply(reply);
        }
        self.letter.answer(answer.clone());
        answer
    }
}
