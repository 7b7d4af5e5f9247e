//! Changes to the list.

use std::cmp::Ordering;
use std::sync::Arc;

use milter_core::{Header, ModificationError};

use super::{Entry, Field, Headers, Origin, Which};

/// A value that gets the customary space before it.
fn spaced(value: &[u8]) -> Vec<u8> {
    [b" ", value].concat()
}

impl Headers {
    /// Puts a field at the top of the message: above all others, also above the `Received` that
    /// the MTA itself adds and does not show.
    #[doc(alias = "insert")]
    pub fn prepend(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.prepend_raw(name, spaced(value.as_ref()));
    }

    /// [`prepend`](Self::prepend) with every byte behind the colon.
    pub fn prepend_raw(&mut self, name: impl AsRef<[u8]>, raw: impl AsRef<[u8]>) {
        self.put(0, name.as_ref(), raw.as_ref(), Origin::AddedOnTop);
    }

    /// Puts a field at the end.
    #[doc(alias = "add")]
    #[doc(alias = "add_header")]
    pub fn append(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.append_raw(name, spaced(value.as_ref()));
    }

    /// [`append`](Self::append) with every byte behind the colon.
    pub fn append_raw(&mut self, name: impl AsRef<[u8]>, raw: impl AsRef<[u8]>) {
        let end = self.len();
        self.put(end, name.as_ref(), raw.as_ref(), Origin::Added);
    }

