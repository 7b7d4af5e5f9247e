//! What differs between two lists of lines.

use std::hash::Hash;
use std::time::{Duration, Instant};

use similar::{Algorithm, DiffOp, capture_diff_slices_deadline};

use crate::text::char_start;

/// The longest time that is spent on finding a small difference; then it is a larger one.
const PATIENCE: Duration = Duration::from_millis(500);

/// A line of a difference.
#[derive(Debug, PartialEq, Eq)]
pub enum Change<'a, T> {
    /// It is the same in both.
    Same(&'a T),
    /// Only the old list has it.
    Gone(&'a T),
    /// Only the new one has it.
    New(&'a T),
    /// The one became the other.
    Became(&'a T, &'a T),
    /// So many that are the same are left out.
    Left(usize),
    /// So many that are gone or new are left out.
    Cut(usize),
}

/// How much is shown.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Of what is the same, around what is not.
    pub around: usize,
    /// Of what is gone or new in one place.
    pub run: usize,
}

impl Extent {
    /// All of it.
    pub const ALL: Self = Self {
        around: usize::MAX,
        run: usize::MAX,
    };
}

/// What differs, with what is around it. Where one line stands for another they are a pair if
/// `is_same_thing` says so.
pub fn diff<'a, T: Eq + Hash>(
    old: &'a [T],
    new: &'a [T],
    extent: Extent,
    is_same_thing: impl Fn(&T, &T) -> bool,
) -> Vec<Change<'a, T>> {
    let deadline = Some(Instant::now() + PATIENCE);
    let ops = capture_diff_slices_deadline(Algorithm::Myers, old, new, deadline);
    let mut changes = Vec::new();
    for (nth, op) in ops.iter().enumerate() {
        match op {
            DiffOp::Equal { old_index, len, .. } => {
                let same = &old[*old_index..old_index + len];
                let is_first = nth == 0;
                let is_last = nth + 1 == ops.len();
                put_same(&mut changes, same, extent.around, is_first, is_last);
            }
            op => {
                let (gone, new) = (&old[op.old_range()], &new[op.new_range()]);
                put_changed(&mut changes, gone, new, extent.run, &is_same_thing);
            }
        }
    }
    changes
}

fn put_same<'a, T>(
    changes: &mut Vec<Change<'a, T>>,
    same: &'a [T],
    around: usize,
    is_first: bool,
    is_last: bool,
) {
    let head = if is_first { 0 } else { around.min(same.len()) };
    let tail = if is_last {
        0
    } else {
        around.min(same.len() - head)
    };
    let is_all = around == usize::MAX;
    let left = if is_all { 0 } else { same.len() - head - tail };
    // A line that says that one is left out is no shorter.
    if left <= 1 {
        changes.extend(same.iter().map(Change::Same));
        return;
    }
    changes.extend(same[..head].iter().map(Change::Same));
    changes.push(Change::Left(left));
    changes.extend(same[same.len() - tail..].iter().map(Change::Same));
}

fn put_changed<'a, T>(
    changes: &mut Vec<Change<'a, T>>,
    gone: &'a [T],
    new: &'a [T],
    run: usize,
    is_same_thing: &impl Fn(&T, &T) -> bool,
) {
    let is_paired = gone.len() == new.len()
        && gone.len() <= run
        && gone
            .iter()
            .zip(new)
            .all(|(old, new)| is_same_thing(old, new));
    if is_paired {
        let pairs = gone.iter().zip(new);
        changes.extend(pairs.map(|(old, new)| Change::Became(old, new)));
        return;
    }
    changes.extend(gone.iter().take(run).map(Change::Gone));
    if gone.len() > run {
        changes.push(Change::Cut(gone.len() - run));
    }
    changes.extend(new.iter().take(run).map(Change::New));
    if new.len() > run {
        changes.push(Change::Cut(new.len() - run));
    }
}

