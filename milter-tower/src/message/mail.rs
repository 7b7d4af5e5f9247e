//! A message, as a handler gets it.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use milter_core::edit::{Planner, Profile};
use milter_core::{Agreement, Connect, Header, Macros, Recipient, Sender, SmtpReply, Text};

use super::body::Body;
use super::config::Config;
use super::envelope::Edits;
use super::error::MessageError;
use super::fate::Fate;
use super::incoming::Incoming;
use crate::at;
use crate::error::BoxError;
use crate::extensions::Extensions;
use crate::headers::Headers;
use crate::into_response::IntoResponse;
use crate::request::Deadline;
use crate::response::Response;
use crate::session::{Auth, Mta, Session, Tls};

/// What a message without a sender has: the MTA did not tell.
static NOBODY: LazyLock<Sender> = LazyLock::new(|| Sender::new("<>", [""; 0]));

/// A message: who sent it to whom, its headers, its body, and what is to be changed of it.
///
/// Edit it as you think of it, and [accept](Self::accept) it: what is sent to the MTA are the
/// fewest changes that make of what came what it is now. To return the message itself accepts it
/// too.
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
/// ```
///
/// A message that is refused needs no edits: its edits are forgotten. But a handler that edits a
/// message, lets it go and then accepts it would lose them. That is taken for what it is, a
/// mistake, and the message gets the failure verdict:
///
/// ```
/// use milter_tower::{Message, message};
///
/// let wrong = message(|mut mail: Message| async move {
///     mail.headers_mut().append("X-Seen", "yes");
///     // The message ends here, and nobody has its edits.
/// });
/// ```
///
/// What else is wrong fails in the same way, when the message is accepted: an address or a header
/// that cannot be sent, an edit that the MTA does not [allow](super::MessageFilter::actions).
pub struct Message<B = Body> {
    pub(super) session: Session,
    pub(super) extensions: Extensions,
    pub(super) deadline: Deadline,
    pub(super) headers: Headers,
    /// Those that the MTA showed, once they were lent out.
    pub(super) shown: Option<Arc<[Header]>>,
    pub(super) body: B,
    pub(super) edits: Option<Box<Edits>>,
    pub(super) config: Arc<Config>,
    pub(super) fate: Arc<Fate>,
}

/// What came, and what it is now.
impl<B> Message<B> {
    /// What is known of the session: client, envelope as it came, macros.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The client's connection: its host name and address.
    pub fn client(&self) -> Option<&Connect> {
        self.session.client()
    }

    /// The client's IP address, if it has one and it is known.
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.session.client_ip()
    }

    /// The name that the client gave in HELO or EHLO.
    pub fn helo(&self) -> Option<Text<'_>> {
        self.session.helo()
    }

    /// The client's TLS connection, if it has one and the MTA tells of it.
    pub fn tls(&self) -> Option<Tls<'_>> {
        self.session.tls()
    }

    /// How the client authenticated, if it did.
    pub fn auth(&self) -> Option<Auth<'_>> {
        self.session.auth()
    }

    /// The message's queue id, if it has one yet: see [`Session::queue_id`].
    pub fn queue_id(&self) -> Option<Text<'_>> {
        self.session.queue_id()
    }

    /// The macros that the MTA sent.
    pub fn macros(&self) -> &Macros {
        self.session.macros()
    }

    /// What layers told about the request at which the handler was called.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// The sender, as it is now: the one that came, with its arguments, or the one that was
    /// [set](Self::set_sender). The null sender, if the MTA told of none.
    pub fn sender(&self) -> &Sender {
        let set = self.edits.as_ref().and_then(|edits| edits.sender());
        set.or(self.session.sender()).unwrap_or(&NOBODY)
    }

    /// The recipients, as they are now, with their arguments: those of [`Session::recipients`],
    /// and then those that were [added](Self::add_recipient).
    pub fn recipients(&self) -> impl Iterator<Item = &Recipient> {
        let came = self.session.recipients();
        let (left, edited) = match &self.edits {
            None => (came, None),
            Some(edits) => (&came[..0], Some(edits.recipients().iter(came))),
        };
        left.iter().chain(edited.into_iter().flatten())
    }

    /// Whether this address is among the recipients, compared as
    /// [`Recipient::is_ignoring_case`](Recipient::is_ignoring_case) does.
    pub fn has_recipient(&self, address: impl AsRef<[u8]>) -> bool {
        let address = address.as_ref();
        self.recipients()
            .any(|there| there.is_ignoring_case(address))
    }

    /// The headers, as they are now. There are none in a filter that decides
    /// [before](super::MessageFilter::decide_at) they come.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }
}

/// Edits.
impl<B> Message<B> {
    /// The headers, to be edited. Another list may be put in their place: what both have in the
    /// same order stays then.
    pub fn headers_mut(&mut self) -> &mut Headers {
        self.fate.edited();
        if self.shown.is_none() {
            self.shown = Some(Arc::clone(self.headers.keep_original()));
        }
        &mut self.headers
    }

    /// Gives the envelope another sender; `<>` is the null sender.
    ///
    /// An address may be given with or without `<>`. The MTA keeps the arguments that the sender
    /// came with.
    #[doc(alias = "change_from")]
    #[doc(alias = "chgfrom")]
    pub fn set_sender(&mut self, address: impl AsRef<[u8]>) {
        self.set_sender_with_args(address, "");
    }

    /// Gives the envelope another sender with ESMTP arguments, separated by spaces. See
    /// [`Modification::change_sender_with_args`](crate::Modification::change_sender_with_args).
    pub fn set_sender_with_args(&mut self, address: impl AsRef<[u8]>, args: impl AsRef<[u8]>) {
        let (edits, session) = self.edit();
        edits.set_sender(session.sender(), address.as_ref(), args.as_ref());
    }

