//! What must hold of a whole connection, once it is over.

use milter_tower::{Stage, Steps};

use crate::script::Effect;
use crate::session::is_silent;
use crate::trace::Entry;

/// A message at which the filter failed does not pass, and the filter is told.
///
/// For connections whose commands wait for their replies: in others a reply comes after calls
/// that have nothing to do with it.
pub(crate) fn failures(entries: &[Entry], agreed: Steps) {
    for (at, entry) in entries.iter().enumerate() {
        let &Entry::Called {
            clone,
            stage: Some(stage),
            effect,
            ..
        } = entry
        else {
            continue;
        };
        // A failure there is about the recipient or the command only, if the MTA hears of it.
        let harmless = matches!(stage, Stage::Rcpt | Stage::Data) && !is_silent(agreed, stage);
        let later = &entries[at + 1..];
        match effect {
            _ if !stage.is_of_message() => {}
            Effect::Breaks => does_not_pass(entry, later),
            Effect::Fails if !harmless => is_told(entry, clone, later),
            Effect::Fails | Effect::Answers => {}
        }
    }
}

/// Until a fresh clone is asked, no message passes.
fn does_not_pass(failed: &Entry, later: &[Entry]) {
    for entry in later {
        match entry {
            Entry::Called { event, .. } if event == "negotiate" => return,
            Entry::Answered {
                command: b'E',
                reply: b'c' | b'a',
                ..
            } => panic!("a message passed after {failed}"),
            _ => {}
        }
    }
}

/// The next that the clone sees of the message is its end, and that it did not pass.
fn is_told(failed: &Entry, of: usize, later: &[Entry]) {
    let next = later.iter().find_map(|entry| match entry {
        Entry::Called { clone, event, .. } if *clone == of && event != "unknown command" => {
            Some(event.as_str())
        }
        _ => None,
    });
    let ends = ["end: tempfail", "end: aborted", "end: lost"];
    assert!(
        next.is_none_or(|next| ends.contains(&next)),
        "after {failed}: {next:?}"
    );
}

/// Each clone sees a session in its order.
pub(crate) fn clones(entries: &[Entry], count: usize) {
    for id in 1..=count {
        let calls = entries.iter().filter_map(|entry| match entry {
            Entry::Called {
                clone,
                event,
                effect,
                ..
            } if *clone == id => Some((event.as_str(), *effect)),
            _ => None,
        });
        order(id, &calls.collect::<Vec<_>>());
    }
}

fn order(id: usize, calls: &[(&str, Effect)]) {
    let mut in_message = false;
    let mut broke = false;
    for (at, &(event, effect)) in calls.iter().enumerate() {
        assert!(!broke, "[{id}] was called after it broke");
        broke = effect == Effect::Breaks;
        assert_eq!(event == "negotiate", at == 0, "[{id}] {event}");
        match event {
            "close" => {
                assert!(!in_message, "[{id}] was closed in a message");
                assert_eq!(at + 1, calls.len(), "[{id}] was called after its close");
            }
            "session end" => assert!(!in_message, "[{id}] the session ended in a message"),
            "negotiate" | "connect" | "helo" | "unknown command" => {}
            end if end.starts_with("end: ") => {
                assert!(in_message, "[{id}] an end without a message");
                in_message = false;
            }
            _ => in_message = true,
        }
    }
    let closed = calls.last().is_some_and(|(event, _)| *event == "close");
    assert!(calls.is_empty() || closed || broke, "[{id}] saw no close");
}
