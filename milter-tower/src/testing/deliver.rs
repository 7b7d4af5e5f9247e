//! A whole mail in an SMTP session.

use std::borrow::Borrow;

use milter_core::{MacroStage, Stage};

use super::mail::copied;
use super::profile::reply;
use super::{Delivery, Fate, Mail, SmtpSession};

/// The most bytes of headers that Sendmail takes.
// Q29: sendmail/collect.c, MaxHeadersLength
const SENDMAIL_HEADERS: usize = 32_768;

impl SmtpSession {
    /// Sends a whole mail in this session: its client connects and greets first, unless one has
    /// done so before.
    ///
    /// The client goes on after an answer as clients do: without the recipients that were refused,
    /// and not at all after a refusal of the rest.
    pub async fn deliver(&mut self, mail: impl Borrow<Mail>) -> Delivery {
        let mail = mail.borrow();
        let values = &mut self.dialogue.values;
        values.begin_mail();
        for stage in MacroStage::ALL {
            for (name, value) in mail.macros(stage) {
                values.give(stage, copied(name), copied(value), true);
            }
        }
        if !self.connected && self.connect(mail.connection()).await.reply.is_some() {
            return self.finish().await;
        }
        if let (false, Some(greeting)) = (self.greeted, mail.greeting()) {
            self.helo(greeting.name()).await;
        }
        for command in mail.unknown_commands() {
            self.unknown(command.line()).await;
        }
        if self.mail_as(mail.sender()).await.reply.is_some() {
            return self.finish().await;
        }
        for recipient in mail.recipients() {
            self.rcpt_as(recipient).await;
        }
        if self.letter.recipients.is_empty() {
            self.letter.end(Stage::Rcpt, Fate::NoRecipients);
            return self.finish().await;
        }
        if self.refused.is_some() || self.data().await.reply.is_some() {
            return self.finish().await;
        }
        self.content(mail).await
    }

    // Both servers have the whole message before they show any of it.
    async fn content(&mut self, mail: &Mail) -> Delivery {
        let headers = mail.headers();
        let lens = headers
            .iter()
            .map(|header| header.name().len() + header.raw().len() + 2);
        if self.dialogue.profile.is_sendmail() && lens.sum::<usize>() > SENDMAIL_HEADERS {
            let words = reply(552, 3, 4, "Headers too large (32768 max)");
            self.letter.end(Stage::Data, Fate::Refused(words));
            return self.finish().await;
        }
        for header in &headers {
            if self
                .header_as(header.header().clone())
                .await
                .reply
                .is_some()
            {
                return self.finish().await;
            }
        }
        if self.end_of_headers().await.reply.is_some() {
            return self.finish().await;
        }
        if self.body(mail.content().clone()).await.reply.is_some() {
            return self.finish().await;
        }
        self.end().await
    }
}
