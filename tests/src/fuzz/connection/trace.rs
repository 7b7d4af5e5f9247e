//! What went to and fro, in order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use milter_core::{Command, Reply, Stage};
use milter_tower::Response;

/// What comes of an act of the filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// This answer, which may be one that is not allowed.
    Says(Response),
    /// An answer that may come too late.
    SaysLate,
    /// A failure that the clone survives.
    Fails,
    /// A failure after which the clone is of no use.
    Breaks,
    /// The connection is closed.
    Refuses,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// The mail server sent a command.
    Sent(Command),
    /// It got a reply.
    Got(Reply),
    /// The filter was called.
    Called {
        clone: usize,
        event: &'static str,
        stage: Option<Stage>,
        effect: Effect,
    },
    /// The filter broke before it was called.
    NeverReady { clone: usize },
    /// The filter is not ready for a while, so that it may miss calls.
    NotReady { clone: usize },
}

/// All that happened on a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace(Arc<Mutex<Vec<Entry>>>);

impl Trace {
    pub(super) fn add(&self, entry: Entry) {
        self.lock().push(entry);
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// How the filter's first clone answered the offer, if it did.
    pub(super) fn introduction(&self) -> Option<Effect> {
        self.lock().iter().find_map(|entry| match entry {
            Entry::Called {
                clone: 1,
                event: "negotiate",
                effect,
                ..
            } => Some(effect.clone()),
            _ => None,
        })
    }

    /// Whether the filter refused the connection.
    pub(super) fn is_refused(&self) -> bool {
        self.lock().iter().any(|entry| {
            matches!(
                entry,
                Entry::Called {
                    effect: Effect::Refuses,
                    ..
                }
            )
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
