//! Where in an MTA's list of headers the next one is inserted.

use super::super::profile::Profile;
use super::kept::Kept;

/// A walk down the MTA's list, as it is after the deletes.
///
/// Places are counted from 0 and without the headers that were inserted on the way: all of these
/// stand before the place that the walk has come to.
#[derive(Debug)]
pub(super) struct Slots {
    /// Whether a deleted header leaves its place: Postfix.
    forgets: bool,
    /// How many headers there are that are not shown. They come first.
    hidden: usize,
    /// The place of the own `Received` among them.
    own: Option<usize>,
    /// The place of the first header that stays.
    first: Option<usize>,
    /// The place behind the last header that was passed.
    behind: Option<usize>,
    passed: usize,
    inserted: usize,
}

impl Slots {
    pub(super) fn new(profile: &Profile, kept: &Kept) -> Self {
        let forgets = profile.is_postfix();
        let defaults = profile.defaults();
        let mut slots = Self {
            forgets,
            hidden: defaults.len(),
            own: defaults
                .iter()
                .position(|name| name.eq_ignore_ascii_case(b"received")),
            first: None,
            behind: None,
            passed: 0,
            inserted: 0,
        };
        if forgets {
            slots.hidden = 1;
            slots.own = Some(0);
        }
        slots.first = kept.first_place().map(|place| slots.place(place));
        slots
    }

    /// The place of a header that stays, from its place among those shown.
    fn place(&self, shown: usize) -> usize {
        self.hidden + if self.forgets { self.passed } else { shown }
    }

    /// Walks past a header that stays, the next one of these.
    pub(super) fn pass(&mut self, shown: usize) {
        self.behind = Some(self.place(shown) + 1);
        self.passed += 1;
    }

    /// The index at which to insert the next header: on top, or behind the last that was passed.
    ///
    /// # Errors
    ///
    /// The index of the nearest place, if none means that one.
    // Q16: sendmail/headers.c insheader: behind the header of that index; Postfix cleanup_milter.c
    // cleanup_ins_header: before it
    pub(super) fn next(&mut self, on_top: bool) -> Result<u32, u32> {
        let least = usize::from(!self.forgets);
        let (place, most) = match (self.behind, self.own) {
            (Some(behind), _) => (behind, None),
            (None, own) if on_top => (least, own.or(self.first)),
            (None, Some(own)) => (own + 1, self.first),
            (None, None) => (self.hidden.max(least), self.first),
        };
        let index = place + self.inserted - least;
        self.inserted += 1;
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        if most.is_some_and(|most| place > most) {
            Err(index)
        } else {
            Ok(index)
        }
    }
}
