use std::time::Duration;

use milter_tower::{Modification, ModificationError, Session, SmtpReply, SmtpReplyBuilder, Stage};

use super::Key;
use crate::reply::reply;

/// What becomes of what is over the limit. The default is to refuse it for now.
#[derive(Clone, Debug)]
pub struct Over {
    pub(super) action: Action,
    pub(super) reply: SmtpReply,
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    Refuse,
    Delay(Duration),
    Header(Box<HeaderToAdd>),
    Log,
}

/// The header in both forms.
#[derive(Clone, Debug)]
pub(super) struct HeaderToAdd {
    pub(super) plain: Modification,
    /// For values that are kept with their leading space.
    pub(super) spaced: Modification,
}

impl Over {
    /// It is refused for now, `450 4.7.1`, with this text: the client is to come again. Any text
    /// will do, as in [`SmtpReply::tempfail`].
    pub fn temp_fail(text: impl AsRef<[u8]>) -> Self {
        let text = SmtpReply::tempfail(text);
        let same = SmtpReply::builder(450).lines(text.lines());
        let same = text
            .enhanced_code()
            .into_iter()
            .fold(same, SmtpReplyBuilder::enhanced_code);
        Self::refuse(same.build().unwrap_or(text))
    }

    /// It is refused with this reply. After a 421 both MTAs hang up.
    pub fn refuse(reply: impl Into<SmtpReply>) -> Self {
        Self {
            action: Action::Refuse,
            reply: reply.into(),
        }
    }

    /// It waits until it is within the limit. What would have to wait longer than this, or than half
    /// of the time that is left by the request's [deadline](milter_tower::Request::deadline), is
    /// refused at once.
    pub fn delay(most: Duration) -> Self {
        Self {
            action: Action::Delay(most),
            ..Self::default()
        }
    }

    /// It passes, and the message gets this header at its end. Over the limit for connections it is
    /// each message of the session.
    ///
    /// # Errors
    ///
    /// There cannot be such a header.
    pub fn header(
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Self, ModificationError> {
        let (name, value) = (name.as_ref(), value.as_ref());
        let header = HeaderToAdd {
            plain: Modification::add_header(name, value)?,
            spaced: Modification::add_header(name, [b" ", value].concat())?,
        };
        Ok(Self {
            action: Action::Header(Box::new(header)),
            ..Self::default()
        })
    }

    /// It passes, with a log line. Limits are tried out so before they hold.
    pub fn log() -> Self {
        Self {
            action: Action::Log,
            ..Self::default()
        }
    }

    /// With what is refused what did wait, or would have to for too long.
    #[must_use]
    pub fn reply(mut self, reply: impl Into<SmtpReply>) -> Self {
        self.reply = reply.into();
        self
    }
}

impl Default for Over {
    fn default() -> Self {
        Self::refuse(reply(
            "450 4.7.1 Too much in a short time, please try again later",
        ))
    }
}

impl Action {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Refuse | Self::Delay(_) => "refuse",
            Self::Header(_) => "header",
            Self::Log => "pass",
        }
    }

    /// Whether what is over may be refused or made to wait.
    pub(super) const fn answers(&self) -> bool {
        matches!(self, Self::Refuse | Self::Delay(_))
    }
}

/// Something over a limit, as [`on_over`](super::RateLimitLayer::on_over) is told.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct OverLimit<'a> {
    /// What the limit is kept by.
    pub key: &'a Key,
    /// How much there was not.
    pub cost: u64,
    /// In what time there is.
    pub retry_after: Duration,
    /// Where it was.
    pub stage: Option<Stage>,
    /// Whose it was.
    pub session: &'a Session,
}
