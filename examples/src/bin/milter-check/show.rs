//! What people are shown.

use std::fmt::Write;

use anstyle::Style;
use milter_examples::color::{BOLD, DIM, GREEN, MAGENTA, RED, YELLOW};
use milter_examples::edits::Edit;
use milter_examples::text::{LINE, Shown, count, cut, time};
use milter_tower::testing::{Delivery, Failure, Negotiation, Reaction, Step};
use milter_tower::{Actions, Agreement, MacroStage, Modification, ReplyMode, Stage, Text, Verdict};

use self::message::changes;
use crate::ending::Ending;
use crate::run::{Broken, Checked, Opened};
use crate::trouble::Trouble;

mod message;

const PLAIN: Style = Style::new();
/// The longest name of a reaction.
const REACTION: usize = "no reply due".len();

/// A connection, and what was agreed on.
pub(crate) fn opened(opened: &Opened<'_>) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{BOLD}Milter at {}{BOLD:#}, asked as {} would (connected in {})\n",
        opened.address,
        opened.mta,
        time(opened.connected_in)
    );
    let Some(agreement) = &opened.agreement else {
        return out;
    };
    let took = time(opened.negotiation.took);
    let _ = writeln!(out, "{BOLD}Negotiation{BOLD:#} {DIM}({took}){DIM:#}");
    for (what, text) in terms(agreement, &opened.negotiation) {
        let _ = writeln!(out, "  {what:<12} {text}");
    }
    out.push('\n');
    out
}

/// What holds, in words.
fn terms(agreement: &Agreement, negotiation: &Negotiation) -> Vec<(&'static str, String)> {
    let stages = |is_it: &dyn Fn(Stage) -> bool| {
        let stages = Stage::ALL.into_iter().filter(|stage| is_it(*stage));
        stages.map(Stage::name).collect::<Vec<_>>().join(", ")
    };
    let delivers = |stage| agreement.delivers(stage);
    let may = agreement.actions() & Actions::CHANGES;
    let may = match may {
        Actions::CHANGES => "change anything".to_owned(),
        _ if may.is_empty() => "change nothing".to_owned(),
        _ => names(may.iter_names().map(|(name, _)| name)),
    };
    let mut terms = vec![
        ("version", agreement.version().to_string()),
        ("is told", stages(&delivers)),
        ("not told", stages(&|stage| !delivers(stage))),
        (
            "no reply at",
            stages(&|stage| delivers(stage) && agreement.reply_mode(stage) == ReplyMode::Silent),
        ),
        ("may", may),
        ("not offered", asked_in_vain(negotiation)),
    ];
    for stage in MacroStage::ALL {
        if let Some(names) = agreement.macros().get(stage) {
            let names: Vec<_> = names.map(|name| Shown(&name).to_string()).collect();
            let names = if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(" ")
            };
            terms.push(("macros", format!("at {}: {names}", macro_stage(stage))));
        }
    }
    terms.retain(|(_, text)| !text.is_empty());
    terms
}

/// What the milter asked for though the mail server has no such thing.
fn asked_in_vain(negotiation: &Negotiation) -> String {
    let (Some(offer), Some(answer)) = (&negotiation.offer, &negotiation.answer) else {
        return String::new();
    };
    let actions = answer.actions.difference(offer.actions);
    let steps = answer.steps.difference(offer.steps);
    let actions = actions.iter_names().map(|(name, _)| name);
    names(actions.chain(steps.iter_names().map(|(name, _)| name)))
}

/// The name of a stage at which macros are told.
pub(crate) fn macro_stage(stage: MacroStage) -> &'static str {
    match stage {
        MacroStage::Connect => "connect",
        MacroStage::Helo => "helo",
        MacroStage::Mail => "mail",
        MacroStage::Rcpt => "rcpt",
        MacroStage::Data => "data",
        MacroStage::EndOfHeaders => "end of headers",
        MacroStage::EndOfMessage => "end of message",
    }
}

/// Names of flags as words.
fn names<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let words = names.map(|name| name.to_ascii_lowercase().replace('_', " "));
    words.collect::<Vec<_>>().join(", ")
}

