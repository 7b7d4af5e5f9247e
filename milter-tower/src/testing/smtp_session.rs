//! An SMTP session, step by step.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use milter_core::{
    Agreement, Command, Connect, Header, Helo, MacroStage, Modification, Recipient, Sender,
    SmtpReply, Stage, UnknownCommand, Verdict,
};

use super::dialogue::Dialogue;
use super::mail::{copied, folded, in_brackets};
use super::profile::Kind;
use super::values::told;
use super::wire::Wire;
use super::{Answer, Delivery, Failures, Fate, MtaProfile};
use crate::client::letter::Letter;

/// An SMTP session of a [`MockMta`](super::MockMta), driven step by step.
///
/// Each step tells the filter what the client does, as that MTA would: with its macros, unless the
/// filter declined to see it, and waiting for an answer if one is due. What comes back is the
/// filter's [`Answer`] with the words that the client gets; where the filter was not asked, it just
/// goes on.
///
/// Nothing is checked: steps in an order in which no MTA asks are sent as they are. A client
/// that is refused may go on as well, but the filter hears no more of what it has decided, and of
/// nothing once the MTA has hung up (421). A filter that answers what it was not asked has
/// [failed](Self::failure), which is found at the step after.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # use std::convert::Infallible;
/// # use milter_tower::{Event, Request, Response, SmtpReply};
/// # use tower::service_fn;
/// use milter_tower::testing::{Mail, MockMta};
/// use milter_tower::Verdict;
///
/// # let filter = service_fn(async |request: Request| {
/// #     Ok::<_, Infallible>(match request.event() {
/// #         Event::Rcpt(rcpt) if rcpt.mailbox() == "spamtrap@example.net" => {
/// #             Response::from(SmtpReply::reject("No such user"))
/// #         }
/// #         _ => Response::proceed(),
/// #     })
/// # });
/// let mut mta = MockMta::postfix(filter);
/// let mut client = mta.open().await;
/// client.connect(Mail::new().connection()).await;
/// client.helo("client.example").await;
///
/// client.mail("alice@example.org").await;
/// let answer = client.rcpt("spamtrap@example.net").await;
/// assert_eq!(answer.reply.unwrap().to_string(), "550 5.7.1 No such user");
/// client.abort().await;
///
/// // Another message on the same connection.
/// client.mail("alice@example.org").await;
/// client.rcpt("bob@example.net").await;
/// client.data().await;
/// client.header("Subject", "Hello").await;
/// client.end_of_headers().await;
/// client.body("Hello Bob!\r\n").await;
/// assert!(client.end().await.is_accepted());
/// client.quit().await;
/// # }
/// ```
///
/// # Losing the connection
///
/// [`lose`](Self::lose) closes it wherever the session is. To do so while the filter is at work on a
/// step, stop waiting for it:
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// # use std::time::Duration;
/// # use milter_tower::{BoxError, Request, Response};
/// # use milter_tower::testing::{Mail, MockMta};
/// # use tower::service_fn;
/// # let filter = service_fn(async |request: Request| {
/// #     if request.event().stage() == Some(milter_tower::Stage::Connect) {
/// #         tokio::time::sleep(Duration::from_secs(3600)).await;
/// #     }
/// #     Ok::<_, BoxError>(Response::proceed())
/// # });
/// let mut client = MockMta::postfix(filter).open().await;
/// let connect = client.connect(Mail::new().connection());
/// let waited = tokio::time::timeout(Duration::from_secs(1), connect).await;
/// assert!(waited.is_err());
/// client.lose().await;
/// # }
/// ```
///
/// # Panics
///
/// If a step is taken though the one before was not waited for to its end.
pub struct SmtpSession {
    pub(super) dialogue: Dialogue,
    /// Counts messages.
    pub(super) messages: Arc<AtomicU64>,
    /// How the filter failed, if it is in this process.
    pub(super) failures: Failures,
    pub(super) letter: Letter,
    /// What the client is answered from now on, whatever it says.
    pub(super) refused: Option<SmtpReply>,
    pub(super) connected: bool,
    pub(super) greeted: bool,
    /// The client gave MAIL, and it was neither refused nor is the message over.
    pub(super) in_mail: bool,
}

impl SmtpSession {
    pub(super) async fn open(
        profile: Arc<MtaProfile>,
        wire: Result<Wire, String>,
        messages: Arc<AtomicU64>,
        failures: Failures,
    ) -> Self {
        Self {
            dialogue: Dialogue::open(profile, wire).await,
            messages,
            failures,
            letter: Letter::default(),
            refused: None,
            connected: false,
            greeted: false,
            in_mail: false,
        }
    }

