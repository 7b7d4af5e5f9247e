//! A connection with a milter.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use milter_core::client::{Answer, Config, Failure, Heard, SendError};
use milter_core::{Agreement, Command, Header, OfferReply, Stage, Verdict};
use tokio::io::{AsyncRead, AsyncWrite};

use super::builder::Settings;
use super::link::Link;
use super::values::{Fact, MacroScope, Values};
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
/// found at the next step, or behind the end of the message. The connection is closed then, and every call after that returns the
/// same failure. [`on_failure`](Self::on_failure) tells what to do with the mail.
///
/// # Dropped futures
///
/// If the future of a step is dropped before it is done, the milter still owes the reply: other
/// steps are refused until [`answer`](Self::answer) has fetched that. Dropped in the middle of a
/// [body](Self::body), nobody knows how much of that was sent: the message can only be aborted.
pub struct Connection<IO = Stream> {
    pub(super) link: Link<IO>,
    name: Arc<str>,
    pub(super) settings: Settings,
    pub(super) values: Values,
    has_client: bool,
    has_greeted: bool,
    /// Where the milter decided something last.
    decided_at: Option<Stage>,
    on_progress: Option<Box<OnProgress>>,
    /// A whole mail is being told, or was when that was dropped.
    pub(super) delivers: bool,
}

