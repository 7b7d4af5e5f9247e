//! What a chain says, and what passes.

use milter_core::{Modification, ModificationKind, Stage, Verdict};

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
pub(super) fn failures_do_not_pass(seen: &[Seen]) {
    for (at, one) in seen.iter().enumerate() {
        let stage = match &one.what {
            What::Failed(Some(stage)) | What::Panicked(Some(stage)) => *stage,
            _ => continue,
        };
        if one.kind == Kind::Leaf && stage.is_of_message() && !is_only_of_that(seen, at, stage) {
            let mut later = seen[at..].iter().filter(|one| one.kind == Kind::Root);
            let mut is_held = false;
            let end = later.find_map(|one| match &one.what {
                What::Called(event, None) => Some(*event),
                What::Answered(_, answer) => {
                    is_held |= answer.response.edits().iter().any(is_quarantine);
                    None
                }
                _ => None,
            });
            assert!(is_held || end != Some("end: accept"), "{one} and passes");
        }
    }
}

/// Whether a recipient or DATA was refused for it, which leaves the message open.
fn is_only_of_that(seen: &[Seen], at: usize, stage: Stage) -> bool {
    let mut later = seen[at..].iter().filter(|one| one.kind == Kind::Root);
    matches!(stage, Stage::Rcpt | Stage::Data)
        && later.next().is_some_and(|one| match &one.what {
            What::Answered(_, answer) => answer.response.verdict().is_refusal(),
            // The server answers for it.
            What::Dropped => true,
            _ => false,
        })
}

fn is_quarantine(edit: &Modification) -> bool {
    matches!(edit.kind(), ModificationKind::Quarantine { .. })
}