    /// What the filter agreed to.
    pub fn agreement(&self) -> &Agreement {
        self.dialogue.link.agreement()
    }

    /// How the filter failed, if it did: it broke the protocol, was too slow for this MTA, or went
    /// away. The MTA then refuses what comes, for now.
    pub fn failure(&self) -> Option<&str> {
        self.dialogue.failure()
    }

    /// Sets a macro that the MTA tells at a stage; see [`Mail::macro_at`](super::Mail::macro_at).
    pub fn set_macro(
        &mut self,
        stage: MacroStage,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) {
        let values = &mut self.dialogue.values;
        values.give(stage, copied(name), copied(value), false);
    }

    /// A client connects.
    pub async fn connect(&mut self, client: Connect) -> Answer {
        self.connected = true;
        self.dialogue.values.client(&client);
        let client = told(self.profile().kind, client);
        self.ask(Stage::Connect, Command::Connect(client)).await
    }

    /// The client says HELO or EHLO, maybe again, or in the middle of a message, which that gives
    /// up.
    // Q5: sendmail/srvrsmtp.c CLEAR_STATE sends the abort before HELO; Postfix smtpd.c helo_cmd
    // behind it, for the message and for the last greeting (helo_reset)
    pub async fn helo(&mut self, name: impl AsRef<[u8]>) -> Answer {
        let (in_mail, greeted) = (self.in_mail, self.greeted);
        if !self.profile().is_postfix() && in_mail {
            self.reset().await;
        }
        self.greeted = true;
        let name = copied(name);
        self.dialogue.values.helo(name.clone());
        let answer = self.ask(Stage::Helo, Command::Helo(Helo::new(name))).await;
        if self.profile().is_postfix() {
            if in_mail {
                self.reset().await;
            }
            if greeted {
                self.dialogue.say_abort().await;
            }
        }
        answer
    }

    /// A command that the MTA does not know: the whole line, without its end.
    pub async fn unknown(&mut self, line: impl AsRef<[u8]>) -> Answer {
        let command = UnknownCommand::new(copied(line));
        self.ask(Stage::Unknown, Command::Unknown(command)).await
    }

    /// MAIL from this address, given with or without `<>`.
    pub async fn mail(&mut self, address: impl AsRef<[u8]>) -> Answer {
        self.mail_as(Sender::new(in_brackets(address), [""; 0]))
            .await
    }

    /// MAIL exactly so, with its ESMTP arguments.
    pub async fn mail_as(&mut self, sender: Sender) -> Answer {
        if let Some(refused) = self.refuse(Stage::Mail) {
            return refused;
        }
        self.dialogue.values.end_message();
        self.dialogue.values.sender(&sender);
        if self.letter.sender.is_some() {
            self.letter = Letter::default();
        }
        self.letter.sender = Some(sender.clone());
        // Q23: Postfix smtpd_milter.c smtpd_milter_eval knows no id before the first recipient.
        if !self.profile().is_postfix() {
            self.enqueue();
        }
        self.in_mail = true;
        let sender = if self.profile().kind == Kind::Stalwart {
            Sender::new(Bytes::copy_from_slice(&sender.address()), [""; 0])
        } else {
            sender
        };
        let answer = self.ask(Stage::Mail, Command::Mail(sender)).await;
        if answer.verdict.is_refusal() {
            self.in_mail = false;
            self.dialogue.end_message().await;
        }
        answer
    }

    /// RCPT to this address, given with or without `<>`.
    pub async fn rcpt(&mut self, address: impl AsRef<[u8]>) -> Answer {
        self.rcpt_as(Recipient::new(in_brackets(address), [""; 0]))
            .await
    }

    /// RCPT exactly so, with its ESMTP arguments.
    pub async fn rcpt_as(&mut self, recipient: Recipient) -> Answer {
        if let Some(refused) = self.refuse(Stage::Rcpt) {
            return refused.with_recipient(recipient);
        }
        self.dialogue.values.recipient(&recipient, None);
        let said = if self.profile().kind == Kind::Stalwart {
            Recipient::new(Bytes::copy_from_slice(&recipient.address()), [""; 0])
        } else {
            recipient.clone()
        };
        let answer = self
            .ask_about(Stage::Rcpt, Command::Rcpt(said), Some(recipient.clone()))
            .await;
        if answer.reply.is_none() {
            self.letter.recipients.push(recipient);
            self.enqueue();
        }
        answer
    }

