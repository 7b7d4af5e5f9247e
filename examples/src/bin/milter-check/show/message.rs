//! A message before and after.

use std::fmt::{Display, Write};

use anstyle::Style;
use milter_examples::color::{BOLD, DIM, GREEN, RED};
use milter_examples::diff::{Change, Extent, common_ends, diff};
use milter_examples::text::{LINE, Shown, count, cut};
use milter_tower::testing::Delivery;
use milter_tower::{Headers, Recipient};

/// How much is shown unless all is.
const SOME: Extent = Extent { around: 2, run: 24 };

/// What the milter changed, if it did.
pub(super) fn changes<'d>(out: &mut String, done: &'d Delivery, full: bool) {
    let extent = if full { Extent::ALL } else { SOME };
    let most = if full { usize::MAX } else { LINE };
    let (before, after) = (&done.before, &done.message);
    if before.sender() != after.sender() || before.recipients() != after.recipients() {
        title(out, "Envelope");
        let from = [before.sender().address().to_string()];
        let to = [after.sender().address().to_string()];
        let sender = diff(&from, &to, Extent::ALL, |_, _| true);
        print(out, &sender, most, |text| {
            format!("from {text}").into_bytes()
        });
        let old: Vec<_> = before.recipients().iter().map(Recipient::address).collect();
        let new: Vec<_> = after.recipients().iter().map(Recipient::address).collect();
        let recipients = diff(&old, &new, extent, |_, _| false);
        print(out, &recipients, most, |text| {
            format!("to {text}").into_bytes()
        });
    }
    if before.headers() != after.headers() {
        title(out, "Headers");
        let fields = |headers: &'d Headers| {
            let fields = headers.iter().map(|field| (field.name(), field.raw()));
            fields.collect::<Vec<_>>()
        };
        let (old, new) = (fields(before.headers()), fields(after.headers()));
        let headers = diff(&old, &new, extent, |old, new| {
            old.0.eq_ignore_ascii_case(new.0)
        });
        print(out, &headers, most, |(name, value)| {
            [name.as_bytes(), b":", value.as_bytes()].concat()
        });
    }
    if before.body() != after.body() {
        title(out, "Body");
        let lines = |body| <[u8]>::split_inclusive(body, |byte| *byte == b'\n').collect();
        let (old, new): (Vec<_>, Vec<_>) = (lines(before.body()), lines(after.body()));
        let body = diff(&old, &new, extent, |_, _| true);
        print(out, &body, most, |line: &&[u8]| without_end(line));
    }
}

fn title(out: &mut String, what: &str) {
    let _ = writeln!(out, "\n{BOLD}{what}{BOLD:#}");
}

/// A line of the body without the end that it should have; another one is seen.
fn without_end(line: &[u8]) -> Vec<u8> {
    match line.strip_suffix(b"\r\n") {
        Some(line) => line.to_vec(),
        None => [line.strip_suffix(b"\n").unwrap_or(line), b" (no CRLF)"].concat(),
    }
}

fn print<T>(
    out: &mut String,
    changes: &[Change<'_, T>],
    most: usize,
    text: impl Fn(&T) -> Vec<u8>,
) {
    for change in changes {
        match change {
            Change::Same(line) => lines(out, "  ", DIM, &text(line), most),
            Change::Gone(line) => lines(out, "- ", RED, &text(line), most),
            Change::New(line) => lines(out, "+ ", GREEN, &text(line), most),
            Change::Became(old, new) => pair(out, &text(old), &text(new), most),
            Change::Left(len) => note(out, "  ", DIM, count(*len, "more line")),
            Change::Cut(len) => note(out, "  ", DIM, format!("{len} more such lines")),
        }
    }
}

/// A field or a line of the body: each of its lines behind the mark.
fn lines(out: &mut String, mark: &str, style: Style, text: &[u8], most: usize) {
    for line in text.split(|byte| *byte == b'\n') {
        let line = cut(line, most);
        let _ = writeln!(out, "  {style}{mark}{line}{style:#}");
    }
}

fn note(out: &mut String, mark: &str, style: Style, text: impl Display) {
    let _ = writeln!(out, "  {style}{mark}… {text}{style:#}");
}

/// What became something else: where it differs it stands out.
fn pair(out: &mut String, old: &[u8], new: &[u8], most: usize) {
    let is_long = |text: &[u8]| text.len() > most || text.contains(&b'\n');
    let (head, tail) = common_ends(old, new);
    if is_long(old) || is_long(new) || head + tail == 0 {
        lines(out, "- ", RED, old, most);
        lines(out, "+ ", GREEN, new, most);
        return;
    }
    for (mark, style, text) in [("- ", RED, old), ("+ ", GREEN, new)] {
        let (begin, rest) = text.split_at(head);
        let (middle, end) = rest.split_at(rest.len() - tail);
        let strong = style.bold().underline();
        let (begin, middle, end) = (Shown(begin), Shown(middle), Shown(end));
        let _ = writeln!(
            out,
            "  {style}{mark}{begin}{style:#}{strong}{middle}{strong:#}{style}{end}{style:#}"
        );
    }
}
