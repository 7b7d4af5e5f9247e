//! The order in which a filter's modifications are sent.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::{Edit, Modification};

/// Where a modification goes: the place in the list of the first of its run, then its place in
/// that run. A stable sort keeps the rest as it was.
type Key = (usize, Rank);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    InTurn,
    Delete(Reverse<u32>),
}

/// What the list has done so far.
#[derive(Default)]
struct Plan {
    /// To the headers of each name, in lower case.
    names: HashMap<Vec<u8>, Name>,
    /// The place of the body's first piece.
    body: Option<usize>,
}

/// What the list has done so far to the headers of one name.
#[derive(Default)]
struct Name {
    /// The place of the first delete.
    deletes: Option<usize>,
    /// Whether one was added or inserted, so that indices may count it.
    grown: bool,
}

impl Plan {
    /// The key of the next modification, which stands at this place.
    fn key(&mut self, place: usize, edit: &Edit) -> Key {
        match edit {
            Edit::AddHeader { name, .. } | Edit::InsertHeader { name, .. } => {
                self.name(name).grown = true;
                (place, Rank::InTurn)
            }
            Edit::ChangeHeader { name, index, value } if value.is_empty() => {
                let run = *self.name(name).deletes.get_or_insert(place);
                // Both MTAs take index 0, which only another filter can send, for 1.
                (run, Rank::Delete(Reverse((*index).max(1))))
            }
            Edit::ChangeHeader { name, .. } => match *self.name(name) {
                Name {
                    deletes: Some(run),
                    grown: false,
                } => (run, Rank::InTurn),
                _ => (place, Rank::InTurn),
            },
            Edit::ReplaceBody(_) => (*self.body.get_or_insert(place), Rank::InTurn),
            _ => (place, Rank::InTurn),
        }
    }

    fn name(&mut self, name: &[u8]) -> &mut Name {
        self.names.entry(name.to_ascii_lowercase()).or_default()
    }
}

