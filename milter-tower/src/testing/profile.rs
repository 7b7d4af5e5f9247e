//! The MTAs that can be played.

use std::time::Duration;

use milter_core::client::{Config, EmptyList};
use milter_core::macros::names as n;
use milter_core::{
    Actions, MacroStage, Offer, SmtpReply, Stage, Stages, Steps, Text, Verdict, edit,
};

use crate::client::Timeouts;
use crate::client::lists::{POSTFIX, TLS};
pub(super) use crate::client::words::reply;
use crate::client::words::{is_final, refusal};

/// Which MTA a [`MockMta`](super::MockMta) plays: what it offers, which macros it sends and when,
/// how it counts headers, how it ends messages and connections, and how long it waits.
///
/// The settings here are those that an MTA's administrator has too.
///
/// ```
/// use std::time::Duration;
/// use milter_tower::testing::MtaProfile;
/// use milter_tower::MacroStage;
///
/// let postfix = MtaProfile::postfix()
///     .command_timeout(Duration::from_secs(10))
///     .macros(MacroStage::Rcpt, ["i", "{rcpt_addr}", "{client_addr}"]);
/// assert_eq!(postfix.name(), "Postfix");
/// ```
#[derive(Clone, Debug)]
pub struct MtaProfile {
    pub(super) kind: Kind,
    name: &'static str,
    offer: Offer,
    macros: Vec<(MacroStage, Vec<String>)>,
    pub(super) times: Timeouts,
    pub(super) edits: edit::Profile,
}

/// Whose habits they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Postfix,
    Sendmail,
    Stalwart,
}

impl MtaProfile {
    /// Postfix 3 in its default configuration.
    pub fn postfix() -> Self {
        Self {
            kind: Kind::Postfix,
            name: "Postfix",
            offer: Offer::V6,
            macros: lists(POSTFIX),
            times: Timeouts::postfix(),
            edits: edit::Profile::postfix(),
        }
    }

    /// Sendmail 8.17 in its stock configuration, with the timeouts that it has unless told others.
    // sendmail/cf/m4/cfhead.m4: the lists of macros
    pub fn sendmail() -> Self {
        Self {
            kind: Kind::Sendmail,
            name: "Sendmail",
            offer: Offer::V6,
            macros: lists([
                (
                    MacroStage::Connect,
                    &[
                        n::HOST_NAME,
                        n::CLIENT,
                        n::DAEMON_NAME,
                        n::IF_NAME,
                        n::IF_ADDR,
                    ],
                ),
                (MacroStage::Helo, TLS),
                (
                    MacroStage::Mail,
                    &[
                        n::QUEUE_ID,
                        n::AUTH_TYPE,
                        n::AUTH_AUTHEN,
                        n::AUTH_SSF,
                        n::AUTH_AUTHOR,
                        n::MAIL_MAILER,
                        n::MAIL_HOST,
                        n::MAIL_ADDR,
                    ],
                ),
                (
                    MacroStage::Rcpt,
                    &[n::RCPT_MAILER, n::RCPT_HOST, n::RCPT_ADDR],
                ),
                (MacroStage::EndOfMessage, &[n::MSG_ID]),
            ]),
            times: Timeouts::sendmail(),
            edits: edit::Profile::sendmail(),
        }
    }

