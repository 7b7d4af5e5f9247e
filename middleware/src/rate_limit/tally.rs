use milter_tower::macros::names;
use milter_tower::{Agreement, Event, MacroStage, Request, Session, Stage};

use super::Counts;
use super::layer::Config;

/// What was counted of the session and of the message at hand.
#[derive(Debug, Default)]
pub(super) struct Tally {
    session: bool,
    message: bool,
    announced: u64,
    bytes: u64,
}

impl Tally {
    pub(super) fn end_message(&mut self) {
        let session = self.session;
        *self = Self {
            session,
            ..Self::default()
        };
    }

    pub(super) fn end_session(&mut self) {
        *self = Self::default();
    }

    /// How much an event costs, if it does.
    pub(super) fn cost(&mut self, config: &Config, stage: Stage, request: &Request) -> Option<u64> {
        let event = request.event();
        let is_of_message = stage.is_of_message();
        match config.counts() {
            Counts::Connections => {
                let is_now = is_of_message || config.is_known_at_connect();
                (is_now && !std::mem::replace(&mut self.session, true)).then_some(1)
            }
            Counts::Messages => {
                (is_of_message && !std::mem::replace(&mut self.message, true)).then_some(1)
            }
            Counts::Recipients => {
                let is_rcpt = stage == Stage::Rcpt && !is_refused(request.session());
                is_rcpt.then_some(1)
            }
            Counts::Bytes => {
                let bytes = self.bytes(event, request.session())?;
                (bytes > 0).then_some(bytes)
            }
        }
    }

    fn bytes(&mut self, event: &Event, session: &Session) -> Option<u64> {
        let more = match event {
            Event::Mail(sender) => {
                self.announced = sender.args().size().unwrap_or(0);
                return Some(self.announced);
            }
            Event::EndOfMessage(_) => return Some(self.bytes.saturating_sub(self.announced)),
            Event::Header(header) => {
                let spaced = session.agreement().is_some_and(Agreement::leading_space);
                let space = usize::from(!spaced);
                header.name().len() + header.value().len() + space + ":\r\n".len()
            }
            Event::EndOfHeaders => "\r\n".len(),
            Event::Body(piece) => piece.len(),
            _ => return None,
        };
        self.bytes = self.bytes.saturating_add(more as u64);
        None
    }
}

/// Whether the MTA refuses the recipient at hand whatever a filter says.
// Sendmail srvrsmtp.c, Postfix smtpd.c: {rcpt_mailer} is "error" then
fn is_refused(session: &Session) -> bool {
    let mailer = session
        .macros()
        .get_at(MacroStage::Rcpt, names::RCPT_MAILER);
    mailer.is_some_and(|mailer| mailer == "error")
}
