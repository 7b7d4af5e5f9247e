//! What a filter makes of its list of headers is what the servers deliver: random edits of the
//! list, planned for each and sent through it.

use std::fmt::Write as _;

use milter_core::edit::{self, Profile, Unplaceable};
use milter_core::{Header, Modification, ModificationKind};
use milter_tests::mail::Mail;
use milter_tests::rig::{Rig, Setup};
use milter_tower::Headers;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::group::{Cases, on_both};

on_both! {
    without_leading_space: Setup::default();
    with_leading_space: Setup::default();
}

/// How many random lists of edits are tried on each server.
const CASES: usize = 60;

/// An edit of the list. Each that names a header means the n-th of that name.
#[derive(Clone, Debug)]
enum Edit {
    Prepend(&'static str, &'static str),
    Append(&'static str, &'static str),
    Before(&'static str, usize, &'static str, &'static str),
    After(&'static str, usize, &'static str, &'static str),
    Replace(&'static str, usize, &'static str),
    Rename(&'static str, usize, &'static str),
    Remove(&'static str, usize),
}

impl Edit {
    fn make(&self, headers: &mut Headers) {
        match *self {
            Self::Prepend(name, raw) => headers.prepend_raw(name, raw),
            Self::Append(name, raw) => headers.append_raw(name, raw),
            Self::Before(which, n, name, raw) => {
                _ = headers.insert_before_raw((which, n), name, raw);
            }
            Self::After(which, n, name, raw) => {
                _ = headers.insert_after_raw((which, n), name, raw);
            }
            Self::Replace(which, n, raw) => _ = headers.replace_raw((which, n), raw),
            Self::Rename(which, n, name) => _ = headers.rename((which, n), name),
            Self::Remove(which, n) => _ = headers.remove((which, n)),
        }
    }
}

/// Names of which there are none, one or several, also of the servers' own.
fn name() -> impl Strategy<Value = &'static str> + Clone {
    let names = &[
        "X-A",
        "x-a",
        "X-A",
        "X-B",
        "X-None",
        "Subject",
        "Date",
        "Message-Id",
        "Received",
    ];
    prop::sample::select(&names[..])
}

fn edit(leading_space: bool) -> impl Strategy<Value = Edit> {
    let all = &[
        " new",
        " newer",
        " ",
        "  two",
        " \t",
        " folded\n lines\n\tthree",
        "bare",
        "\ttab",
        "",
    ];
    let raw = prop::sample::select(&all[..if leading_space { all.len() } else { 6 }]);
    let n = 1..4_usize;
    let which = (name(), n);
    let new = (name(), raw.clone());
    prop_oneof![
        new.clone().prop_map(|(name, raw)| Edit::Prepend(name, raw)),
        new.clone().prop_map(|(name, raw)| Edit::Append(name, raw)),
        (which.clone(), new.clone())
            .prop_map(|((which, n), (name, raw))| Edit::Before(which, n, name, raw)),
        (which.clone(), new).prop_map(|((which, n), (name, raw))| Edit::After(which, n, name, raw)),
        (which.clone(), raw).prop_map(|((which, n), raw)| Edit::Replace(which, n, raw)),
        (which.clone(), name()).prop_map(|((which, n), name)| Edit::Rename(which, n, name)),
        which.prop_map(|(which, n)| Edit::Remove(which, n)),
    ]
}

fn mail() -> Mail {
    Mail::to_bob()
        .header("X-A: one")
        .header("X-B:  two spaces")
        .header("Received: by client.example.org")
        .header("x-a: folded\r\n\tlines")
        .header("X-A: three")
}

fn without_leading_space(cases: &mut Cases) {
    of_random_edits(cases, false);
}

fn with_leading_space(cases: &mut Cases) {
    of_random_edits(cases, true);
}

fn of_random_edits(cases: &mut Cases, leading_space: bool) {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let lists = prop::collection::vec(edit(leading_space), 1..8);
    for n in 0..CASES {
        let list = lists.new_tree(&mut runner).unwrap().current();
        cases.case(&format!("{n}: {list:?}"), |rig| {
            of_edits(rig, &list, leading_space);
        });
    }
}

fn of_edits(rig: &Rig, edits: &[Edit], leading_space: bool) {
    let profile = rig.by_kind(Profile::postfix(), Profile::sendmail());
    let sent = headers_of(&mail().content());
    let mut model = edit::Mail::new(profile.clone()).with_received(Header::new("Received", " own"));
    for header in &sent {
        model = model.with_header(header.clone());
    }
    let mut headers = Headers::from_shown(model.shown_headers(leading_space), leading_space);
    for edit in edits {
        edit.make(&mut headers);
    }
    let plan = headers
        .plan(&profile, leading_space, Unplaceable::Refuse)
        .unwrap();
    let plan = Modification::order(plan);
    model.apply(&plan, leading_space).unwrap();

    let mut orders = vec![words(&["option", "steps"])];
    if leading_space {
        orders[0].push("leadspc".into());
    } else {
        orders.clear();
    }
    orders.extend(plan.iter().map(order));
    let orders: Vec<Vec<&str>> = orders
        .iter()
        .map(|words| words.iter().map(String::as_str).collect())
        .collect();
    let orders: Vec<&[&str]> = orders.iter().map(Vec::as_slice).collect();
    let outcome = rig.try_out(&orders, &mail());

    let mut delivered = headers_of(&outcome.message().content);
    for header in &mut delivered {
        if header.name() == "Received" && header.value().starts_with(b" from ") {
            *header = Header::new("Received", " own");
        }
    }
    assert_eq!(text(&delivered), text(model.headers()), "{plan:?}");
    delivered.retain(|header| header.value() != " own");
    let wanted = headers.iter().map(milter_tower::Field::header);
    assert_eq!(text(&delivered), text(wanted), "{plan:?}");
}

/// What the filter is to do at the end of the message.
fn order(edit: &Modification) -> Vec<String> {
    match edit.kind() {
        ModificationKind::AddHeader { name, value } => {
            words(&["eom", "addheader", &name.to_string(), &value.to_string()])
        }
        ModificationKind::InsertHeader { index, name, value } => words(&[
            "eom",
            "insheader",
            &index.to_string(),
            &name.to_string(),
            &value.to_string(),
        ]),
        ModificationKind::ChangeHeader { name, index, value } => words(&[
            "eom",
            "chgheader",
            &name.to_string(),
            &index.to_string(),
            &value.to_string(),
        ]),
        ModificationKind::DeleteHeader { name, index } => {
            words(&["eom", "delheader", &name.to_string(), &index.to_string()])
        }
        other => panic!("not an edit of a header: {other:?}"),
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The headers of a message with everything behind the colon.
fn headers_of(content: &[u8]) -> Vec<Header> {
    let content = String::from_utf8_lossy(content).replace("\r\n", "\n");
    let head = content.split("\n\n").next().unwrap_or_default();
    let mut fields: Vec<String> = Vec::new();
    for line in head.lines() {
        match fields.last_mut() {
            Some(field) if line.starts_with([' ', '\t']) => _ = write!(field, "\n{line}"),
            _ => fields.push(line.to_owned()),
        }
    }
    fields
        .iter()
        .filter_map(|field| field.split_once(':'))
        .map(|(name, raw)| Header::new(name.to_owned(), raw.to_owned()))
        .collect()
}

/// One line a header: so that a difference can be read.
fn text<'h>(headers: impl IntoIterator<Item = &'h Header>) -> Vec<String> {
    headers
        .into_iter()
        .map(|header| format!("{}:{}", header.name(), header.value()))
        .collect()
}
