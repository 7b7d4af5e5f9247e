//! A whole mail in one call.

use std::borrow::Borrow;
use std::vec;

use bytes::Bytes;
use milter_core::{Command, MacroStage, Modification, Recipient, Stage, Verdict};
use tokio::io::{AsyncRead, AsyncWrite};

use super::letter::Letter;
use super::words;
use super::{
    Answer, ClientError, Connection, DefaultAction, Delivery, Fate, MacroScope, Mail, StageAnswer,
};

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    /// Tells the milter a whole mail: its client connects and greets first, unless one has done so
    /// on this connection. What became of it: the answers, the recipients that were refused, the
    /// edits, and the message with these applied.
    ///
    /// The mail goes on after an answer as an SMTP client would: without the recipients that were
    /// refused, and not at all after a refusal of the rest. Where the milter refuses without words
    /// of its own the client gets those of Postfix.
    ///
    /// If the milter fails, or has failed before, that is in [`Delivery::failure`], and the mail is
    /// treated as [configured](super::Client::on_failure): refused, or accepted as it is.
    ///
    /// The macros are those of the mail, and those that were [set](Self::set_macro). The connection
    /// stays open, for the client's next mail. If this future is dropped before it is done, that next
    /// one has the milter give up what was left in its middle.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), milter_tower::BoxError> {
    /// # use milter_tower::{BoxError, Event, Request, Response, serve_connection};
    /// # let filter = tower::service_fn(async |request: Request| Ok::<_, BoxError>(match request.event() {
    /// #     Event::Rcpt(to) if to.mailbox() == "trap@example.net" => Response::reject(),
    /// #     Event::EndOfMessage(_) => Response::accept().add_header("X-Seen", "yes"),
    /// #     _ => Response::proceed(),
    /// # }));
    /// use milter_tower::client::{Client, Mail};
    ///
    /// # let (io, other_end) = tokio::io::duplex(4096);
    /// # let serving = tokio::spawn(serve_connection(other_end, filter).into_future());
    /// let mut milter = Client::without_address().over(io).await?;
    /// let mail = Mail::new().to("bob@example.net").to("trap@example.net").body("hi");
    /// let delivery = milter.deliver(&mail).await;
    /// assert!(delivery.is_accepted(), "{delivery}");
    /// assert_eq!(delivery.refused_recipients().count(), 1);
    /// assert_eq!(delivery.message.recipients().len(), 1);
    /// assert_eq!(delivery.message.headers().get_str("X-Seen"), Some("yes"));
    /// milter.quit().await?;
    /// # serving.await??;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn deliver(&mut self, mail: impl Borrow<Mail>) -> Delivery {
        let mail = mail.borrow();
        let mut letter = Letter::default();
        letter.sender = Some(mail.sender());
        for field in &mail.headers() {
            letter.header(field.header().clone());
        }
        letter.body(mail.content().clone());
        let mut to = mail.recipients().into_iter();
        let was_dropped = std::mem::replace(&mut self.delivers, true);
        let begun = if was_dropped {
            self.give_up().await
        } else {
            Ok(())
        };
        let told = match begun {
            Ok(()) => self.tell_all(mail, &mut letter, &mut to).await,
            Err(error) => Err(error),
        };
        let failure = told.err();
        if let Some(error) = &failure {
            let stage = error.stage().unwrap_or(Stage::Connect);
            let fate = match self.on_failure().reply() {
                Some(reply) => Fate::Refused(reply),
                None => Fate::Accepted,
            };
            letter.recipients.extend(to);
            letter.end(stage, fate);
            if self.on_failure().holds() {
                letter.hold(DefaultAction::QUARANTINE_REASON);
            }
        }
        // What goes wrong now is found at the next mail.
        let _ = self.abort().await;
        self.delivers = false;
        let leading_space = self.agreement().leading_space();
        let mut delivery = letter.finish(self.settings.edits.clone(), None, leading_space);
        delivery.failure = failure;
        delivery
    }

    /// Ends what a dropped call left in its middle.
    async fn give_up(&mut self) -> Result<(), ClientError> {
        self.answer().await?;
        self.abort().await
    }

    /// Tells it, up to what ends it.
    async fn tell_all(
        &mut self,
        mail: &Mail,
        letter: &mut Letter,
        to: &mut vec::IntoIter<Recipient>,
    ) -> Result<(), ClientError> {
        if let Some((stage, verdict)) = self.decided_session() {
            if !letter.take(Answer::new(stage, verdict), None) {
                return Ok(());
            }
        }
        self.know(mail, MacroStage::Connect);
        if !self.has_client() {
            let command = Command::Connect(mail.connection());
            if !self.step(letter, command).await? {
                return Ok(());
            }
        }
        self.know(mail, MacroStage::Helo);
        if let (false, Some(greeting)) = (self.has_greeted(), mail.greeting()) {
            if !self.step(letter, Command::Helo(greeting)).await? {
                return Ok(());
            }
        }
        for command in mail.unknown_commands() {
            if !self.step(letter, Command::Unknown(command.clone())).await? {
                return Ok(());
            }
        }
        self.know(mail, MacroStage::Mail);
        if !self.step(letter, Command::Mail(mail.sender())).await? {
            return Ok(());
        }
        self.know(mail, MacroStage::Rcpt);
        while let Some(recipient) = to.as_slice().first() {
            let command = Command::Rcpt(recipient.clone());
            let answer = self.put(command).await?;
            let recipient = to.next();
            let goes_on = match (answer, recipient) {
                (Some(answer), recipient) => letter.take(answer, recipient),
                (None, recipient) => {
                    letter.recipients.extend(recipient);
                    true
                }
            };
            if !goes_on {
                return Ok(());
            }
        }
        if letter.recipients.is_empty() {
            letter.end(Stage::Rcpt, Fate::NoRecipients);
            return Ok(());
        }
        self.tell_content(mail, letter).await
    }

    async fn tell_content(&mut self, mail: &Mail, letter: &mut Letter) -> Result<(), ClientError> {
        self.know(mail, MacroStage::Data);
        if !self.step(letter, Command::Data).await? {
            return Ok(());
        }
        for field in &mail.headers() {
            let command = Command::Header(self.shown(field.header().clone()));
            if !self.step(letter, command).await? {
                return Ok(());
            }
        }
        self.know(mail, MacroStage::EndOfHeaders);
        if !self.step(letter, Command::EndOfHeaders).await? {
            return Ok(());
        }
        for piece in Modification::body_chunks(mail.content()) {
            // After a skip they are not sent.
            if !self.step(letter, Command::Body(piece)).await? {
                return Ok(());
            }
        }
        self.know(mail, MacroStage::EndOfMessage);
        let end = Command::EndOfMessage(Bytes::new());
        self.step(letter, end).await.map(|_| ())
    }

    /// A step of the mail. Whether it goes on.
    async fn step(&mut self, letter: &mut Letter, command: Command) -> Result<bool, ClientError> {
        let answer = self.put(command).await?;
        Ok(answer.is_none_or(|answer| letter.take(answer, None)))
    }

    /// Takes over the mail's macros of a stage.
    fn know(&mut self, mail: &Mail, stage: MacroStage) {
        let scope = match stage {
            MacroStage::Connect | MacroStage::Helo => MacroScope::Session,
            _ => MacroScope::Message,
        };
        for (name, value) in mail.macros(stage) {
            self.set_macro_in(scope, name, Bytes::copy_from_slice(&value));
        }
    }
}

impl Letter {
    /// Takes down what a milter answers, concerning a recipient at RCPT. Whether the mail goes on.
    fn take(&mut self, heard: Answer, recipient: Option<Recipient>) -> bool {
        let reply = words::refusal(&heard.verdict);
        let ends = match heard.stage {
            Stage::Rcpt | Stage::Unknown => reply.as_ref().is_some_and(words::is_final),
            _ => reply.is_some(),
        };
        let mut answer = StageAnswer::new(heard.stage, heard.verdict);
        if let Some(recipient) = recipient {
            if reply.is_none() {
                self.recipients.push(recipient.clone());
            }
            answer = answer.with_recipient(recipient);
        }
        if let Some(reply) = reply {
            if ends {
                self.end(heard.stage, Fate::Refused(reply.clone()));
            }
            answer = answer.with_reply(reply);
        }
        let ends = ends || answer.verdict == Verdict::Discard;
        self.edits(heard.edits);
        self.answer(answer);
        !ends
    }
}
