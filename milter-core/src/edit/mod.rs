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
//! are missing (`Date`, `Message-Id`, `From`), the rewriting of addresses, aliases, and limits on
//! the length of headers. Addresses are compared as they are written, but for the case of ASCII
//! letters and brackets, where an MTA may parse them.

mod body;
mod headers;
mod plan;
mod profile;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use thiserror::Error;

use self::headers::Headers;
pub use self::plan::{Edited, PlanError, Planner, Unplaceable};
pub use self::profile::Profile;
use crate::{Header, Modification, ModificationKind, Recipient, Sender, Text};

/// A mail as an MTA holds it while filters look at it.
#[derive(Clone, Debug)]
pub struct Mail {
    profile: Profile,
    sender: Sender,
    recipients: Vec<Recipient>,
    headers: Headers,
    body: Bytes,
    quarantine: Option<Bytes>,
}

impl Mail {
    /// An empty mail from the null sender to nobody.
    pub fn new(profile: Profile) -> Self {
        Self {
            headers: Headers::new(&profile),
            profile,
            sender: Sender::new("<>", [""; 0]),
            recipients: Vec::new(),
            body: Bytes::new(),
            quarantine: None,
        }
    }

    /// Sets the sender.
    #[must_use]
    pub fn with_sender(mut self, sender: Sender) -> Self {
        self.sender = sender;
        self
    }

    /// Adds a recipient.
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
        self.headers.push(header);
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
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

    /// The recipients.
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
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

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Why the mail is held back, if it is.
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
            self.apply_one(kind, leading_space, &mut body);
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
    ) {
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
                self.sender = Sender::new(in_brackets(address), arguments(args));
            }
            ModificationKind::AddRecipient { address } => self.add_recipients(address, None),
            ModificationKind::AddRecipientWithArgs { address, args } => {
                self.add_recipients(address, args);
            }
            ModificationKind::DeleteRecipient { address } => {
                let profile = &self.profile;
                self.recipients
                    .retain(|kept| !profile.is_deleted_by(kept.mailbox(), mailbox(address)));
            }
            ModificationKind::Quarantine { reason } => {
                self.quarantine = Some(self.profile.quarantine_reason(reason));
            }
        }
    }

    fn add_recipients(&mut self, addresses: Text<'_>, args: Option<Text<'_>>) {
        for address in self.profile.split_recipients(addresses) {
            let address = mailbox(address);
            // Both MTAs deliver to nobody twice.
            let is_there =
                |kept: &Recipient| kept.mailbox().eq_ignore_ascii_case(address.as_bytes());
            if !address.is_empty() && !self.recipients.iter().any(is_there) {
                let recipient = Recipient::new(in_brackets(address), arguments(args));
                self.recipients.push(recipient);
            }
        }
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

fn arguments(args: Option<Text<'_>>) -> Vec<Bytes> {
    let args = args.map_or(&b""[..], |args| args.as_bytes());
    args.split(|byte| *byte == b' ')
        .filter(|arg| !arg.is_empty())
        .map(Bytes::copy_from_slice)
        .collect()
}

/// Why an MTA refuses a message for the modifications that it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refused {
    /// Postfix wants the pieces of a body one directly behind the other
    /// (`milter8.c milter8_event`, Q17).
    #[error("Postfix refuses a message whose new body is interrupted by another modification")]
    InterruptedBody,
}
