//! Everything together, by one filter and by two.

use milter_core::Modification;
use milter_tests::rig::Setup;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::{Case, compare, headers};
use crate::group::{Cases, on_both};

on_both! {
    of_mixed_edits: Setup::scripted(1);
    of_two_filters: Setup::scripted(2);
}

/// How many random lists of edits are tried on each server, as they are and put in order.
const RANDOM: usize = 40;

/// How many pairs of filters.
const PAIRS: usize = 30;

fn edit() -> impl Strategy<Value = Modification> {
    let of_headers = headers::edit().prop_map(|edit| edit.modification());
    let address = prop::sample::select(vec![
        "<bob@example.net>",
        "<carol@example.net>",
        "<Carol@example.net>",
        "<eve@example.org>",
    ]);
    let sender = prop::sample::select(vec!["<>", "<dave@example.org>", "<eve@example.org>"]);
    let args = prop::sample::select(vec!["", "RET=HDRS", "ENVID=e1", "RET=FULL ENVID=e2"]);
    let piece = prop::sample::select(vec!["", "one", "two\r", "\nthree\r\n", ".\n", "\r\n"]);
    let valid = |edit: Result<_, _>| edit.expect("a valid modification");
    prop_oneof![
        8 => of_headers,
        2 => address.clone().prop_map(move |to| valid(Modification::add_recipient(to))),
        2 => address.prop_map(move |to| valid(Modification::delete_recipient(to))),
        2 => (sender, args).prop_map(move |(from, args)| {
            valid(Modification::change_sender_with_args(from, args))
        }),
        3 => piece.prop_map(Modification::replace_body),
    ]
}

fn edits() -> impl Strategy<Value = Vec<Modification>> {
    prop::collection::vec(edit(), 1..10)
}

/// A mail of which there is something to change.
fn case(name: String, edits: Vec<Modification>) -> Case {
    let mut case = Case::new(name, edits);
    case.recipients
        .push(("<eve@example.org>", "NOTIFY=FAILURE"));
    case.headers = headers::LINES.map(str::to_owned).to_vec();
    case
}

fn of_mixed_edits(cases: &mut Cases) {
    let mut runner = super::runner();
    let mut list = Vec::new();
    for n in 0..RANDOM {
        let edits = edits().new_tree(&mut runner).unwrap().current();
        list.push(case(format!("{n}: {edits:?}"), edits.clone()));
        let ordered = Modification::order(edits);
        list.push(case(format!("{n}, in order: {ordered:?}"), ordered));
    }
    compare(cases, &list);
}

fn of_two_filters(cases: &mut Cases) {
    let mut runner = super::runner();
    let mut list = Vec::new();
    for n in 0..PAIRS {
        let mut edits = || {
            let edits = edits().new_tree(&mut runner).unwrap().current();
            Modification::order(edits)
        };
        let (first, second) = (edits(), edits());
        list.push(case(format!("{n}: {first:?}, then {second:?}"), first).then(second));
    }
    compare(cases, &list);
}
