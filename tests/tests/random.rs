//! Random inputs for the fuzz targets, made of pieces that mean something.
//!
//! The fuzzer finds what is odd; this finds what only comes together in whole sessions, on any
//! toolchain. For more than the ordinary run:
//!
//! ```sh
//! PROPTEST_CASES=100000 cargo test --release -p milter-tests --test random
//! ```
//!
//! What fails is shown as small as it could be made, and can be kept as a file of the corpus.

use std::fmt;

use milter_tests::fuzz;
use proptest::prelude::*;
use proptest::sample::select;

/// An input, shown as it can be written to a file with `printf`.
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "printf '%b' '{}'", self.0.escape_ascii())
    }
}

/// Pieces one behind the other.
fn pieces(
    of: &'static [&'static str],
    most: usize,
) -> impl Strategy<Value = String> {
    prop::collection::vec(select(of), 0..most).prop_map(|pieces| pieces.concat())
}

/// `most` cases where others have 256.
fn cases(most: u32) -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig {
        cases: usual.cases.saturating_mul(most) / 256,
        failure_persistence: None,
        ..usual
    }
}

const SETTINGS: &[&str] = &["P", "S", "j", "y", "t", "c", "d", "r", "x", "k", "i"];
const MOVES: &[&str] = &[
    "C0H0", "M0R0", "M1R0R1", "R1", "T", "L0L1", "L2", "N", "B1", "B3B3B1", "E0", "E1", "M0R0TL0L1NB1B2E0",
    "M1R1R0TL3NE0", "M0R0TL0NB1", "A", "U", "K", "KC0H0", "H1", "D31", "D34", "D01", "w1", "w3", ".",
    ",", "V", "F", "Q", "o1", "O",
];
const TREE: &[&str] = &[
    "p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9", "r3", "r1", "r2", "f0", "f3", "f9", "m0", "m1",
    "m2", "m3", "m4", "i0", "i1", "(", ")", "(p0p2)", "[", "]", "[p0p0]", "t", "t(", "?1", "?3", "?4",
    "?6", "?7", "!0", "!2", "!3", "!4", "F",
];
const ACTS: &[&str] = &[
    "c", "c", "c", "cc", "ccc", "cccccc", "a", "r", "t", "d", "s", "y0", "e", "h", "!", "?", "w", "W", "b", "B",
    "N", "R", "m", "mh11;", "f", "n", "p", ",", ",", ",",
];

fn chain() -> impl Strategy<Value = Input> {
    let settings = pieces(SETTINGS, 3);
    let tree = pieces(TREE, 8);
    let acts = pieces(ACTS, 40);
    let moves = pieces(MOVES, 12);
    (settings, tree, acts, moves).prop_map(|(settings, tree, acts, moves)| {
        Input(format!("{settings}\n{tree}\n{acts}\n{moves}").into_bytes())
    })
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn chains_of_all_kinds_tell_their_members_what_they_must(input in chain()) {
        fuzz::chain(&input.0);
    }
}
