//! What an MTA could make grow is bounded (D11).

use milter_core::{EnhancedCode, Header, Recipient, SmtpReply, Stage, Verdict};
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

use super::Driver;
use crate::error::{BoxError, Failure};
use crate::request::Request;
use crate::response::Response;
use crate::session::{Peer, Session};

impl<IO, M, S> Driver<IO, M, S>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    M: Service<Peer, Response = S>,
    M::Error: Into<BoxError>,
    S: Service<Request, Response = Response>,
    S::Error: Into<BoxError>,
{
    /// Counts what the connection holds. Whether all together hold too much.
    pub(super) fn holds_too_much(&mut self) -> bool {
        self.link.keep(self.session.held_bytes())
    }

    /// The limit that a recipient is beyond.
    pub(super) fn recipient_limit(&mut self, recipient: &Recipient) -> Option<Failure> {
        if self.session.recipients().len() >= self.settings.max_recipients {
            return Some(Failure::TooManyRecipients(self.settings.max_recipients));
        }
        let held = self.session.held_bytes() + Session::held_by(recipient);
        let full = self.link.keep(held);
        full.then_some(Failure::TooMuchHeld(self.settings.max_held_bytes))
    }

    /// Answers a recipient beyond a limit.
    // RFC 5321 section 4.5.3.1.10: 452, and the client sends the rest in another message.
    pub(super) fn refuse_recipient(&mut self, failure: Failure) -> Verdict {
        let verdict = match failure {
            Failure::TooManyRecipients(_) => reply(452, (4, 5, 3), "Too many recipients"),
            _ => reply(452, (4, 3, 1), "Insufficient system storage"),
        };
        self.message.surplus += 1;
        // It was counted as if it were kept.
        self.holds_too_much();
        let has_reply = self.has_reply(Stage::Rcpt);
        // Logged once; where no reply is due the message fails at the next one.
        match self.message.surplus {
            1 if has_reply => self.log_failure(Stage::Rcpt.name(), failure, Some(&verdict)),
            1 => drop(self.fail(Stage::Rcpt, failure)),
            _ => {}
        }
        if has_reply {
            verdict
        } else {
            Verdict::Continue
        }
    }

    /// Counts a header. The limit that it is beyond, if the message has not failed yet.
    pub(super) fn header_limit(&mut self, header: &Header) -> Option<Failure> {
        if self.view.is_standing() {
            return None;
        }
        let (message, settings) = (&mut self.message, &self.settings);
        message.headers += 1;
        message.header_bytes += header.name().len() + header.value().len();
        if message.headers > settings.max_headers {
            Some(Failure::TooManyHeaders(settings.max_headers))
        } else if message.header_bytes > settings.max_header_bytes {
            Some(Failure::TooLargeHeaders(settings.max_header_bytes))
        } else {
            None
        }
    }

    /// Refuses a message for its headers, for good: the next time it has as many.
    // RFC 3463 section 3.4, X.3.4: message too big for system
    pub(super) fn refuse_headers(&mut self, failure: Failure) -> Verdict {
        let verdict = reply(552, (5, 3, 4), "Message headers too large");
        self.fail_with(Stage::Header, failure, verdict)
    }
}

fn reply(code: u16, (class, subject, detail): (u8, u16, u16), text: &str) -> Verdict {
    let enhanced = EnhancedCode::new(class, subject, detail).ok();
    let reply = enhanced.and_then(|enhanced| {
        let reply = SmtpReply::builder(code).enhanced_code(enhanced);
        reply.line(text).build().ok()
    });
    reply.map_or(Verdict::TempFail, Verdict::Reply)
}
