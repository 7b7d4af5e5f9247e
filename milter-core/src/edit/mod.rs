//! What becomes of a mail when an MTA applies a filter's modifications.
//!
//! Postfix and Sendmail do different things with the same edits: they count headers differently,
//! and put them in other places. [`Mail`] holds a mail as an MTA does while filters look at it, and
//! applies [`Modification`]s as that MTA would, as its [`Profile`] says. So what a filter does can be
//! seen without a mail server, and edits can be planned for the server at hand.
//!
//! ```
//! use milter_core::edit::{Mail, Profile};
//! use milter_core::{Header, Modification};
//!
//! let edits = [
//!     Modification::delete_header("X-Old", 1)?,
//!     Modification::delete_header("X-Old", 2)?,
//! ];
//! let left = |profile| {
//!     let mut mail = Mail::new(profile);
//!     for value in [" one", " two", " three"] {
//!         mail = mail.with_header(Header::new("X-Old", value));
//!     }
//!     mail.apply(&edits, false)?;
//!     Ok::<_, milter_core::edit::Refused>(
//!         mail.headers().map(|header| header.value().to_string()).collect::<Vec<_>>(),
//!     )
//! };
//! // Postfix counts without what was deleted, Sendmail with it.
//! assert_eq!(left(Profile::postfix())?, [" two"]);
//! assert_eq!(left(Profile::sendmail())?, [" three"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What the model leaves out
//!
//! What an MTA does for other reasons than a filter's edits: headers that it adds itself when they
//! are missing (`Date`, `Message-Id`, `From`), arguments that it adds itself (`SIZE`, `BODY`,
//! `ORCPT`), the rewriting of addresses, aliases, the splitting of long lines, and limits on the
//! length of headers. A mail without recipients is gone; in quarantine Postfix keeps it.
//!
//! Addresses are compared as they are written, but for brackets, and in Postfix's filter for
//! duplicates the case of ASCII letters. Sendmail compares so those of other hosts; where it
//! delivers itself it may make them lower case first.
//!
//! # What the model is held to
//!
//! Its rules for headers, body, envelope and quarantine are compared with a real Postfix 3.7 and a
//! real Sendmail 8.17, by chosen and by random edits of one filter and of two. Not compared are what
//! Postfix keeps of the reason of a quarantine (3.7 drops it),
//! [other configurations](Profile::sendmail_with) of Sendmail, and leading space.

mod args;
mod body;
mod headers;
mod plan;
mod profile;
mod recipients;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use thiserror::Error;

use self::body::Body;
use self::headers::Headers;
pub use self::plan::{Edited, PlanError, Planner, Unplaceable};
pub use self::profile::Profile;
use self::recipients::Recipients;
use crate::{Header, Modification, ModificationKind, Recipient, Sender, Text};

/// A mail as an MTA holds it while filters look at it.
#[derive(Clone, Debug)]
pub struct Mail {
    profile: Profile,
    sender: Sender,
    recipients: Recipients,
    headers: Headers,
    body: Body,
    quarantine: Option<Bytes>,
}

impl Mail {
    /// An empty mail from the null sender to nobody.
    pub fn new(profile: Profile) -> Self {
        Self {
            headers: Headers::new(&profile),
            recipients: Recipients::new(&profile),
            profile,
            sender: Sender::new("<>", [""; 0]),
            body: Body::default(),
            quarantine: None,
        }
    }

    /// Sets the sender.
    #[must_use]
    pub fn with_sender(mut self, sender: Sender) -> Self {
        self.sender = sender;
        self
    }

    /// Adds a recipient, as the client gave it; one that is there already is not added again.
    #[must_use]
    pub fn with_recipient(mut self, recipient: Recipient) -> Self {
        self.recipients.push(recipient);
        self
    }

    /// Sets the MTA's own `Received`, which filters are not shown. Without one its place is kept.
    #[must_use]
    pub fn with_received(mut self, header: Header) -> Self {
        self.headers.set_received(header);
        self
    }

    /// Adds a header at the end, as the client sent it.
    ///
    /// The value is everything behind the colon, with the white space that it begins with; lines
    /// are separated by LF.
    #[must_use]
    pub fn with_header(mut self, header: Header) -> Self {
        self.push_header(header);
        self
    }

    /// The same for a mail that comes bit by bit. To be called before modifications are applied.
    pub fn push_header(&mut self, header: Header) {
        self.headers.push(header);
    }

