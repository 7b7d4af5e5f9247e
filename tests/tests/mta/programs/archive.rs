//! The program `archive`: a mail that is accepted is on the disk, and no other one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use milter_tests::address::Address;
use milter_tests::mail::{self, Mail};
use milter_tests::mta::Kind;
use milter_tests::process::{self, Filter};
use milter_tests::wait::PATIENCE;

use super::Rig;

#[test]
fn postfix() {
    keeps(Kind::Postfix);
}

#[test]
fn sendmail() {
    keeps(Kind::Sendmail);
}

/// What a file of the archive may take, in blocks of 512 bytes.
const BLOCKS: usize = 400;

/// The program, with files of a limited size in the place of a disk of one.
fn start(address: &Address, maildir: &Path) -> Filter {
    let script = format!("trap '' XFSZ; ulimit -f {BLOCKS}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    command.arg(process::program("archive"));
    command.args(["--listen", &address.to_string(), "--maildir"]);
    Filter::start_command(command.arg(maildir), address)
}

fn files(folder: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn keeps(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let maildir = dir.path().join("archive");
    let Some(rig) = Rig::start(kind, |address| start(address, &maildir)) else {
        return;
    };
    let folder = |name: &str| files(maildir.join(name));
    let body = mail::fill(64 * 1500);
    let mail = Mail::to_bob()
        .recipient("<carol@example.net>")
        .header("X-Folded:  a\r\n\tb")
        .body(body.clone());
    let smtp = rig.send(&mail);
    // It is there when the client hears so.
    let kept = folder("new");
    assert!(
        smtp.accepted() && kept.len() == 1,
        "{smtp:?}\n{}",
        rig.report()
    );
    rig.sink.take(1, PATIENCE).unwrap();
    let text = fs::read_to_string(&kept[0]).unwrap();
    let (head, rest) = text.split_once("\n\n").unwrap();
    let head: Vec<&str> = head.lines().collect();
    assert_eq!(
        head[..4],
        [
            "Return-Path: <alice@example.org>",
            "X-Original-To: <bob@example.net>",
            "X-Original-To: <carol@example.net>",
            "From: Alice <alice@example.org>",
        ]
    );
    assert_eq!(head[head.len() - 2..], ["X-Folded:  a", "\tb"]);
    assert_eq!(rest, String::from_utf8(body).unwrap().replace("\r\n", "\n"));

    let large = Mail::to_bob().body(mail::fill(BLOCKS * 512 * 2));
    let smtp = rig.send(&large);
    let last = smtp.last().unwrap();
    assert_eq!(last.code, 452, "{smtp:?}\n{}", rig.report());
    assert!(
        last.text().ends_with("4.3.1 The archive is full"),
        "{smtp:?}"
    );
    assert!(folder("tmp").is_empty());
    assert_eq!(folder("new"), kept);

    // The next one is kept again.
    rig.deliver(&Mail::to_bob());
    assert_eq!(folder("new").len(), 2);
    assert!(rig.sink.take_all().is_empty());
    rig.stop();
}
