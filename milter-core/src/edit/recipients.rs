//! The recipients, and what the MTAs remember of those that are there no more.

use bytes::Bytes;

use super::{Profile, in_brackets};
use crate::{DsnNotify, Recipient, Text};

/// The recipients of a mail.
#[derive(Clone, Debug)]
pub(super) struct Recipients {
    kept: Vec<Recipient>,
    memory: Memory,
}

#[derive(Clone, Debug)]
enum Memory {
    /// Postfix's filter for duplicates: for each recipient what keeps another one out, or `None`
    /// if that was forgotten.
    Postfix(Vec<Option<Identity>>),
    /// Those that were deleted, as Sendmail keeps them.
    Sendmail(Vec<Recipient>),
}

impl Recipients {
    pub(super) fn new(profile: &Profile) -> Self {
        Self {
            kept: Vec::new(),
            memory: if profile.is_postfix() {
                Memory::Postfix(Vec::new())
            } else {
                Memory::Sendmail(Vec::new())
            },
        }
    }

    pub(super) fn kept(&self) -> &[Recipient] {
        &self.kept
    }

    /// One that the client gave.
    pub(super) fn push(&mut self, recipient: Recipient) {
        // Postfix cleanup_addr.c cleanup_addr_recipient: the address is its own ORCPT if the client
        // gave none
        let own = [b"rfc822;", recipient.mailbox().as_bytes()].concat();
        let identity = Identity::new(&recipient, &own);
        self.insert(recipient, identity);
    }

    /// `SMFIR_ADDRCPT` and `SMFIR_ADDRCPT_PAR`.
    pub(super) fn add(&mut self, address: Text<'_>, args: Vec<Bytes>) {
        let recipient = Recipient::new(in_brackets(address), args);
        // Postfix cleanup_milter.c cleanup_add_rcpt_par: without an ORCPT of its own it has none
        let identity = Identity::new(&recipient, b"");
        self.insert(recipient, identity);
    }

    fn insert(&mut self, mut recipient: Recipient, identity: Identity) {
        match &mut self.memory {
            // Postfix cleanup_out_recipient.c: two of one address are the same only if NOTIFY and
            // ORCPT are
            Memory::Postfix(known) => {
                if known.iter().flatten().any(|one| *one == identity) {
                    return;
                }
                known.push(Some(identity));
            }
            // sendmail/recipient.c recipient
            Memory::Sendmail(deleted) => {
                if self.kept.iter().any(|kept| is_same(kept, &recipient)) {
                    return;
                }
                if let Some(at) = deleted.iter().position(|one| is_same(one, &recipient)) {
                    recipient = revived(&deleted.remove(at), &recipient);
                }
            }
        }
        self.kept.push(recipient);
    }

    /// `SMFIR_DELRCPT`.
    pub(super) fn delete(&mut self, address: Text<'_>) {
        match &mut self.memory {
            // Postfix cleanup_milter.c cleanup_del_rcpt: those that differ only in case stay (Q34),
            // but the filter for duplicates forgets them
            Memory::Postfix(known) => {
                let kept = std::mem::take(&mut self.kept).into_iter();
                let all = kept.zip(std::mem::take(known));
                for (recipient, identity) in all.filter(|(one, _)| one.mailbox() != address) {
                    let folds = recipient.mailbox().eq_ignore_ascii_case(address.as_bytes());
                    known.push(identity.filter(|_| !folds));
                    self.kept.push(recipient);
                }
            }
            // sendmail/recipient.c removefromlist, sendmail/parseaddr.c sameaddr
            Memory::Sendmail(deleted) => {
                let found = self.kept.iter().position(|one| one.mailbox() == address);
                deleted.extend(found.map(|at| self.kept.remove(at)));
            }
        }
    }
}

/// What makes a recipient another one to Postfix (`cleanup_out_recipient.c`, `been_here.c`).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    address: Vec<u8>,
    notify: Option<DsnNotify>,
    orcpt: Vec<u8>,
}

impl Identity {
    fn new(recipient: &Recipient, own_orcpt: &[u8]) -> Self {
        let args = recipient.args();
        let orcpt = args.orcpt().map(|orcpt| {
            let kind = orcpt.address_type();
            [kind.as_bytes(), b";", orcpt.address()].concat()
        });
        Self {
            address: recipient.mailbox().as_bytes().to_ascii_lowercase(),
            notify: args.notify(),
            orcpt: orcpt
                .unwrap_or_else(|| own_orcpt.to_vec())
                .to_ascii_lowercase(),
        }
    }
}

/// Byte for byte, as Sendmail's mailers for other hosts do.
// sendmail/parseaddr.c sameaddr; cf/m4/proto.m4: such mailers have the flag u
fn is_same(one: &Recipient, other: &Recipient) -> bool {
    one.mailbox() == other.mailbox()
}

/// A recipient that Sendmail had deleted, and gets again.
// sendmail/recipient.c recipient: the flags of both together, the ORCPT of the old one; parseaddr.c:
// without NOTIFY these are the ones for FAILURE and DELAY
fn revived(old: &Recipient, new: &Recipient) -> Recipient {
    let both = [old.args(), new.args()];
    let has = |reported: fn(DsnNotify) -> bool, unsaid: bool| {
        let mut all = both.iter();
        all.any(|args| args.notify().map_or(unsaid, reported))
    };
    let words: Vec<&[u8]> = [
        (has(DsnNotify::on_success, false), &b"SUCCESS"[..]),
        (has(DsnNotify::on_failure, true), b"FAILURE"),
        (has(DsnNotify::on_delay, true), b"DELAY"),
    ]
    .into_iter()
    .filter_map(|(has, word)| has.then_some(word))
    .collect();
    let words = if words.is_empty() {
        b"NEVER".to_vec()
    } else {
        words.join(&b","[..])
    };
    let is_said = both.iter().any(|args| args.notify().is_some());
    let notify = is_said.then(|| Bytes::from([b"NOTIFY=", &words[..]].concat()));
    let others = old.args().iter();
    let others = others.filter(|arg| !arg.keyword().eq_ignore_ascii_case("NOTIFY"));
    let others = others.map(|arg| Bytes::copy_from_slice(arg.raw().as_bytes()));
    let address = Bytes::copy_from_slice(old.address().as_bytes());
    Recipient::new(address, others.chain(notify))
}