    /// Puts a field directly before another.
    ///
    /// Before the first that the MTA shows is still below the MTA's own `Received`.
    #[must_use = "nothing was inserted if there is no such field"]
    pub fn insert_before<'n>(
        &mut self,
        which: impl Into<Which<'n>>,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> bool {
        self.insert_before_raw(which, name, spaced(value.as_ref()))
    }

    /// [`insert_before`](Self::insert_before) with every byte behind the colon.
    #[must_use = "nothing was inserted if there is no such field"]
    pub fn insert_before_raw<'n>(
        &mut self,
        which: impl Into<Which<'n>>,
        name: impl AsRef<[u8]>,
        raw: impl AsRef<[u8]>,
    ) -> bool {
        let Some(at) = self.find(which.into()) else {
            return false;
        };
        self.put(at, name.as_ref(), raw.as_ref(), Origin::Added)
    }

    /// Puts a field directly behind another.
    ///
    /// ```
    /// # let mut headers = milter_tower::Headers::new();
    /// # headers.append("Subject", "hello");
    /// if !headers.insert_after("Subject", "X-Seen", "yes") {
    ///     headers.append("X-Seen", "yes");
    /// }
    /// ```
    #[must_use = "nothing was inserted if there is no such field"]
    pub fn insert_after<'n>(
        &mut self,
        which: impl Into<Which<'n>>,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> bool {
        self.insert_after_raw(which, name, spaced(value.as_ref()))
    }

    /// [`insert_after`](Self::insert_after) with every byte behind the colon.
    #[must_use = "nothing was inserted if there is no such field"]
    pub fn insert_after_raw<'n>(
        &mut self,
        which: impl Into<Which<'n>>,
        name: impl AsRef<[u8]>,
        raw: impl AsRef<[u8]>,
    ) -> bool {
        let Some(at) = self.find(which.into()) else {
            return false;
        };
        self.put(at + 1, name.as_ref(), raw.as_ref(), Origin::Added)
    }

    /// Gives a field another value, and says whether there is such a field. Its name stays as it
    /// is written.
    #[doc(alias = "change")]
    pub fn replace<'n>(&mut self, which: impl Into<Which<'n>>, value: impl AsRef<[u8]>) -> bool {
        self.replace_raw(which, spaced(value.as_ref()))
    }

    /// [`replace`](Self::replace) with every byte behind the colon.
    pub fn replace_raw<'n>(&mut self, which: impl Into<Which<'n>>, raw: impl AsRef<[u8]>) -> bool {
        let Some(at) = self.find(which.into()) else {
            return false;
        };
        self.write(at, None, Some(raw.as_ref()));
        true
    }

    /// Gives all fields of a name the same value, and says how many there are.
    pub fn replace_all(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> usize {
        self.replace_all_raw(name, spaced(value.as_ref()))
    }

    /// [`replace_all`](Self::replace_all) with every byte behind the colon.
    pub fn replace_all_raw(&mut self, name: impl AsRef<[u8]>, raw: impl AsRef<[u8]>) -> usize {
        let mut count = 0;
        for at in 0..self.entries.len() {
            if Field::new(&self.entries[at].header).is_named(name.as_ref()) {
                self.write(at, None, Some(raw.as_ref()));
                count += 1;
            }
        }
        count
    }

    /// Leaves one field of a name, with this value: the first one changed and all others removed,
    /// or one added at the end.
    #[doc(alias = "insert")]
    pub fn set(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.set_raw(name, spaced(value.as_ref()));
    }

    /// [`set`](Self::set) with every byte behind the colon.
    pub fn set_raw(&mut self, name: impl AsRef<[u8]>, raw: impl AsRef<[u8]>) {
        let name = name.as_ref();
        if !self.replace_raw(name, raw.as_ref()) {
            self.append_raw(name, raw);
            return;
        }
        let mut is_first = true;
        self.remove_if(|field| field.is_named(name) && !std::mem::take(&mut is_first));
    }

    /// Gives a field another name, such as one in another case, and says whether there is such a
    /// field.
    pub fn rename<'n>(&mut self, which: impl Into<Which<'n>>, name: impl AsRef<[u8]>) -> bool {
        let Some(at) = self.find(which.into()) else {
            return false;
        };
        self.write(at, Some(name.as_ref()), None);
        true
    }

    /// Removes a field, and says whether there was such a field.
    #[doc(alias = "delete")]
    pub fn remove<'n>(&mut self, which: impl Into<Which<'n>>) -> bool {
        let Some(at) = self.find(which.into()) else {
            return false;
        };
        self.touch();
        self.entries.remove(at);
        true
    }

    /// Removes all fields of a name, and says how many there were.
    #[doc(alias = "delete")]
    pub fn remove_all(&mut self, name: impl AsRef<[u8]>) -> usize {
        let name = name.as_ref();
        self.remove_if(|field| field.is_named(name))
    }

    /// Removes the fields that the function says yes to, and says how many there were.
    pub fn remove_if(&mut self, mut is_unwanted: impl FnMut(Field<'_>) -> bool) -> usize {
        // Most often there are none, and then nothing need be kept.
        let Some(first) = self.iter().position(&mut is_unwanted) else {
            return 0;
        };
        self.touch();
        let before = self.len();
        let mut places = 0..;
        self.entries
            .retain(|entry| match places.next().cmp(&Some(first)) {
                Ordering::Less => true,
                Ordering::Equal => false,
                Ordering::Greater => !is_unwanted(Field::new(&entry.header)),
            });
        before - self.len()
    }

    /// Keeps only the fields that the function says yes to.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(Field<'_>) -> bool) {
        self.remove_if(|field| !is_wanted(field));
    }

    fn find(&self, which: Which<'_>) -> Option<usize> {
        let mut named = self
            .iter()
            .enumerate()
            .filter(|(_, field)| field.is_named(which.name));
        let (at, _) = named.nth(which.index.checked_sub(1)?)?;
        Some(at)
    }

    /// Inserts a field, if it may be written.
    fn put(&mut self, at: usize, name: &[u8], raw: &[u8], origin: Origin) -> bool {
        let Some(header) = self.checked(Header::checked(name, raw)) else {
            return false;
        };
        self.touch();
        self.entries.insert(at, Entry { header, origin });
        true
    }

    /// Gives a field another name or value, if it may be written.
    fn write(&mut self, at: usize, name: Option<&[u8]>, raw: Option<&[u8]>) {
        let old = &self.entries[at].header;
        let name = name.unwrap_or_else(|| old.name().as_bytes());
        let raw = raw.unwrap_or_else(|| old.value().as_bytes());
        let header = Header::checked(name, raw);
        if let Some(header) = self.checked(header) {
            self.touch();
            self.entries[at].header = header;
        }
    }

    /// The field, or nothing if it cannot be written: then that is kept.
    fn checked(&mut self, header: Result<Header, ModificationError>) -> Option<Header> {
        header
            .map_err(|error| _ = self.error.get_or_insert(error))
            .ok()
    }

    /// To be called before anything is changed.
    pub(super) fn touch(&mut self) {
        self.keep_original();
        self.is_changed = true;
    }

    /// What the MTA showed, for whoever lends the list out: it may be replaced by another then.
    pub(crate) fn keep_original(&mut self) -> &Arc<[Header]> {
        let entries = &self.entries;
        self.original.get_or_insert_with(|| {
            let shown = entries.iter();
            shown.map(|entry| entry.header.clone()).collect()
        })
    }
}
