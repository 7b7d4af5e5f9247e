//! Which modifications make one list of headers of another.

mod kept;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use thiserror::Error;

use self::kept::Kept;
use self::slots::Slots;
use super::headers::is_resent;
use super::profile::{self, Profile};
use crate::modification::header_value;
use crate::{Header, Modification, ModificationError, Text};

/// Plans the modifications that turn the headers that a filter was shown into those it wants.
///
/// ```
/// use milter_core::edit::{Edited, Planner, Profile};
/// use milter_core::{Header, Modification};
///
/// let shown = [Header::new("X-Spam", " 1"), Header::new("Subject", " s"), Header::new("X-Spam", " 2")];
/// let note = Header::new("X-Note", " n");
/// // Without the first, and with one in front of the last.
/// let wanted = [Edited::shown(1, &shown[1]), Edited::added(&note), Edited::shown(2, &shown[2])];
/// let plan = |profile| Planner::new(&profile).plan(&shown, wanted);
/// assert_eq!(
///     plan(Profile::postfix())?,
///     [Modification::delete_header("X-Spam", 1)?, Modification::insert_header(2, "X-Note", "n")?],
/// );
/// assert_eq!(
///     plan(Profile::sendmail())?,
///     [Modification::delete_header("X-Spam", 1)?, Modification::insert_header(10, "X-Note", "n")?],
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The plan is the shortest there is: one modification for each header that has another value, one
/// for each that is gone, one for each that is new. A header that moved, or has another name, is
/// gone and new. The changes come first, then the deletes from the last to the first, then what is
/// new from top to bottom: sent so, or as [`Modification::order`] has them, they do the same.
///
/// Header values are everything behind the colon, both in what was shown and in what is wanted.
/// Where [leading space](Self::leading_space) was not negotiated the MTA left out one space, which
/// has to be put back before.
///
/// # What cannot be had everywhere
///
/// [`Unplaceable`] says what is done with these:
///
/// - A value that does not begin with a space where leading space was not negotiated: the MTA puts
///   one there.
/// - A header that was shown and moves, or changes its name, while its value is not one that
///   [`Modification`] writes (it holds a bare CR, say): it would be mended.
/// - Sendmail: a place on top, if the configuration's first header line is the own `Received`, or
///   before the first header that is shown, if the configuration has no header lines at all
///   (`sendmail/headers.c` `insheader` can only insert behind a header).
/// - Sendmail: a new header that the configuration defines and whose name begins with `Resent-`, in
///   a mail that came without such headers: it is not delivered (`sendmail/headers.c` `putheader`).
///
/// Some things are possible, but in no single modification: Sendmail keeps the name of a header
/// that is changed, and no MTA takes an empty value for a change. There the header is deleted and
/// another one inserted in its place.
///
/// # What is not known
///
/// A filter is not shown the MTA's own `Received`. It is taken to stand directly before the first
/// header that is shown. Where an earlier filter of the same MTA put headers above it, a header
/// that is to stand above those, but was not put [on top](Edited::added_on_top), comes to stand
/// among them. With Sendmail, what an earlier filter deleted keeps its place in the list, and what
/// it added may have filled the place of a default: a header that is inserted behind such places
/// comes to stand too far up by one for each of the former, and too far down by one for each of the
/// latter. What goes on top or to the end is in its place always.
#[derive(Clone, Debug)]
pub struct Planner<'p> {
    profile: &'p Profile,
    leading_space: bool,
    unplaceable: Unplaceable,
}

/// What to do with what an MTA cannot be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unplaceable {
    /// Make no plan, but an error that says what it is.
    #[default]
    Refuse,
    /// Do what comes nearest: the nearest place below, the value with a space before it or with its
    /// lines mended, and a header that may not be delivered.
    Nearest,
}

/// A header as it is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Edited<'h> {
    header: &'h Header,
    /// Its place among those shown.
    origin: Option<usize>,
    on_top: bool,
}

impl<'h> Edited<'h> {
    /// One that was shown at that place, from 0; its value or name may be another now.
    ///
    /// A place that there is not, or that was named before, makes it a new one.
    pub const fn shown(place: usize, header: &'h Header) -> Self {
        Self {
            header,
            origin: Some(place),
            on_top: false,
        }
    }

    /// A new one, at its place among the others; before the first that was shown it is still below
    /// the MTA's own `Received`.
    pub const fn added(header: &'h Header) -> Self {
        Self {
            header,
            origin: None,
            on_top: false,
        }
    }

