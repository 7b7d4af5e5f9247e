//! What each clone of the filter must have seen of a connection that is over.

use std::collections::BTreeMap;

use super::trace::{Effect, Entry};

/// What a clone saw.
#[derive(Debug, Default)]
struct Seen {
    /// Events, and whether they broke the clone; none if it broke before it was called.
    calls: Vec<(Option<&'static str>, bool)>,
    /// It was not ready for a while, and may have missed something.
    missed: bool,
}

/// Each clone sees a session in its order, and all of it.
pub(super) fn clones(entries: &[Entry]) {
    let mut clones: BTreeMap<usize, Seen> = BTreeMap::new();
    for entry in entries {
        match entry {
            Entry::Called {
                clone,
                event,
                effect,
                ..
            } => {
                let seen = clones.entry(*clone).or_default();
                seen.calls.push((Some(event), *effect == Effect::Breaks));
            }
            Entry::NeverReady { clone } => {
                clones.entry(*clone).or_default().calls.push((None, true));
            }
            Entry::NotReady { clone } => clones.entry(*clone).or_default().missed = true,
            _ => {}
        }
    }
    assert!(!clones.contains_key(&0), "the prototype was called");
    for (id, Seen { calls, missed }) in clones {
        let broken = calls.iter().position(|(_, breaks)| *breaks);
        let after = broken.map_or(0, |at| calls.len() - at - 1);
        assert_eq!(after, 0, "[{id}] was called after it broke: {calls:?}");
        let close = calls.iter().position(|(event, _)| *event == Some("close"));
        assert!(
            close.is_none_or(|at| at + 1 == calls.len()),
            "[{id}] {calls:?}"
        );
        // One that missed an end sees nothing more.
        let ended = close.is_some() || broken.is_some() || missed;
        assert!(ended, "[{id}] no close: {calls:?}");
        order(id, &calls, missed);
    }
}

fn order(id: usize, calls: &[(Option<&'static str>, bool)], missed: bool) {
    let mut in_message = false;
    for (at, (event, _)) in calls.iter().enumerate() {
        let Some(event) = *event else { continue };
        // One that missed the negotiation is told of ends only.
        let first = event == "negotiate" || missed && ["session end", "close"].contains(&event);
        assert!(first || at > 0, "[{id}] {calls:?}");
        assert!(event != "negotiate" || at == 0, "[{id}] {calls:?}");
        match event {
            "close" | "session end" | "connect" | "helo" => {
                assert!(!in_message, "[{id}] {event} in a message: {calls:?}");
            }
            "negotiate" | "unknown command" => {}
            end if end.starts_with("end: ") => {
                assert!(in_message, "[{id}] an end without a message: {calls:?}");
                in_message = false;
            }
            "mail" => {
                assert!(!in_message, "[{id}] MAIL in a message: {calls:?}");
                in_message = true;
            }
            _ => in_message = true,
        }
    }
}
