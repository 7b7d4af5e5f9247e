//! What was sent, what the filter did, and the mail that came out.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use milter_tower::testing::{Answer, Delivery, Fate, Mail};
use milter_tower::{Headers, ModificationKind, Recipient, Stage};
use similar::{Algorithm, ChangeTag, capture_diff_slices};

const TITLE: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const HELD: Style = AnsiColor::Yellow.on_default();

/// Tells what stands on the stage.
pub(super) fn filter(out: &mut impl Write, mta: &str) -> io::Result<()> {
    writeln!(
        out,
        "A filter of two parts with two layers around, and {mta}, played in this process. What the\n\
         filter changes is marked with {GOOD}+{GOOD:#} and {BAD}-{BAD:#}.\n"
    )
}

/// Tells the story of a mail.
pub(super) fn delivery(
    out: &mut impl Write,
    title: &str,
    mail: &Mail,
    done: &Delivery,
) -> io::Result<()> {
    writeln!(out, "{TITLE}{title}{TITLE:#}\n")?;
    let sender = printable(mail.sender().address().as_bytes());
    writeln!(
        out,
        "  MAIL FROM:{sender}{}",
        reply(done.answer_at(Stage::Mail))
    )?;
    for to in mail.recipients() {
        let answer = done.answer_to(to.address());
        let to = printable(to.address().as_bytes());
        writeln!(out, "  RCPT TO:{to}{}", reply(answer))?;
    }
    writeln!(out)?;
    for edit in &done.edits {
        writeln!(out, "  {DIM}filter:{DIM:#} {}", edit_of(edit.kind()))?;
    }
    for failure in &done.failures {
        writeln!(
            out,
            "  {BAD}filter failed: {}{BAD:#}",
            printable(failure.as_bytes())
        )?;
    }
    writeln!(out, "  {DIM}server:{DIM:#} {}\n", fate(done))?;
    if done.is_accepted() {
        message(out, mail, done)?;
    }
    Ok(())
}

/// Tells where to go from here.
pub(super) fn next(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{TITLE}Next{TITLE:#}\n\n  \
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
        let reply = printable(reply.to_string().as_bytes());
        format!("   {BAD}{reply}{BAD:#}")
    })
}

fn edit_of(kind: ModificationKind<'_>) -> String {
    use ModificationKind as Kind;
    let text = |text: milter_tower::Text<'_>| printable(text.as_bytes()).trim().to_owned();
    match kind {
        Kind::AddHeader { name, value } => format!("add {}: {}", text(name), text(value)),
        Kind::InsertHeader { index, name, value } => {
            format!("insert {}: {} (at {index})", text(name), text(value))
        }
        Kind::ChangeHeader { name, index, value } => {
            format!("change {} number {index} to {}", text(name), text(value))
        }
        Kind::DeleteHeader { name, index } => format!("delete {} number {index}", text(name)),
        Kind::ReplaceBody { body } => format!("replace the body, {} bytes", body.len()),
        Kind::Quarantine { reason } => format!("quarantine: {}", text(reason)),
        other => format!("{other:?}"),
    }
}

fn fate(done: &Delivery) -> String {
    match &done.fate {
        Fate::Accepted => done.quarantine().map_or_else(
            || format!("{GOOD}accepted{GOOD:#}, delivered to {}", recipients(done)),
            |reason| {
                let reason = printable(reason.as_bytes());
                format!("{HELD}accepted, and held back: {reason}{HELD:#}")
            },
        ),
        Fate::Refused(reply) => format!("{BAD}{}{BAD:#}", printable(reply.to_string().as_bytes())),
        Fate::NoRecipients => format!("{BAD}no recipient was accepted{BAD:#}"),
        other => format!("{BAD}{}{BAD:#}", other.name()),
    }
}

fn recipients(done: &Delivery) -> String {
    let to = done.message.recipients().iter().map(Recipient::address);
    let to: Vec<_> = to.map(|to| printable(to.as_bytes())).collect();
    to.join(", ")
}

/// The mail as it came out, beside how it came in. What the server itself adds is left out.
fn message(out: &mut impl Write, mail: &Mail, done: &Delivery) -> io::Result<()> {
    let before = lines(&mail.headers(), mail.content());
    let after = done.message.headers().iter();
    let own = usize::from(
        after
            .clone()
            .next()
            .is_some_and(|first| first.name() == "Received"),
    );
    let after: Headers = after
        .skip(own)
        .map(|field| field.header().clone())
        .collect();
    let after = lines(&after, done.message.body());
    let steps = capture_diff_slices(Algorithm::Myers, &before, &after);
    let changes = steps
        .iter()
        .flat_map(|step| step.iter_changes(&before, &after));
    for change in changes {
        let line = change.value();
        let (style, mark) = match change.tag() {
            ChangeTag::Equal => (Style::new(), ' '),
            ChangeTag::Insert => (GOOD, '+'),
            ChangeTag::Delete => (BAD, '-'),
        };
        let space = if line.is_empty() { "" } else { " " };
        writeln!(out, "  {style}{mark} |{space}{line}{style:#}")?;
    }
    writeln!(out)
}

fn lines(headers: &Headers, body: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    for field in headers {
        let text = [field.name().as_bytes(), b":", &field.raw()].concat();
        lines.extend(text.split(|byte| *byte == b'\n').map(printable));
    }
    lines.push(String::new());
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        lines.push(printable(line.trim_ascii_end()));
    }
    lines
}

/// Bytes as text that does nothing to a terminal.
fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for char in String::from_utf8_lossy(bytes).chars() {
        match char {
            '\t' => text.push(' '),
            char if char.is_control() => text.extend(char.escape_default()),
            char => text.push(char),
        }
    }
    text
}