    /// Adds a recipient to the envelope, if it is not among them.
    #[doc(alias = "addrcpt")]
    pub fn add_recipient(&mut self, address: impl AsRef<[u8]>) {
        let (edits, session) = self.edit();
        edits.add_recipient(session.recipients(), address.as_ref(), None);
    }

    /// Adds a recipient with ESMTP arguments, separated by spaces, if it is not among them. See
    /// [`Modification::add_recipient_with_args`](crate::Modification::add_recipient_with_args).
    pub fn add_recipient_with_args(&mut self, address: impl AsRef<[u8]>, args: impl AsRef<[u8]>) {
        let (edits, session) = self.edit();
        let args = Some(args.as_ref());
        edits.add_recipient(session.recipients(), address.as_ref(), args);
    }

    /// Takes a recipient out of the envelope, however often it is there. Whether it was.
    ///
    /// To take out one that was added sends nothing to the MTA, nor does adding one that was
    /// taken out.
    #[doc(alias = "delrcpt")]
    #[doc(alias = "delete_recipient")]
    pub fn remove_recipient(&mut self, address: impl AsRef<[u8]>) -> bool {
        let (edits, session) = self.edit();
        edits.remove_recipient(session.recipients(), address.as_ref())
    }

    /// Has the MTA hold the message for somebody to look at, if it is accepted. The last reason
    /// counts; it must not be blank.
    pub fn quarantine(&mut self, reason: impl AsRef<[u8]>) {
        self.edit().0.quarantine(reason.as_ref());
    }

    /// Replaces the body. Lines end in CRLF.
    #[doc(alias = "replace_body")]
    pub fn set_body(&mut self, body: impl Into<Bytes>) {
        self.edit().0.set_body(body.into());
    }

    fn edit(&mut self) -> (&mut Edits, &Session) {
        self.fate.edited();
        (self.edits.get_or_insert_default(), &self.session)
    }
}

/// The decision.
impl<B> Message<B> {
    /// Accepts the message as it is now.
    ///
    /// The response carries the edits; there is none that would say that they cannot be made, so
    /// then the message gets the failure verdict, and the log says why.
    pub fn accept(mut self) -> Response {
        match self.response() {
            Ok(response) => {
                let any = !response.edits().is_empty() || response.edit_error().is_some();
                self.fate.given_back(any);
                response
            }
            Err(error) => {
                self.fate.failed(error);
                // What is said instead if nobody asks what became of the edits: a test, say.
                Response::tempfail()
            }
        }
    }

    /// Refuses the message for good, in the MTA's words.
    pub fn reject(self) -> Response {
        drop(self);
        Response::reject()
    }

    /// Refuses the message for now, in the MTA's words.
    pub fn tempfail(self) -> Response {
        drop(self);
        Response::tempfail()
    }

    /// Refuses the message in these words: for good or for now, as the reply's code says.
    pub fn reply(self, reply: SmtpReply) -> Response {
        drop(self);
        Response::reply(reply)
    }

    /// Tells the client that the message was accepted, and drops it.
    pub fn discard(self) -> Response {
        drop(self);
        Response::discard()
    }

    /// The edits, as the MTA at hand has to be told.
    fn response(&mut self) -> Result<Response, MessageError> {
        let mut response = Response::accept();
        let edits = self.edits.take();
        if !self.fate.is_edited() {
            return Ok(response);
        }
        if let Some(shown) = &self.shown {
            let planner = Planner::new(self.profile())
                .leading_space(self.has_leading_space())
                .unplaceable(self.config.unplaceable);
            response = response.edit_all(self.headers.plan_of(shown, &planner)?);
        }
        Ok(match edits {
            None => response,
            Some(edits) => edits.into_response(response, self.session.recipients()),
        })
    }

    fn profile(&self) -> &Profile {
        match (&self.config.profile, self.session.mta()) {
            (Some(profile), _) => profile,
            (None, Mta::Sendmail) => &self.config.sendmail,
            // The stricter rules, if it is not known.
            (None, _) => &self.config.postfix,
        }
    }

    fn has_leading_space(&self) -> bool {
        let agreement = self.session.agreement();
        agreement.is_some_and(Agreement::leading_space)
    }
}

/// What there is when the whole message is.
impl Message {
    /// The body, as it is now: the one that came, or the one that was [set](Self::set_body).
    ///
    /// It is empty in a filter that decides [before](super::MessageFilter::decide_at) it comes,
    /// or does [without](super::MessageFilter::without_body).
    pub fn body(&self) -> &Body {
        let set = self.edits.as_ref().and_then(|edits| edits.body());
        set.unwrap_or(&self.body)
    }

    /// Until when the handler must have decided: see [`Request::deadline`](crate::Request::deadline).
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }
}

/// What there is while the body arrives.
impl Message<Incoming> {
    /// The body, to be read.
    pub fn body_mut(&mut self) -> &mut Incoming {
        &mut self.body
    }
}

impl<B> Drop for Message<B> {
    fn drop(&mut self) {
        // Was something really changed? An error of the plan says that it was.
        if !std::thread::panicking() && self.fate.is_edited() {
            let unchanged = self.response().is_ok_and(|response| {
                response.edits().is_empty() && response.edit_error().is_none()
            });
            if unchanged {
                self.fate.undone();
            }
        }
    }
}

/// Accepts the message as it is now.
impl<B> IntoResponse<at::EndOfMessage> for Message<B> {
    fn into_response(self) -> Result<Response, BoxError> {
        Ok(self.accept())
    }
}

impl<B: fmt::Debug> fmt::Debug for Message<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("session", &self.session)
            .field("headers", &self.headers)
            .field("body", &self.body)
            .field("edits", &self.edits)
            .finish_non_exhaustive()
    }
}
