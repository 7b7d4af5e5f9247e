//! Arguments of handlers that the event and the session tell.

use std::convert::Infallible;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use milter_core::{
    ClientAddr, Connect, Header, Helo, Macros, Needs, Offer, Recipient, Sender, Stage,
    UnknownCommand,
};

use super::FromRequest;
use crate::at;
use crate::progress::Progress;
use crate::request::{Deadline, Event, Outcome, Request};
use crate::session::{Mta, Peer, Session};

/// What a handler wants to know and the MTA did not tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not known here: take an Option of it, if that may be")]
pub struct NotKnown {
    what: &'static str,
}

const fn not_known(what: &'static str) -> NotKnown {
    NotKnown { what }
}

/// Where the facts of a session come from.
const FACTS: [Stage; 4] = [Stage::Connect, Stage::Helo, Stage::Mail, Stage::Rcpt];

/// The events up to `S` that facts come from, written down without a reply.
fn facts<S: at::Marker>() -> Needs {
    FACTS
        .into_iter()
        .filter(|stage| *stage <= S::KNOWN)
        .fold(Needs::none(), Needs::record)
}

macro_rules! payloads {
    ($($type:ty, at $marker:ident: $pattern:pat => $value:expr, $what:literal;)*) => {$(
        impl<T> FromRequest<at::$marker, T> for $type {
            type Error = NotKnown;

            fn from_request(request: &Request, _: &T) -> Result<Self, NotKnown> {
                match request.event() {
                    $pattern => Ok($value),
                    _ => Err(not_known($what)),
                }
            }
        }
    )*};
}

payloads! {
    Offer, at Negotiate: Event::Negotiate(offer) => *offer, "the MTA's offer";
    Recipient, at Rcpt: Event::Rcpt(recipient) => recipient.clone(), "the recipient";
    Header, at Header: Event::Header(header) => header.clone(), "the header";
    Bytes, at Body: Event::Body(body) => body.clone(), "the piece of the body";
    Progress, at EndOfMessage: Event::EndOfMessage(progress) => progress.clone(), "the handle for progress";
    UnknownCommand, at Unknown: Event::Unknown(command) => command.clone(), "the command";
    Outcome, at MessageEnd: Event::MessageEnd(outcome) => outcome.clone(), "the outcome";
}

/// What the router needs by its handlers; [`Needs::all`] where no router tells.
impl<T> FromRequest<at::Negotiate, T> for Needs {
    type Error = Infallible;

    fn from_request(request: &Request, _: &T) -> Result<Self, Infallible> {
        let derived = request.extensions().get::<Derived>();
        Ok(derived.map_or_else(Self::all, |Derived(needs)| needs.clone()))
    }
}

/// The needs of a router, on their way to its handler of the negotiation.
#[derive(Clone)]
pub(super) struct Derived(pub(super) Needs);

fn client(request: &Request) -> Result<&Connect, NotKnown> {
    let told = match request.event() {
        Event::Connect(client) => Some(&**client),
        _ => request.session().client(),
    };
    told.ok_or(not_known("the client"))
}

/// Records the connection.
impl<S: at::HasClient, T> FromRequest<S, T> for Arc<Connect> {
    type Error = NotKnown;

    fn needs() -> Needs {
        Needs::none().record(Stage::Connect)
    }

    fn from_request(request: &Request, _: &T) -> Result<Self, NotKnown> {
        let told = match request.event() {
            Event::Connect(client) => Some(Self::clone(client)),
            _ => request.session().connect(),
        };
        told.ok_or(not_known("the client"))
    }
}

/// Records the connection.
impl<S: at::HasClient, T> FromRequest<S, T> for ClientAddr {
    type Error = NotKnown;

    fn needs() -> Needs {
        Needs::none().record(Stage::Connect)
    }

    fn from_request(request: &Request, _: &T) -> Result<Self, NotKnown> {
        Ok(client(request)?.client().clone())
    }
}

