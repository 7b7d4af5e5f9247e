//! What a filter is asked.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use milter_core::{
    Connect, Header, Helo, Offer, Recipient, Sender, Stage, UnknownCommand, Verdict,
};
use tokio::time::Instant;

use crate::clock::after;
use crate::extensions::Extensions;
use crate::progress::Progress;
use crate::session::Session;

/// One event of a connection with an MTA, and what is known of the session so far.
///
/// Requests of one connection come one after the other: the next only when the response to the
/// last is there. A clone is cheap: counted references only.
///
/// Event payloads are slices of the connection's buffer. To keep one beyond the event, copy it:
/// a slice keeps the whole buffer.
#[derive(Clone, Debug)]
pub struct Request {
    event: Event,
    session: Session,
    extensions: Extensions,
    deadline: Deadline,
}

impl Request {
    /// A request with a deadline far away, as tests and layers make them.
    pub fn new(event: Event, session: Session) -> Self {
        Self::with_deadline(event, session, Deadline::after(Duration::from_secs(300)))
    }

    pub(crate) fn with_deadline(event: Event, session: Session, deadline: Deadline) -> Self {
        Self {
            event,
            session,
            extensions: Extensions::new(),
            deadline,
        }
    }

    /// The same request as a member of a chain sees it.
    pub(crate) fn for_member(&self, session: Session, deadline: Deadline) -> Self {
        Self {
            event: self.event.clone(),
            session,
            extensions: self.extensions.clone(),
            deadline,
        }
    }

    /// What happened.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// What is known of the session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What layers told about this request.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// What layers told about this request, to be changed.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// Until when the response must be there.
    ///
    /// After that the server drops the call and gives the failure verdict, so that the MTA
    /// hears it before it gives up by itself.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// For layers: lets the service within have less time. More than it has the MTA does not wait.
    pub fn set_deadline(&mut self, deadline: Deadline) {
        self.deadline = deadline;
    }

    /// The same request about another event.
    #[must_use]
    pub fn with_event(mut self, event: Event) -> Self {
        self.event = event;
        self
    }

    /// Everything that the request is made of.
    pub fn into_parts(self) -> Parts {
        let Self {
            event,
            session,
            extensions,
            deadline,
        } = self;
        Parts {
            event,
            session,
            extensions,
            deadline,
        }
    }

    /// The request made of these parts.
    pub fn from_parts(parts: Parts) -> Self {
        let Parts {
            event,
            session,
            extensions,
            deadline,
        } = parts;
        Self {
            event,
            session,
            extensions,
            deadline,
        }
    }
}

/// What a [`Request`] is made of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Parts {
    /// What happened.
    pub event: Event,
    /// What is known of the session.
    pub session: Session,
    /// What layers told about the request.
    pub extensions: Extensions,
    /// Until when the response must be there.
    pub deadline: Deadline,
}

/// The time by which a response must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// That long from now.
    pub fn after(time: Duration) -> Self {
        Self(after(Instant::now(), time))
    }

    pub(crate) const fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// So much before this one.
    #[must_use]
    pub fn earlier_by(self, time: Duration) -> Self {
        Self(self.0.checked_sub(time).unwrap_or(self.0))
    }

    /// The time that is left; zero if it has passed.
    pub fn remaining(self) -> Duration {
        self.remaining_at(Instant::now())
    }

    pub(crate) fn remaining_at(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }

    /// The point in time; `.into()` makes of it what [`tokio::time::timeout_at`] takes.
    pub fn instant(self) -> std::time::Instant {
        self.0.into_std()
    }
}

/// What happened on a connection.
// The tag is a whole word for the same reason as that of `Command`.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[repr(u64)]
pub enum Event {
    /// The MTA offers to work together; always the first event.
    ///
    /// The response says what the filter [needs](crate::Response::needs); one that just proceeds
    /// gets every event.
    Negotiate(Offer),
    /// A client connected to the MTA.
    Connect(Arc<Connect>),
    /// HELO or EHLO; may come again, also after STARTTLS.
    Helo(Helo),
    /// MAIL: a message begins.
    Mail(Sender),
    /// RCPT: one recipient. Refusing it leaves the message open.
    Rcpt(Recipient),
    /// DATA. Refusing it leaves the message open.
    Data,
    /// A command that the MTA does not know, at any time.
    Unknown(UnknownCommand),
    /// A header field.
    Header(Header),
    /// All headers were seen.
    EndOfHeaders,
    /// A piece of the body, cut without regard to lines: at most 65,535 bytes from Postfix and
    /// Sendmail, and never more than [`Settings::max_payload`](crate::Settings::max_payload).
    Body(Bytes),
    /// The whole message was seen. Here, and only here, it can be changed.
    EndOfMessage(Progress),
    /// A message that this service saw begin has ended. Told exactly once; the response means
    /// nothing.
    MessageEnd(Outcome),
    /// The SMTP session ended, and another one follows on the same connection. The response
    /// means nothing.
    SessionEnd,
    /// The connection ended; always the last event. The response means nothing.
    Close,
}

impl Event {
    /// The stage of the event, if it asks for a verdict.
    pub const fn stage(&self) -> Option<Stage> {
        Some(match self {
            Self::Connect(_) => Stage::Connect,
            Self::Helo(_) => Stage::Helo,
            Self::Mail(_) => Stage::Mail,
            Self::Rcpt(_) => Stage::Rcpt,
            Self::Data => Stage::Data,
            Self::Unknown(_) => Stage::Unknown,
            Self::Header(_) => Stage::Header,
            Self::EndOfHeaders => Stage::EndOfHeaders,
            Self::Body(_) => Stage::Body,
            Self::EndOfMessage(_) => Stage::EndOfMessage,
            Self::Negotiate(_) | Self::MessageEnd(_) | Self::SessionEnd | Self::Close => {
                return None;
            }
        })
    }

    /// Whether the event only tells that something ended.
    pub const fn is_end(&self) -> bool {
        matches!(self, Self::MessageEnd(_) | Self::SessionEnd | Self::Close)
    }
}

/// How a message ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// By this verdict, sent for this filter to the MTA; not always the filter's own (a failure,
    /// a layer). What the MTA made of it the protocol does not tell.
    Verdict(Verdict),
    /// It was given up: by the client, or because the MTA or another filter refused it.
    Aborted,
    /// The connection with the MTA was lost, or closed by the server's shutdown.
    ConnectionLost,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small() {
        assert!(size_of::<Request>() <= 96, "{}", size_of::<Request>());
    }
}
