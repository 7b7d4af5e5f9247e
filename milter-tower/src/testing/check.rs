//! What the assertions do.

use std::fmt::Write;

use super::mail::with_line_ends;
use super::{Delivery, Fate};
use crate::headers::Field;
use crate::show::{BodyLine, Cut, LINE, Line, Lines};

/// The most lines around a difference that are shown.
const AROUND: usize = 100;

#[track_caller]
pub fn some_header(done: &Delivery, name: &[u8]) {
    if !done.message.headers().contains(name) {
        let shown = differing_headers(done, name, &[]);
        let name = Line(name);
        panic!("there is no header {name}; {}\n{shown}", ending(done));
    }
}

#[track_caller]
pub fn header(done: &Delivery, name: &[u8], values: &[&[u8]]) {
    let fields: Vec<_> = done.message.headers().get_all(name).collect();
    let mut pairs = fields.iter().zip(values);
    if fields.len() == values.len() && pairs.all(|(field, value)| has(*field, value)) {
        return;
    }
    let shown = differing_headers(done, name, values);
    let what = if values.is_empty() {
        "there is a"
    } else {
        "not the expected"
    };
    let name = Line(name);
    panic!("{what} header {name}; {}\n{shown}", ending(done));
}

#[track_caller]
pub fn body(done: &Delivery, expected: &[u8]) {
    let expected = with_line_ends(expected);
    if *done.message.body() != expected {
        let lines = |text| <[u8]>::split_inclusive(text, |byte| *byte == b'\n').collect();
        let (expected, delivered): (Vec<_>, Vec<_>) =
            (lines(&expected), lines(done.message.body()));
        let shown = differing_lines(&expected, &delivered, |line| {
            BodyLine(line, usize::MAX).to_string()
        });
        panic!("not the expected body; {}\n{shown}", ending(done));
    }
}

#[track_caller]
pub fn recipients(done: &Delivery, expected: &[&[u8]]) {
    let expected: Vec<_> = expected.iter().copied().map(without_brackets).collect();
    let delivered = done.message.recipients().iter();
    let delivered: Vec<_> = delivered
        .map(|to| without_brackets(to.address().as_bytes()))
        .collect();
    if expected != delivered {
        let shown = differing_lines(&expected, &delivered, |to| Line(to).to_string());
        panic!("not the expected recipients; {}\n{shown}", ending(done));
    }
}

#[track_caller]
pub fn accepted(done: &Delivery) {
    assert!(done.is_accepted(), "expected: accepted\n{done}");
}

#[track_caller]
pub fn refused(done: &Delivery, code: Option<u16>, text: &str) {
    let is_it = done.reply().is_some_and(|reply| {
        code.is_none_or(|code| reply.code() == code) && reply.to_string().contains(text)
    });
    if !is_it {
        let code = code.map(|code| format!(" with {code}")).unwrap_or_default();
        let text = if text.is_empty() {
            String::new()
        } else {
            format!(" and {text:?}")
        };
        panic!("expected: refused{code}{text}\n{done}");
    }
}

#[track_caller]
pub fn discarded(done: &Delivery) {
    assert!(done.is_discarded(), "expected: discarded\n{done}");
}

#[track_caller]
pub fn quarantined(done: &Delivery, reason: &str) {
    let is_it = done.quarantine().is_some_and(|why| why.contains(reason));
    if !(is_it && done.is_accepted()) {
        let reason = if reason.is_empty() {
            String::new()
        } else {
            format!(" for {reason:?}")
        };
        panic!("expected: accepted and held back{reason}\n{done}");
    }
}

fn without_brackets(address: &[u8]) -> &[u8] {
    let bare = address
        .strip_prefix(b"<")
        .and_then(|rest| rest.strip_suffix(b">"));
    bare.unwrap_or(address)
}

fn has(field: Field<'_>, value: &[u8]) -> bool {
    field.value() == value || *field.unfolded() == *value
}

/// How the mail ended, in a few words: often this is why something is missing.
fn ending(done: &Delivery) -> String {
    let mut text = format!("the mail was {}", done.fate.name());
    if let Some(stage) = done.ended_at {
        let _ = write!(text, " at {stage}");
    }
    match &done.fate {
        Fate::Refused(reply) => _ = write!(text, ": {reply}"),
        Fate::Failed(why) => _ = write!(text, ": {why}"),
        _ => {}
    }
    if let Some(failure) = done.failures.first() {
        let _ = write!(text, "; the filter failed: {}", Line(failure.as_bytes()));
    }
    text
}

/// All headers, and of that name those that were expected and those that are there.
fn differing_headers(done: &Delivery, name: &[u8], values: &[&[u8]]) -> String {
    let mut text = String::new();
    let expected = |text: &mut String, value: &[u8]| {
        let _ = writeln!(text, "- {}: {}", Line(name), Cut(value, usize::MAX));
    };
    let mut values = values.iter();
    for (n, field) in done.message.headers().iter().enumerate() {
        let mut mark = "  ";
        if field.is_named(name) {
            let value = values.next();
            if !value.is_some_and(|value| has(field, value)) {
                mark = "+ ";
            }
            if let (Some(value), "+ ") = (value, mark) {
                expected(&mut text, value);
            }
        }
        if mark == "+ " {
            let _ = writeln!(text, "{}", Lines(field, mark, usize::MAX));
        } else if n < AROUND {
            let _ = writeln!(text, "{}", Lines(field, mark, LINE));
        }
    }
    values.for_each(|value| expected(&mut text, value));
    text
}

/// What differs between the lines that both begin with and those that both end with.
fn differing_lines(expected: &[&[u8]], delivered: &[&[u8]], show: fn(&[u8]) -> String) -> String {
    let before = same(expected.iter().zip(delivered));
    let (head, expected) = expected.split_at(before);
    let (_, delivered) = delivered.split_at(before);
    let after = same(expected.iter().rev().zip(delivered.iter().rev()));
    let (expected, tail) = expected.split_at(expected.len() - after);
    let (delivered, _) = delivered.split_at(delivered.len() - after);

    let mut text = String::new();
    let mut put = |mark, lines: &[&[u8]]| {
        for line in lines.iter().take(AROUND) {
            let _ = writeln!(text, "{mark} {}", show(line));
        }
        if let Some(rest @ 1..) = lines.len().checked_sub(AROUND) {
            let _ = writeln!(text, "{mark} … ({rest} more lines)");
        }
    };
    put(" ", &head[head.len().saturating_sub(AROUND)..]);
    put("-", expected);
    put("+", delivered);
    put(" ", tail);
    text
}

/// How many pairs are equal before the first that is not.
fn same<'l>(pairs: impl Iterator<Item = (&'l &'l [u8], &'l &'l [u8])>) -> usize {
    pairs.take_while(|(one, other)| one == other).count()
}