/// The client's IP address.
///
/// Some clients have none: those on a unix socket, and those of which the MTA does not tell.
/// Where such a client is not to be failed take an `Option<ClientIp>`.
///
/// ```
/// use milter_tower::router::ClientIp;
/// use milter_tower::{Router, SmtpReply};
///
/// let filter = Router::new().on_mail(|client: Option<ClientIp>| async move {
///     match client {
///         Some(ClientIp(ip)) if !ip.is_loopback() => Some(SmtpReply::reject("Local mail only")),
///         _ => None,
///     }
/// });
/// # let _ = filter;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientIp(pub IpAddr);

/// Records the connection.
impl<S: at::HasClient, T> FromRequest<S, T> for ClientIp {
    type Error = NotKnown;

    fn needs() -> Needs {
        Needs::none().record(Stage::Connect)
    }

    fn from_request(request: &Request, _: &T) -> Result<Self, NotKnown> {
        let ip = client(request)?.client().ip();
        ip.map(Self).ok_or(not_known("the client's IP address"))
    }
}

/// Records HELO.
impl<S: at::HasHelo, T> FromRequest<S, T> for Helo {
    type Error = NotKnown;

    fn needs() -> Needs {
        Needs::none().record(Stage::Helo)
    }

    fn from_request(request: &Request, _: &T) -> Result<Self, NotKnown> {
        let told = match request.event() {
            Event::Helo(helo) => Some(helo.clone()),
            _ => request.session().greeting(),
        };
        told.ok_or(not_known("the client's HELO"))
    }
}

/// Records MAIL.
impl<S: at::HasSender, T> FromRequest<S, T> for Sender {
    type Error = NotKnown;

    fn needs() -> Needs {
        Needs::none().record(Stage::Mail)
    }

    fn from_request(request: &Request, _: &T) -> Result<Self, NotKnown> {
        let told = match request.event() {
            Event::Mail(sender) => Some(sender),
            _ => request.session().sender(),
        };
        told.cloned().ok_or(not_known("the sender"))
    }
}

/// The message's recipients so far, as [`Session::recipients`] has them.
#[derive(Clone, Debug)]
pub struct Recipients(Session);

impl Deref for Recipients {
    type Target = [Recipient];

    fn deref(&self) -> &[Recipient] {
        self.0.recipients()
    }
}

/// Records RCPT.
impl<S: at::HasRecipients, T> FromRequest<S, T> for Recipients {
    type Error = Infallible;

    fn needs() -> Needs {
        Needs::none().record(Stage::Rcpt)
    }

    fn from_request(request: &Request, _: &T) -> Result<Self, Infallible> {
        Ok(Self(request.session().clone()))
    }
}

/// Records the connection, HELO, MAIL and RCPT, as far as they come before: whoever takes a whole
/// session may look at all of it. The MTA does not wait for answers to them, but it sends them;
/// arguments such as [`ClientIp`] ask for less.
impl<S: at::Marker, T> FromRequest<S, T> for Session {
    type Error = Infallible;

    fn needs() -> Needs {
        facts::<S>()
    }

    fn from_request(request: &Request, _: &T) -> Result<Self, Infallible> {
        Ok(request.session().clone())
    }
}

/// Records what [`Session`] does.
impl<S: at::Marker, T> FromRequest<S, T> for Request {
    type Error = Infallible;

    fn needs() -> Needs {
        facts::<S>()
    }

    fn from_request(request: &Request, _: &T) -> Result<Self, Infallible> {
        Ok(request.clone())
    }
}

macro_rules! parts {
    ($($type:ty: $request:ident => $value:expr;)*) => {$(
        /// Always there, and nothing is asked of the MTA for it.
        impl<S: at::Marker, T> FromRequest<S, T> for $type {
            type Error = Infallible;

            fn from_request($request: &Request, _: &T) -> Result<Self, Infallible> {
                Ok($value)
            }
        }
    )*};
}

parts! {
    Macros: request => request.session().macros().clone();
    Mta: request => request.session().mta();
    Peer: request => request.session().peer().clone();
    Deadline: request => request.deadline();
}