    /// Sets the body: lines that end with CRLF.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Body::of_the_mail(body.into());
        self
    }

    /// How the MTA does things.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The sender.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// The recipients, in no order that matters.
    ///
    /// With Postfix one address may stand there twice: a recipient that a filter adds is not the
    /// client's of the same address unless it has the same `NOTIFY`, and the address as `ORCPT`
    /// (`cleanup_out_recipient.c`). It then gets the mail twice.
    pub fn recipients(&self) -> &[Recipient] {
        self.recipients.kept()
    }

    /// All headers in order, as they would be delivered, the MTA's own `Received` among them.
    pub fn headers(&self) -> impl Iterator<Item = &Header> {
        self.headers.delivered()
    }

    /// The headers that a filter is shown, with the value as the negotiation wants it: the white
    /// space that it begins with, or without one space of it.
    pub fn shown_headers(&self, leading_space: bool) -> impl Iterator<Item = Header> {
        self.headers.shown(leading_space)
    }

    /// The headers that a filter is shown now, each with its place among those that the mail came
    /// with: what a [`Planner`] makes modifications of that do at once what several filters did one
    /// after the other.
    ///
    /// ```
    /// use milter_core::edit::{Mail, Planner, Profile};
    /// use milter_core::{Header, Modification};
    ///
    /// let came = ["a", "b", "c"].map(|value| Header::new("X", format!(" {value}")));
    /// let profile = Profile::sendmail();
    /// let mut mail = came.iter().cloned().fold(Mail::new(profile.clone()), Mail::with_header);
    /// // Two filters delete the first that they see.
    /// let delete = Modification::delete_header("X", 1)?;
    /// mail.apply([&delete], false)?;
    /// mail.apply([&delete], false)?;
    /// let net = Planner::new(&profile).plan(&came, mail.edited())?;
    /// assert_eq!(net, [Modification::delete_header("X", 2)?, delete]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn edited(&self) -> impl Iterator<Item = Edited<'_>> {
        self.headers.edited()
    }

    /// The body as it would be delivered: in lines that end with CRLF.
    pub fn body(&self) -> &Bytes {
        self.body.delivered()
    }

    /// The body that a filter is shown.
    ///
    /// It is the [body](Self::body), but that Sendmail adds a line end that a filter's new body
    /// lacks at its end only when it delivers.
    pub fn shown_body(&self) -> Bytes {
        self.body.shown()
    }

    /// Why the mail is held back, if it is. Postfix keeps 100 bytes of it, and none
    /// before version 3.10.
    pub fn quarantine(&self) -> Option<Text<'_>> {
        self.quarantine.as_deref().map(Text::new)
    }

    /// Applies the modifications that one filter makes at the end of the message, in their order.
    ///
    /// `leading_space` says whether the filter negotiated that values begin right behind the
    /// colon; otherwise the MTA puts a space before them. Call it once for each filter: what a
    /// filter deletes, the next one counts differently.
    ///
    /// # Errors
    ///
    /// If the MTA would refuse the message instead. What was applied before stays so.
    pub fn apply<'m>(
        &mut self,
        edits: impl IntoIterator<Item = &'m Modification>,
        leading_space: bool,
    ) -> Result<(), Refused> {
        let mut body = body::Replacement::new(&self.profile);
        for edit in edits {
            let kind = edit.kind();
            body.note(&kind)?;
            self.apply_one(kind, leading_space, &mut body)?;
        }
        if let Some(replaced) = body.finish() {
            self.body = replaced;
        }
        self.headers.end_of_filter();
        Ok(())
    }

    fn apply_one(
        &mut self,
        edit: ModificationKind<'_>,
        leading_space: bool,
        body: &mut body::Replacement,
    ) -> Result<(), Refused> {
        let value = |value: Text<'_>| self.profile.value(value, leading_space);
        match edit {
            ModificationKind::AddHeader { name, value: text } => {
                self.headers.add(name, value(text));
            }
            ModificationKind::InsertHeader {
                index,
                name,
                value: text,
            } => self.headers.insert(index, name, value(text)),
            ModificationKind::ChangeHeader {
                name,
                index,
                value: text,
            } => self.headers.change(name, index, value(text)),
            ModificationKind::DeleteHeader { name, index } => self.headers.delete(name, index),
            ModificationKind::ReplaceBody { body: piece } => body.add(piece),
            ModificationKind::ChangeSender { address, args } => {
                let args = args::of_sender(&self.profile, self.sender.args(), args)?;
                self.sender = Sender::new(in_brackets(address), args);
            }
            ModificationKind::AddRecipient { address } => self.add_recipients(address, None)?,
            ModificationKind::AddRecipientWithArgs { address, args } => {
                self.add_recipients(address, args)?;
            }
            ModificationKind::DeleteRecipient { address } => {
                for address in self.profile.split_recipients(address) {
                    self.recipients.delete(mailbox(address));
                }
            }
            ModificationKind::Quarantine { reason } => {
                self.quarantine = Some(self.profile.quarantine_reason(reason));
            }
        }
        Ok(())
    }

    fn add_recipients(
        &mut self,
        addresses: Text<'_>,
        args: Option<Text<'_>>,
    ) -> Result<(), Refused> {
        let args = args.unwrap_or(Text::new(b""));
        let Some(args) = args::of_recipient(&self.profile, args)? else {
            return Ok(());
        };
        for address in self.profile.split_recipients(addresses) {
            let address = mailbox(address);
            if !address.is_empty() {
                self.recipients.add(address, args.clone());
            }
        }
        Ok(())
    }
}

/// The address without `<>`.
fn mailbox(address: Text<'_>) -> Text<'_> {
    let bytes = address.as_bytes().trim_ascii();
    let bare = bytes
        .strip_prefix(b"<")
        .map_or(bytes, |rest| rest.strip_suffix(b">").unwrap_or(rest));
    Text::new(bare)
}

fn in_brackets(address: Text<'_>) -> Bytes {
    [b"<", mailbox(address).as_bytes(), b">"].concat().into()
}

/// Why an MTA refuses a message for the modifications that it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refused {
    /// Postfix wants the pieces of a body one directly behind the other
    /// (`milter8.c milter8_event`, Q17).
    #[error("Postfix refuses a message whose new body is interrupted by another modification")]
    InterruptedBody,
    /// Sendmail's process for the SMTP session ends without a reply on an ESMTP argument that lacks
    /// its value (`srvrsmtp.c rcpt_esmtp_args`, `mail_esmtp_args`). Only another filter can send
    /// such: see [`Modification`](crate::Modification#arguments).
    #[error("Sendmail ends the SMTP session on an ESMTP argument that lacks its value")]
    FatalArgument,
}
