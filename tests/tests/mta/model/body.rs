//! New bodies.

use milter_core::Modification;
use milter_tests::mail;
use milter_tests::rig::Setup;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::{Case, compare};
use crate::group::{Cases, on_both};

on_both! {
    of_bodies: Setup::scripted(1);
    of_bodies_for_the_next: Setup::scripted(2);
}

/// How many random bodies are tried on each server.
const RANDOM: usize = 40;

fn pieces(pieces: &[&[u8]]) -> Vec<Modification> {
    let pieces = pieces.iter();
    pieces
        .map(|piece| Modification::replace_body(piece.to_vec()))
        .collect()
}

/// Pieces with a header between the first and the others.
fn interrupted(all: &[&[u8]]) -> Vec<Modification> {
    let mut edits = pieces(all);
    edits.insert(1, Modification::add_header("X-A", "between").unwrap());
    edits
}

fn chosen() -> Vec<Case> {
    let bodies: &[(&str, &[&[u8]])] = &[
        ("one piece", &[b"one\r\ntwo\r\n"]),
        ("several pieces", &[b"one", b" and\r\n", b"two\r\n"]),
        ("empty", &[b""]),
        ("empty twice", &[b"", b""]),
        ("empty, then not", &[b"", b"one\r\n"]),
        ("no line end", &[b"one"]),
        ("no line end behind a line", &[b"one\r\ntwo"]),
        ("only a line end", &[b"\r\n"]),
        ("empty lines at the end", &[b"one\r\n\r\n\r\n"]),
        ("bare LF", &[b"one\ntwo\n\nthree\n"]),
        ("bare CR", &[b"one\rtwo\r\n"]),
        ("CR at the end", &[b"one\r"]),
        ("CR alone", &[b"\r"]),
        ("CR before CRLF", &[b"one\r\r\ntwo\r\r\r\n"]),
        ("CRLF cut", &[b"one\r", b"\ntwo\r", b"\n"]),
        ("CRLF cut by an empty piece", &[b"one\r", b"", b"\ntwo\r\n"]),
        ("CR, then CRLF in the next", &[b"one\r", b"\r\ntwo\r\n"]),
        ("CR in pieces", &[b"one\r", b"\r", b"\n"]),
        (
            "CR at the end of a piece, then text",
            &[b"one\r", b"two\r\n"],
        ),
        ("LF, then CR", &[b"one\n\rtwo\r\n"]),
        ("dots", &[b".\r\n..\r\n.one\r\n\r\n.\r\n"]),
        ("a dot alone", &[b"."]),
        ("a dot cut from its line end", &[b"one\r\n.", b"\r\ntwo"]),
        ("8-bit bytes", &[b"gr\xfc\xdfe \xc3\xbc \x80\xff\r\n"]),
        ("control characters", &[b"\x01\t\x0b\x0c\x1b\x7f\r\n"]),
        ("NUL", &[b"one\0two\r\n"]),
        ("looks like headers", &[b"Subject: x\r\n\r\nFrom me\r\n"]),
        ("From at a line", &[b"From me\r\nFrom you\r\n"]),
    ];
    let mut cases: Vec<Case> = bodies
        .iter()
        .map(|(name, body)| Case::new(*name, pieces(body)))
        .collect();
    for (name, size) in [("65,535", 65_535), ("65,536", 65_536), ("300,000", 300_000)] {
        cases.push(Case::new(
            format!("{name} bytes"),
            vec![Modification::replace_body(mail::fill(size))],
        ));
    }
    cases.push(Case::new("CRLF cut by a full frame", {
        let mut body = mail::fill(65_534 - 62);
        body.truncate(65_534 - 64);
        body.extend(vec![b'y'; 64]);
        body.extend(b"\r\nz\r\n");
        vec![Modification::replace_body(body)]
    }));
    cases.push(Case::new(
        "interrupted",
        interrupted(&[b"one\r\n", b"two\r\n"]),
    ));
    cases.push(Case::new(
        "interrupted, put in order",
        Modification::order(interrupted(&[b"one\r\n", b"two\r\n"])),
    ));
    cases.push(Case::new(
        "interrupted within CRLF",
        interrupted(&[b"one\r", b"\ntwo\r\n"]),
    ));
    cases.push(Case::new("a run, then other edits", {
        let mut edits = pieces(&[b"one\r\n", b"two\r\n"]);
        edits.push(Modification::add_header("X-A", "behind").unwrap());
        edits
    }));
    cases
}

/// Few kinds of bytes, so that line ends meet.
fn random() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let word = prop_oneof![
        Just(&b"\r"[..]),
        Just(&b"\n"[..]),
        Just(&b"\r\n"[..]),
        Just(&b"."[..]),
        Just(&b"text"[..]),
        Just(&b"\xe9"[..]),
        Just(&b" "[..]),
    ];
    let piece = prop::collection::vec(word, 0..8).prop_map(|words| words.concat());
    prop::collection::vec(piece, 1..5)
}

fn of_bodies(cases: &mut Cases) {
    let mut list = chosen();
    let mut runner = super::runner();
    for n in 0..RANDOM {
        let body = random().new_tree(&mut runner).unwrap().current();
        let body: Vec<&[u8]> = body.iter().map(Vec::as_slice).collect();
        let name = body.iter().map(|piece| piece.escape_ascii().to_string());
        let name = format!("{n}: {:?}", name.collect::<Vec<_>>());
        list.push(Case::new(name, pieces(&body)));
    }
    compare(cases, &list);
}

fn of_bodies_for_the_next(cases: &mut Cases) {
    let list = [
        Case::new("the first's", pieces(&[b"one\ntwo\rthree\r\n"])).then(Vec::new()),
        Case::new("both", pieces(&[b"one\r\n"])).then(pieces(&[b"two\r\n"])),
        Case::new("the second's, longer", pieces(&[b"1\r\n"])).then(pieces(&[&mail::fill(70_000)])),
        Case::new("an empty one", pieces(&[b""])).then(Vec::new()),
        Case::new("an empty one, then not", pieces(&[b""])).then(pieces(&[b"two\r\n"])),
        Case::new("each in a run of its own", interrupted(&[b"one\r\n"])).then(pieces(&[b"two"])),
        Case::new("no line end", pieces(&[b"one\r\ntwo"])).then(Vec::new()),
        Case::new("CR at the end", pieces(&[b"one\r"])).then(pieces(&[b"\ntwo\r\n"])),
    ];
    compare(cases, &list);
}
