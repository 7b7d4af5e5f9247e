//! The program `compare`: one short round, of which a table and a file come out.

use std::path::Path;
use std::process::{Command, Stdio};

use milter_tests::mta;

#[test]
fn a_short_round_gives_figures_for_each_server() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("figures.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_compare"));
    command
        .args(["--rounds", "1", "--seconds", "0.05", "--connections", "2"])
        .args(["--scenarios", "addheader,nr", "--json"])
        .arg(&json)
        .stdin(Stdio::null());
    let mut servers = vec![
        "floor",
        "milter-tower, one thread",
        "milter-tower, default runtime",
    ];
    if mta::require_file(Path::new("/usr/include/libmilter/mfapi.h"), "libmilter-dev") {
        servers.push("libmilter");
    } else {
        command.arg("--without-libmilter");
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    let table = String::from_utf8(output.stdout).unwrap();
    for server in &servers {
        // A row of each of both scenarios, and one of memory.
        let rows: Vec<&str> = table
            .lines()
            .filter(|row| row.split('|').any(|cell| cell.trim() == *server))
            .collect();
        assert_eq!(rows.len(), 3, "{server}:\n{table}");
        assert!(
            !rows
                .iter()
                .any(|row| row.contains("NaN") || row.contains("inf")),
            "{rows:?}"
        );
    }
    let again = Command::new(env!("CARGO_BIN_EXE_compare"))
        .arg("--from")
        .arg(&json)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(again.stdout).unwrap(), table);
}
