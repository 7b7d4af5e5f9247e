//! What the programs say to their command lines, and their exit codes.

use std::fs;
use std::process::{Command, Output};

const PROGRAMS: [&str; 5] = [
    env!("CARGO_BIN_EXE_add-headers"),
    env!("CARGO_BIN_EXE_archive"),
    env!("CARGO_BIN_EXE_disclaimer"),
    env!("CARGO_BIN_EXE_reject-list"),
    env!("CARGO_BIN_EXE_stack"),
];

/// Runs a program that ends by itself.
fn run(program: &str, args: &[&str]) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8([stdout, stderr].concat()).unwrap();
    (status.code(), said)
}

#[test]
fn each_tells_how_it_is_used() {
    for program in PROGRAMS {
        let (code, said) = run(program, &["--help"]);
        assert_eq!(code, Some(0), "{program}: {said}");
        assert!(said.contains("--listen <ADDRESS>"), "{program}: {said}");
        let (code, said) = run(program, &["--nonsense"]);
        assert_eq!(code, Some(2), "{program}: {said}");
        assert!(said.contains("--nonsense"), "{program}: {said}");
    }
}

#[test]
fn each_tells_what_it_cannot_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (broken, empty, missing) = (path("broken"), path("empty"), path("missing"));
    fs::write(&broken, "# fine\nnonsense here\n").unwrap();
    fs::write(&empty, "\n").unwrap();
    let below_a_file = path("empty/archive");
    let [add_headers, archive, disclaimer, reject_list, stack] = PROGRAMS;
    for (program, args, wanted) in [
        (add_headers, &[][..], "error: nothing is to be done"),
        (
            add_headers,
            &["--rules", &broken],
            "broken: line 2: \"nonsense\" is none of",
        ),
        (archive, &["--maildir", &below_a_file], "empty/archive: "),
        (disclaimer, &["--text", &missing], "missing: No such file"),
        (
            disclaimer,
            &["--text", &empty],
            "error: the footer, the text: it is empty",
        ),
        (
            disclaimer,
            &["--text", &broken, "--marker", "a b"],
            "error: ",
        ),
        (reject_list, &["--list", &missing], "missing: No such file"),
        (stack, &["--block", "192.0.2"], "\"192.0.2\" is no network"),
        (
            reject_list,
            &["--list", &broken],
            "broken: line 2: \"nonsense\" is none of",
        ),
        (
            reject_list,
            &["--list", &broken, "--check"],
            "broken: line 2: ",
        ),
        (
            reject_list,
            &["--list", &empty, "--listen", "unix:/nowhere/socket"],
            "/nowhere",
        ),
    ] {
        let (code, said) = run(program, args);
        assert_eq!(code, Some(1), "{program} {args:?}: {said}");
        assert!(said.contains(wanted), "{program} {args:?}: {said}");
    }
}

#[test]
fn a_list_can_be_looked_at_beforehand() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("list");
    fs::write(&list, "client 192.0.2.0/24\nsender <> ok\n").unwrap();
    let list = list.to_str().unwrap();
    let (code, said) = run(PROGRAMS[3], &["--list", list, "--check"]);
    assert_eq!((code, said), (Some(0), format!("{list}: 2 entries\n")));
}