/// How many bytes both begin with, and how many both end with after that, whole characters only.
pub fn common_ends(old: &[u8], new: &[u8]) -> (usize, usize) {
    let same = |pairs: &mut dyn Iterator<Item = (&u8, &u8)>| {
        pairs.take_while(|(one, other)| one == other).count()
    };
    let head = same(&mut old.iter().zip(new));
    let head = char_start(old, head).min(char_start(new, head));
    let (old, new) = (&old[head..], &new[head..]);
    let mut tail = same(&mut old.iter().rev().zip(new.iter().rev()));
    // The tail begins with a character, too.
    while old
        .get(old.len() - tail)
        .is_some_and(|byte| byte & 0xc0 == 0x80)
    {
        tail -= 1;
    }
    (head, tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: Extent = Extent { around: 1, run: 2 };

    fn shown(old: &str, new: &str, extent: Extent) -> String {
        let lines = |text: &str| text.chars().collect::<Vec<_>>();
        let (old, new) = (lines(old), lines(new));
        let is_same_thing = |old: &char, new: &char| old.eq_ignore_ascii_case(new);
        let changes = diff(&old, &new, extent, is_same_thing);
        let shown = changes.iter().map(|change| match change {
            Change::Same(line) => format!(" {line}"),
            Change::Gone(line) => format!("-{line}"),
            Change::New(line) => format!("+{line}"),
            Change::Became(old, new) => format!("{old}>{new}"),
            Change::Left(count) => format!("..{count}"),
            Change::Cut(count) => format!("!!{count}"),
        });
        shown.collect::<Vec<_>>().join(",")
    }

    #[test]
    fn what_is_gone_and_new_is_found_with_what_is_around() {
        assert_eq!(shown("abcdef", "abXcdef", NEAR), " a, b,+X, c,..3");
        assert_eq!(shown("abcdef", "acdef", NEAR), " a,-b, c,..3");
        assert_eq!(shown("abcdefghi", "Xabcdefghi", NEAR), "+X, a,..8");
        assert_eq!(
            shown("abcdefghi", "Xabcdefghi", Extent::ALL),
            "+X, a, b, c, d, e, f, g, h, i"
        );
        assert_eq!(shown("abcdefgh", "Xabcdefgh!", NEAR), "+X, a,..6, h,+!");
    }

    #[test]
    fn what_was_changed_is_a_pair() {
        assert_eq!(shown("abc", "aBc", NEAR), " a,b>B, c");
        assert_eq!(shown("abc", "axc", NEAR), " a,-b,+x, c");
        assert_eq!(shown("abbc", "aBBc", NEAR), " a,b>B,b>B, c");
    }

    #[test]
    fn long_runs_are_cut() {
        assert_eq!(shown("aaaaa", "xyz", NEAR), "-a,-a,!!3,+x,+y,!!1");
        assert_eq!(shown("aaa", "xyz", Extent::ALL), "-a,-a,-a,+x,+y,+z");
    }

    #[test]
    fn nothing_differs_where_nothing_does() {
        assert_eq!(shown("", "", NEAR), "");
        assert_eq!(shown("abc", "abc", NEAR), "..3");
        assert_eq!(shown("a", "a", NEAR), " a");
        assert_eq!(shown("", "a", NEAR), "+a");
    }

    #[test]
    fn common_ends_are_whole_characters() {
        assert_eq!(common_ends(b"abc", b"axc"), (1, 1));
        assert_eq!(common_ends(b"aaa", b"aa"), (2, 0));
        assert_eq!(common_ends(b"", b"x"), (0, 0));
        assert_eq!(common_ends("é".as_bytes(), "è".as_bytes()), (0, 0));
        assert_eq!(common_ends("xé".as_bytes(), "xè".as_bytes()), (1, 0));
        // U+0129 and U+00E9 end in the same byte.
        assert_eq!(common_ends("ĩ".as_bytes(), "é".as_bytes()), (0, 0));
        assert_eq!(common_ends("aĩz".as_bytes(), "aéz".as_bytes()), (1, 1));
    }
}
