//! `Authentication-Results` that others wrote in our name.

use std::collections::BTreeSet;

use milter_tower::{Field, Header, Modification, ModificationKind, Response};

use super::{Seen, delete, names};

/// The names in which only we write.
#[derive(Clone, Debug)]
pub(crate) struct Ours(Vec<Box<[u8]>>);

impl Ours {
    /// The name of the header.
    pub(crate) const NAME: &'static str = "Authentication-Results";

    pub(crate) fn new(authserv_id: &[u8]) -> Self {
        Self(vec![authserv_id.into()])
    }

    #[cfg(feature = "strip-auth-results")]
    pub(crate) fn push(&mut self, authserv_id: &[u8]) {
        self.0.push(authserv_id.into());
    }

    /// Counts a header, and remembers one in our name.
    // Postfix counts one with white space before the colon among those without (is_header.c
    // is_header_buf), Sendmail leaves it out (sendmail/headers.c chompheader)
    pub(crate) fn note(&self, header: &Header, seen: &mut Seen) {
        let field = Field::from(header);
        if !field.is_auth_results() {
            return;
        }
        seen.count = seen.count.saturating_add(1);
        if self.0.iter().any(|id| field.may_claim_auth_results(id)) {
            seen.unwanted.push(seen.count);
        }
    }
}

impl Seen {
    /// Deletes the unwanted headers. What the service within writes stays.
    // Indices are those that were shown, and are right on Postfix and on Sendmail only before
    // anything of that name is added. A header that is deleted twice is another one with Postfix,
    // and a change beyond the last one counts as a header with Sendmail: both are mended.
    pub(crate) fn take_out(&self, response: Response) -> Response {
        let name = Ours::NAME.as_bytes();
        if self.unwanted.is_empty() {
            return response;
        }
        if !response.edits().iter().any(|edit| names(edit, name)) {
            return delete(self.unwanted.iter().rev().copied(), name, response);
        }
        let mut place = None;
        let (mut rewritten, mut gone) = (BTreeSet::new(), BTreeSet::new());
        let (mut changes, mut others) = (Vec::new(), Vec::new());
        for edit in response.edits() {
            if names(edit, name) {
                place.get_or_insert(others.len());
            }
            match edit.kind() {
                ModificationKind::DeleteHeader { index, .. } if names(edit, name) => {
                    gone.insert(index.max(1));
                }
                ModificationKind::ChangeHeader { index, value, .. } if names(edit, name) => {
                    if index <= self.count {
                        rewritten.insert(index.max(1));
                        changes.push(edit.clone());
                    } else {
                        // The value was allowed.
                        others.extend(Modification::add_header(name, value));
                    }
                }
                _ => others.push(edit.clone()),
            }
        }
        let forged = self
            .unwanted
            .iter()
            .filter(|index| !rewritten.contains(index));
        gone.extend(forged);
        let deletes = gone.iter().rev().filter(|index| **index <= self.count);
        let deletes = deletes.filter_map(|index| Modification::delete_header(name, *index).ok());
        let at = place.unwrap_or_default();
        others.splice(at..at, changes.into_iter().chain(deletes));
        response.retain_edits(|_| false).edit_all(others)
    }
}
