//! How a server treats its connections.

use std::time::Duration;

use milter_core::{MAX_PAYLOAD, SmtpReply, Stage, Verdict};

use crate::session::Mta;

/// Time-outs, limits and what failures become: for each connection of a server, and where it says
/// so for all of them together.
///
/// The defaults suit a server behind stock Postfix and Sendmail.
///
/// ```
/// use std::time::Duration;
/// use milter_tower::{Mta, OnFailure, Settings};
///
/// let settings = Settings::new()
///     .mta(Mta::Postfix)
///     .call_timeout(Duration::from_secs(20))
///     .on_failure(OnFailure::Reject);
/// ```
#[derive(Clone, Debug)]
pub struct Settings {
    pub(crate) mta: Option<Mta>,
    pub(crate) on_failure: OnFailure,
    pub(crate) on_negotiate_failure: OnNegotiateFailure,
    pub(crate) handshake_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) frame_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) call_timeout: Option<Duration>,
    pub(crate) end_of_message_timeout: Duration,
    pub(crate) progress_interval: Duration,
    pub(crate) max_payload: usize,
    pub(crate) max_recipients: usize,
    pub(crate) max_macro_bytes: usize,
    pub(crate) max_headers: usize,
    pub(crate) max_header_bytes: usize,
    pub(crate) max_held_bytes: usize,
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_peer: usize,
    /// For tests: where it is taken down how the filter failed.
    #[cfg(feature = "testing")]
    pub(crate) failures: Option<crate::testing::Failures>,
}

