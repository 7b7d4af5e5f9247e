//! `CONFORMANCE.md` against the code: every check and quirk has its row, every place is there.

use std::collections::HashMap;
use std::path::Path;

const PAGE: &str = include_str!("../CONFORMANCE.md");

/// The rows' first cells that begin with this letter.
fn rows(letter: char) -> Vec<String> {
    let first = PAGE.lines().filter_map(|line| line.split('|').nth(1));
    first
        .map(str::trim)
        .filter(|cell| {
            let number = cell.strip_prefix(letter);
            number.is_some_and(|n| n.parse::<u8>().is_ok())
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_check_and_quirk_has_one_row() {
    for (letter, last) in [('C', 100), ('Q', 36)] {
        let want: Vec<String> = (1..=last).map(|n| format!("{letter}{n}")).collect();
        assert_eq!(rows(letter), want);
    }
}

#[test]
fn every_place_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = HashMap::new();
    let mut places = 0;
    // What stands between backticks.
    for code in PAGE.split('`').skip(1).step_by(2) {
        let (file, test) = code.split_once(": ").unwrap_or((code, ""));
        if Path::new(file).extension().is_none_or(|ext| ext != "rs") {
            continue;
        }
        let source = files.entry(file).or_insert_with(|| {
            std::fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
        });
        let is_there = test.is_empty() || source.contains(&format!("fn {test}("));
        assert!(is_there, "{file} has no {test}");
        places += 1;
    }
    assert!(places > 100, "{places}");
}