/// What became of a mail.
pub(crate) fn checked(checked: &Checked<'_>, full: bool) -> String {
    let Checked { done, letter, .. } = checked;
    let mut out = String::new();
    let number = match checked.nth {
        (_, 1) => String::new(),
        (nth, of) => format!(" ({nth} of {of})"),
    };
    let name = Shown(letter.name.as_bytes());
    let to = letter.mail.recipients();
    let to = list(to.iter().map(|to| to.address()));
    let from = letter.mail.sender();
    let from = Shown(&from.address()).to_string();
    let _ = writeln!(
        out,
        "{BOLD}Mail: {name}{BOLD:#}{number}, from {from} to {to}"
    );
    let most = if full { usize::MAX } else { LINE };
    // Of a milter with which nothing was agreed there is no more to say.
    let told = checked.opened.agreement.as_ref().map(|_| &done.steps[..]);
    for group in groups(told.unwrap_or_default()) {
        steps(&mut out, group, checked, most);
    }
    if !done.edits.is_empty() {
        let _ = writeln!(out, "\n{BOLD}The milter asks to{BOLD:#}");
    }
    for edit in edits(&done.edits) {
        let _ = writeln!(out, "  {}", edit.words(most));
    }
    changes(&mut out, done, full);
    out.push('\n');
    if let Some(broken) = &checked.broken {
        out.push_str(&self::broken(broken));
    }
    let (style, text) = ending(checked);
    let _ = write!(out, "{style}=> {text}{style:#}");
    if told.is_some() {
        let _ = write!(out, " {DIM}({}){DIM:#}", time(checked.took));
    }
    out.push_str("\n\n");
    out
}

/// What is asked for, the pieces of a new body as one.
fn edits(edits: &[Modification]) -> Vec<Edit> {
    let mut shown: Vec<Edit> = Vec::new();
    for edit in edits.iter().map(Edit::from) {
        match (shown.last_mut(), edit.size) {
            (
                Some(Edit {
                    size: Some(all), ..
                }),
                Some(size),
            ) => *all += size,
            _ => shown.push(edit),
        }
    }
    shown
}

/// Several of what is too much for one line.
fn list<'t>(addresses: impl ExactSizeIterator<Item = Text<'t>>) -> String {
    const MOST: usize = 3;
    let rest = addresses.len().saturating_sub(MOST);
    let shown = addresses.take(MOST).map(|to| cut(&to, LINE));
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if rest > 0 {
        let _ = write!(text, " and {rest} more");
    }
    text
}

/// Steps that are told on one line: of many headers, and pieces of the body, those that were met
/// alike.
fn groups(steps: &[Step]) -> impl Iterator<Item = &[Step]> {
    steps.chunk_by(|one, next| {
        let is_one_of_many = matches!(one.stage, Stage::Header | Stage::Body);
        is_one_of_many && one.stage == next.stage && one.reaction == next.reaction
    })
}

fn steps(out: &mut String, group: &[Step], checked: &Checked<'_>, most: usize) {
    let Some(step) = group.first() else {
        return;
    };
    let is_timed = matches!(step.reaction, Reaction::Answered(_) | Reaction::Failed);
    let took = if is_timed {
        time(group.iter().map(|step| step.took).sum())
    } else {
        "-".to_owned()
    };
    let style = style_of(&step.reaction);
    let reaction = step.reaction.to_string();
    let _ = write!(
        out,
        "  {took:>8}  {:<15} {style}{reaction}{style:#}",
        step.stage.name()
    );
    let about = about(group, checked, most);
    if !about.is_empty() {
        let room = REACTION.saturating_sub(reaction.len());
        let _ = write!(out, "{:room$} {about}", "");
    }
    out.push('\n');
}

fn about(group: &[Step], checked: &Checked<'_>, most: usize) -> String {
    let Some(step) = group.first() else {
        return String::new();
    };
    let bytes: usize = group.iter().map(Step::size).sum();
    let slowest = group.iter().max_by_key(|step| step.took);
    let slowest = slowest.filter(|_| matches!(step.reaction, Reaction::Answered(_)));
    let mut about = match (step.stage, group.len()) {
        (Stage::Connect, _) => {
            let client = checked.letter.mail.connection();
            format!("{} [{}]", cut(&step.about(), most), client.client())
        }
        (Stage::Header, len @ 2..) => count(len, "field"),
        (Stage::Body, 1) => count(bytes, "byte"),
        (Stage::Body, len) => format!("{} in {}", count(bytes, "byte"), count(len, "piece")),
        _ => cut(&step.about(), most),
    };
    if let (Some(slowest), 2..) = (slowest, group.len()) {
        let _ = write!(about, ", at most {}", time(slowest.took));
        if !slowest.about().is_empty() {
            let _ = write!(about, " ({})", cut(&slowest.about(), most));
        }
    }
    if step.progress > 0 {
        let _ = write!(about, " (said {} that it is at work)", times(step.progress));
    }
    if let Some(reply) = reply_to(step, &checked.done) {
        if !about.is_empty() {
            about.push_str(": ");
        }
        about.push_str(&cut(reply.as_bytes(), most));
    }
    about
}

fn times(number: u32) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), "time")
}