    /// RCPT to an address that the MTA itself refuses, with this reply. The filter only hears of it
    /// if it asked for that ([`Needs::rejected_recipients`](crate::Needs::rejected_recipients)),
    /// and whatever it answers, the recipient stays refused.
    pub async fn refused_rcpt(&mut self, address: impl AsRef<[u8]>, reply: SmtpReply) -> Answer {
        if let Some(refused) = self.refuse(Stage::Rcpt) {
            return refused;
        }
        let recipient = Recipient::new(in_brackets(address), [""; 0]);
        let values = &mut self.dialogue.values;
        values.recipient(&recipient, Some(reply.clone()));
        let answer = if self.agreement().rejected_recipients() {
            let command = Command::Rcpt(recipient.clone());
            self.ask_about(Stage::Rcpt, command, Some(recipient)).await
        } else {
            self.dialogue.skip_rcpt().await;
            Answer::new(Stage::Rcpt, Verdict::Continue).with_recipient(recipient)
        };
        answer.with_reply(reply)
    }

    /// DATA. After it was refused it may come again.
    pub async fn data(&mut self) -> Answer {
        self.letter.reopen();
        self.ask(Stage::Data, Command::Data).await
    }

    /// A header; its value goes one space behind the colon, as with
    /// [`Mail::header`](super::Mail::header).
    pub async fn header(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Answer {
        let value = folded(value.as_ref());
        self.header_as(Header::new(copied(name), value)).await
    }

    /// A header exactly so: the value is everything behind the colon, lines are separated by LF.
    pub async fn header_as(&mut self, header: Header) -> Answer {
        let header = self.kept(header);
        self.dialogue.values.header(header.name(), &header.value());
        self.letter.header(header.clone());
        let shown = self.shown(header);
        self.ask(Stage::Header, Command::Header(shown)).await
    }

    /// The end of the headers.
    pub async fn end_of_headers(&mut self) -> Answer {
        self.ask(Stage::EndOfHeaders, Command::EndOfHeaders).await
    }

    /// A part of the body, or all of it, exactly so. The filter gets it in pieces of at most 65,535
    /// bytes, unless it skips the rest. The answer is that to the last piece that was sent.
    pub async fn body(&mut self, bytes: impl Into<Bytes>) -> Answer {
        let bytes = bytes.into();
        self.letter.body(bytes.clone());
        let mut last = Answer::new(Stage::Body, Verdict::Continue);
        // sendmail/milter.c milter_body, Postfix milter8.c milter8_body: MILTER_CHUNK_SIZE
        for piece in Modification::body_chunks(&bytes).filter(|piece| !piece.is_empty()) {
            last = self.ask(Stage::Body, Command::Body(piece)).await;
            if last.verdict != Verdict::Continue || last.reply.is_some() {
                break;
            }
        }
        last
    }

    /// The end of the message, and what becomes of it. The delivery also tells what was answered
    /// since the message before it, or since the client connected.
    pub async fn end(&mut self) -> Delivery {
        self.ask(Stage::EndOfMessage, Command::EndOfMessage(Bytes::new()))
            .await;
        self.finish().await
    }

    /// The client gives the message up, with RSET. What had become of it till then.
    pub async fn abort(&mut self) -> Delivery {
        let stage = self.stage_reached();
        self.letter.end(stage, Fate::Aborted);
        self.finish().await
    }

    /// The client says goodbye, and the MTA does. Waits until a filter in this process has seen
    /// its end. How the filter failed since the last [delivery](Delivery::failures), if it did.
    // Q3, Q4: Postfix smtpd.c mail_reset and helo_reset before; sendmail/milter.c milter_quit
    pub async fn quit(mut self) -> Vec<String> {
        self.say_goodbye().await
    }

    pub(super) async fn say_goodbye(&mut self) -> Vec<String> {
        let had_failed = self.failure().is_some();
        if self.profile().is_postfix() && !self.dialogue.is_waiting() {
            if self.in_mail {
                self.reset().await;
            }
            if self.greeted {
                self.dialogue.say_abort().await;
            }
        }
        self.dialogue.quit().await;
        self.failures_since(had_failed)
    }

    /// The connection with the filter is lost, wherever the session is. Waits until a filter in
    /// this process has seen its end. How the filter failed since the last
    /// [delivery](Delivery::failures), if it did.
    pub async fn lose(mut self) -> Vec<String> {
        let had_failed = self.failure().is_some();
        self.dialogue.close().await;
        self.failures_since(had_failed)
    }
}

impl fmt::Debug for SmtpSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpSession")
            .field("profile", &self.profile().name())
            .field("failure", &self.failure())
            .field("letter", &self.letter)
            .finish_non_exhaustive()
    }
}