    /// A new one above everything, also above the MTA's own `Received`, together with what stands
    /// before it. Behind a header that was shown and stays it is as any other.
    pub const fn added_on_top(header: &'h Header) -> Self {
        Self {
            header,
            origin: None,
            on_top: true,
        }
    }
}

impl<'p> Planner<'p> {
    /// Plans for an MTA that does things as the profile says.
    pub const fn new(profile: &'p Profile) -> Self {
        Self {
            profile,
            leading_space: false,
            unplaceable: Unplaceable::Refuse,
        }
    }

    /// Whether leading space was negotiated. By default it was not.
    #[must_use]
    pub const fn leading_space(mut self, negotiated: bool) -> Self {
        self.leading_space = negotiated;
        self
    }

    /// What to do with what the MTA cannot be told. By default there is no plan then.
    #[must_use]
    pub const fn unplaceable(mut self, what: Unplaceable) -> Self {
        self.unplaceable = what;
        self
    }

    /// The modifications that make `wanted` of `shown`.
    ///
    /// # Errors
    ///
    /// If a header cannot be written, or it [cannot be had](Self#what-cannot-be-had-everywhere) and
    /// the setting is to refuse.
    pub fn plan<'h>(
        &self,
        shown: &'h [Header],
        wanted: impl IntoIterator<Item = Edited<'h>>,
    ) -> Result<Vec<Modification>, PlanError> {
        let wanted: Vec<Edited<'h>> = wanted.into_iter().collect();
        let kept = Kept::choose(shown, &wanted, |old, new| self.fate(old, new));
        let mut plan = Vec::new();
        let names = self.change_and_delete(shown, &wanted, &kept, &mut plan)?;
        self.insert(shown, &wanted, &kept, names, &mut plan)?;
        Ok(plan)
    }

    fn change_and_delete(
        &self,
        shown: &[Header],
        wanted: &[Edited<'_>],
        kept: &Kept,
        plan: &mut Vec<Modification>,
    ) -> Result<Names, PlanError> {
        let mut names = Names::default();
        let mut deletes = Vec::new();
        for (place, old) in shown.iter().enumerate() {
            let index = names.count(old.name());
            match kept.wanted_at(place).and_then(|at| wanted.get(at)) {
                None => deletes.push(Modification::delete_header(old.name(), index)?),
                Some(new) if self.fate(old, new.header) == Fate::Same => {}
                Some(Edited { header, .. }) => {
                    let value = self.value(header)?;
                    plan.push(Modification::change_header(header.name(), index, value)?);
                }
            }
        }
        plan.extend(deletes.into_iter().rev());
        Ok(names)
    }

    fn insert(
        &self,
        shown: &[Header],
        wanted: &[Edited<'_>],
        kept: &Kept,
        mut names: Names,
        plan: &mut Vec<Modification>,
    ) -> Result<(), PlanError> {
        let ends = kept.ends();
        let head = &wanted[..ends.map_or(wanted.len(), |(first, _)| first)];
        // Those before it, itself included, go above the own Received.
        let top = head.iter().rposition(|new| new.on_top);
        let mut slots = Slots::new(self.profile, kept);
        for (at, new) in wanted.iter().enumerate() {
            if let Some(place) = kept.place_of(at) {
                slots.pass(place);
                continue;
            }
            let header = new.header;
            self.check_delivery(header, shown)?;
            let value = self.value(header)?;
            let is_on_top = top.is_some_and(|top| at <= top);
            let edit = if !is_on_top && ends.is_none_or(|(_, last)| last < at) {
                self.append(header, value, &names)?
            } else {
                let index = slots
                    .next(is_on_top)
                    .or_else(|nearest| match self.unplaceable {
                        Unplaceable::Refuse => Err(PlanError::Place(escaped(header))),
                        Unplaceable::Nearest => Ok(nearest),
                    })?;
                Modification::insert_header(index, header.name(), value)?
            };
            names.count(header.name());
            plan.push(edit);
        }
        Ok(())
    }

    /// A new header at the end.
    // Q16: an index that is too large means the end on both MTAs, also behind what is not shown.
    // ADDHEADER, which more MTAs have, means it with Sendmail only where it has none of that name.
    fn append(
        &self,
        header: &Header,
        value: &[u8],
        names: &Names,
    ) -> Result<Modification, ModificationError> {
        let name = header.name();
        let is_known = names.contains(name) || profile::is_stock(name);
        if self.profile.is_postfix() && !is_known {
            Modification::add_header(name, value)
        } else {
            Modification::insert_header(i32::MAX.unsigned_abs(), name, value)
        }
    }

    /// What becomes of a header that stays in its place.
    fn fate(&self, old: &Header, new: &Header) -> Fate {
        let is_sent_alike = old.name() == new.name() && self.sent(old) == self.sent(new);
        if old == new || (is_sent_alike && self.unplaceable == Unplaceable::Nearest) {
            return Fate::Same;
        }
        // Q16: sendmail/milter.c milter_changeheader keeps the name as it is written, Postfix
        // cleanup_milter.c cleanup_upd_header takes the new one
        let has_name = if self.profile.is_postfix() {
            old.name().eq_ignore_ascii_case(new.name())
        } else {
            old.name() == new.name()
        };
        // An empty value deletes; one that is an error is told where it is written.
        let is_delete = header_value(self.sent(new)).is_ok_and(|value| value.is_empty());
        if has_name && !is_delete {
            Fate::Changed
        } else {
            Fate::Replaced
        }
    }

    /// A header's value as it is sent; one without its space as it is.
    fn sent<'h>(&self, header: &'h Header) -> &'h [u8] {
        let raw = header.value().as_bytes();
        if self.leading_space {
            return raw;
        }
        raw.strip_prefix(b" ").unwrap_or(raw)
    }

    /// A header's value as it is sent, if it arrives as it is.
    fn value<'h>(&self, header: &'h Header) -> Result<&'h [u8], PlanError> {
        let value = self.sent(header);
        if self.unplaceable == Unplaceable::Refuse {
            let raw = header.value();
            if !self.leading_space && value.len() == raw.len() {
                return Err(PlanError::LeadingSpace(escaped(header)));
            }
            if header_value(value)? != value {
                return Err(PlanError::Lines(escaped(header)));
            }
        }
        Ok(value)
    }

    /// Whether a new header would be delivered.
    // sendmail/headers.c putheader (H_RESENT, EF_RESENT)
    fn check_delivery(&self, header: &Header, shown: &[Header]) -> Result<(), PlanError> {
        let name = header.name();
        let mut defaults = self.profile.defaults().iter();
        let is_held_back = is_resent(name)
            && defaults.any(|default| name.eq_ignore_ascii_case(default))
            && !shown.iter().any(|header| is_resent(header.name()));
        if is_held_back && self.unplaceable == Unplaceable::Refuse {
            return Err(PlanError::HeldBack(escaped(header)));
        }
        Ok(())
    }
}

