//! Changes to a message's recipients.

use std::collections::{BTreeMap, HashMap};

use milter_core::{Modification, Recipient, mailbox_key};

/// Which of the recipients that came are taken out, and which others are added.
///
/// All are found by their [key](mailbox_key): a message may have ten thousand, and a handler may
/// change each of them.
#[derive(Debug, Default)]
pub(super) struct Recipients {
    /// The places of those that came, once they were looked for.
    places: Option<HashMap<String, Vec<usize>>>,
    /// For each that came, whether it is taken out; empty if none is.
    is_removed: Vec<bool>,
    /// Those that were added, by when they were.
    added: BTreeMap<usize, (Recipient, Modification)>,
    added_at: HashMap<String, usize>,
}

impl Recipients {
    /// Those that are left of those that came, and those that were added.
    pub(super) fn iter<'a>(&'a self, came: &'a [Recipient]) -> impl Iterator<Item = &'a Recipient> {
        let left = came.iter().enumerate();
        left.filter(|(place, _)| !self.is_removed(*place))
            .map(|(_, recipient)| recipient)
            .chain(self.added.values().map(|(recipient, _)| recipient))
    }

    /// Those that came and are taken out.
    pub(super) fn removed<'a>(
        &'a self,
        came: &'a [Recipient],
    ) -> impl Iterator<Item = &'a Recipient> {
        let all = came.iter().zip(&self.is_removed);
        all.filter_map(|(recipient, is_removed)| is_removed.then_some(recipient))
    }

    /// What adds those that were added.
    pub(super) fn into_added(self) -> impl Iterator<Item = Modification> {
        self.added.into_values().map(|(_, edit)| edit)
    }

    pub(super) fn has(&mut self, came: &[Recipient], key: &str) -> bool {
        if self.added_at.contains_key(key) {
            return true;
        }
        let marks = &self.is_removed;
        let places = self.places.get_or_insert_with(|| places(came));
        let mut there = places.get(key).into_iter().flatten();
        there.any(|place| !marks.get(*place).copied().unwrap_or(false))
    }

    /// Adds one that is not there.
    pub(super) fn add(&mut self, key: String, recipient: Recipient, edit: Modification) {
        let at = self.added.last_key_value().map_or(0, |(last, _)| last + 1);
        self.added.insert(at, (recipient, edit));
        self.added_at.insert(key, at);
    }

    /// Leaves all of this address that were taken out where they were. Whether there is one now.
    pub(super) fn put_back(&mut self, came: &[Recipient], key: &str) -> bool {
        self.mark(came, key, false);
        self.has(came, key)
    }

    /// Takes out all of this address. Whether there was one.
    pub(super) fn remove(&mut self, came: &[Recipient], key: &str) -> bool {
        let added = self.added_at.remove(key);
        let was_added = added.and_then(|at| self.added.remove(&at)).is_some();
        self.mark(came, key, true) || was_added
    }

    /// Whether that changed anything.
    fn mark(&mut self, came: &[Recipient], key: &str, is_removed: bool) -> bool {
        self.is_removed.resize(came.len(), false);
        let marks = &mut self.is_removed;
        let places = self.places.get_or_insert_with(|| places(came));
        let mut is_changed = false;
        for place in places.get(key).into_iter().flatten() {
            if let Some(mark) = marks.get_mut(*place) {
                is_changed |= *mark != is_removed;
                *mark = is_removed;
            }
        }
        is_changed
    }

    fn is_removed(&self, place: usize) -> bool {
        self.is_removed.get(place).copied().unwrap_or(false)
    }
}

fn places(came: &[Recipient]) -> HashMap<String, Vec<usize>> {
    let mut places: HashMap<String, Vec<usize>> = HashMap::new();
    for (place, recipient) in came.iter().enumerate() {
        let key = mailbox_key(recipient.address());
        places.entry(key).or_default().push(place);
    }
    places
}
