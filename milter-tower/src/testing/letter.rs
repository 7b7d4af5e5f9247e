//! The message at hand, as the MTA holds it.

use bytes::{Bytes, BytesMut};
use milter_core::{Header, Modification, Recipient, Sender, Stage, Verdict, edit};

use super::profile::{MtaProfile, reply};
use super::values::{HOST, Values};
use super::{Answer, Delivery, Fate, Step};

/// What has come of a message, and what was said to it.
#[derive(Debug, Default)]
pub(super) struct Letter {
    pub(super) sender: Option<Sender>,
    pub(super) recipients: Vec<Recipient>,
    headers: Vec<Header>,
    body: BytesMut,
    answers: Vec<Answer>,
    pub(super) steps: Vec<Step>,
    edits: Vec<Modification>,
    end: Option<(Stage, Fate)>,
}

impl Letter {
    /// Takes a header, the value with everything behind the colon.
    pub(super) fn header(&mut self, header: Header) {
        self.headers.push(header);
    }

    pub(super) fn body(&mut self, piece: &[u8]) {
        self.body.extend_from_slice(piece);
    }

    /// Takes down an answer, and what it means for the message.
    pub(super) fn answer(&mut self, answer: Answer) {
        let Answer { stage, verdict, .. } = &answer;
        let fate = match verdict {
            Verdict::Discard => Some(Fate::Discarded),
            Verdict::Accept => Some(Fate::Accepted),
            Verdict::Continue if *stage == Stage::EndOfMessage => Some(Fate::Accepted),
            _ if !verdict.is_refusal() || *stage == Stage::Rcpt || *stage == Stage::Unknown => None,
            _ => answer.reply.clone().map(Fate::Refused),
        };
        if let Some(fate) = fate {
            self.end(*stage, fate);
        }
        // Of thousands of headers only those are told that matter.
        let is_one_of_many = matches!(stage, Stage::Header | Stage::Body);
        if !is_one_of_many || *verdict != Verdict::Continue {
            self.answers.push(answer);
        }
    }

    /// Takes down how the message ended, if it has not ended before. What the filter accepted may
    /// still be given up.
    pub(super) fn end(&mut self, stage: Stage, fate: Fate) {
        if matches!(self.end, None | Some((_, Fate::Accepted))) {
            self.end = Some((stage, fate));
        }
    }

    /// A refused DATA, which may come again.
    pub(super) fn reopen(&mut self) {
        if matches!(self.end, Some((Stage::Data, Fate::Refused(_)))) {
            self.end = None;
        }
    }

    pub(super) fn edits(&mut self, edits: Vec<Modification>) {
        self.edits = edits;
    }

    /// What became of it.
    pub(super) fn finish(self, mta: &MtaProfile, values: &Values, leading_space: bool) -> Delivery {
        let mut mail = edit::Mail::new(mta.edits.clone())
            .with_received(received(mta, values))
            .with_body(self.body.freeze());
        if let Some(sender) = self.sender {
            mail = mail.with_sender(sender);
        }
        let mail = self
            .recipients
            .into_iter()
            .fold(mail, edit::Mail::with_recipient);
        let mut mail = self.headers.into_iter().fold(mail, edit::Mail::with_header);
        let before = mail.clone();
        let mut end = self.end;
        if matches!(end, None | Some((_, Fate::Accepted))) {
            if let Err(refused) = mail.apply(&self.edits, leading_space) {
                // Postfix milter8.c milter8_conf_error
                let words = reply(451, 3, 5, "Server configuration problem - try again later");
                tracing::warn!("{refused}");
                end = Some((Stage::EndOfMessage, Fate::Refused(words)));
            }
        }
        let mut delivery = Delivery::new(mail);
        delivery.before = before.into();
        delivery.answers = self.answers;
        delivery.steps = self.steps;
        delivery.edits = self.edits;
        if let Some((stage, fate)) = end {
            delivery.end(stage, fate);
        }
        delivery
    }
}

/// The MTA's own `Received`, always of the same time.
fn received(mta: &MtaProfile, values: &Values) -> Header {
    let helo = values
        .helo_name()
        .map_or_else(String::new, |name| format!(" from {name}"));
    let id = values.queue_id().unwrap_or("unknown");
    let line = format!(
        "{helo} ({})\n\tby {HOST} ({}) with ESMTP id {id};\n\tThu, 01 Jan 2026 12:00:01 +0000",
        values.client_shown(),
        mta.name(),
    );
    Header::new(Bytes::from_static(b"Received"), line)
}
