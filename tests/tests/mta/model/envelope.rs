//! Senders changed, and quarantine.

use milter_core::Modification;
use milter_tests::mail::BOB;
use milter_tests::rig::Setup;

use super::{Case, compare, raw};
use crate::group::{Cases, on_both};

on_both! {
    of_senders: Setup::scripted(1);
    of_quarantine: Setup::scripted(1);
}

fn change(address: &str, args: &str) -> Modification {
    Modification::change_sender_with_args(address, args).unwrap()
}

fn of_senders(cases: &mut Cases) {
    const DAVE: &str = "<dave@example.org>";
    const EVE: &str = "<eve@example.org>";
    let from_client = ["", "RET=HDRS ENVID=client", "RET=FULL", "BODY=8BITMIME"];
    let edits = [
        ("changed", vec![change(DAVE, "")]),
        ("changed without <>", vec![raw(b'e', b"dave@example.org\0")]),
        (
            "changed to a long one",
            vec![change(
                "<a.name.that.is.much.longer.than.that.of.the.client@mail.example.org>",
                "",
            )],
        ),
        ("changed to the null sender", vec![change("<>", "")]),
        ("null, then back", vec![change("<>", ""), change(DAVE, "")]),
        ("changed twice", vec![change(DAVE, ""), change(EVE, "")]),
        ("quotes", vec![change("<\"two words\"@example.org>", "")]),
        ("arguments", vec![change(DAVE, "RET=HDRS ENVID=e42")]),
        ("one argument", vec![change(DAVE, "ENVID=e42")]),
        (
            "arguments in another case",
            vec![change(DAVE, "ret=full envid=e42")],
        ),
        ("null with arguments", vec![change("<>", "RET=HDRS")]),
        (
            "arguments, then without",
            vec![change(DAVE, "RET=HDRS ENVID=e42"), change(EVE, "")],
        ),
        (
            "without, then arguments",
            vec![change(DAVE, ""), change(EVE, "RET=HDRS")],
        ),
        (
            "an argument that none knows",
            vec![change(DAVE, "X=1 RET=HDRS")],
        ),
        (
            "a value that none knows",
            vec![change(DAVE, "RET=x ENVID=e42")],
        ),
        (
            "one argument, then another",
            vec![change(DAVE, "RET=HDRS"), change(EVE, "ENVID=e43")],
        ),
        (
            "the same argument twice",
            vec![change(DAVE, "ENVID=e42"), change(EVE, "ENVID=e43")],
        ),
    ];
    let mut list = Vec::new();
    for args in from_client {
        for (name, edits) in &edits {
            let mut case = Case::new(format!("{name}, client: {args:?}"), edits.clone());
            case.sender.1 = args;
            list.push(case);
        }
    }
    for args in [
        &b"<dave@example.org>\0RET\0"[..],
        b"<dave@example.org>\0ENVID\0",
    ] {
        let name = format!("arguments that end Sendmail: {}", args.escape_ascii());
        list.push(Case::new(name, vec![raw(b'e', args)]));
    }
    compare(cases, &list);
}

fn of_quarantine(cases: &mut Cases) {
    let added = Modification::add_recipient("<carol@example.net>").unwrap();
    let deleted = Modification::delete_recipient(BOB).unwrap();
    let quarantine = |reason: &str| Modification::quarantine(reason).unwrap();
    let long = "long ".repeat(30) + "end";
    let list = [
        Case::new("once", vec![quarantine("looks odd")]),
        Case::new("twice", vec![quarantine("first"), quarantine("second")]),
        Case::new("a long reason", vec![quarantine(&long)]),
        Case::new(
            "around an edit",
            vec![quarantine("first"), added.clone(), quarantine("second")],
        ),
        Case::new("of nobody's", vec![quarantine("of nobody's"), deleted]),
        Case::new("none", vec![added]),
    ];
    compare(cases, &list);
}
