//! What the programs say to their command lines, and their exit codes.

use std::fs;
use std::process::{Command, Output};

const PROGRAMS: [&str; 10] = [
    env!("CARGO_BIN_EXE_add-headers"),
    env!("CARGO_BIN_EXE_archive"),
    env!("CARGO_BIN_EXE_disclaimer"),
    env!("CARGO_BIN_EXE_reject-list"),
    env!("CARGO_BIN_EXE_stack"),
    env!("CARGO_BIN_EXE_stamp"),
    env!("CARGO_BIN_EXE_hello"),
    env!("CARGO_BIN_EXE_milter-trace"),
    env!("CARGO_BIN_EXE_proxy"),
    env!("CARGO_BIN_EXE_production"),
];
const TRACE: &str = PROGRAMS[7];
const PROXY: &str = PROGRAMS[8];
const PRODUCTION: &str = PROGRAMS[9];

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
        assert!(said.contains("inet:10025@127.0.0.1"), "{program}: {said}");
        let (code, said) = run(program, &["--version"]);
        let (_, name) = program.rsplit_once('/').unwrap();
        assert_eq!(code, Some(0), "{program}: {said}");
        assert!(said.starts_with(&format!("{name} 0.")), "{program}: {said}");
        let (code, said) = run(program, &["--nonsense"]);
        assert_eq!(code, Some(2), "{program}: {said}");
        assert!(said.contains("--nonsense"), "{program}: {said}");
    }
}

#[test]
fn the_checker_tells_how_it_is_used() {
    let program = env!("CARGO_BIN_EXE_milter-check");
    let (code, said) = run(program, &["--help"]);
    assert_eq!(code, Some(0), "{said}");
    for wanted in [
        "Usage: milter-check [OPTIONS] <ADDRESS> [FILE]...",
        "The client that sends the mail:",
        "What is shown:",
        "--bench <N>",
        "Examples:",
        "Exit codes:",
        "  69  the milter cannot be connected to",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let (code, said) = run(program, &["--version"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("milter-check 0."), "{said}");
    for args in [&[][..], &["127.0.0.1:1", "--client", "nobody"], &["10025"]] {
        let (code, said) = run(program, args);
        assert_eq!(code, Some(2), "{args:?}: {said}");
        assert!(said.starts_with("error: "), "{args:?}: {said}");
    }
}

#[test]
fn a_wrong_command_line_is_told_as_such() {
    for (program, args) in [
        (PROGRAMS[0], &[][..]),
        (PROGRAMS[2], &["--text", "x", "--marker", "a b"]),
        (
            PROGRAMS[2],
            &["--text", "x", "--sender-domain", "@example.org"],
        ),
        (PROGRAMS[2], &["--text", "x", "--max-size", "0"]),
        (PROGRAMS[5], &["--name", "X Bad:"]),
        (TRACE, &[]),
        (TRACE, &["--to", "nowhere"]),
        (TRACE, &["--to", "unix:/x", "--show", "x"]),
        (TRACE, &["--to", "unix:/x", "--color", "blue"]),
        (PROXY, &[]),
        (PROXY, &["--to", "localhost"]),
        (PRODUCTION, &["--status", "here"]),
        (PRODUCTION, &["--remote", "inet:1@127.0.0.1"]),
        (PRODUCTION, &["--log-addresses", "hash"]),
    ] {
        let (code, said) = run(program, args);
        assert_eq!(code, Some(2), "{program} {args:?}: {said}");
        assert!(said.starts_with("error: "), "{program} {args:?}: {said}");
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
    let socket = format!("unix:{}", path("socket"));
    let [add_headers, archive, disclaimer, reject_list, stack, ..] = PROGRAMS;
    for (program, args, wanted) in [
        (
            add_headers,
            &["--rules", &empty][..],
            "error: nothing is to be done",
        ),
        (
            add_headers,
            &["--rules", &broken],
            "broken: line 2: \"nonsense\" is none of",
        ),
        (archive, &["--maildir", &below_a_file], "empty/archive: "),
        (disclaimer, &["--text", &missing], "missing: No such file"),
        (disclaimer, &["--text", &empty], "empty: it is empty"),
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
        (
            TRACE,
            &["--listen", &socket, "--to", "unix:/x", "--record", &empty],
            "(os error 17); a recording is not written over",
        ),
        (
            TRACE,
            &["--listen", &socket, "--to", &socket],
            "/socket is where this listens",
        ),
        (
            PROXY,
            &["--listen", &socket, "--to", "unix:/x", "--to", &socket],
            "/socket is where this listens",
        ),
        (
            PRODUCTION,
            &["--recipients", &missing],
            "missing: No such file",
        ),
        (
            PRODUCTION,
            &["--recipients", &broken],
            "broken: line 2: \"nonsense\" is no address",
        ),
        (
            PRODUCTION,
            &["--log-addresses", "hash", "--log-key", &empty],
            "empty: a key has 16 bytes at least",
        ),
        (PRODUCTION, &["--log", "a=b=c"], "--log: "),
        (TRACE, &["--show", &missing], "missing: No such file"),
        (
            TRACE,
            &["--show", &broken],
            "broken: line 1: this is no recording",
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
    let name = list.to_str().unwrap();
    let check = || run(PROGRAMS[3], &["--list", name, "--check"]);
    assert_eq!(check(), (Some(0), format!("{name}: 2 entries\n")));
    fs::write(&list, "sender <> ok\n").unwrap();
    assert_eq!(check(), (Some(0), format!("{name}: 1 entry\n")));
    fs::write(&list, "# later\n").unwrap();
    let said = format!("{name}: no entries, nothing is refused\n");
    assert_eq!(check(), (Some(0), said));
    fs::write(&list, "what\nsender <>\nsender bob\n").unwrap();
    let (code, said) = check();
    assert_eq!(code, Some(1));
    let ends = format!("error: {name}: 2 lines cannot be used\n");
    assert!(
        said.contains("list: line 1: ") && said.contains("list: line 3: "),
        "{said}"
    );
    assert!(said.ends_with(&ends), "{said}");
}

#[test]
fn a_recording_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("recording");
    let recording = "milter-recording 1\n\
        1 0.000000 > M <a@example.org>\\0\n\
        2 0.000200 > Q\n\
        1 0.001000 < r\n";
    fs::write(&file, recording).unwrap();
    let shown = run(TRACE, &["--show", file.to_str().unwrap()]);
    let lines = "    0.000 #1 -> MAIL <a@example.org>\n    \
        0.001 #1 <- REJECT (1.00 ms)\n    \
        0.000 #2 -> QUIT\n";
    assert_eq!(shown, (Some(0), lines.to_owned()));
    let args = ["--color", "always", "--show", file.to_str().unwrap()];
    let (code, shown) = run(TRACE, &args);
    assert_eq!(code, Some(0));
    assert!(
        shown.contains("\x1b[31mREJECT (1.00 ms)\x1b[0m\n"),
        "{shown}"
    );
}
