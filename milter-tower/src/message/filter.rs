//! The filter and its settings.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use milter_core::edit::{Profile, Unplaceable};
use milter_core::{Actions, MacroStage, Recipient};

use super::body::Body;
use super::budget::Budget;
use super::config::{BodyUse, Config, DecideAt, OnLarge};
use super::incoming::Incoming;
use super::mail::Message;
use super::service::{Open, arriving, whole};
use super::state::State;
use crate::at;
use crate::error::BoxError;
use crate::into_response::IntoResponse;
use crate::response::Response;
use crate::session::Session;

/// What a handler does with a message, or with a recipient.
pub(super) type Decision = Pin<Box<dyn Future<Output = Result<Response, BoxError>> + Send>>;
type Handler<B> = dyn Fn(Message<B>) -> Decision + Send + Sync;
type RcptCheck = dyn Fn(Recipient, Session) -> Decision + Send + Sync;

/// Calls a handler for each message: see [`message`].
///
/// The handler runs at the end of the message unless [told otherwise](Self::decide_at), with all
/// that was written down until then.
///
/// | setting | default |
/// | --- | --- |
/// | [`decide_at`](Self::decide_at) | the end of the message |
/// | [`memory_limit`](Self::memory_limit) | 256 KiB of a body, what is more goes to a file |
/// | [`total_memory_limit`](Self::total_memory_limit) | 256 MiB of the bodies of all messages |
/// | [`temp_dir`](Self::temp_dir) | the system's directory for temporary files |
/// | [`body_limit`](Self::body_limit), [`without_body_limit`](Self::without_body_limit) | 100 MiB, larger ones are rejected |
/// | [`early_verdicts`](Self::early_verdicts) | no |
/// | [`check_rcpt`](Self::check_rcpt) | all recipients are taken |
/// | [`actions`](Self::actions) | all that the MTA offers |
/// | [`profile`](Self::profile) | that of the MTA at hand |
///
/// A clone has the same settings and no message: that is what each connection gets.
pub struct MessageFilter<B = Body> {
    pub(super) config: Arc<Config>,
    pub(super) handler: Arc<Handler<B>>,
    pub(super) open: Open<B>,
    pub(super) check: Option<Arc<RcptCheck>>,
    pub(super) state: State,
}

/// A filter that calls a handler once for each message, with the whole of it.
///
/// The handler is an async function or closure; what it returns is what an end of a message can
/// be [answered](IntoResponse) with, or the message. Where it computes for long, or blocks, make
/// it with [`blocking`](super::blocking).
///
/// ```
/// use milter_tower::{Message, message};
///
/// let filter = message(|mut mail: Message| async move {
///     if mail.headers().get_str("X-Spam-Flag") == Some("YES") {
///         mail.quarantine("spam");
///     }
///     mail.headers_mut().prepend("X-Filtered-By", "example");
///     mail.accept()
/// });
/// # fn check(_: impl tower::Service<
/// #     milter_tower::Request, Response = milter_tower::Response, Error = milter_tower::BoxError,
/// # > + Clone) {}
/// # check(filter);
/// ```
///
/// The handler may take as long as the server lets it: [280 s](crate::Settings::end_of_message_timeout)
/// at the end of the message, meanwhile the MTA is told that work goes on.
pub fn message<H, F>(handler: H) -> MessageFilter
where
    H: Fn(Message) -> F + Send + Sync + 'static,
    F: Future<Output: IntoResponse<at::EndOfMessage>> + Send + 'static,
{
    MessageFilter::new(BodyUse::Whole, whole, handler)
}