type OnProgress = dyn FnMut(Stage) + Send + Sync;

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

    /// Calls this each time that the milter says within a step that it is
    /// [still at work](crate::Progress), with the stage that it was asked at: to keep others waiting
    /// as well, or to show it. It is called while the step is awaited, and should not take long.
    ///
    /// Most say so at the end of the message, and not at all if they are quick.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), milter_tower::BoxError> {
    /// # use milter_tower::{BoxError, Event, Request, Response, serve_connection};
    /// # let filter = tower::service_fn(async |request: Request| Ok::<_, BoxError>({
    /// #     if let Event::EndOfMessage(progress) = request.event() {
    /// #         progress.send();
    /// #         tokio::task::yield_now().await;
    /// #     }
    /// #     Response::proceed()
    /// # }));
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use milter_tower::client::{Client, Mail};
    ///
    /// # let (io, other_end) = tokio::io::duplex(4096);
    /// # let serving = tokio::spawn(serve_connection(other_end, filter).into_future());
    /// let mut milter = Client::without_address().over(io).await?;
    /// let signs = Arc::new(AtomicU32::new(0));
    /// let count = Arc::clone(&signs);
    /// milter.on_progress(move |_stage| {
    ///     count.fetch_add(1, Ordering::Relaxed);
    /// });
    /// milter.deliver(Mail::new()).await;
    /// assert_eq!(signs.load(Ordering::Relaxed), 1);
    /// milter.quit().await?;
    /// # serving.await??;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_progress(&mut self, told: impl FnMut(Stage) + Send + Sync + 'static) {
        self.on_progress = Some(Box::new(told));
    }

    /// The frames, the session and the clock, for who drives them himself.
    #[allow(dead_code, reason = "for milters that are members of a chain")]
    pub(crate) fn link(&mut self) -> &mut Link<IO> {
        &mut self.link
    }

    /// A header as the milter is shown it.
    // sendmail/milter.c milter_headers, Postfix milter8.c milter8_header: without one space
    pub(super) fn shown(&self, header: Header) -> Header {
        let value = header.value_bytes();
        match value.first() {
            Some(b' ') if !self.agreement().leading_space() => {
                Header::new(header.name_bytes(), value.slice(1..))
            }
            _ => header,
        }
    }

    /// Whether a client has connected in this SMTP session.
    pub(super) fn has_client(&self) -> bool {
        self.has_client
    }

    /// Whether it has said HELO.
    pub(super) fn has_greeted(&self) -> bool {
        self.has_greeted
    }

    /// The verdict that ended the SMTP session for the milter, and where.
    pub(super) fn decided_session(&self) -> Option<(Stage, Verdict)> {
        let verdict = self.link.session().decided_session()?;
        Some((self.decided_at?, verdict.clone()))
    }

    pub(super) fn error(&self, stage: Option<Stage>, kind: ClientErrorKind) -> ClientError {
        ClientError::new(&self.name, stage, kind)
    }

    pub(super) fn send_error(&self, stage: Option<Stage>, error: SendError) -> ClientError {
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
            has_client: false,
            has_greeted: false,
            decided_at: None,
            on_progress: None,
            delivers: false,
        };
        if let Err(error) = this.link.offer() {
            return Err(this.send_error(None, error));
        }
        match this.link.hear(|_| ()).await {
            Ok(_) => Ok(this),
            Err(failure) => Err(this.failed(None, failure)),
        }
    }

    /// Whether the milter has gone away, or said what it was not asked: found without waiting.
    /// It has then failed.
    ///
    /// For connections that are kept between messages.
    pub fn is_gone(&mut self) -> bool {
        self.check(None).is_err()
    }

    /// Looks for what came unasked.
    pub(super) fn check(&mut self, stage: Option<Stage>) -> Result<(), ClientError> {
        if let Some(failure) = self.failure() {
            return Err(self.failed(stage, failure.clone()));
        }
        if let Some(failure) = self.link.surplus() {
            let failure = self.link.fail(failure);
            return Err(self.failed(stage, failure));
        }
        Ok(())
    }

    /// A reply too many behind that to the end of the message: an earlier one came where none was
    /// due, and this verdict may be meant for something else. One that leaves has said all.
    fn check_last(&mut self, stage: Option<Stage>) -> Result<(), ClientError> {
        let surplus = self.link.surplus();
        match surplus.filter(|failure| *failure != Failure::ConnectionLost) {
            Some(failure) => {
                let failure = self.link.fail(failure);
                Err(self.failed(stage, failure))
            }
            None => Ok(()),
        }
    }

    /// A step. Where the milter has nothing to say, what it said before holds.
    pub(super) async fn ask(
        &mut self,
        stage: Stage,
        command: Command,
    ) -> Result<Answer, ClientError> {
        // The end of the message forgets it.
        let before = self.decided().filter(|_| stage == Stage::EndOfMessage);
        let before = before.cloned();
        if let Some(answer) = self.put(command).await? {
            return Ok(answer);
        }
        let decided = before.or_else(|| self.decided().cloned());
        Ok(Answer::new(stage, decided.unwrap_or(Verdict::Continue)))
    }

    /// A step, and the milter's answer if it gives one.
    pub(super) async fn put(&mut self, command: Command) -> Result<Option<Answer>, ClientError> {
        let stage = command.stage();
        let begins = matches!(stage, Some(Stage::Mail | Stage::Helo));
        let session = self.link.session();
        if session.decided_session().is_none() && (session.decided().is_none() || begins) {
            // What came unasked would be taken for the answer.
            self.check(stage)?;
        }
        let (values, fact) = (&self.values, Fact::of(&command));
        let told = self.link.tell(command, |name| values.get(name, &fact));
        told.map_err(|error| self.send_error(stage, error))?;
        self.values.note(fact);
        match stage {
            Some(Stage::Connect) => self.has_client = true,
            Some(Stage::Helo) => self.has_greeted = true,
            _ => {}
        }
        self.hear(stage).await
    }

    /// What the milter answers at a stage, if it is to answer.
    pub(super) async fn hear(
        &mut self,
        stage: Option<Stage>,
    ) -> Result<Option<Answer>, ClientError> {
        let told = &mut self.on_progress;
        let heard = self.link.hear(|heard| {
            if let (Heard::Progress, Some(told), Some(stage)) = (heard, told.as_mut(), stage) {
                told(stage);
            }
        });
        let answer = heard.await.map_err(|failure| self.failed(stage, failure))?;
        if stage == Some(Stage::EndOfMessage) && answer.is_some() {
            self.check_last(stage)?;
        }
        if answer.is_none() && self.link.is_piled_up() {
            self.write(stage).await?;
        }
        if self.decided().is_some() && answer.is_some() {
            self.decided_at = stage;
        }
        if stage == Some(Stage::EndOfMessage) {
            self.end_message();
        }
        Ok(answer)
    }

    pub(super) async fn write(&mut self, stage: Option<Stage>) -> Result<(), ClientError> {
        let written = self.link.flush().await;
        written.map_err(|failure| self.failed(stage, failure))
    }

    pub(super) fn end_message(&mut self) {
        self.values.end(MacroScope::Message);
        self.link.shrink();
    }

    pub(super) fn end_session(&mut self) {
        self.values = Values::default();
        (self.has_client, self.has_greeted) = (false, false);
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
