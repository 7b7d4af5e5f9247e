//! What each instance of a service must have seen of a connection that is over.

use std::collections::{BTreeMap, BTreeSet};

use milter_core::{Stage, Verdict};

use super::spy::{Kind, Seen, What};

/// Each sees a session in its order, and all of it.
pub(super) fn keep_to_the_order(seen: &[Seen]) {
    let mut instances: BTreeMap<(usize, usize), Vec<&Seen>> = BTreeMap::new();
    for one in seen {
        let key = (one.service, one.instance);
        instances.entry(key).or_default().push(one);
    }
    // What is in a service that is of no use any more need not hear of its end.
    let mut gone: BTreeSet<usize> = BTreeSet::new();
    for ((service, instance), seen) in &instances {
        assert!(*instance > 0, "the prototype of {service} was called");
        let around = seen.first().and_then(|one| one.around);
        let mut state = Instance {
            is_excused: around.is_some_and(|around| gone.contains(&around)),
            ..Instance::default()
        };
        for one in seen {
            state.see(one, seen);
        }
        let is_over = state.closed || state.broken || state.missed();
        assert!(is_over || state.is_excused, "no close: {}", Shown(seen));
        if !state.closed {
            gone.insert(*service);
        }
    }
}

/// What is known of an instance.
#[derive(Debug, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each tells of another thing, and any of them may be true"
)]
struct Instance {
    /// It was asked whether it is ready, and was not called since.
    waits: bool,
    /// It was not ready, and was not called then: it may have missed something.
    missed: bool,
    called: bool,
    in_message: bool,
    /// It said the last word on the message.
    decided: bool,
    /// It accepted the client, and is out until the session ends.
    out: bool,
    broken: bool,
    closed: bool,
    /// The service around it was of no use any more.
    is_excused: bool,
}

impl Instance {
    fn missed(&self) -> bool {
        self.missed || self.waits
    }

    fn see(&mut self, one: &Seen, all: &[&Seen]) {
        match &one.what {
            What::NotReady => {
                // Asked again after it was given up.
                self.waits = true;
            }
            What::Unready | What::Panicked(_) => self.broken = true,
            What::Called(event, stage) => {
                let wrong = self.call(event, *stage, one.kind);
                assert!(
                    wrong.is_none(),
                    "{event}: {}: {}",
                    wrong.unwrap_or(""),
                    Shown(all)
                );
            }
            What::Answered(Some(stage), answer) => {
                let is_final = answer.counts && answer.is_due(*stage) && answer.is_allowed(*stage);
                self.answer(*stage, answer.response.verdict(), is_final);
            }
            What::Answered(None, _) | What::Failed(_) | What::Dropped => {}
        }
    }

    /// What is wrong with a call.
    fn call(&mut self, event: &str, stage: Option<Stage>, kind: Kind) -> Option<&'static str> {
        let is_end = event.starts_with("end: ");
        let is_last = matches!(event, "session end" | "close");
        if self.broken {
            return Some("called after it broke");
        }
        if self.closed {
            return Some("called after its close");
        }
        if (event == "negotiate") == self.called && !(self.missed() && is_last) {
            return Some("the negotiation comes first, and once");
        }
        self.called = true;
        self.waits = false;
        if is_last || matches!(event, "connect" | "helo" | "mail") {
            if self.in_message {
                return Some("in a message");
            }
            self.out &= !is_last;
        }
        if is_end {
            if !self.in_message {
                return Some("no message has begun");
            }
            self.in_message = false;
            self.decided = false;
            return None;
        }
        self.closed = event == "close";
        let stage = stage?;
        // The server asks about an unknown command whatever was said of the message.
        let is_asked = kind == Kind::Root && !stage.is_of_message();
        if self.decided && !is_asked || self.out && kind != Kind::Root {
            return Some("it has said its last word");
        }
        self.in_message |= stage.is_of_message();
        None
    }

    fn answer(&mut self, stage: Stage, verdict: &Verdict, is_final: bool) {
        let session = matches!(stage, Stage::Connect | Stage::Helo);
        self.decided |= is_final && verdict.ends_message_at(stage);
        self.out |= is_final && session && *verdict == Verdict::Accept;
    }
}

struct Shown<'a>(&'a [&'a Seen]);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|one| write!(f, "\n  {one}"))
    }
}
