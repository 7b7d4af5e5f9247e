//! The list of headers, in which the MTAs count differently.

use bytes::Bytes;

use super::{Edited, Profile};
use crate::{Header, Text};

/// The headers of a mail.
#[derive(Clone, Debug)]
pub(super) struct Headers {
    slots: Vec<Slot>,
    /// The names of Sendmail's defaults.
    defaults: Vec<Bytes>,
    /// Whether a deleted header leaves its place: Postfix.
    forgets: bool,
    /// Whether headers that Sendmail has for mail that is sent again are delivered: the client
    /// sent some.
    resent: bool,
    /// How many headers the mail came with.
    came_with: usize,
}

/// A place in the list.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "they are Sendmail's flags, and any set of them may be true"
)]
struct Slot {
    header: Header,
    /// It has a value: otherwise it was deleted, or is one of Sendmail's defaults.
    has_value: bool,
    /// Counted for changes (`sendmail.h H_USER`).
    counts: bool,
    /// The MTA's own `Received` (`sendmail.h H_TRACE`).
    own: bool,
    /// One of the configuration's (`sendmail.h H_DEFAULT`).
    default: bool,
    /// Its place among those that the mail came with.
    origin: Option<usize>,
}

impl Slot {
    /// One of Sendmail's defaults that the MTA did not fill itself.
    fn is_hidden_default(&self) -> bool {
        self.default && !self.has_value && !self.own
    }

    fn is_named(&self, name: Text<'_>) -> bool {
        self.header.name().eq_ignore_ascii_case(name.as_bytes())
    }
}

impl Headers {
    pub(super) fn new(profile: &Profile) -> Self {
        let defaults = profile.defaults().iter().map(|name| {
            let own = name.eq_ignore_ascii_case(b"received");
            Slot {
                header: Header::new(name.clone(), ""),
                has_value: false,
                counts: false,
                own,
                default: true,
                origin: None,
            }
        });
        let mut slots: Vec<Slot> = defaults.collect();
        if profile.is_postfix() {
            slots.push(Slot {
                header: Header::new("Received", ""),
                has_value: false,
                counts: false,
                own: true,
                default: true,
                origin: None,
            });
        }
        Self {
            slots,
            defaults: profile.defaults().to_vec(),
            forgets: profile.is_postfix(),
            resent: false,
            came_with: 0,
        }
    }

