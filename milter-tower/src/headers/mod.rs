//! The header fields of a message, in order.

mod auth_results;
mod change;
mod decode;
mod field;
mod plan;
#[cfg(test)]
mod tests;
mod which;

use std::fmt;
use std::sync::Arc;

use milter_core::{Header, ModificationError};

pub use self::field::Field;
pub use self::which::Which;

/// The header fields of a message, in order and with every byte.
///
/// A field's value is everything behind the colon: the space that usually follows it, and the
/// breaks of folded lines as LF. Names are compared without regard to the case of ASCII letters
/// (RFC 5322 1.2.2).
///
/// ```
/// use milter_tower::Headers;
///
/// let mut headers = Headers::new();
/// headers.append("Subject", "hello");
/// headers.prepend("X-Filtered-By", "example");
/// assert_eq!(headers.get_str("subject"), Some("hello"));
/// assert_eq!(headers.get("Subject").unwrap().raw(), " hello");
/// assert_eq!(headers.position("Subject"), Some(1));
/// ```
///
/// # Changes
///
/// A name is printable ASCII without a colon. A value is any bytes but NUL, its lines broken as
/// you like: they are folded as [`Modification`](crate::Modification#header-names-and-values)
/// says, so that none can begin a header of its own. It gets the customary space before it; the
/// methods that end in `_raw` take every byte as it is to stand behind the colon.
///
/// **Changes fail closed.** A change whose name or value is not allowed is not made, and the first
/// such error is [kept](Self::error): the whole message then gets the failure verdict and none of
/// its changes.
///
/// Where one of several fields of a name is meant, give name and index, counted from 1 as in
/// [`Response::change_header`](crate::Response::change_header):
///
/// ```
/// # let mut headers: milter_tower::Headers =
/// #     ["a", "b", "c"].map(|hop| milter_tower::Header::new("Received", hop)).into_iter().collect();
/// headers.remove(("Received", 2));
/// assert_eq!(headers.get_all("Received").count(), 2);
/// ```
#[derive(Clone, Default)]
pub struct Headers {
    entries: Vec<Entry>,
    /// What the MTA showed, once that was [kept](Self::keep_original). Before that the entries are
    /// just that.
    original: Option<Arc<[Header]>>,
    is_changed: bool,
    /// The first change that could not be made.
    error: Option<ModificationError>,
}

/// A field in the list.
#[derive(Clone, Debug)]
struct Entry {
    header: Header,
    origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The MTA showed it, at this place.
    Shown(usize),
    Added,
    /// Added above everything, also above what the MTA does not show.
    AddedOnTop,
}

impl Headers {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// The fields that an MTA showed, to which later changes are compared.
    ///
    /// `leading_space` says whether it was [negotiated](crate::Agreement::leading_space). Otherwise
    /// the MTA left out the space behind the colon (`sendmail/milter.c` `milter_headers`, Postfix
    /// `milter8.c` `milter8_header`), and each value gets it back; one that never had it cannot be
    /// told from the others.
    pub fn from_shown(headers: impl IntoIterator<Item = Header>, leading_space: bool) -> Self {
        let with_space = |header: Header| {
            if leading_space {
                header
            } else {
                let value = [b" ", header.value().as_bytes()].concat();
                Header::new(header.name_bytes(), value)
            }
        };
        let shown = headers.into_iter().map(with_space).enumerate();
        Self {
            entries: shown
                .map(|(at, header)| Entry {
                    header,
                    origin: Origin::Shown(at),
                })
                .collect(),
            original: None,
            is_changed: false,
            error: None,
        }
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All fields in order.
    pub fn iter(&self) -> Fields<'_> {
        Fields(self.entries.iter())
    }

    /// The first field of that name.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<Field<'_>> {
        let name = name.as_ref();
        self.iter().find(|field| field.is_named(name))
    }

    /// The fields of that name in order.
    pub fn get_all<'h>(
        &'h self,
        name: impl AsRef<[u8]> + 'h,
    ) -> impl DoubleEndedIterator<Item = Field<'h>> {
        self.iter()
            .filter(move |field| field.is_named(name.as_ref()))
    }

    /// The value of the first field of that name, without the white space around it: `None` if
    /// there is no such field or its value is not UTF-8.
    ///
    /// Lines that are folded and words that are encoded stay so: see [`Field::unfolded`] and
    /// [`Field::decoded`].
    pub fn get_str(&self, name: impl AsRef<[u8]>) -> Option<&str> {
        self.get(name)?.value().to_str().ok()
    }

    /// Whether there is a field of that name.
    pub fn contains(&self, name: impl AsRef<[u8]>) -> bool {
        self.position(name).is_some()
    }

    /// The place of the first field of that name among all, from 0.
    pub fn position(&self, name: impl AsRef<[u8]>) -> Option<usize> {
        let name = name.as_ref();
        self.iter().position(|field| field.is_named(name))
    }

    /// Why a change could not be made: the first such error.
    pub fn error(&self) -> Option<&ModificationError> {
        self.error.as_ref()
    }
}

/// Fields of no MTA: to be written all, if at all.
///
/// They are taken as they are; what may not be written is refused later.
impl FromIterator<Header> for Headers {
    fn from_iter<I: IntoIterator<Item = Header>>(headers: I) -> Self {
        let mut all = Self::new();
        all.extend(headers);
        all
    }
}

/// Adds fields at the end, as they are.
impl Extend<Header> for Headers {
    fn extend<I: IntoIterator<Item = Header>>(&mut self, headers: I) {
        self.touch();
        self.entries.extend(headers.into_iter().map(|header| Entry {
            header,
            origin: Origin::Added,
        }));
    }
}

impl<'h> IntoIterator for &'h Headers {
    type Item = Field<'h>;
    type IntoIter = Fields<'h>;

    fn into_iter(self) -> Fields<'h> {
        self.iter()
    }
}

/// Whether they hold the same fields in the same order, byte for byte, wherever they come from.
impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter()
            .map(Field::header)
            .eq(other.iter().map(Field::header))
    }
}

impl Eq for Headers {}

/// Shows the fields, with escapes for what is not printable ASCII: safe for logs.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

/// The fields of [`Headers`] in order.
#[derive(Clone, Debug)]
pub struct Fields<'h>(std::slice::Iter<'h, Entry>);

impl<'h> Iterator for Fields<'h> {
    type Item = Field<'h>;

    fn next(&mut self) -> Option<Field<'h>> {
        self.0.next().map(|entry| Field::new(&entry.header))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for Fields<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|entry| Field::new(&entry.header))
    }
}

impl ExactSizeIterator for Fields<'_> {}