impl Settings {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            mta: None,
            on_failure: OnFailure::TempFail,
            on_negotiate_failure: OnNegotiateFailure::Agree,
            handshake_timeout: Duration::from_secs(30),
            // libmilter/mfapi.h MI_TIMEOUT: it must exceed what the SMTP client is allowed.
            idle_timeout: Duration::from_secs(7210),
            frame_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            call_timeout: None,
            // Sendmail gives up after 300 s, whatever it hears meanwhile (protocol 8, Q30).
            end_of_message_timeout: Duration::from_secs(280),
            progress_interval: Duration::from_secs(1),
            max_payload: MAX_PAYLOAD,
            max_recipients: 10_000,
            max_macro_bytes: 64 * 1024,
            max_headers: 10_000,
            max_header_bytes: 1024 * 1024,
            max_held_bytes: 256 * 1024 * 1024,
            max_connections: 10_000,
            max_connections_per_peer: 5_000,
            #[cfg(feature = "testing")]
            failures: None,
        }
    }

    /// Which MTA connects. By default each session finds out by the macro `v`, and one that does
    /// not tell gets the stricter of both servers' rules.
    #[must_use]
    pub const fn mta(mut self, mta: Mta) -> Self {
        self.mta = Some(mta);
        self
    }

    /// What the MTA hears when the filter fails: an error, a panic, a deadline that passed, a
    /// response that the stage or the negotiation does not allow. By default tempfail.
    #[must_use]
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// What the MTA hears when the filter fails in the negotiation. By default an agreement, and
    /// then the failure verdict from connect on.
    #[must_use]
    pub const fn on_negotiate_failure(mut self, on_failure: OnNegotiateFailure) -> Self {
        self.on_negotiate_failure = on_failure;
        self
    }

    /// How long an MTA that connected may take to negotiate. By default 30 s.
    #[must_use]
    pub const fn handshake_timeout(mut self, time: Duration) -> Self {
        self.handshake_timeout = time;
        self
    }

    /// How long a connection may be silent. By default 7,210 s, as in libmilter: it must be
    /// longer than the MTA lets an SMTP client be silent. It is measured in eighths: a connection
    /// may live up to a quarter longer.
    #[must_use]
    pub const fn idle_timeout(mut self, time: Duration) -> Self {
        self.idle_timeout = time;
        self
    }

    /// How long a frame that has begun may take to come whole. By default 60 s.
    #[must_use]
    pub const fn frame_timeout(mut self, time: Duration) -> Self {
        self.frame_timeout = time;
        self
    }

    /// How long an MTA may take to read a reply. By default 30 s.
    #[must_use]
    pub const fn write_timeout(mut self, time: Duration) -> Self {
        self.write_timeout = time;
        self
    }

    /// How long the filter may take for an event, except at the end of the message. By default
    /// 8 s, and behind Postfix 25 s: Sendmail waits for 10 s for a reply, Postfix for 30 s. With
    /// more than that the MTA gives up first, and does what it is configured to do. Events without
    /// a reply that come in one go share this time: behind them the MTA may wait for an answer.
    #[must_use]
    pub const fn call_timeout(mut self, time: Duration) -> Self {
        self.call_timeout = Some(time);
        self
    }

    /// How long the filter may take at the end of the message, where the MTA is told once a
    /// second that work goes on. By default 280 s: Sendmail gives up after 300 s.
    #[must_use]
    pub const fn end_of_message_timeout(mut self, time: Duration) -> Self {
        self.end_of_message_timeout = time;
        self
    }

    /// How often the MTA is told that work goes on: at the end of the message, and with Postfix
    /// at every stage. By default once a second, and not more often than ten times; Sendmail
    /// waits for 10 s.
    #[must_use]
    pub const fn progress_interval(mut self, time: Duration) -> Self {
        let least = Duration::from_millis(100);
        self.progress_interval = if time.as_millis() < least.as_millis() {
            least
        } else {
            time
        };
        self
    }

    /// The largest payload of a frame that is read after the negotiation, in bytes; at most, and
    /// by default, 1 MiB. Before it 4 KiB are read.
    #[must_use]
    pub const fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }

    /// How many recipients of one message are kept. By default 10,000, ten times what Postfix
    /// lets a client name. Further ones are refused with `452 4.5.3`, without the filter; where
    /// no reply is due the message gets the failure verdict.
    #[must_use]
    pub const fn max_recipients(mut self, count: usize) -> Self {
        self.max_recipients = count;
        self
    }

    /// How many bytes of macros are kept for a connection. By default 64 KiB: MTAs send about one.
    /// A set that would exceed them is left out, and a warning logged.
    #[must_use]
    pub const fn max_macro_bytes(mut self, bytes: usize) -> Self {
        self.max_macro_bytes = bytes;
        self
    }

    /// How many headers of one message are taken. By default 10,000: mail has some dozens.
    /// A message with more is refused with `552 5.3.4`, as soon as a reply is due, and the filter
    /// sees no more of it.
    #[must_use]
    pub const fn max_headers(mut self, count: usize) -> Self {
        self.max_headers = count;
        self
    }

    /// How many bytes of headers of one message are taken, names and values. By default 1 MiB;
    /// Sendmail itself takes 32 KiB (`MaxHeadersLength`), Postfix 100 KiB a header
    /// (`header_size_limit`) and any number. A message with more is refused with `552 5.3.4`, as
    /// soon as a reply is due, and the filter sees no more of it.
    #[must_use]
    pub const fn max_header_bytes(mut self, bytes: usize) -> Self {
        self.max_header_bytes = bytes;
        self
    }

    /// How many bytes the server holds for all its connections together: envelopes, macros,
    /// frames that are not whole yet, replies that are not read yet. By default 256 MiB; a
    /// thousand messages in progress take some 20 MiB. What a filter keeps is not counted.
    ///
    /// Beyond it a recipient is refused with `452 4.3.1`, another command of the envelope gets the
    /// failure verdict, macros are left out, and a connection with more than 4 KiB of a frame that
    /// is not whole, or of replies that it does not read, is closed.
    #[must_use]
    pub const fn max_held_bytes(mut self, bytes: usize) -> Self {
        self.max_held_bytes = bytes;
        self
    }

    /// How many connections may be open at a time. By default 10,000, which take some 25 MiB
    /// while they are idle: an MTA has one for each SMTP session, Postfix 100 unless told
    /// otherwise (`default_process_limit`). The process must be allowed as many descriptors
    /// (`LimitNOFILE=` in systemd, `ulimit -n`).
    ///
    /// An MTA that connects beyond it gets the failure verdict at connect, and the connection is
    /// closed: closing it at once would let mail pass unfiltered where that is the MTA's default.
    #[must_use]
    pub const fn max_connections(mut self, count: usize) -> Self {
        self.max_connections = count;
        self
    }

    /// How many connections one IP address may have open at a time; those over unix sockets have
    /// none and are not counted here. By default 5,000: an MTA gone mad leaves room for another.
    /// Beyond it, it gets the same answer as beyond [`max_connections`](Self::max_connections).
    #[must_use]
    pub const fn max_connections_per_peer(mut self, count: usize) -> Self {
        self.max_connections_per_peer = count;
        self
    }

    /// The time that a call may take; no stage stands for the negotiation and for ends.
    pub(crate) fn time_for(&self, stage: Option<Stage>, mta: Mta) -> Duration {
        match (stage, self.call_timeout, mta) {
            (Some(Stage::EndOfMessage), ..) => self.end_of_message_timeout,
            (_, Some(time), _) => time,
            (_, None, Mta::Postfix) => Duration::from_secs(25),
            (_, None, _) => Duration::from_secs(8),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

/// What the MTA hears when a filter fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// Refuse for now: the client tries again later.
    #[default]
    TempFail,
    /// Refuse for good.
    Reject,
    /// Refuse in these words.
    Reply(SmtpReply),
}

impl OnFailure {
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::TempFail => Verdict::TempFail,
            Self::Reject => Verdict::Reject,
            Self::Reply(reply) => Verdict::Reply(reply.clone()),
        }
    }
}

/// What becomes of a connection whose filter fails in the negotiation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnNegotiateFailure {
    /// The MTA gets an agreement, and then the failure verdict from connect on.
    #[default]
    Agree,
    /// The connection is closed, and the MTA does what it is configured to do without the
    /// filter. Sendmail's default there is to let the mail pass unfiltered.
    Close,
}