/// What the client was told for a step, where that is a refusal.
pub(crate) fn reply_to(step: &Step, done: &Delivery) -> Option<String> {
    if !matches!(&step.reaction, Reaction::Answered(verdict) if verdict.is_refusal()) {
        return None;
    }
    let is_it = |to: Text<'_>| to.as_bytes() == step.about().as_bytes();
    let mut answers = done.answers.iter().filter(|answer| {
        let recipient = answer.recipient.as_ref();
        answer.stage == step.stage && recipient.is_none_or(|to| is_it(to.address()))
    });
    let reply = answers.next_back()?.reply.as_ref()?;
    Some(reply.to_string())
}

fn style_of(reaction: &Reaction) -> Style {
    match reaction {
        Reaction::Answered(verdict) => match verdict {
            Verdict::Accept => GREEN,
            Verdict::Discard => MAGENTA,
            _ if verdict.name() == "tempfail" => YELLOW,
            _ if verdict.is_refusal() => RED,
            _ => PLAIN,
        },
        Reaction::Failed => RED.bold(),
        _ => DIM,
    }
}

/// How a mail ended, in a sentence.
fn ending(checked: &Checked<'_>) -> (Style, String) {
    let Checked { done, ending, .. } = checked;
    let mut text = ending.to_string();
    if let Some(reason) = done.quarantine() {
        let _ = write!(text, ": {}", Shown(&reason));
    }
    match ending {
        Ending::Accepted | Ending::Quarantined => {
            let refused = done.refused_recipients().count();
            if refused > 0 {
                let _ = write!(text, ", without {}", count(refused, "recipient"));
            }
            text.push_str(if is_changed(done) {
                ", changed"
            } else {
                ", unchanged"
            });
        }
        Ending::TimedOut | Ending::Failed => {
            if let Some(broken) = &checked.broken {
                let _ = write!(text, " at {}", broken.at);
            }
        }
        _ => {
            if let Some(stage) = done.ended_at {
                let _ = write!(text, " at {stage}");
            }
            if let Some(reply) = done.reply() {
                let _ = write!(text, ": {}", Shown(reply.to_string().as_bytes()));
            }
        }
    }
    let style = match ending {
        Ending::Accepted => GREEN,
        Ending::Rejected | Ending::TimedOut | Ending::Failed => RED,
        Ending::Tempfailed | Ending::Quarantined => YELLOW,
        Ending::Discarded => MAGENTA,
    };
    (style.bold(), text)
}

/// Whether the message or its envelope is another than before.
pub(crate) fn is_changed(done: &Delivery) -> bool {
    let (before, after) = (&done.before, &done.message);
    before.headers() != after.headers()
        || before.body() != after.body()
        || before.sender() != after.sender()
        || before.recipients() != after.recipients()
}

/// How the milter failed, with what may be the cause.
pub(crate) fn broken(broken: &Broken) -> String {
    let at = &broken.at;
    let (bytes, heard) = &broken.heard;
    let mut out = match &broken.failure {
        Some(Failure::Timeout(_)) => {
            let after = broken.after.map(|after| format!(" within {}", time(after)));
            let after = after.unwrap_or_default();
            format!("It did not answer at {at}{after}.")
        }
        Some(Failure::ConnectionLost) => format!("It closed the connection at {at}."),
        _ => {
            let why = Shown(broken.why.as_bytes());
            format!("It broke the protocol at {at}: {why}.")
        }
    };
    out.insert_str(0, &format!("{RED}error:{RED:#} "));
    out.push('\n');
    if *heard > 0 {
        let more = if bytes.len() < *heard { "…" } else { "" };
        let _ = writeln!(
            out,
            "  It sent, at last, {}: {}{more}",
            count(*heard, "byte"),
            Shown(bytes)
        );
    }
    if let Some(advice) = advice(broken) {
        let _ = writeln!(out, "  {advice}");
    }
    out
}

/// What the codec does not know already.
fn advice(broken: &Broken) -> Option<&'static str> {
    let (bytes, _) = &broken.heard;
    let begins = |with: &[u8]| bytes.starts_with(with);
    Some(match &broken.failure {
        _ if begins(b"SSH-") => "That is an SSH server, not a milter.",
        _ if begins(b"* OK") || begins(b"+OK") => "That is a mailbox server, not a milter.",
        Some(Failure::Timeout(_)) if broken.at == "the negotiation" => {
            "Is it a milter that listens there, and does it have a free worker?"
        }
        Some(Failure::ConnectionLost) if broken.at == "the negotiation" => {
            "Is it a milter that listens there, and does it take connections from this host? Its log may say."
        }
        Some(Failure::Timeout(_)) => {
            "A mail server would not have waited longer. See the milter's log."
        }
        _ => return None,
    })
}

/// What keeps the program from its work.
pub(crate) fn trouble(trouble: &Trouble) -> String {
    format!("{RED}error:{RED:#} {trouble}\n")
}