impl Modification {
    /// Makes a filter's list of modifications safe to send in one go.
    ///
    /// Indices count the headers as the filter saw them. After a delete, Postfix counts without
    /// the deleted header and Sendmail still with it, and a body in several pieces is refused by
    /// Postfix if another modification comes between them. So:
    ///
    /// - All deletes of one header name (ASCII case does not count) are gathered at the place of
    ///   the first, the highest index first.
    /// - Changes of that name that stand after its first delete, but before a header of that name
    ///   is added or inserted, go before the deletes.
    /// - All pieces of the body ([`replace_body`](Self::replace_body)) are gathered at the place
    ///   of the first, in their order.
    /// - Everything else keeps its order.
    ///
    /// Nothing is dropped or merged: who deletes the same header twice deletes another one with
    /// Postfix. Nor is an index computed anew: delete and change the headers of a name before you
    /// add or insert one of that name.
    ///
    /// Change only headers that are there. A change of an index above their number adds a header:
    /// at the end with Postfix, before the first one of that name with Sendmail, where it then has
    /// index 1 and moves the others. That such a change goes before the deletes is safe with
    /// Postfix, but with Sendmail these count the new header. Of two headers `X`, a delete of the
    /// first and then a change of the third leave, with Postfix, the second and the new one; with
    /// Sendmail the delete hits the new header, and both old ones stay. How many headers there are
    /// is not known here, so this is not mended: add a header with
    /// [`add_header`](Self::add_header), behind the deletes.
    ///
    /// Sources: Postfix `cleanup_milter.c` `cleanup_find_header_start` and `milter8.c`
    /// `milter8_event` (`body_edit_lockout`); `sendmail/milter.c` `milter_changeheader` and
    /// `sendmail/headers.c` `addheader`.
    ///
    /// ```
    /// use milter_core::Modification;
    ///
    /// let delete = |index| Modification::delete_header("Received", index);
    /// let add = Modification::add_header("X-Hops", "0")?;
    /// let ordered = Modification::order(vec![delete(1)?, add.clone(), delete(2)?]);
    /// assert_eq!(ordered, [delete(2)?, delete(1)?, add]);
    /// # Ok::<(), milter_core::ModificationError>(())
    /// ```
    pub fn order(edits: Vec<Self>) -> Vec<Self> {
        let mut plan = Plan::default();
        let mut keyed: Vec<(Key, Self)> = edits
            .into_iter()
            .enumerate()
            .map(|(place, edit)| (plan.key(place, &edit.0), edit))
            .collect();
        keyed.sort_by_key(|(key, _)| *key);
        keyed.into_iter().map(|(_, edit)| edit).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn add(name: &str) -> Modification {
        Modification::add_header(name, "added").expect("valid")
    }

    fn insert(name: &str) -> Modification {
        Modification::insert_header(0, name, "inserted").expect("valid")
    }

    fn change(name: &str, index: u32) -> Modification {
        Modification::change_header(name, index, "changed").expect("valid")
    }

    fn delete(name: &str, index: u32) -> Modification {
        Modification::delete_header(name, index).expect("valid")
    }

    fn body(text: &'static str) -> Modification {
        Modification::replace_body(text)
    }

    #[test]
    fn c71_deletes_of_a_name_go_highest_index_first_at_the_first() {
        let rcpt = Modification::add_recipient("a@b").expect("valid");
        assert_eq!(
            Modification::order(vec![
                add("A"),
                delete("x", 1),
                rcpt.clone(),
                delete("Y", 1),
                delete("X", 3),
                delete("Y", 2),
                delete("X", 2),
            ]),
            [
                add("A"),
                delete("X", 3),
                delete("X", 2),
                delete("x", 1),
                rcpt,
                delete("Y", 2),
                delete("Y", 1),
            ]
        );
    }

    #[test]
    fn c71_changes_go_before_the_deletes_that_would_shift_them() {
        assert_eq!(
            Modification::order(vec![
                change("X", 5),
                delete("X", 1),
                change("Y", 1),
                change("x", 4),
                delete("X", 2),
                change("X", 3),
            ]),
            [
                change("X", 5),
                change("x", 4),
                change("X", 3),
                delete("X", 2),
                delete("X", 1),
                change("Y", 1),
            ]
        );
    }

    #[test]
    fn c71_changes_after_an_added_header_stay_behind_it() {
        for grow in [add("x"), insert("X")] {
            let list = vec![delete("X", 1), grow.clone(), change("X", 1), add("Y")];
            assert_eq!(Modification::order(list.clone()), list);

            let list = vec![
                delete("X", 1),
                add("Y"),
                change("X", 2),
                grow,
                delete("X", 3),
            ];
            let ordered = Modification::order(list.clone());
            let [first, other, changed, grow, third] = &list[..] else {
                unreachable!()
            };
            assert_eq!(
                ordered.iter().collect::<Vec<_>>(),
                [changed, third, first, other, grow]
            );
        }
    }

    /// The flaw that the documentation of `order` tells of: seen from here a change beyond the
    /// count is like any other.
    #[test]
    fn a_change_beyond_the_count_goes_before_the_deletes_too() {
        assert_eq!(
            Modification::order(vec![delete("X", 1), change("X", 3)]),
            [change("X", 3), delete("X", 1)]
        );
    }

    #[test]
    fn c73_pieces_of_the_body_are_one_run() {
        assert_eq!(
            Modification::order(vec![
                body("a"),
                add("X"),
                body("b"),
                delete("Y", 1),
                body("")
            ]),
            [body("a"), body("b"), body(""), add("X"), delete("Y", 1)]
        );
    }

    #[test]
    fn duplicates_are_kept() {
        let list = vec![delete("X", 1), delete("X", 1), add("X"), add("X")];
        assert_eq!(Modification::order(list.clone()), list);
        assert!(Modification::order(Vec::new()).is_empty());
    }

    #[test]
    fn index_0_of_another_filter_is_1() {
        let zero = Bytes::from_static(b"\0\0\0\0X\0\0");
        let zero = Modification::decode(b'm', zero).expect("as libmilter sends it");
        let list = vec![zero.clone(), delete("X", 1), delete("X", 2)];
        assert_eq!(
            Modification::order(list),
            [delete("X", 2), zero, delete("X", 1)]
        );
    }

    /// The indices that a header of `X` had at first, after these edits, with those changed
    /// marked; the two MTAs differ in what a deleted header counts.
    fn apply(edits: &[Modification], headers: u32, deleted_count: bool) -> Vec<(u32, bool)> {
        let mut left: Vec<Option<(u32, bool)>> =
            (1..=headers).map(|index| Some((index, false))).collect();
        for edit in edits {
            if let Edit::ChangeHeader { index, value, .. } = &edit.0 {
                let mut counted = left
                    .iter_mut()
                    .filter(|header| deleted_count || header.is_some());
                match counted.nth(*index as usize - 1) {
                    Some(header) if value.is_empty() => *header = None,
                    Some(Some((_, changed))) => *changed = true,
                    _ => {}
                }
            }
        }
        left.into_iter().flatten().collect()
    }

    fn edit() -> impl Strategy<Value = Modification> {
        let name = prop::sample::select(&["X", "x", "Y"][..]);
        (name, 1..6_u32, 0..6).prop_map(|(name, index, kind)| match kind {
            0 => add(name),
            1 => insert(name),
            2 => change(name, index),
            3 => body("piece"),
            _ => delete(name, index),
        })
    }

    proptest! {
        #[test]
        fn c71_both_mtas_delete_and_change_the_headers_that_the_filter_saw(
            deletes in prop::collection::btree_set(1..9_u32, 0..6),
            changes in prop::collection::btree_set(1..9_u32, 0..6),
            seed in any::<prop::sample::Index>(),
        ) {
            let mut edits: Vec<_> = deletes.iter().map(|index| delete("X", *index)).collect();
            for (nth, index) in changes.difference(&deletes).enumerate() {
                edits.insert((seed.index(7) + nth) % (edits.len() + 1), change("X", *index));
            }
            let expected: Vec<_> = (1..9)
                .filter(|index| !deletes.contains(index))
                .map(|index| (index, changes.contains(&index)))
                .collect();
            let ordered = Modification::order(edits);
            prop_assert_eq!(apply(&ordered, 8, false), expected.clone(), "Postfix");
            prop_assert_eq!(apply(&ordered, 8, true), expected, "Sendmail");
        }

        #[test]
        fn ordering_loses_nothing_and_settles(edits in prop::collection::vec(edit(), 0..30)) {
            let ordered = Modification::order(edits.clone());
            let mut left = edits;
            for edit in &ordered {
                let at = left.iter().position(|other| other == edit);
                prop_assert!(at.map(|at| left.remove(at)).is_some());
            }
            prop_assert!(left.is_empty());
            prop_assert_eq!(Modification::order(ordered.clone()), ordered);
        }
    }

    #[test]
    fn a_hundred_thousand_edits_are_no_burden() {
        let edits: Vec<_> = (1..=100_000).map(|index| delete("X", index)).collect();
        let ordered = Modification::order(edits);
        assert_eq!(ordered[0], delete("X", 100_000));
        assert_eq!(ordered[99_999], delete("X", 1));
    }
}
