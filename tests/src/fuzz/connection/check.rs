//! What must hold of a connection whose commands waited for their replies.

use milter_core::{Agreement, Command, Modification, Reply, Stage, Verdict};
use milter_tower::Response;

use super::trace::{Effect, Entry};

/// A command, and what happened until the next one.
struct Turn<'a> {
    command: &'a Command,
    /// What came of what the filter was asked about the command itself.
    effects: Vec<(Stage, &'a Effect)>,
    replies: Vec<&'a Reply>,
}

fn turns(entries: &[Entry]) -> Vec<Turn<'_>> {
    let mut turns: Vec<Turn<'_>> = Vec::new();
    for entry in entries {
        match (entry, turns.last_mut()) {
            (Entry::Sent(command), _) => turns.push(Turn {
                command,
                effects: Vec::new(),
                replies: Vec::new(),
            }),
            (
                Entry::Called {
                    stage: Some(stage),
                    effect,
                    ..
                },
                Some(turn),
            ) => turn.effects.push((*stage, effect)),
            // What it was asked before that was not about the command, or is over.
            (Entry::NotReady { .. } | Entry::NeverReady { .. }, Some(turn)) => turn.effects.clear(),
            (Entry::Got(reply), Some(turn)) => turn.replies.push(reply),
            _ => {}
        }
    }
    turns
}

/// What the filter says is what the mail server is told, if it may be, and what it does not say
/// is not.
pub(super) fn verdicts(entries: &[Entry], agreement: &Agreement, failure: &Verdict) {
    for turn in turns(entries) {
        let Some(stage) = turn.command.stage() else {
            continue;
        };
        // None where the filter was not asked, or only a clone was shown what was before.
        let Some((of, effect)) = turn.effects.last() else {
            continue;
        };
        let Some((last, edits)) = turn.replies.split_last() else {
            continue;
        };
        if *of != stage || !last.is_final() {
            continue;
        }
        let (verdict, said) = match effect {
            Effect::Says(response) => {
                told(response, stage, agreement).unwrap_or((failure.clone(), Vec::new()))
            }
            Effect::Fails | Effect::Breaks => (failure.clone(), Vec::new()),
            Effect::SaysLate | Effect::Refuses => continue,
        };
        let got: Vec<&Modification> = edits
            .iter()
            .filter_map(|reply| match reply {
                Reply::Modify(edit) => Some(edit),
                _ => None,
            })
            .collect();
        assert_eq!(**last, verdict.to_reply(), "{stage}: {effect:?}");
        assert_eq!(got, said.iter().collect::<Vec<_>>(), "{effect:?}");
    }
}

/// What a response becomes; none if it is not allowed.
fn told(
    response: &Response,
    stage: Stage,
    agreement: &Agreement,
) -> Option<(Verdict, Vec<Modification>)> {
    use milter_core::ReplyMode;

    let verdict = response.verdict().clone();
    if verdict.check(stage, agreement).is_err() {
        let ignored = agreement.reply_mode(stage) != ReplyMode::Verdict;
        return ignored.then_some((Verdict::Continue, Vec::new()));
    }
    let edits = response.edits();
    let allowed = (edits.is_empty() || stage == Stage::EndOfMessage)
        && edits.iter().all(|edit| agreement.permits(edit).is_ok());
    if !allowed {
        return None;
    }
    if !matches!(verdict, Verdict::Continue | Verdict::Accept) {
        return Some((verdict, Vec::new()));
    }
    let ordered = Modification::order(edits.to_vec());
    let sent = ordered.into_iter().flat_map(|edit| {
        use milter_core::ModificationKind::ReplaceBody;
        match edit.kind() {
            ReplaceBody { body } => Modification::body_chunks(body)
                .map(Modification::replace_body)
                .collect(),
            _ => vec![edit],
        }
    });
    Some((verdict, sent.collect()))
}

/// A message at which the filter failed does not pass, and the filter is told.
pub(super) fn failures(entries: &[Entry], agreement: &Agreement) {
    use milter_core::ReplyMode;

    for (at, entry) in entries.iter().enumerate() {
        let Entry::Called {
            clone,
            stage: Some(stage),
            effect,
            ..
        } = entry
        else {
            continue;
        };
        // A failure there is about the recipient or the command only, if the mail server hears
        // of it.
        let harmless = matches!(stage, Stage::Rcpt | Stage::Data)
            && agreement.reply_mode(*stage) != ReplyMode::Silent;
        let later = &entries[at + 1..];
        match effect {
            _ if !stage.is_of_message() => {}
            Effect::Breaks => does_not_pass(entry, later),
            Effect::Fails if !harmless => is_told(entry, *clone, later),
            _ => {}
        }
    }
}

/// Until a fresh clone is asked, no message passes.
fn does_not_pass(failed: &Entry, later: &[Entry]) {
    let mut at_end = false;
    for entry in later {
        match entry {
            Entry::Called {
                event: "negotiate", ..
            } => return,
            Entry::Sent(command) => at_end = matches!(command, Command::EndOfMessage(_)),
            Entry::Got(reply @ (Reply::Continue | Reply::Accept)) if at_end => {
                panic!("{reply:?} after {failed:?}")
            }
            _ => {}
        }
    }
}

/// The next that the clone sees of the message is its end, and that it did not pass.
fn is_told(failed: &Entry, of: usize, later: &[Entry]) {
    let next = later.iter().find_map(|entry| match entry {
        Entry::Called { clone, event, .. } if *clone == of && *event != "unknown command" => {
            Some(*event)
        }
        _ => None,
    });
    let ends = ["end: tempfail", "end: reject", "end: aborted", "end: lost"];
    assert!(
        next.is_none_or(|next| ends.contains(&next)),
        "after {failed:?}: {next:?}"
    );
}