/// What becomes of a header that stays in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Same,
    Changed,
    /// It cannot be changed into the other.
    Replaced,
}

/// The headers seen of each name, in lower case.
#[derive(Debug, Default)]
struct Names(HashMap<Vec<u8>, u32>);

impl Names {
    /// Counts one more, and says how many there are.
    fn count(&mut self, name: Text<'_>) -> u32 {
        let count = self.0.entry(name.to_ascii_lowercase()).or_default();
        *count = count.saturating_add(1);
        *count
    }

    fn contains(&self, name: Text<'_>) -> bool {
        self.0.contains_key(&name.to_ascii_lowercase())
    }
}

/// Why there is no plan. All but the first are things that an MTA
/// [cannot be told](Planner#what-cannot-be-had-everywhere).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A header cannot be written or deleted.
    #[error(transparent)]
    Header(#[from] ModificationError),
    /// No header can be inserted there.
    #[error("this MTA can insert no header where `{0}` is to stand")]
    Place(
        /// The header's name, with escapes for what is not printable.
        String,
    ),
    /// A value does not begin with a space.
    #[error(
        "the value of `{0}` does not begin with a space, and the MTA puts one there unless leading \
         space is negotiated"
    )]
    LeadingSpace(
        /// The header's name, with escapes for what is not printable.
        String,
    ),
    /// A value has lines that are not sent as they are.
    #[error("the value of `{0}` has line breaks or a CR that cannot be sent as they are")]
    Lines(
        /// The header's name, with escapes for what is not printable.
        String,
    ),
    /// A header would not be delivered.
    #[error("Sendmail does not deliver `{0}` in a mail that came without headers for resent mail")]
    HeldBack(
        /// The header's name, with escapes for what is not printable.
        String,
    ),
}

fn escaped(header: &Header) -> String {
    header.name().escape_ascii().to_string()
}