    /// Stalwart, which offers little: no replies can be left out, only HELO and the end of headers
    /// can be declined, and macros cannot be asked for.
    ///
    /// It shows header values without the white space around them and addresses without
    /// arguments, and takes progress in the body and at the end only. When the filter refuses
    /// something, be it one recipient, it closes the connection without a word and refuses the
    /// message.
    ///
    /// Two things are not as with Stalwart itself, which has a connection for each message and
    /// goes on after an accept. And modifications are applied as Postfix does, which may differ
    /// from what Stalwart makes of them.
    // Stalwart crates/smtp/src/inbound/milter/client.rs and message.rs
    pub fn stalwart() -> Self {
        Self {
            kind: Kind::Stalwart,
            name: "Stalwart",
            offer: Offer {
                version: 6,
                actions: Actions::CHANGES,
                steps: Steps::NO_HELO.union(Steps::NO_END_OF_HEADERS),
            },
            macros: lists([
                (
                    MacroStage::Connect,
                    &[
                        n::DAEMON_NAME,
                        n::HOST_NAME,
                        n::CLIENT_ADDR,
                        n::CLIENT_PORT,
                        n::CLIENT_PTR,
                    ],
                ),
                (MacroStage::Helo, &[n::CIPHER, n::TLS_VERSION]),
                (MacroStage::Mail, &[n::MAIL_ADDR, n::AUTH_AUTHEN]),
                (MacroStage::Rcpt, &[n::RCPT_ADDR]),
            ]),
            times: Timeouts::postfix().command(MINUTE).content(MINUTE),
            edits: edit::Profile::postfix(),
        }
    }

    /// An MTA that speaks version 2 of the protocol: Postfix with `milter_protocol = 2`.
    ///
    /// There is no DATA and no unknown command, no reply can be left out, nothing skipped.
    // Postfix milter8.c milter8_connect: all actions, steps 0x7f
    pub fn version_2() -> Self {
        Self {
            name: "Postfix (version 2)",
            ..Self::postfix()
        }
        .offer(Offer {
            version: 2,
            actions: Offer::V6.actions,
            steps: Steps::from_bits_retain(0x7f),
        })
    }

    /// Sets what is offered to the filter.
    #[must_use]
    pub fn offer(mut self, offer: Offer) -> Self {
        self.offer = offer;
        self
    }

    /// Sets the macros that are sent at a stage unless the filter asks for others.
    #[must_use]
    pub fn macros(
        mut self,
        stage: MacroStage,
        names: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.macros.retain(|(has, _)| *has != stage);
        let names = names.into_iter().map(Into::into).collect();
        self.macros.push((stage, names));
        self
    }

    /// Sets how long is waited for a frame in answer to the offer or to a command of the SMTP
    /// session: by default 30 s for Postfix, 10 s for Sendmail, 60 s for Stalwart.
    #[must_use]
    pub fn command_timeout(mut self, time: Duration) -> Self {
        self.times = self.times.command(time);
        self
    }

    /// Sets how long is waited for a frame in answer to a part of the message or its end: by
    /// default 300 s for Postfix, 10 s for Sendmail, 60 s for Stalwart.
    #[must_use]
    pub fn content_timeout(mut self, time: Duration) -> Self {
        self.times = self.times.content(time);
        self
    }

    /// Sets how long is waited at the end of the message, whatever comes meanwhile: by default
    /// 300 s for Sendmail (Q30), no limit for the others.
    #[must_use]
    pub fn end_of_message_timeout(mut self, time: Duration) -> Self {
        self.times = self.times.end_of_message(time);
        self
    }

    /// Sets how modifications are applied: Sendmail with other header lines in its configuration,
    /// say.
    #[must_use]
    pub fn edits(mut self, edits: edit::Profile) -> Self {
        self.edits = edits;
        self
    }

