//! Changes of headers.

use milter_core::Modification;
use milter_core::edit::Profile;
use milter_tests::rig::Setup;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::seen::Seen;
use super::{Case, compare};
use crate::group::{Cases, on_both};

on_both! {
    of_random_edits: Setup::scripted(1);
    by_the_library: Setup::default();
}

/// How many random lists of edits are tried on each server.
const CASES: usize = 60;

/// How many go through the program `control`, and so through the library.
const BY_THE_LIBRARY: usize = 12;

#[derive(Clone, Debug)]
pub(super) enum Edit {
    Add(&'static str, u32),
    Insert(u32, &'static str, u32),
    Change(&'static str, u32, u32),
    Delete(&'static str, u32),
}

impl Edit {
    fn order(&self) -> Vec<String> {
        let words: Vec<String> = match self {
            Self::Add(name, value) => vec!["addheader".into(), (*name).into(), text(*value)],
            Self::Insert(at, name, value) => {
                vec![
                    "insheader".into(),
                    at.to_string(),
                    (*name).into(),
                    text(*value),
                ]
            }
            Self::Change(name, at, value) => {
                vec![
                    "chgheader".into(),
                    (*name).into(),
                    at.to_string(),
                    text(*value),
                ]
            }
            Self::Delete(name, at) => {
                vec![
                    "chgheader".into(),
                    (*name).into(),
                    at.to_string(),
                    String::new(),
                ]
            }
        };
        std::iter::once("eom".to_owned()).chain(words).collect()
    }

    pub(super) fn modification(&self) -> Modification {
        let edit = match self {
            Self::Add(name, value) => Modification::add_header(name, text(*value)),
            Self::Insert(at, name, value) => Modification::insert_header(*at, name, text(*value)),
            Self::Change(name, at, value) => Modification::change_header(name, *at, text(*value)),
            Self::Delete(name, at) => Modification::delete_header(name, *at),
        };
        edit.expect("a valid modification")
    }
}

fn text(value: u32) -> String {
    format!("new {value}")
}

/// Names of which there are none, one or several, also of the servers' own.
fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "X-A",
        "x-a",
        "X-B",
        "X-None",
        "Subject",
        "Date",
        "Message-Id",
        "Received",
        "Resent-Date",
    ])
}

pub(super) fn edit() -> impl Strategy<Value = Edit> {
    let value = 0..1000_u32;
    prop_oneof![
        (name(), value.clone()).prop_map(|(name, value)| Edit::Add(name, value)),
        (0..20_u32, name(), value.clone())
            .prop_map(|(at, name, value)| Edit::Insert(at, name, value)),
        (name(), 1..5_u32, value).prop_map(|(name, at, value)| Edit::Change(name, at, value)),
        (name(), 1..5_u32).prop_map(|(name, at)| Edit::Delete(name, at)),
    ]
}

/// Beside the usual headers.
pub(super) const LINES: [&str; 4] = ["X-A: one", "X-B: b", "x-a: two", "X-A: three"];

fn case(name: String, edits: Vec<Modification>) -> Case {
    let mut case = Case::new(name, edits);
    case.headers = LINES.map(str::to_owned).to_vec();
    case
}

fn lists(count: usize) -> Vec<Vec<Edit>> {
    let mut runner = super::runner();
    let lists = prop::collection::vec(edit(), 1..8);
    let mut list = || lists.new_tree(&mut runner).unwrap().current();
    (0..count).map(|_| list()).collect()
}

fn of_random_edits(cases: &mut Cases) {
    let mut list = Vec::new();
    for (n, edits) in lists(CASES).iter().enumerate() {
        let edits: Vec<_> = edits.iter().map(Edit::modification).collect();
        list.push(case(format!("{n}: {edits:?}"), edits.clone()));
        let ordered = Modification::order(edits);
        list.push(case(format!("{n}, in order: {ordered:?}"), ordered));
    }
    compare(cases, &list);
}

fn by_the_library(cases: &mut Cases) {
    for (n, list) in lists(BY_THE_LIBRARY).iter().enumerate() {
        cases.case(&format!("{n}: {list:?}"), |rig| {
            let edits = list.iter().map(Edit::modification).collect();
            let case = case(String::new(), Modification::order(edits));
            let orders: Vec<Vec<String>> = list.iter().map(Edit::order).collect();
            let orders: Vec<Vec<&str>> = orders
                .iter()
                .map(|words| words.iter().map(String::as_str).collect())
                .collect();
            let orders: Vec<&[&str]> = orders.iter().map(Vec::as_slice).collect();
            let outcome = rig.try_out(&orders, &case.mail(0));
            let profile = rig.by_kind(Profile::postfix(), Profile::sendmail());
            let stages = case.modelled(&profile, 0).unwrap();
            Seen::new(rig, outcome.delivered).assert_is(0, &stages[1]);
        });
    }
}