    pub(super) fn set_received(&mut self, header: Header) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.own) {
            slot.header = header;
            slot.has_value = true;
        }
    }

    pub(super) fn push(&mut self, header: Header) {
        self.resent |= is_resent(header.name());
        let origin = Some(self.came_with);
        self.came_with += 1;
        self.slots.push(Slot {
            origin,
            ..Slot::of_the_mail(header)
        });
    }

    pub(super) fn delivered(&self) -> impl Iterator<Item = &Header> {
        self.slots
            .iter()
            .filter(|slot| slot.has_value && !self.holds_back(slot.header.name()))
            .map(|slot| &slot.header)
    }

    /// Whether headers of that name are not delivered.
    // sendmail/headers.c putheader: one of its own that begins with Resent- (H_RESENT) only goes
    // out if the mail came with such (EF_RESENT)
    fn holds_back(&self, name: Text<'_>) -> bool {
        !self.forgets && !self.resent && is_resent(name) && self.is_default(name)
    }

    fn is_default(&self, name: Text<'_>) -> bool {
        let mut names = self.defaults.iter();
        names.any(|default| default.eq_ignore_ascii_case(name.as_bytes()))
    }

    // sendmail/milter.c milter_headers, Postfix milter8.c milter8_header: without leading space one
    // space is left out
    pub(super) fn shown(&self, leading_space: bool) -> impl Iterator<Item = Header> {
        let shown = self
            .slots
            .iter()
            .filter(|slot| slot.has_value && slot.counts);
        shown.map(move |slot| {
            let value = slot.header.value_bytes();
            if leading_space || value.first() != Some(&b' ') {
                slot.header.clone()
            } else {
                Header::new(slot.header.name_bytes(), value.slice(1..))
            }
        })
    }

    /// Those that a filter is shown, as a planner wants them.
    pub(super) fn edited(&self) -> impl Iterator<Item = Edited<'_>> {
        let own = self.slots.iter().position(|slot| slot.own).unwrap_or(0);
        let shown = self.slots.iter().enumerate();
        let shown = shown.filter(|(_, slot)| slot.has_value && slot.counts);
        shown.map(move |(at, slot)| match slot.origin {
            Some(place) => Edited::shown(place, &slot.header),
            None if at < own => Edited::added_on_top(&slot.header),
            None => Edited::added(&slot.header),
        })
    }

    /// `SMFIR_ADDHEADER`.
    // sendmail/headers.c addheader: in the place of a default, else before the first of that name,
    // also one without a value; Postfix cleanup_milter.c cleanup_add_header: at the end (Q16)
    pub(super) fn add(&mut self, name: Text<'_>, value: Bytes) {
        let added = Slot::named(name, value);
        let mut named = self.slots.iter_mut().filter(|slot| slot.is_named(name));
        if let Some(default) = named.find(|slot| slot.is_hidden_default()) {
            *default = added;
            return;
        }
        let first = self.slots.iter().position(|slot| slot.is_named(name));
        let at = first.filter(|_| !self.forgets).unwrap_or(self.slots.len());
        self.slots.insert(at, added);
    }

    /// `SMFIR_INSHEADER`.
    // sendmail/headers.c insheader: behind the element of that index; Postfix cleanup_milter.c
    // cleanup_ins_header: before the header of that index (Q16)
    pub(super) fn insert(&mut self, index: u32, name: Text<'_>, value: Bytes) {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let index = index.saturating_add(usize::from(!self.forgets));
        let at = index.min(self.slots.len());
        self.slots.insert(at, Slot::named(name, value));
    }

    /// `SMFIR_CHGHEADER` with a value.
    // sendmail/milter.c milter_changeheader: keeps the name as it is, Postfix cleanup_milter.c
    // cleanup_upd_header: takes the new one; both add what is not there
    pub(super) fn change(&mut self, name: Text<'_>, index: u32, value: Bytes) {
        let Some(at) = self.find(name, index) else {
            self.add(name, value);
            return;
        };
        let slot = &mut self.slots[at];
        let name = if self.forgets {
            Bytes::copy_from_slice(name.as_bytes())
        } else {
            slot.header.name_bytes()
        };
        slot.header = Header::new(name, value);
        slot.has_value = true;
        slot.counts = true;
        slot.default = false;
    }

    /// `SMFIR_CHGHEADER` without a value.
    pub(super) fn delete(&mut self, name: Text<'_>, index: u32) {
        let Some(at) = self.find(name, index) else {
            return;
        };
        if self.forgets {
            self.slots.remove(at);
        } else {
            self.slots[at].has_value = false;
        }
    }

    /// The header of that name and index.
    // sendmail/milter.c milter_changeheader: one without a value counts if it was the mail's; if
    // there are too few, the last of the others is meant, but for the own Received
    fn find(&self, name: Text<'_>, index: u32) -> Option<usize> {
        let wanted = index.max(1);
        let mut seen = 0;
        let mut other = None;
        for (at, slot) in self.slots.iter().enumerate() {
            if !slot.is_named(name) {
                continue;
            }
            if slot.counts {
                seen += 1;
                if seen == wanted {
                    return Some(at);
                }
            } else if !slot.own {
                other = Some(at);
            }
        }
        other
    }

    /// A filter is done.
    // sendmail/milter.c milter_headers: what has no value is not counted for the next one
    pub(super) fn end_of_filter(&mut self) {
        for slot in self.slots.iter_mut().filter(|slot| !slot.has_value) {
            slot.counts = false;
        }
    }
}

/// Whether it is one of the headers of mail that is sent again.
pub(super) fn is_resent(name: Text<'_>) -> bool {
    let prefix = name.as_bytes().get(..7);
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"resent-"))
}

impl Slot {
    fn of_the_mail(header: Header) -> Self {
        Self {
            header,
            has_value: true,
            counts: true,
            own: false,
            default: false,
            origin: None,
        }
    }

    fn named(name: Text<'_>, value: Bytes) -> Self {
        Self::of_the_mail(Header::new(Bytes::copy_from_slice(name.as_bytes()), value))
    }
}