    /// The name of the MTA, for messages.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn is_postfix(&self) -> bool {
        self.kind == Kind::Postfix
    }

    pub(super) fn is_sendmail(&self) -> bool {
        self.kind == Kind::Sendmail
    }

    pub(super) fn config(&self) -> Config {
        let mut config = Config::new()
            .offer(self.offer)
            // Tests may have their reasons.
            .any_order(true)
            .strict(self.is_sendmail())
            .abort_before_quit(self.is_postfix());
        if self.is_postfix() {
            config = config.empty_list(EmptyList::MtasOwn);
        }
        if self.kind == Kind::Stalwart {
            config = config.progress_at(Stages::from(Stage::Body));
        }
        for (stage, names) in &self.macros {
            config = config.macros(*stage, names.clone());
        }
        config
    }

    /// The macros of a stage unless the filter asks for others.
    pub(super) fn own_macros(&self, stage: MacroStage) -> impl Iterator<Item = Text<'_>> {
        let lists = self.macros.iter().filter(move |(has, _)| *has == stage);
        lists.flat_map(|(_, names)| names.iter().map(|name| Text::from(name.as_str())))
    }

    /// The stage whose macros go before the command of this letter.
    // Q1: Postfix milter8.c milter8_header and milter8_body repeat those of a later stage, and its
    // list for unknown commands is empty; sendmail/milter.c milter_command
    pub(super) fn macros_before(&self, code: u8) -> Option<MacroStage> {
        match (self.kind, code) {
            (Kind::Postfix, b'L') => Some(MacroStage::EndOfHeaders),
            (Kind::Postfix, b'B') => Some(MacroStage::EndOfMessage),
            (Kind::Stalwart, b'T' | b'N' | b'E') => None,
            _ => MacroStage::from_command_code(code),
        }
    }

    /// Whether a frame of macros goes out, given how many were listed and how many have a value.
    // Postfix milter8.c milter8_event: always; sendmail/milter.c milter_send_macros: not for an
    // empty list
    pub(super) fn sends_macros(&self, code: u8, listed: usize) -> bool {
        match self.kind {
            Kind::Postfix => true,
            Kind::Sendmail => listed > 0,
            Kind::Stalwart => b"CHMR".contains(&code),
        }
    }

    /// What the client is told when the filter refuses at a stage.
    // Postfix milter8.c milter8_def_reply; sendmail/milter.c milter_connect, sendmail/srvrsmtp.c
    // MILTER_REPLY
    pub(super) fn reply_to(&self, verdict: &Verdict, stage: Stage) -> Option<SmtpReply> {
        if !self.is_sendmail() {
            return refusal(verdict);
        }
        let later = reply(451, 3, 2, "Please try again later");
        let is_content = matches!(
            stage,
            Stage::Header | Stage::EndOfHeaders | Stage::Body | Stage::EndOfMessage
        );
        let refused = match stage {
            Stage::Connect => reply(550, 0, 0, "Command rejected"),
            _ if is_content => reply(554, 7, 1, "Command rejected"),
            _ => reply(550, 7, 1, "Command rejected"),
        };
        Some(match verdict {
            Verdict::Reject => refused,
            Verdict::TempFail => later,
            // sendmail/milter.c milter_connect: the class is kept, and 421.
            Verdict::Reply(own) if stage == Stage::Connect && own.code() != 421 => {
                if own.is_permanent() { refused } else { later }
            }
            Verdict::Reply(own) => own.clone(),
            _ => return None,
        })
    }

    /// Whether nothing else comes after this reply to a refusal.
    // sendmail/srvrsmtp.c MILTER_REPLY: 421; Postfix smtpd.c: 521, too; Stalwart
    // crates/smtp/src/inbound/milter/message.rs run: whatever it is
    pub(super) fn is_final(&self, reply: &SmtpReply) -> bool {
        match self.kind {
            Kind::Postfix => is_final(reply),
            Kind::Sendmail => reply.code() == 421,
            Kind::Stalwart => true,
        }
    }

    /// What the client is told when the filter does not do its part: the mail server here is one
    /// that lets no mail pass without its filter.
    // Postfix milter_default_action = tempfail; sendmail/srvrsmtp.c with F=T
    pub(super) fn without_filter(&self) -> SmtpReply {
        if self.is_sendmail() {
            reply(451, 3, 2, "Please try again later")
        } else {
            reply(451, 7, 1, "Service unavailable - try again later")
        }
    }
}

/// What Stalwart waits for a frame.
const MINUTE: Duration = Duration::from_secs(60);

fn lists<const N: usize>(lists: [(MacroStage, &[&str]); N]) -> Vec<(MacroStage, Vec<String>)> {
    let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    lists.map(|(stage, names)| (stage, owned(names))).into()
}
