//! Recipients added and deleted.

use milter_core::Modification;
use milter_tests::mail::BOB;
use milter_tests::rig::Setup;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::{Case, compare, raw};
use crate::group::{Cases, on_both};

on_both! {
    of_recipients: Setup::scripted(1);
}

/// How many random lists of edits of the recipients are tried on each server.
const RANDOM: usize = 60;

const CAROL: &str = "<carol@example.net>";

fn add(address: &str) -> Modification {
    Modification::add_recipient(address).unwrap()
}

fn add_with(address: &str, args: &str) -> Modification {
    Modification::add_recipient_with_args(address, args).unwrap()
}

fn delete(address: &str) -> Modification {
    Modification::delete_recipient(address).unwrap()
}

/// Names and edits.
type Named = (&'static str, Vec<Modification>);

fn added() -> Vec<Named> {
    vec![
        ("added", vec![add(CAROL)]),
        ("added without <>", vec![raw(b'+', b"carol@example.net\0")]),
        ("added twice", vec![add(CAROL), add(CAROL)]),
        (
            "added in another case",
            vec![add(CAROL), add("<Carol@example.net>")],
        ),
        (
            "added with another case of the domain",
            vec![add(CAROL), add("<carol@EXAMPLE.net>")],
        ),
        ("added though there", vec![add(BOB)]),
        (
            "added though there in another case",
            vec![add("<BOB@example.net>")],
        ),
        (
            "added twice, without <>",
            vec![add(CAROL), raw(b'+', b"carol@example.net\0")],
        ),
        (
            "a list added",
            vec![raw(
                b'+',
                b"<carol@example.net>, dave@example.net,<bob@example.net>\0",
            )],
        ),
        (
            "a list with quotes added",
            vec![raw(b'+', b"<\"a,b\"@example.net>,<dave@example.net>\0")],
        ),
        (
            "a quoted local part",
            vec![add("<\"two words\"@example.net>")],
        ),
        (
            "arguments twice",
            vec![add_with(CAROL, "NOTIFY=NEVER NOTIFY=DELAY")],
        ),
        (
            "arguments",
            vec![add_with(
                CAROL,
                "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;orig@example.net",
            )],
        ),
        (
            "arguments in another case",
            vec![add_with(CAROL, "notify=never")],
        ),
        (
            "blank arguments",
            vec![raw(b'2', b"<carol@example.net>\0 \0")],
        ),
        (
            "arguments, then without",
            vec![add_with(CAROL, "NOTIFY=NEVER"), add(CAROL)],
        ),
        (
            "without arguments, then with",
            vec![add(CAROL), add_with(CAROL, "NOTIFY=NEVER")],
        ),
        (
            "other arguments",
            vec![
                add_with(CAROL, "NOTIFY=NEVER"),
                add_with(CAROL, "NOTIFY=DELAY"),
            ],
        ),
        (
            "arguments for one that is there",
            vec![add_with(BOB, "NOTIFY=NEVER")],
        ),
    ]
}

fn deleted() -> Vec<Named> {
    vec![
        ("deleted", vec![delete(BOB)]),
        ("deleted without <>", vec![raw(b'-', b"bob@example.net\0")]),
        ("deleted in another case", vec![delete("<BOB@example.net>")]),
        (
            "deleted with another case of the domain",
            vec![delete("<bob@EXAMPLE.NET>")],
        ),
        ("deleted though not there", vec![delete(CAROL)]),
        ("deleted twice", vec![delete(BOB), delete(BOB)]),
        (
            "a list deleted",
            vec![
                add(CAROL),
                raw(b'-', b"<carol@example.net>,<bob@example.net>\0"),
            ],
        ),
        ("added, then deleted", vec![add(CAROL), delete(CAROL)]),
        ("deleted, then added", vec![delete(BOB), add(BOB)]),
        (
            "deleted, added, deleted",
            vec![delete(BOB), add(BOB), delete(BOB)],
        ),
        (
            "deleted, then added in another case",
            vec![delete(BOB), add("<BOB@example.net>")],
        ),
        (
            "deleted in another case, then added",
            vec![delete("<BOB@example.net>"), add(BOB)],
        ),
        (
            "added, deleted in another case, added",
            vec![add(CAROL), delete("<Carol@example.net>"), add(CAROL)],
        ),
        (
            "deleted, then added with arguments",
            vec![delete(BOB), add_with(BOB, "NOTIFY=NEVER")],
        ),
        (
            "added with arguments, deleted, added",
            vec![
                add_with(CAROL, "NOTIFY=SUCCESS ORCPT=rfc822;orig@example.net"),
                delete(CAROL),
                add(CAROL),
            ],
        ),
        (
            "added, deleted, added with arguments",
            vec![
                add_with(CAROL, "NOTIFY=SUCCESS ORCPT=rfc822;orig@example.net"),
                delete(CAROL),
                add_with(CAROL, "NOTIFY=DELAY ORCPT=rfc822;new@example.net"),
            ],
        ),
    ]
}

/// The same address that the client gave with other arguments, or several times.
fn given_by_the_client() -> Vec<Case> {
    let case = |(name, recipients, edits): (&str, Vec<_>, _)| Case {
        recipients,
        ..Case::new(name, edits)
    };
    [
        (
            "the client's arguments",
            vec![(BOB, "NOTIFY=NEVER ORCPT=rfc822;o@example.net")],
            vec![add(CAROL)],
        ),
        (
            "the client's arguments, added again",
            vec![(BOB, "NOTIFY=NEVER")],
            vec![add(BOB)],
        ),
        (
            "the client's arguments, deleted and added",
            vec![(BOB, "NOTIFY=SUCCESS")],
            vec![delete(BOB), add(BOB)],
        ),
        (
            "twice by the client",
            vec![(BOB, ""), (CAROL, ""), (BOB, "")],
            vec![delete(CAROL)],
        ),
        (
            "twice by the client, deleted",
            vec![(BOB, ""), (CAROL, ""), (BOB, "")],
            vec![delete(BOB)],
        ),
    ]
    .map(case)
    .to_vec()
}

/// Few addresses, so that they meet.
fn random() -> impl Strategy<Value = Vec<Modification>> {
    let address = prop::sample::select(vec![
        BOB,
        CAROL,
        "<BOB@example.net>",
        "<Carol@example.net>",
        "<dave@example.net>",
        "<eve@Example.org>",
        "<eve@example.org>",
    ]);
    let args = prop::sample::select(vec![
        "NOTIFY=NEVER",
        "NOTIFY=SUCCESS,FAILURE",
        "ORCPT=rfc822;orig@example.net",
        "NOTIFY=DELAY ORCPT=rfc822;orig@example.net",
    ]);
    let edit = prop_oneof![
        3 => address.clone().prop_map(add),
        1 => (address.clone(), args).prop_map(|(address, args)| add_with(address, args)),
        3 => address.prop_map(delete),
    ];
    prop::collection::vec(edit, 1..8)
}

fn of_recipients(cases: &mut Cases) {
    let chosen = added().into_iter().chain(deleted());
    let mut list: Vec<Case> = chosen.map(|(name, edits)| Case::new(name, edits)).collect();
    list.extend(given_by_the_client());
    for args in ["X=1 NOTIFY=NEVER", "NOTIFY=NEVER,DELAY"] {
        let edits = vec![add_with(CAROL, args), add("<dave@example.net>")];
        let mut case = Case::new(format!("arguments that none knows: {args}"), edits);
        // sendmail/milter.c milter_addrcpt_par: what it has to say goes to the client
        case.is_garbled = cases.rig.by_kind(false, true);
        list.push(case);
    }
    for arguments in [
        &b"<carol@example.net>\0ORCPT=none\0"[..],
        b"<carol@example.net>\0NOTIFY\0",
    ] {
        let name = format!("arguments that end Sendmail: {}", arguments.escape_ascii());
        list.push(Case::new(name, vec![raw(b'2', arguments)]));
    }
    let mut runner = super::runner();
    for n in 0..RANDOM {
        let edits = random().new_tree(&mut runner).unwrap().current();
        let mut case = Case::new(format!("{n}: {edits:?}"), edits);
        case.recipients.push(("<eve@example.org>", ""));
        list.push(case);
    }
    compare(cases, &list);
}
