//! Changes to a message's envelope, and what else is no part of its text.

use std::collections::HashSet;

use bytes::Bytes;
use milter_core::{
    Modification, ModificationError, ModificationKind, Recipient, Sender, Text, mailbox_key,
};

use super::body::Body;
use super::recipients::Recipients;
use crate::response::Response;

/// What a handler changed besides headers.
#[derive(Debug, Default)]
pub(super) struct Edits {
    sender: Option<(Sender, Modification)>,
    recipients: Recipients,
    quarantine: Option<Modification>,
    body: Option<Body>,
    /// The first edit that cannot be made.
    error: Option<ModificationError>,
}

impl Edits {
    pub(super) fn sender(&self) -> Option<&Sender> {
        self.sender.as_ref().map(|(sender, _)| sender)
    }

    pub(super) fn body(&self) -> Option<&Body> {
        self.body.as_ref()
    }

    pub(super) fn recipients(&self) -> &Recipients {
        &self.recipients
    }

    pub(super) fn set_sender(&mut self, came: Option<&Sender>, address: &[u8], args: &[u8]) {
        let Some(edit) = self.checked(Modification::change_sender_with_args(address, args)) else {
            return;
        };
        let ModificationKind::ChangeSender { address, args } = edit.kind() else {
            return;
        };
        // Without new ones both MTAs keep the arguments that it came with: Postfix cleanup_milter.c
        // cleanup_chg_from, sendmail/milter.c milter_chgfrom.
        let all = match (args, came) {
            (None, Some(came)) => {
                let kept = came.args();
                kept.iter().map(|arg| copied(arg.raw())).collect()
            }
            _ => arguments(args),
        };
        let sender = Sender::new(copied(address), all);
        let is_back = args.is_none() && came.is_some_and(|came| came.mailbox() == sender.mailbox());
        self.sender = (!is_back).then_some((sender, edit));
    }

    pub(super) fn add_recipient(
        &mut self,
        came: &[Recipient],
        address: &[u8],
        args: Option<&[u8]>,
    ) {
        let args = args.filter(|args| !args.trim_ascii().is_empty());
        let key = mailbox_key(address);
        // Other arguments make it another recipient: the one that came stays out.
        let is_there = if args.is_none() {
            self.recipients.put_back(came, &key)
        } else {
            self.recipients.has(came, &key)
        };
        if is_there {
            return;
        }
        let edit = match args {
            None => Modification::add_recipient(address),
            Some(args) => Modification::add_recipient_with_args(address, args),
        };
        let Some(edit) = self.checked(edit) else {
            return;
        };
        let (address, args) = match edit.kind() {
            ModificationKind::AddRecipient { address } => (address, None),
            ModificationKind::AddRecipientWithArgs { address, args } => (address, args),
            _ => return,
        };
        let recipient = Recipient::new(copied(address), arguments(args));
        self.recipients.add(key, recipient, edit);
    }

    /// Takes out every recipient of this address. Whether there was one.
    pub(super) fn remove_recipient(&mut self, came: &[Recipient], address: &[u8]) -> bool {
        self.recipients.remove(came, &mailbox_key(address))
    }

    pub(super) fn quarantine(&mut self, reason: &[u8]) {
        if let Some(edit) = self.checked(Modification::quarantine(reason)) {
            self.quarantine = Some(edit);
        }
    }

    pub(super) fn set_body(&mut self, body: Bytes) {
        self.body = Some(body.into());
    }

    fn checked(&mut self, edit: Result<Modification, ModificationError>) -> Option<Modification> {
        match edit {
            Ok(edit) => Some(edit),
            Err(error) => {
                self.error.get_or_insert(error);
                None
            }
        }
    }

    /// The same as modifications.
    pub(super) fn into_response(self, mut response: Response, came: &[Recipient]) -> Response {
        response = response.edit_all(self.sender.map(|(_, edit)| edit));
        let mut told = HashSet::new();
        for recipient in self.recipients.removed(came) {
            // One that came twice goes at once.
            if !told.insert(recipient.mailbox()) {
                continue;
            }
            // Byte for byte as it came: Q34, Postfix cleanup_milter.c cleanup_del_rcpt.
            response = response.delete_recipient(recipient.address());
        }
        response = response.edit_all(self.recipients.into_added());
        if let Some(body) = self.body.as_ref().and_then(Body::in_memory) {
            response = response.edit(Modification::replace_body(body.clone()));
        }
        response = response.edit_all(self.quarantine);
        match self.error {
            None => response,
            Some(error) => response.try_edit(Err(error)),
        }
    }
}

fn copied(text: Text<'_>) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn arguments(args: Option<Text<'_>>) -> Vec<Bytes> {
    let args = args.map_or(&b""[..], |args| args.as_bytes());
    args.split(|byte| *byte == b' ')
        .filter(|arg| !arg.is_empty())
        .map(Bytes::copy_from_slice)
        .collect()
}