/// A filter that calls a handler once for each message, when its headers are there, and has it
/// read the body while it arrives.
///
/// So nothing of the body is kept: what the handler has not read yet holds the MTA back, apart
/// from [256 KiB](MessageFilter::memory_limit). (An MTA sends a message only when it has all of
/// it. What streaming saves is memory, and the time to write and to read a file.)
///
/// ```
/// use milter_tower::BoxError;
/// use milter_tower::message::{Incoming, Message, message_streaming};
///
/// let filter = message_streaming(|mut mail: Message<Incoming>| async move {
///     let mut size = 0;
///     while let Some(piece) = mail.body_mut().piece().await? {
///         size += piece.len();
///     }
///     mail.headers_mut().append("X-Body-Size", size.to_string());
///     Ok::<_, BoxError>(mail.accept())
/// });
/// # fn check(_: impl tower::Service<
/// #     milter_tower::Request, Response = milter_tower::Response, Error = milter_tower::BoxError,
/// # > + Clone) {}
/// # check(filter);
/// ```
///
/// The handler runs while events of its message are at hand: it starts at the end of the headers,
/// goes on with each piece of the body, and may wait for something else when the message is
/// there. What it decides before the end is kept until then, unless
/// [`early_verdicts`](MessageFilter::early_verdicts) says otherwise; the rest of the body is
/// thrown away.
///
/// A piece that finds no room waits for the handler, as long as the server lets
/// [events](crate::Settings::call_timeout) take that come in one go: 8 s for all of them, behind
/// Postfix 25 s. A reader that is slower than that needs more room, or `early_verdicts`: with a
/// reply to each, each piece has that time for itself.
pub fn message_streaming<H, F>(handler: H) -> MessageFilter<Incoming>
where
    H: Fn(Message<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output: IntoResponse<at::EndOfMessage>> + Send + 'static,
{
    MessageFilter::new(BodyUse::Streamed, arriving, handler)
}

impl<B> MessageFilter<B> {
    fn new<H, F>(body: BodyUse, open: Open<B>, handler: H) -> Self
    where
        H: Fn(Message<B>) -> F + Send + Sync + 'static,
        F: Future<Output: IntoResponse<at::EndOfMessage>> + Send + 'static,
    {
        let needs = <F::Output as IntoResponse<at::EndOfMessage>>::needs();
        Self {
            config: Arc::new(Config::new(body, needs)),
            handler: Arc::new(move |mail| {
                let decided = handler(mail);
                Box::pin(async move { decided.await.into_response() })
            }),
            open,
            check: None,
            state: State::default(),
        }
    }

    fn set(mut self, set: impl FnOnce(&mut Config)) -> Self {
        set(Arc::make_mut(&mut self.config));
        self
    }

    /// How many bytes of a body are held in memory: by default 256 KiB.
    ///
    /// [`message`] writes what is more to a file: a message of any size takes as much as this and
    /// at most 1 MiB besides, as long as its handler asks for no more.
    /// [`message_streaming`] holds the MTA back while that much waits to be read.
    ///
    /// Headers are in memory always. Their number and size the server bounds:
    /// [`Settings::max_headers`](crate::Settings::max_headers) and
    /// [`max_header_bytes`](crate::Settings::max_header_bytes).
    #[must_use]
    pub fn memory_limit(self, bytes: usize) -> Self {
        self.set(|config| config.place.memory = bytes)
    }

    /// How many bytes of bodies are held in memory together, by all clones of this filter: by
    /// default 256 MiB, as long as their handlers have them. Beyond it a body goes to a file
    /// piece by piece as it comes, whatever [`memory_limit`](Self::memory_limit) allows.
    ///
    /// What waits to be read in [`message_streaming`] is not counted, nor is what a handler makes
    /// of a body, or [sets](Message::set_body) as one.
    #[must_use]
    pub fn total_memory_limit(self, bytes: usize) -> Self {
        self.set(|config| config.place.total = Budget::new(bytes))
    }

    /// How many bytes a body may have, and what becomes of messages with more: by default 100 MiB,
    /// and they are [rejected](OnLarge::Reject).
    ///
    /// Where a handler of [`message_streaming`] decides before, its decision stands however long the
    /// rest of the body is: none of it is kept.
    ///
    /// ```
    /// use milter_tower::message::{Message, OnLarge, message};
    ///
    /// // Spam is small: the beginning is enough.
    /// let filter = message(async |mail: Message| mail.accept())
    ///     .body_limit(512 * 1024, OnLarge::Cut);
    /// ```
    #[must_use]
    pub fn body_limit(self, bytes: u64, on_large: OnLarge) -> Self {
        self.set(|config| (config.body_limit, config.on_large) = (bytes, on_large))
    }

    /// Takes bodies of any size: what the MTA takes is bounded there (Postfix `message_size_limit`,
    /// Sendmail `MaxMessageSize`).
    #[must_use]
    pub fn without_body_limit(self) -> Self {
        self.body_limit(u64::MAX, OnLarge::Reject)
    }

    /// Gives a verdict as soon as it is there: what [`body_limit`](Self::body_limit) refuses is
    /// refused when the limit is passed, and what the handler of [`message_streaming`] decides
    /// is said at once. An accepted message that is not changed is over then for this filter; the
    /// rest of one that is changed, or of which no more is wanted, is skipped.
    ///
    /// For that the MTA waits for an answer to each piece of the body, of 64 KiB. So this pays
    /// where large messages are decided early, and costs where they are not. The client hears of
    /// it no earlier: it has sent all before the filter sees any of it.
    #[must_use]
    pub fn early_verdicts(self) -> Self {
        self.set(|config| config.early = true)
    }

    /// Asks about each recipient, when the client names it:
    /// `async |to: Recipient, session: Session| …`, which returns what a RCPT can be
    /// [answered](IntoResponse) with. A refusal concerns this one only; the message goes on with
    /// the others, and its handler does not see it.
    ///
    /// To accept one is to go on; to [discard](crate::verdict::Discard) discards the whole
    /// message.
    ///
    /// ```
    /// use milter_tower::{Message, message};
    /// use milter_tower::{Recipient, Session, SmtpReply};
    ///
    /// let filter = message(async |mail: Message| mail.accept()).check_rcpt(
    ///     async |to: Recipient, _: Session| {
    ///         let has_left = to.is_ignoring_case("bob@example.net");
    ///         has_left.then(|| SmtpReply::reject("Bob has left"))
    ///     },
    /// );
    /// ```
    #[must_use]
    pub fn check_rcpt<H, F>(mut self, check: H) -> Self
    where
        H: Fn(Recipient, Session) -> F + Send + Sync + 'static,
        F: Future<Output: IntoResponse<at::Rcpt>> + Send + 'static,
    {
        let needs = <F::Output as IntoResponse<at::Rcpt>>::needs();
        let is_silent = <F::Output as IntoResponse<at::Rcpt>>::SILENT;
        self.check = Some(Arc::new(move |recipient, session| {
            let checked = check(recipient, session);
            Box::pin(async move { checked.await.into_response() })
        }));
        self.set(|config| {
            config.checks_recipients = !is_silent;
            config.needs = config.needs.clone().join(&needs);
        })
    }

    /// Asks for these actions only. By default all are asked for.
    ///
    /// An edit that was not asked for, or that the MTA does not offer, is not made: the message
    /// gets the failure verdict, and the log names what is missing.
    ///
    /// ```
    /// use milter_tower::Actions;
    /// use milter_tower::{Message, message};
    ///
    /// let filter = message(async |mut mail: Message| {
    ///     mail.headers_mut().append("X-Seen", "yes");
    ///     mail
    /// })
    /// .actions(Actions::ADD_HEADERS);
    /// ```
    #[must_use]
    pub fn actions(self, actions: Actions) -> Self {
        self.set(|config| config.actions = actions)
    }

    /// Asks for no actions: the handler only decides.
    #[must_use]
    pub fn read_only(self) -> Self {
        self.actions(Actions::empty())
    }

    /// Asks for macros at a stage, besides those that the session's facts come from: see
    /// [`Needs::macros`](crate::Needs::macros).
    #[must_use]
    pub fn macros<I>(self, stage: MacroStage, names: I) -> Self
    where
        I: IntoIterator<Item: Into<Cow<'static, str>>>,
    {
        self.set(|config| config.ask_macros(stage, names))
    }

    /// How the MTA does edits, whatever it says it is. By default that is found out
    /// ([`Session::mta`]), and Postfix's way is taken where it cannot be.
    #[must_use]
    pub fn profile(self, profile: Profile) -> Self {
        self.set(|config| config.profile = Some(profile))
    }

    /// How Sendmail does edits, for one with other header lines (`H`) in its configuration than
    /// those it comes with: see [`Profile::sendmail_with`].
    #[must_use]
    pub fn sendmail_profile(self, profile: Profile) -> Self {
        self.set(|config| config.sendmail = profile)
    }

    /// What becomes of header edits that the protocol cannot express exactly for the MTA at hand.
    #[must_use]
    pub fn unplaceable(self, unplaceable: Unplaceable) -> Self {
        self.set(|config| config.unplaceable = unplaceable)
    }
}

impl MessageFilter {
    /// Runs the handler earlier. What is not needed for that is not asked for, and what the
    /// handler decides goes out there; edits are kept until the end of the message, where the MTA
    /// takes them.
    ///
    /// ```
    /// use milter_tower::message::{DecideAt, Message, message};
    ///
    /// // The body is never sent.
    /// let filter = message(async |mut mail: Message| {
    ///     mail.headers_mut().append("X-Seen", "yes");
    ///     mail
    /// })
    /// .decide_at(DecideAt::EndOfHeaders);
    /// ```
    #[must_use]
    pub fn decide_at(self, at: DecideAt) -> Self {
        self.set(|config| config.decide_at = at)
    }

    /// Asks for no bodies: the handler sees an empty one.
    #[must_use]
    pub fn without_body(self) -> Self {
        self.set(|config| config.body = BodyUse::Nothing)
    }

    /// Where the files are made that hold what does not fit into memory: by default in the
    /// system's directory for temporary files (`TMPDIR`, or `/tmp`).
    ///
    /// A `/tmp` in memory (tmpfs) saves no memory; `/var/tmp` is on a disk. The files have no
    /// names, and are gone with the message or the process.
    #[must_use]
    pub fn temp_dir(self, directory: impl AsRef<Path>) -> Self {
        let directory = Arc::from(directory.as_ref());
        self.set(|config| config.place.directory = Some(directory))
    }
}

/// The settings, and no message.
impl<B> Clone for MessageFilter<B> {
    fn clone(&self) -> Self {
        Self {
            config: Arc::clone(&self.config),
            handler: Arc::clone(&self.handler),
            open: self.open,
            check: self.check.clone(),
            state: State::default(),
        }
    }
}

impl<B> fmt::Debug for MessageFilter<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageFilter")
            .field("config", &self.config)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
