//! The message at hand, as the MTA holds it.

use bytes::{Bytes, BytesMut};
use milter_core::{Header, Modification, Recipient, Sender, Stage, Verdict, edit};

use super::words;
use super::{Delivery, Fate, StageAnswer};

/// What has come of a message, and what was said to it.
#[derive(Debug, Default)]
pub(crate) struct Letter {
    pub(crate) sender: Option<Sender>,
    pub(crate) recipients: Vec<Recipient>,
    headers: Vec<Header>,
    body: Bytes,
    answers: Vec<StageAnswer>,
    #[cfg(feature = "testing")]
    pub(crate) steps: Vec<crate::testing::Step>,
    edits: Vec<Modification>,
    end: Option<(Stage, Fate)>,
    /// What holds it back, if its filter did not.
    held: Option<Modification>,
}

impl Letter {
    /// Takes a header, the value with everything behind the colon.
    pub(crate) fn header(&mut self, header: Header) {
        self.headers.push(header);
    }

    /// Takes a piece of the body, or all of it.
    pub(crate) fn body(&mut self, piece: Bytes) {
        if self.body.is_empty() {
            self.body = piece;
        } else {
            let mut body = BytesMut::from(std::mem::take(&mut self.body));
            body.extend_from_slice(&piece);
            self.body = body.freeze();
        }
    }

    /// Takes down an answer, and what it means for the message.
    pub(crate) fn answer(&mut self, answer: StageAnswer) {
        let StageAnswer { stage, verdict, .. } = &answer;
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
    pub(crate) fn end(&mut self, stage: Stage, fate: Fate) {
        if matches!(self.end, None | Some((_, Fate::Accepted))) {
            self.end = Some((stage, fate));
        }
    }

    /// A refused DATA, which may come again.
    #[cfg(feature = "testing")]
    pub(crate) fn reopen(&mut self) {
        if matches!(self.end, Some((Stage::Data, Fate::Refused(_)))) {
            self.end = None;
        }
    }

    pub(crate) fn edits(&mut self, edits: Vec<Modification>) {
        self.edits = edits;
    }

    /// It is held back, for this reason.
    pub(crate) fn hold(&mut self, reason: &str) {
        self.held = Modification::quarantine(reason).ok();
    }

    /// What became of it, for an MTA that applies edits like this and has this `Received`.
    pub(crate) fn finish(
        self,
        edits: edit::Profile,
        received: Option<Header>,
        leading_space: bool,
    ) -> Delivery {
        let mut mail = edit::Mail::new(edits).with_body(self.body);
        if let Some(received) = received {
            mail = mail.with_received(received);
        }
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
            let edits = self.edits.iter().chain(&self.held);
            if let Err(refused) = mail.apply(edits, leading_space) {
                tracing::warn!("{refused}");
                end = Some((Stage::EndOfMessage, Fate::Refused(words::not_changed())));
            }
        }
        let mut delivery = Delivery::new(mail);
        delivery.before = before.into();
        #[cfg(feature = "testing")]
        {
            delivery.steps = self.steps;
        }
        delivery.answers = self.answers;
        delivery.edits = self.edits;
        if let Some((stage, fate)) = end {
            delivery.end(stage, fate);
        }
        delivery
    }
}
