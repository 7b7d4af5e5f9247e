//! One list of modifications of what several members want changed.

use std::collections::HashMap;

use milter_core::edit::PlanError;
use milter_core::{Modification, ModificationError, ModificationKind, Recipient};

use super::hold::Hold;
use crate::leading_space::spaced;

/// What one member wants changed.
#[derive(Debug)]
pub(super) struct Wanted {
    /// As they are sent.
    pub(super) edits: Vec<Modification>,
    /// It negotiated leading space.
    pub(super) leading_space: bool,
}

/// What the MTA is told of all that the members want changed.
///
/// Verbatim where that does the same: with one member that changes headers, and where headers are
/// only added. Otherwise indices count for the MTA differently than for the member, on Sendmail
/// also without a member's fault (protocol 7.3 rule 7), and the headers' difference is sent.
pub(super) fn net(
    wanted: &[Wanted],
    hold: Option<&Hold>,
    leading_space: bool,
    recipients: Option<&[Recipient]>,
) -> Result<Vec<Modification>, PlanError> {
    let mut net = Vec::new();
    let counted = || wanted.iter().any(|list| list.edits.iter().any(counts));
    let plans = !changes_headers_once(wanted) && counted();
    match hold.filter(|_| plans) {
        Some(hold) => net.extend(hold.plan()?),
        None => {
            for list in wanted {
                for edit in list.edits.iter().filter(|edit| is_of_header(edit)) {
                    net.push(if leading_space && !list.leading_space {
                        spaced(edit)?
                    } else {
                        edit.clone()
                    });
                }
            }
        }
    }
    let lists = || wanted.iter().map(|list| &list.edits);
    let last = |is: fn(&Modification) -> bool| {
        let edits = lists().rev().flat_map(|edits| edits.iter().rev());
        edits.clone().find(|edit| is(edit)).cloned()
    };
    net.extend(last(is_sender));
    net.extend(net_recipients(lists().flatten(), recipients));
    // Only the body of the last one that has a new one: Postfix would refuse a second run, Sendmail
    // append it (protocol 7.3 rule 8).
    let body = lists().rev().find(|edits| edits.iter().any(is_body));
    net.extend(
        body.into_iter()
            .flatten()
            .filter(|edit| is_body(edit))
            .cloned(),
    );
    net.extend(last(is_quarantine));
    Ok(net)
}

/// Whether one member changes headers at most.
pub(super) fn changes_headers_once(wanted: &[Wanted]) -> bool {
    let with_headers = wanted
        .iter()
        .filter(|list| list.edits.iter().any(is_of_header));
    with_headers.count() <= 1
}

/// The additions and deletions of recipients that are left.
// Both MTAs keep one list for all filters, so that their order stays as it is. What was added and
// deleted again need not be told, if it is known that it was not there before.
fn net_recipients<'e>(
    edits: impl Iterator<Item = &'e Modification>,
    known: Option<&[Recipient]>,
) -> Vec<Modification> {
    let mut net: Vec<Option<&Modification>> = Vec::new();
    let mut added: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
    for edit in edits {
        match edit.kind() {
            ModificationKind::AddRecipient { address }
            | ModificationKind::AddRecipientWithArgs { address, .. } => {
                added
                    .entry(address.as_bytes().to_vec())
                    .or_default()
                    .push(net.len());
                net.push(Some(edit));
            }
            ModificationKind::DeleteRecipient { address } => {
                let undone = added.remove(address.as_bytes()).unwrap_or_default();
                let was_there = known.is_none_or(|known| {
                    let mailbox = bare(address.as_bytes());
                    known
                        .iter()
                        .any(|one| one.mailbox().eq_ignore_ascii_case(mailbox))
                });
                if undone.is_empty() || was_there {
                    net.push(Some(edit));
                } else {
                    for at in undone {
                        net[at] = None;
                    }
                }
            }
            _ => {}
        }
    }
    net.into_iter().flatten().cloned().collect()
}

fn bare(address: &[u8]) -> &[u8] {
    let inner = address
        .strip_prefix(b"<")
        .and_then(|rest| rest.strip_suffix(b">"));
    inner.unwrap_or(address)
}

/// Whether headers can be written anew as a member wants them: those of a filter in another process
/// are taken as they came.
pub(super) fn check_headers(edits: &[Modification]) -> Result<(), ModificationError> {
    edits.iter().try_for_each(|edit| spaced(edit).map(drop))
}

/// Whether it has ESMTP arguments.
pub(super) fn has_args(edit: &Modification) -> bool {
    matches!(
        edit.kind(),
        ModificationKind::ChangeSender { args: Some(_), .. }
            | ModificationKind::AddRecipientWithArgs { args: Some(_), .. }
    )
}

fn is_of_header(edit: &Modification) -> bool {
    counts(edit)
        || matches!(
            edit.kind(),
            ModificationKind::AddHeader { .. } | ModificationKind::InsertHeader { .. }
        )
}

/// Whether the edit counts headers of its name.
fn counts(edit: &Modification) -> bool {
    matches!(
        edit.kind(),
        ModificationKind::ChangeHeader { .. } | ModificationKind::DeleteHeader { .. }
    )
}

/// Whether it changes the envelope.
pub(super) fn is_of_envelope(edit: &Modification) -> bool {
    is_sender(edit)
        || matches!(
            edit.kind(),
            ModificationKind::AddRecipient { .. }
                | ModificationKind::AddRecipientWithArgs { .. }
                | ModificationKind::DeleteRecipient { .. }
        )
}

fn is_sender(edit: &Modification) -> bool {
    matches!(edit.kind(), ModificationKind::ChangeSender { .. })
}

fn is_body(edit: &Modification) -> bool {
    matches!(edit.kind(), ModificationKind::ReplaceBody { .. })
}

pub(super) fn is_quarantine(edit: &Modification) -> bool {
    matches!(edit.kind(), ModificationKind::Quarantine { .. })
}
