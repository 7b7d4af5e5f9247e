//! How long a milter may take.

use std::time::Duration;

use milter_core::client::Timeout;

/// How long a milter may take to be reached, and to answer.
///
/// All but the last are for one frame: it must have come whole within that time after the command
/// was written, or after the frame before it. So a milter that tells that it is
/// [still at work](crate::Progress) has its time anew.
///
/// `Duration::MAX` is no limit.
///
/// ```
/// use std::time::Duration;
/// use milter_tower::client::Timeouts;
///
/// let times = Timeouts::postfix().content(Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    connect: Duration,
    command: Duration,
    content: Duration,
    /// For all of the end of the message.
    end: Option<Duration>,
}

impl Timeouts {
    /// Those of Postfix: 30 s to connect, 30 s for a command, 300 s for content, no other limit.
    // Postfix global/mail_params.h: milter_connect_timeout, milter_command_timeout,
    // milter_content_timeout
    pub const fn postfix() -> Self {
        Self {
            connect: Duration::from_secs(30),
            command: Duration::from_secs(30),
            content: Duration::from_secs(300),
            end: None,
        }
    }

    /// Those of Sendmail: 300 s to connect, 10 s for each answer, 300 s for all of the end of the
    /// message.
    // sendmail/milter.c: T=C:5m;S:10s;R:10s;E:5m (Q30)
    pub const fn sendmail() -> Self {
        Self {
            connect: Duration::from_secs(300),
            command: Duration::from_secs(10),
            content: Duration::from_secs(10),
            end: Some(Duration::from_secs(300)),
        }
    }

    /// Sets the time to connect in.
    #[must_use]
    pub const fn connect(mut self, time: Duration) -> Self {
        self.connect = time;
        self
    }

    /// Sets the time for the answer to the offer, and for that to connect, HELO, MAIL, RCPT, DATA
    /// and unknown commands.
    #[must_use]
    pub const fn command(mut self, time: Duration) -> Self {
        self.command = time;
        self
    }

    /// Sets the time for the answer to a header, the end of the headers or a piece of the body,
    /// and for each frame at the end of the message.
    #[must_use]
    pub const fn content(mut self, time: Duration) -> Self {
        self.content = time;
        self
    }

    /// Sets the time for all of the end of the message, whatever comes meanwhile (C76).
    #[must_use]
    pub const fn end_of_message(mut self, time: Duration) -> Self {
        self.end = Some(time);
        self
    }

    /// How long connecting may take.
    pub(crate) const fn dial(&self) -> Duration {
        self.connect
    }

    /// How long a frame may take.
    pub(crate) const fn frame(&self, what: Timeout) -> Duration {
        match what {
            Timeout::Content | Timeout::EndOfMessage => self.content,
            _ => self.command,
        }
    }

    /// How long all of an answer may take, if that is limited.
    pub(crate) const fn total(&self, what: Timeout) -> Option<Duration> {
        match what {
            Timeout::EndOfMessage => self.end,
            _ => None,
        }
    }
}

/// Those of [Postfix](Self::postfix).
impl Default for Timeouts {
    fn default() -> Self {
        Self::postfix()
    }
}
