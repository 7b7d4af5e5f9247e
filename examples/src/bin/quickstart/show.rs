//! What was sent, what the filter did, and the mail that came out.

use std::io::{self, Write};

use anstyle::Style;
use milter_examples::color::{BOLD, DIM, GREEN, RED, YELLOW};
use milter_examples::diff::{Change, Extent, diff};
use milter_examples::edits::Edit;
use milter_examples::text::{LINE, Shown, cut};
use milter_tower::testing::{Answer, Delivery, Fate, Mail};
use milter_tower::{Headers, Recipient, Stage};

/// Tells what stands on the stage.
pub(super) fn filter(out: &mut impl Write, mta: &str) -> io::Result<()> {
    writeln!(
        out,
        "A filter of two parts with two layers around, and {mta}, played in this process. What the\n\
         filter changes is marked with {GREEN}+{GREEN:#} and {RED}-{RED:#}.\n"
    )
}

/// Tells the story of a mail.
pub(super) fn delivery(
    out: &mut impl Write,
    title: &str,
    mail: &Mail,
    done: &Delivery,
) -> io::Result<()> {
    let title = Shown(title.as_bytes());
    writeln!(out, "{BOLD}{title}{BOLD:#}\n")?;
    let sender = mail.sender();
    let (sender, answer) = (cut(&sender.address(), LINE), done.answer_at(Stage::Mail));
    writeln!(out, "  MAIL FROM:{sender}{}", reply(answer))?;
    for to in mail.recipients() {
        let answer = done.answer_to(to.address());
        let to = cut(&to.address(), LINE);
        writeln!(out, "  RCPT TO:{to}{}", reply(answer))?;
    }
    writeln!(out)?;
    for edit in &done.edits {
        let words = Edit::from(edit).words(LINE);
        writeln!(out, "  {DIM}filter:{DIM:#} {words}")?;
    }
    for failure in &done.failures {
        let why = Shown(failure.as_bytes());
        writeln!(out, "  {RED}filter failed: {why}{RED:#}")?;
    }
    writeln!(out, "  {DIM}server:{DIM:#} {}\n", fate(done))?;
    if done.is_accepted() {
        message(out, done)?;
    }
    Ok(())
}

/// Tells where to go from here.
pub(super) fn next(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{BOLD}Next{BOLD:#}\n\n  \
         the program that this was    examples/src/bin/quickstart/main.rs\n  \
         a mail of your own           the same command with -- FILE.eml, or --mta sendmail\n  \
         a filter on a socket         cargo run --release -p milter-examples --bin hello\n  \
         the guide                    cargo doc --no-deps --open -p milter-tower --all-features"
    )
}

/// What the client was told, if that was no yes.
fn reply(answer: Option<&Answer>) -> String {
    let reply = answer.and_then(|answer| answer.reply.as_ref());
    reply.map_or(String::new(), |reply| {
        let reply = reply.to_string();
        format!("   {RED}{}{RED:#}", Shown(reply.as_bytes()))
    })
}

fn fate(done: &Delivery) -> String {
    match &done.fate {
        Fate::Accepted => done.quarantine().map_or_else(
            || {
                format!(
                    "{GREEN}accepted{GREEN:#}, delivered to {}",
                    recipients(done)
                )
            },
            |reason| {
                let reason = cut(&reason, LINE);
                format!("{YELLOW}accepted, and held back: {reason}{YELLOW:#}")
            },
        ),
        Fate::Refused(reply) => format!("{RED}{}{RED:#}", Shown(reply.to_string().as_bytes())),
        Fate::NoRecipients => format!("{RED}no recipient was accepted{RED:#}"),
        other => format!("{RED}{}{RED:#}", other.name()),
    }
}

fn recipients(done: &Delivery) -> String {
    let to = done.message.recipients().iter().map(Recipient::address);
    let to: Vec<_> = to.map(|to| cut(&to, LINE)).collect();
    to.join(", ")
}

/// The mail as it came out, beside how it came in. What the server itself adds is left out.
fn message(out: &mut impl Write, done: &Delivery) -> io::Result<()> {
    let before = lines(done.before.headers(), done.before.body());
    let after = lines(done.message.headers(), done.message.body());
    for change in diff(&before, &after, Extent::ALL, |_, _| false) {
        let (style, mark, line) = match change {
            Change::Same(line) => (Style::new(), ' ', line),
            Change::New(line) => (GREEN, '+', line),
            Change::Gone(line) => (RED, '-', line),
            // All of it is shown, and no line is taken for another.
            Change::Became(..) | Change::Left(_) | Change::Cut(_) => continue,
        };
        let space = if line.is_empty() { "" } else { " " };
        let line = cut(line, LINE);
        writeln!(out, "  {style}{mark} |{space}{line}{style:#}")?;
    }
    writeln!(out)
}

fn lines(headers: &Headers, body: &[u8]) -> Vec<Vec<u8>> {
    let is_of_server = headers
        .iter()
        .next()
        .is_some_and(|first| first.name() == "Received");
    let mut lines = Vec::new();
    for field in headers.iter().skip(usize::from(is_of_server)) {
        let text = [field.name().as_bytes(), b":", &field.raw()].concat();
        lines.extend(text.split(|byte| *byte == b'\n').map(spaced));
    }
    lines.push(Vec::new());
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        lines.push(spaced(line.strip_suffix(b"\r").unwrap_or(line)));
    }
    lines
}

/// The line as one reads it: a tab is some space.
fn spaced(line: &[u8]) -> Vec<u8> {
    let space = |byte: &u8| if *byte == b'\t' { b' ' } else { *byte };
    line.iter().map(space).collect()
}
