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
fn pieces(of: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
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
    "C0H0",
    "M0R0",
    "M1R0R1",
    "R1",
    "T",
    "L0L1",
    "L2",
    "N",
    "B1",
    "B3B3B1",
    "E0",
    "E1",
    "M0R0TL0L1NB1B2E0",
    "M1R1R0TL3NE0",
    "M0R0TL0NB1",
    "A",
    "U",
    "K",
    "KC0H0",
    "H1",
    "D31",
    "D34",
    "D01",
    "w1",
    "w3",
    ".",
    ",",
    "V",
    "F",
    "Q",
    "o1",
    "O",
];
const TREE: &[&str] = &[
    "p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9", "r3", "r1", "r2", "f0", "f3", "f9",
    "m0", "m1", "m2", "m3", "m4", "i0", "i1", "(", ")", "(p0p2)", "[", "]", "[p0p0]", "t", "t(",
    "?1", "?3", "?4", "?6", "?7", "!0", "!2", "!3", "!4", "F",
];
const ACTS: &[&str] = &[
    "c", "c", "c", "cc", "ccc", "cccccc", "a", "r", "t", "d", "s", "y0", "e", "h", "!", "?", "w",
    "W", "b", "B", "N", "R", "m", "mh11;", "f", "n", "p", ",", ",", ",",
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

const CONFIG: &[&str] = &[
    "s", "q", "y", "e", "m", "p", "r", "b", "o2", "on", "ob", "o0",
];
const CALLS: &[&str] = &[
    "C0cH0cM0cR0c",
    "C0cH0cM0cR0c",
    "C0cH0cM0a",
    "M0cR0cTcL0cNcB1cE0",
    "M0d",
    "R1d",
    "Ta",
    "L1cL2r",
    "Na",
    "B1s",
    "E0c",
    "C0cH0c",
    "M0",
    "M0a",
    "M0cR0c",
    "M0cR0cTcL0cNcB1cE0c",
    "C0",
    "H0",
    "M0",
    "R0",
    "T",
    "L0",
    "N",
    "B1",
    "E0",
    "U",
    "A",
    "K",
    "Q",
    "c",
    "c",
    "c",
    "a",
    "r",
    "t",
    "d",
    "s",
    "p",
    "4",
    "f",
    "y\x07550 no!",
    "y\x033no",
    "mh11;",
    "mh00i31d12;",
    "mB0;",
    "z",
    "o\x05AS0c1",
    "o\x00",
    "Ow\x00\x00\x00\x06\x00\x00\x01\u{ff}\x00\x00\x00\x00",
    "X\x41\x01b",
    "G\x03\x00\x00\x00",
];

fn client() -> impl Strategy<Value = Input> {
    let begins = select(&["Oo\x01A", "Oo\x01A", "Oo\x03AQ!", "Oo\x050Sc12", "O", ""][..]);
    let (settings, calls) = (pieces(CONFIG, 3), pieces(CALLS, 25));
    (settings, begins, calls).prop_map(|(settings, begins, calls)| {
        // Bytes beyond ASCII stand there as characters.
        let bytes = calls.chars().map(|one| u8::try_from(one).unwrap_or(b'?'));
        let bytes: Vec<u8> = bytes.collect();
        Input([settings.as_bytes(), b"\n", begins.as_bytes(), &bytes].concat())
    })
}

const MILTER: &[&str] = &[
    ".",
    ".",
    ".",
    ".c",
    ".c",
    ".c",
    ".c.c.c",
    ".c.c.c.c.c.c.c",
    ".a",
    ".r",
    ".t",
    ".d",
    ".s",
    ".p",
    ".pwpc",
    "w",
    "W",
    ".Wc",
    "-",
    ".z",
    "z",
    ".4",
    ".f",
    ".cc",
    ".mh00i31;",
    ".mh11;c",
    ".mB0;c",
    ".y\x07550 no!",
    ".X\x41\x01b",
    ".G\x03\x00\x00\x00",
    "o\x05AS0c1",
    "o\x00",
];
const NETWORK: &[&str] = &[
    "C0H0M0R0TL0NB1E0",
    "C0",
    "H0",
    "M0",
    "R0",
    "R1",
    "T",
    "L1",
    "N",
    "B3",
    "E1",
    "U",
    "A",
    "K",
    "D0",
    "D1",
    "D2D0",
    "M0R0TL0L1NS\x5cE0",
];

fn network() -> impl Strategy<Value = Input> {
    let (settings, calls) = (
        pieces(&["s", "x", "r", "b", "e", "a", "j", "d", "q", "p"], 3),
        pieces(NETWORK, 8),
    );
    let acts = (
        select(&["o\x01A", "o\x01A", "o\x05AS0c1", ""][..]),
        pieces(MILTER, 16),
    );
    (settings, acts, calls).prop_map(|(settings, (offered, acts), calls)| {
        Input(format!("{settings}\n{offered}{acts}\n{calls}").into_bytes())
    })
}

fn planner() -> impl Strategy<Value = Input> {
    let any = |letters: &'static [u8], most| prop::collection::vec(select(letters), 0..most);
    let settings = any(b"psln01234w", 4);
    let headers = any(b"00112233456789", 16);
    let edits = any(b"hixd|^+0123456789", 40);
    (settings, headers, edits).prop_map(|(settings, headers, edits)| {
        Input([&settings[..], b"\n", &headers, b"\n", &edits].concat())
    })
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn chains_of_all_kinds_tell_their_members_what_they_must(input in chain()) {
        fuzz::chain(&input.0);
    }

    #[test]
    fn whatever_a_filter_answers_the_client_stays_within_the_agreement(input in client()) {
        fuzz::client(&input.0);
    }

    #[test]
    fn one_plan_does_what_filters_did_one_after_the_other(input in planner()) {
        fuzz::planner(&input.0);
    }

    #[test]
    fn whatever_a_milter_does_each_call_of_the_client_ends(input in network()) {
        fuzz::network(&input.0);
    }
}
