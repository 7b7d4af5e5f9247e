//! The words by which layers speak of events, verdicts and modifications.

#[cfg(any(feature = "log", feature = "metrics"))]
use milter_tower::ModificationKind;
use milter_tower::{Event, Outcome, Verdict};

/// What happened, in a word or two.
pub(crate) const fn event(event: &Event) -> &'static str {
    match (event.stage(), event) {
        (Some(stage), _) => stage.name(),
        (None, Event::Negotiate(_)) => "negotiate",
        (None, Event::MessageEnd(_)) => "message end",
        (None, Event::SessionEnd) => "session end",
        (None, _) => "close",
    }
}

/// How a message ended: that of a verdict is its own.
pub(crate) fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        // To go on with a message at its end is to accept it.
        Outcome::Verdict(Verdict::Continue | Verdict::Skip) => Verdict::Accept.name(),
        Outcome::Verdict(verdict) => verdict.name(),
        Outcome::Aborted => "aborted",
        _ => "lost",
    }
}

/// The kinds of modifications, for counts of each.
#[cfg(any(feature = "log", feature = "metrics"))]
pub(crate) const EDITS: [&str; 9] = [
    "add_header",
    "insert_header",
    "change_header",
    "delete_header",
    "replace_body",
    "change_sender",
    "add_recipient",
    "delete_recipient",
    "quarantine",
];

/// The place of a modification among [`EDITS`]; none for what this does not know.
#[cfg(any(feature = "log", feature = "metrics"))]
pub(crate) const fn edit(kind: &ModificationKind<'_>) -> Option<usize> {
    Some(match kind {
        ModificationKind::AddHeader { .. } => 0,
        ModificationKind::InsertHeader { .. } => 1,
        ModificationKind::ChangeHeader { .. } => 2,
        ModificationKind::DeleteHeader { .. } => 3,
        ModificationKind::ReplaceBody { .. } => 4,
        ModificationKind::ChangeSender { .. } => 5,
        ModificationKind::AddRecipient { .. } | ModificationKind::AddRecipientWithArgs { .. } => 6,
        ModificationKind::DeleteRecipient { .. } => 7,
        ModificationKind::Quarantine { .. } => 8,
        _ => return None,
    })
}
