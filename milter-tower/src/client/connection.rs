//! A connection with a milter.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use milter_core::client::{Answer, Config, Failure, Heard, SendError};
use milter_core::macros::names;
use milter_core::{
    Agreement, Command, Connect, Header, Helo, Modification, OfferReply, Recipient, Sender,
    SmtpReply, Stage, UnknownCommand, Verdict,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::builder::Settings;
use super::link::Link;
use super::values::{MacroScope, Values};
use super::{ClientError, ClientErrorKind, DefaultAction};
use crate::Stream;

/// A connection with a milter, that was negotiated, as a mail server holds it.
///
/// Each step tells the milter what the client does, and comes back with its [`Answer`]. A milter is
/// told only what it wants to hear, but an MTA tells everything here: what the milter declined is
/// left out. Where it is not asked, or gives no reply, the answer's verdict is
/// [`Continue`](Verdict::Continue); once it decided the message or the session, that verdict comes
/// again.
///
/// What needs no reply is written together with the next step that does.
///
/// # The order
///
/// [`connect`](Self::connect), [`helo`](Self::helo), and then each message: [`mail`](Self::mail),
/// [`rcpt`](Self::rcpt) once or more, [`data`](Self::data), [`header`](Self::header)s, their
/// [end](Self::end_of_headers), the [body](Self::body), the [end](Self::end). A message that
/// ends otherwise, also because it was refused, is [aborted](Self::abort). Whatever comes out of
/// order is an error that says so, and changes nothing.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), milter_tower::BoxError> {
/// # use milter_tower::{BoxError, Event, Request, Response, serve_connection};
/// # let filter = tower::service_fn(async |request: Request| Ok::<_, BoxError>(match request.event() {
/// #     Event::EndOfMessage(_) => Response::accept().add_header("X-Seen", "yes"),
/// #     _ => Response::proceed(),
/// # }));
/// use milter_tower::client::{Client, MacroScope};
/// use milter_tower::{Connect, Header, Recipient, Sender, Verdict};
///
/// # let (io, other_end) = tokio::io::duplex(4096);
/// # let serving = tokio::spawn(serve_connection(other_end, filter).into_future());
/// let mut milter = Client::without_address().over(io).await?;
/// let client: std::net::SocketAddr = "192.0.2.1:50025".parse()?;
/// milter.connect(Connect::new("client.example", client.into())).await?;
/// milter.helo("client.example").await?;
///
/// milter.set_macro_in(MacroScope::Message, "i", "4ZAbC1");
/// milter.mail(Sender::new("<alice@example.org>", ["SIZE=100"])).await?;
/// let answer = milter.rcpt(Recipient::new("<bob@example.net>", [""; 0])).await?;
/// assert_eq!(answer.verdict, Verdict::Continue);
/// milter.data().await?;
/// milter.header(Header::new("Subject", " Hello")).await?;
/// milter.end_of_headers().await?;
/// milter.body("Hello Bob!\r\n").await?;
/// let end = milter.end().await?;
/// assert_eq!(end.verdict, Verdict::Accept);
/// assert_eq!(end.edits.len(), 1);
/// milter.quit().await?;
/// # serving.await??;
/// # Ok(())
/// # }
/// ```
///
/// # Failures
///
/// What the milter says is checked: what it may not say here, what was not negotiated, what cannot
/// be read, and silence are [errors](ClientError), and so is a reply where none was due, which is
/// found at the next step. The connection is closed then, and every call after that returns the
/// same failure. [`on_failure`](Self::on_failure) tells what to do with the mail.
///
/// # Dropped futures
///
/// If the future of a step is dropped before it is done, the milter still owes the reply: other
/// steps are refused until [`answer`](Self::answer) has fetched that. Dropped in the middle of a
/// [body](Self::body), nobody knows how much of that was sent: the message can only be aborted.
pub struct Connection<IO = Stream> {
    link: Link<IO>,
    name: Arc<str>,
    pub(super) settings: Settings,
    values: Values,
}

impl<IO> Connection<IO> {
    /// What the milter agreed to.
    pub fn agreement(&self) -> &Agreement {
        self.link.agreement()
    }

    /// What the milter answered to the offer, as it came: the version, its actions, steps and
    /// lists of macros.
    pub fn offer_reply(&self) -> Option<&OfferReply> {
        self.link.offer_reply()
    }

    /// What is to become of mail if the milter fails: as
    /// [configured](super::Client::on_failure).
    pub fn on_failure(&self) -> DefaultAction {
        self.settings.on_failure
    }

    /// How the milter failed, if it did.
    pub fn failure(&self) -> Option<&Failure> {
        self.link.session().failure()
    }

    /// The milter's verdict that ended the message or the SMTP session for it, if one did: it is
    /// told no more of it. None after the end of the message, whose verdict was just told.
    pub fn decided(&self) -> Option<&Verdict> {
        self.link.session().decided()
    }

    /// The milter, for messages: its address.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets a macro for the SMTP session: see [`set_macro_in`](Self::set_macro_in).
    pub fn set_macro(&mut self, name: impl AsRef<[u8]>, value: impl Into<Bytes>) {
        self.set_macro_in(MacroScope::Session, name, value);
    }

    /// Sets a macro, to be sent with each step whose list has it: that which the milter asked for,
    /// else that which is [configured](super::Client::macros). Braces around the name do not matter.
    ///
    /// One that holds for less long stands for another of the same name. A NUL cuts the value.
    pub fn set_macro_in(
        &mut self,
        scope: MacroScope,
        name: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
    ) {
        self.values.set(scope, name.as_ref(), value.into());
    }

    /// Forgets a macro.
    pub fn unset_macro(&mut self, name: impl AsRef<[u8]>) {
        self.values.unset(name.as_ref());
    }

    /// The frames, the session and the clock, for who drives them himself.
    #[allow(dead_code, reason = "for milters that are members of a chain")]
    pub(crate) fn link(&mut self) -> &mut Link<IO> {
        &mut self.link
    }

    fn error(&self, stage: Option<Stage>, kind: ClientErrorKind) -> ClientError {
        ClientError::new(&self.name, stage, kind)
    }

    fn send_error(&self, stage: Option<Stage>, error: SendError) -> ClientError {
        self.error(
            stage,
            match error {
                SendError::Failed(failure) => ClientErrorKind::Failed(failure),
                error => ClientErrorKind::Misused(error),
            },
        )
    }

    fn failed(&self, stage: Option<Stage>, failure: Failure) -> ClientError {
        self.error(stage, ClientErrorKind::Failed(failure))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    pub(super) async fn open(
        io: IO,
        name: Arc<str>,
        config: Config,
        settings: Settings,
    ) -> Result<Self, ClientError> {
        let mut this = Self {
            link: Link::new(io, config, settings.times),
            name,
            settings,
            values: Values::default(),
        };
        if let Err(error) = this.link.offer() {
            return Err(this.send_error(None, error));
        }
        match this.link.hear(|_| ()).await {
            Ok(_) => Ok(this),
            Err(failure) => Err(this.failed(None, failure)),
        }
    }

    /// A client connects.
    ///
    /// # Errors
    ///
    /// The call comes out of order, or the milter fails or has failed.
    pub async fn connect(&mut self, client: Connect) -> Result<Answer, ClientError> {
        self.ask(Stage::Connect, Command::Connect(client)).await
    }

    /// The client says HELO or EHLO; again, too, or within a message before it is aborted.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect).
    pub async fn helo(&mut self, name: impl Into<Bytes>) -> Result<Answer, ClientError> {
        self.ask(Stage::Helo, Command::Helo(Helo::new(name))).await
    }

    /// A command that the MTA does not know: the whole line, without its end.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect).
    pub async fn unknown(&mut self, line: impl Into<Bytes>) -> Result<Answer, ClientError> {
        let command = UnknownCommand::new(line);
        self.ask(Stage::Unknown, Command::Unknown(command)).await
    }

    /// A message begins.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect).
    pub async fn mail(&mut self, sender: Sender) -> Result<Answer, ClientError> {
        self.ask(Stage::Mail, Command::Mail(sender)).await
    }

    /// A recipient. One that is refused is left out, and the message goes on.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect).
    pub async fn rcpt(&mut self, recipient: Recipient) -> Result<Answer, ClientError> {
        self.ask(Stage::Rcpt, Command::Rcpt(recipient)).await
    }

    /// A recipient that the MTA itself refuses, with this reply. The milter hears of it only if it
    /// asked for that; whatever it answers, the recipient stays refused.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect).
    // sendmail/srvrsmtp.c; Postfix smtpd.c rcpt_cmd, smtpd_milter.c: {rcpt_mailer} is `error`, the
    // others are the reply
    pub async fn rejected_rcpt(
        &mut self,
        recipient: Recipient,
        reply: &SmtpReply,
    ) -> Result<Answer, ClientError> {
        if !self.agreement().rejected_recipients() {
            self.values.end(MacroScope::Step);
            return Ok(Answer::new(Stage::Rcpt, Verdict::Continue));
        }
        self.set_macro_in(MacroScope::Step, names::RCPT_MAILER, "error");
        if let Some(code) = reply.enhanced_code() {
            self.set_macro_in(MacroScope::Step, names::RCPT_HOST, code.to_string());
        }
        if let Some(line) = reply.lines().next() {
            let line = Bytes::copy_from_slice(line.as_ref());
            self.set_macro_in(MacroScope::Step, names::RCPT_ADDR, line);
        }
        self.rcpt(recipient).await
    }

    /// DATA.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect).
    pub async fn data(&mut self) -> Result<Answer, ClientError> {
        self.ask(Stage::Data, Command::Data).await
    }

    /// A header, its value everything behind the colon, also the space that it usually begins with.
    /// Lines are separated by LF. The space is left out unless the milter negotiated to see it.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect).
    // sendmail/milter.c milter_headers, Postfix milter8.c milter8_header
    pub async fn header(&mut self, header: Header) -> Result<Answer, ClientError> {
        let value = header.value_bytes();
        let header = match value.first() {
            Some(b' ') if !self.agreement().leading_space() => {
                Header::new(header.name_bytes(), value.slice(1..))
            }
            _ => header,
        };
        self.ask(Stage::Header, Command::Header(header)).await
    }

    /// The end of the headers.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect).
    pub async fn end_of_headers(&mut self) -> Result<Answer, ClientError> {
        self.ask(Stage::EndOfHeaders, Command::EndOfHeaders).await
    }

    /// The body or a part of it, of any length, as it is: lines are to end in CRLF.
    ///
    /// It is cut into pieces that may be sent; no more of them go out once the milter skips the
    /// rest or decides. The answer is that to the last one.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect).
    // sendmail/milter.c milter_body, Postfix milter8.c milter8_body: MILTER_CHUNK_SIZE
    pub async fn body(&mut self, body: impl Into<Bytes>) -> Result<Answer, ClientError> {
        let mut last = Answer::new(Stage::Body, Verdict::Continue);
        for piece in Modification::body_chunks(&body.into()) {
            last = self.ask(Stage::Body, Command::Body(piece)).await?;
            if last.verdict != Verdict::Continue {
                break;
            }
        }
        Ok(last)
    }

    /// The same for a body that is read bit by bit, as it is. No more is read than is sent.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect); or the body cannot be read.
    pub async fn body_from(
        &mut self,
        mut reader: impl AsyncRead + Unpin,
    ) -> Result<Answer, ClientError> {
        let mut last = Answer::new(Stage::Body, Verdict::Continue);
        if self.is_body_declined() {
            return Ok(last);
        }
        while last.verdict == Verdict::Continue {
            let mut piece = BytesMut::with_capacity(Modification::MAX_BODY_CHUNK);
            while piece.len() < Modification::MAX_BODY_CHUNK {
                let left = Modification::MAX_BODY_CHUNK - piece.len();
                let mut limited = (&mut reader).take(left as u64);
                match limited.read_buf(&mut piece).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        let kind = ClientErrorKind::Body(error);
                        return Err(self.error(Some(Stage::Body), kind));
                    }
                }
            }
            if piece.is_empty() {
                break;
            }
            last = self.ask(Stage::Body, Command::Body(piece.freeze())).await?;
        }
        Ok(last)
    }

    /// The end of the message: the milter's verdict, and its edits in the order in which they came.
    /// They are within what was negotiated.
    ///
    /// # Errors
    ///
    /// As with [`connect`](Self::connect).
    pub async fn end(&mut self) -> Result<Answer, ClientError> {
        let answer = self
            .ask(Stage::EndOfMessage, Command::EndOfMessage(Bytes::new()))
            .await;
        self.end_message();
        answer
    }

    /// The message is given up, or was refused. The milter is told if it has to be.
    ///
    /// Also when no message is open.
    ///
    /// # Errors
    ///
    /// A reply is due, or the milter fails or has failed.
    pub async fn abort(&mut self) -> Result<(), ClientError> {
        self.check(None)?;
        self.link
            .abort()
            .map_err(|error| self.send_error(None, error))?;
        self.end_message();
        self.write(None).await
    }

    /// The SMTP session ends, and with it the connection.
    ///
    /// # Errors
    ///
    /// The goodbye cannot be written: the milter has failed, or is gone.
    pub async fn quit(mut self) -> Result<(), ClientError> {
        self.link
            .quit()
            .map_err(|error| self.send_error(None, error))?;
        self.write(None).await
    }

    /// The SMTP session ends, and another one may begin on this connection:
    /// [`connect`](Self::connect) comes next.
    ///
    /// Neither Postfix nor Sendmail sends this, and not all milters understand it.
    ///
    /// # Errors
    ///
    /// A reply is due, or the milter fails or has failed.
    // include/libmilter/mfdef.h SMFIC_QUIT_NC
    pub async fn quit_new_connection(&mut self) -> Result<(), ClientError> {
        self.check(None)?;
        self.link
            .quit_new_connection()
            .map_err(|error| self.send_error(None, error))?;
        self.values.end(MacroScope::Session);
        self.write(None).await
    }

    /// Fetches the answer that is due, if the future of a step was dropped before it had that.
    ///
    /// # Errors
    ///
    /// The milter fails or has failed.
    pub async fn answer(&mut self) -> Result<Option<Answer>, ClientError> {
        let stage = self.awaited_stage();
        let heard = self.link.hear(|_| ()).await;
        heard.map_err(|failure| self.failed(stage, failure))
    }

    /// Whether the milter has gone away, or said what it was not asked: found without waiting.
    /// It has then failed.
    ///
    /// For connections that are kept between messages.
    pub fn is_gone(&mut self) -> bool {
        self.check(None).is_err()
    }

    fn awaited_stage(&self) -> Option<Stage> {
        match self.link.session().awaited() {
            Some(milter_core::client::Awaited::Verdict(stage)) => Some(stage),
            _ => None,
        }
    }

    /// Looks for what came unasked.
    fn check(&mut self, stage: Option<Stage>) -> Result<(), ClientError> {
        if let Some(failure) = self.failure() {
            return Err(self.failed(stage, failure.clone()));
        }
        if let Some(failure) = self.link.surplus() {
            let failure = self.link.fail(failure);
            return Err(self.failed(stage, failure));
        }
        Ok(())
    }

    async fn ask(&mut self, stage: Stage, command: Command) -> Result<Answer, ClientError> {
        self.ask_with(stage, command, |_| ()).await
    }

    async fn ask_with(
        &mut self,
        stage: Stage,
        command: Command,
        meanwhile: impl FnMut(Heard),
    ) -> Result<Answer, ClientError> {
        self.check(Some(stage))?;
        // The end of the message forgets it.
        let before = self.decided().filter(|_| stage == Stage::EndOfMessage);
        let before = before.cloned();
        let values = &self.values;
        let told = self.link.tell(command, |name| values.get(name));
        told.map_err(|error| self.send_error(Some(stage), error))?;
        self.values.end(MacroScope::Step);
        match self.link.hear(meanwhile).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => {
                if self.link.is_piled_up() {
                    self.write(Some(stage)).await?;
                }
                let decided = before.or_else(|| self.decided().cloned());
                Ok(Answer::new(stage, decided.unwrap_or(Verdict::Continue)))
            }
            Err(failure) => Err(self.failed(Some(stage), failure)),
        }
    }

    async fn write(&mut self, stage: Option<Stage>) -> Result<(), ClientError> {
        let written = self.link.flush().await;
        written.map_err(|failure| self.failed(stage, failure))
    }

    fn is_body_declined(&self) -> bool {
        !self.agreement().delivers(Stage::Body) || self.decided().is_some()
    }

    fn end_message(&mut self) {
        self.values.end(MacroScope::Message);
        self.link.shrink();
    }
}

impl<IO> fmt::Debug for Connection<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("name", &self.name)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}
