//! What went to and fro, in order.

use std::fmt;
use std::sync::{Arc, Mutex};

use milter_tower::{Stage, Steps};

use crate::script::Effect;

#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// What the filter needs.
    Needs(String),
    /// What was agreed.
    Agreed(Steps),
    /// The mail server sent a command, to which a reply is due or not.
    Sent { command: u8, due: bool },
    /// The mail server was told that work goes on.
    Progress,
    /// It got its reply to a command, after so many modifications.
    Answered {
        command: u8,
        reply: u8,
        edits: usize,
    },
    /// The filter was called.
    Called {
        clone: usize,
        event: String,
        stage: Option<Stage>,
        act: String,
        effect: Effect,
    },
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Needs(needs) => write!(f, "{needs}"),
            Self::Agreed(steps) => write!(f, "agreed {steps:?}"),
            Self::Sent { command, due: true } => write!(f, "> {}", char::from(*command)),
            Self::Sent { command, .. } => write!(f, "> {} (no reply)", char::from(*command)),
            Self::Progress => f.write_str("< p"),
            Self::Answered {
                command,
                reply,
                edits,
            } => {
                let (command, reply) = (char::from(*command), char::from(*reply));
                write!(f, "< {reply} to {command}, {edits} modifications")
            }
            Self::Called {
                clone,
                event,
                act,
                effect,
                ..
            } => write!(f, "    [{clone}] {event}: {act} ({effect:?})"),
        }
    }
}

/// All entries of a connection; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Vec<Entry>>>);

impl Trace {
    pub(crate) fn add(&self, entry: Entry) {
        self.0.lock().unwrap().push(entry);
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap().clone()
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries();
        entries.iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}
