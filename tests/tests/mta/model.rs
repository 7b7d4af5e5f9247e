//! The edit model says what the servers do: random edits through both, compared header by header.

use milter_core::edit::{self, Profile};
use milter_core::{Header, Modification, ModificationError};
use milter_tests::mail::Mail;
use milter_tests::rig::Setup;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::group::{Cases, on_both};

on_both! {
    of_random_edits: Setup::default();
}

/// How many random lists of edits are tried on each server.
const CASES: usize = 60;

#[derive(Clone, Debug)]
enum Edit {
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

    fn modification(&self) -> Result<Modification, ModificationError> {
        match self {
            Self::Add(name, value) => Modification::add_header(name, text(*value)),
            Self::Insert(at, name, value) => Modification::insert_header(*at, name, text(*value)),
            Self::Change(name, at, value) => Modification::change_header(name, *at, text(*value)),
            Self::Delete(name, at) => Modification::delete_header(name, *at),
        }
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

fn edit() -> impl Strategy<Value = Edit> {
    let value = 0..1000_u32;
    prop_oneof![
        (name(), value.clone()).prop_map(|(name, value)| Edit::Add(name, value)),
        (0..20_u32, name(), value.clone())
            .prop_map(|(at, name, value)| Edit::Insert(at, name, value)),
        (name(), 1..5_u32, value).prop_map(|(name, at, value)| Edit::Change(name, at, value)),
        (name(), 1..5_u32).prop_map(|(name, at)| Edit::Delete(name, at)),
    ]
}

fn mail() -> Mail {
    Mail::to_bob()
        .header("X-A: one")
        .header("X-B: b")
        .header("x-a: two")
        .header("X-A: three")
}

fn of_random_edits(cases: &mut Cases) {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let lists = prop::collection::vec(edit(), 1..8);
    for n in 0..CASES {
        let list = lists.new_tree(&mut runner).unwrap().current();
        cases.case(&format!("{n}: {list:?}"), |rig| {
            let orders: Vec<Vec<String>> = list.iter().map(Edit::order).collect();
            let orders: Vec<Vec<&str>> = orders
                .iter()
                .map(|words| words.iter().map(String::as_str).collect())
                .collect();
            let orders: Vec<&[&str]> = orders.iter().map(Vec::as_slice).collect();
            let outcome = rig.try_out(&orders, &mail());

            let edits = list
                .iter()
                .map(|edit| edit.modification().unwrap())
                .collect();
            let profile = rig.by_kind(Profile::postfix(), Profile::sendmail());
            let mut model = edit::Mail::new(profile).with_received(Header::new("Received", " own"));
            for (name, value) in headers_of(&mail()) {
                model = model.with_header(Header::new(name, format!(" {value}")));
            }
            model.apply(&Modification::order(edits), false).unwrap();
            let expected: Vec<(String, String)> = model
                .headers()
                .map(|header| {
                    let value = header.value().to_string();
                    (header.name().to_string(), value.trim_start().to_owned())
                })
                .collect();
            let delivered: Vec<(String, String)> = outcome
                .message()
                .headers()
                .into_iter()
                .map(|(name, value)| {
                    let is_own = name == "Received" && value.starts_with("from ");
                    (name, if is_own { "own".into() } else { value })
                })
                .collect();
            assert_eq!(delivered, expected);
        });
    }
}

fn headers_of(mail: &Mail) -> Vec<(String, String)> {
    let content = String::from_utf8(mail.content()).unwrap();
    let head = content.split("\r\n\r\n").next().unwrap_or_default();
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
