//! The program `soak` works. What it says about a server that runs for long needs a longer run.

use std::process::Command;

#[test]
fn a_short_soak_ends_well() {
    let output = Command::new(env!("CARGO_BIN_EXE_soak"))
        .args(["--seconds", "3", "--every", "1", "--clients", "8"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("seed ") && text.contains("\nall was well\n"),
        "{text}"
    );
    let descriptors = text
        .lines()
        .find_map(|line| line.strip_prefix("descriptors: "))
        .expect("a line about descriptors");
    let counts: Vec<u32> = descriptors
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|word| word.parse().ok())
        .collect();
    assert!(counts[1] <= counts[0], "{descriptors}");
}
