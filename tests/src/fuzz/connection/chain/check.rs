//! What a chain says, and what passes.

use milter_core::{Command, Modification, ModificationKind, Reply, Stage, Verdict};

use super::super::trace::Entry;
use super::spy::{Answer, Kind, Seen, What};

/// A chain never breaks, fails only where a call of it was dropped before, and says what its
/// stage and its agreement allow.
pub(super) fn chains_answer_legally(seen: &[Seen]) {
    let mut dropped = Vec::new();
    for one in seen {
        if !matches!(one.kind, Kind::Root | Kind::Chain) {
            continue;
        }
        match &one.what {
            What::NotReady | What::Unready | What::Panicked(_) => panic!("a chain breaks: {one}"),
            What::Dropped => dropped.push((one.service, one.instance)),
            What::Failed(_) => {
                let had = dropped.contains(&(one.service, one.instance));
                assert!(had, "a chain fails by itself: {one}");
            }
            What::Answered(stage, answer) => is_legal(*stage, answer),
            What::Called(..) => {}
        }
    }
}

fn is_legal(stage: Option<Stage>, answer: &Answer) {
    let response = &answer.response;
    assert!(
        !response.is_refused() && response.edit_error().is_none(),
        "{response:?}"
    );
    let verdict = response.verdict();
    let Some(stage) = stage else {
        // The negotiation and the ends.
        assert!(
            *verdict == Verdict::Continue && response.edits().is_empty(),
            "{response:?}"
        );
        return;
    };
    assert!(answer.is_allowed(stage), "{response:?} at {stage}");
    let passes = matches!(verdict, Verdict::Continue | Verdict::Accept);
    assert!(
        response.edits().is_empty() || passes,
        "edits and {verdict:?}"
    );
}

/// A message at which a member failed is refused or dropped, or held back.
pub(super) fn failures_do_not_pass(seen: &[Seen], entries: &[Entry]) {
    for one in seen {
        let stage = match &one.what {
            What::Failed(Some(stage)) | What::Panicked(Some(stage)) => *stage,
            _ => continue,
        };
        // Of a recipient or DATA it is about that only.
        let of_message = stage.is_of_message() && !matches!(stage, Stage::Rcpt | Stage::Data);
        if one.kind == Kind::Leaf && of_message {
            does_not_pass(one, entries);
        }
    }
}

fn does_not_pass(failed: &Seen, entries: &[Entry]) {
    let (before, later) = entries.split_at(failed.at);
    let mut asked = before.iter().rev().find_map(stage_of);
    let mut is_held = false;
    for entry in later {
        match entry {
            Entry::Sent(command) if !is_of_content(command) => return,
            Entry::Sent(_) => asked = stage_of(entry).or(asked),
            Entry::Got(Reply::Modify(edit)) => is_held |= is_quarantine(edit),
            Entry::Got(reply) if reply.is_final() => {
                let at_end = asked == Some(Stage::EndOfMessage);
                let passes = *reply == Reply::Accept || at_end && *reply == Reply::Continue;
                assert!(!passes || is_held, "{reply:?} at {asked:?} after {failed}");
                // A recipient or DATA that is refused leaves it open.
                let is_open = matches!(asked, Some(Stage::Rcpt | Stage::Data | Stage::Unknown));
                if at_end || !is_open && !matches!(reply, Reply::Continue | Reply::Skip) {
                    return;
                }
            }
            _ => {}
        }
    }
}

fn stage_of(entry: &Entry) -> Option<Stage> {
    match entry {
        Entry::Sent(command) => command.stage(),
        _ => None,
    }
}

fn is_quarantine(edit: &Modification) -> bool {
    matches!(edit.kind(), ModificationKind::Quarantine { .. })
}

/// Whether it leaves a message as it is: neither begins nor ends one.
fn is_of_content(command: &Command) -> bool {
    match command {
        Command::Macros(_) => true,
        Command::Mail(_) => false,
        other => other
            .stage()
            .is_some_and(|stage| stage.is_of_message() || stage == Stage::Unknown),
    }
}
