//! What must hold of a run, alone and compared with that of the filter without layers.

use milter_tower::testing::Fate;
use milter_tower::{Agreement, ReplyMode, Stage};

use crate::client::{Run, Told};
use crate::filter::{Entry, Plan, Shape};

type Checked = Result<(), String>;

/// Of every run: the filter hears of each end once, of none that it has no part in, and of nothing
/// after; nothing that it said was illegal; the message after all is right.
pub(crate) fn sound(plan: &Plan, run: &Run) -> Checked {
    if !plan.fails() && run.has_failures() {
        return Err("failed, and the filter did not".into());
    }
    for id in 1..=run.clones {
        in_order(id, run)?;
    }
    Ok(())
}

fn in_order(id: usize, run: &Run) -> Checked {
    let calls: Vec<_> = run.entries.iter().filter(|entry| entry.id == id).collect();
    let (mut in_message, mut decided, mut broke) = (false, false, false);
    for (at, call) in calls.iter().enumerate() {
        let wrong = |what: &str| Err(format!("[{id}] {what}: {}", call.seen));
        if broke {
            return wrong("was called after it broke");
        }
        if (at == 0) != (call.seen == "negotiate") {
            return wrong("out of order");
        }
        broke = call.broke;
        if call.seen.starts_with("end: ") {
            if !in_message {
                return wrong("an end without a message");
            }
            (in_message, decided) = (false, false);
        } else if call.seen == "close" {
            if in_message || at + 1 != calls.len() {
                return wrong("out of order");
            }
        } else if call.seen == "session end" && in_message {
            return wrong("out of order");
        } else if call.stage.is_some_and(Stage::is_of_message) {
            if decided {
                return wrong("was asked after it had decided");
            }
            in_message = true;
        }
        decided |= call.ended;
    }
    let closed = calls.last().is_none_or(|call| call.seen == "close");
    if !closed && !broke {
        return Err(format!("[{id}] saw no close"));
    }
    Ok(())
}

/// Layers ask for more, and take nothing away.
pub(crate) fn widened(bare: &Run, layered: &Run) -> Checked {
    let (Some(bare), Some(layered)) = (&bare.agreement, &layered.agreement) else {
        return Ok(());
    };
    for stage in Stage::ALL {
        let lost = bare.delivers(stage) && !layered.delivers(stage);
        let is_due = |of: &Agreement| of.reply_mode(stage) == ReplyMode::Verdict;
        if lost || is_due(bare) && !is_due(layered) {
            return Err(format!("{stage} was taken away"));
        }
    }
    let same = |of: fn(&Agreement) -> bool| of(bare) == of(layered);
    if !layered.actions().contains(bare.actions())
        || !same(Agreement::leading_space)
        || !same(Agreement::skip)
        || !same(Agreement::rejected_recipients)
    {
        return Err("the agreement changed".into());
    }
    Ok(())
}

/// How much the same is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct But {
    /// This header is in what passes, once.
    pub(crate) adds: Option<&'static str>,
    /// What adds them is another's business: the same without these headers.
    pub(crate) headers: &'static [&'static str],
    /// By other modifications.
    pub(crate) replanned: bool,
    /// What is told at one event may be told at another, and at RCPT of that recipient only.
    pub(crate) moved: bool,
}

/// The mail server heard the same.
pub(crate) fn same_told(bare: &Run, layered: &Run, but: But) -> Checked {
    if bare.told.len() != layered.told.len() {
        return Err("not as many messages".into());
    }
    for (nth, (bare, layered)) in bare.told.iter().zip(&layered.told).enumerate() {
        same(bare, layered, but).map_err(|what| {
            let message = nth + 1;
            format!("message {message}: {what}\nalone: {bare:?}\nwith the layer: {layered:?}")
        })?;
    }
    Ok(())
}

/// The same of one message.
fn same(bare: &Told, layered: &Told, but: But) -> Checked {
    if but.moved && (did_not_pass(bare) || did_not_pass(layered)) {
        return if did_not_pass(bare) && did_not_pass(layered) {
            Ok(())
        } else {
            Err("it was refused by one of them only".into())
        };
    }
    let mut layered = layered.clone();
    if let Some(name) = but.adds.filter(|_| bare.fate == Fate::Accepted) {
        let count = layered.edits.len();
        layered
            .edits
            .retain(|edit| !format!("{edit:?}").contains(name));
        if count != layered.edits.len() + 1 {
            return Err(format!("{name} is not there once"));
        }
        layered.without(name);
    }
    for name in but.headers {
        layered.without(name);
    }
    let checks = [
        ("fate", bare.fate == layered.fate),
        ("reply", bare.reply == layered.reply),
        ("quarantine", bare.quarantine == layered.quarantine),
        ("edits", but.replanned || bare.edits == layered.edits),
        ("message", bare.message == layered.message),
        ("recipients", bare.recipients == layered.recipients),
    ];
    match checks.iter().find(|(_, same)| !same) {
        Some((what, _)) => Err(format!("another {what}")),
        None => Ok(()),
    }
}

impl Told {
    /// Takes headers out of what is delivered.
    fn without(&mut self, header: &str) {
        if let Some(message) = &mut self.message {
            let lines = message.lines().filter(|line| !line.contains(header));
            *message = lines.map(|line| line.to_owned() + "\n").collect();
        }
    }
}

/// It, or a recipient.
fn did_not_pass(told: &Told) -> bool {
    matches!(told.fate, Fate::Refused(_) | Fate::NoRecipients) || !told.recipients.is_empty()
}

/// The filter saw the same.
pub(crate) fn same_seen(plan: &Plan, bare: &Run, layered: &Run) -> Checked {
    // One that asks for less may see more.
    if plan.shape == Shape::End || plan.fails() || bare.clones != layered.clones {
        return Ok(());
    }
    // The MTA tells one that has accepted nothing, be it part of the message or not.
    let is_part = |entry: &&Entry| entry.stage != Some(Stage::Unknown);
    let seen = |run: &Run| -> Vec<_> {
        let entries = run.entries.iter().filter(is_part);
        entries
            .map(|entry| (entry.id, entry.seen.clone()))
            .collect()
    };
    let (bare, layered) = (seen(bare), seen(layered));
    if bare == layered {
        return Ok(());
    }
    let at = bare.iter().zip(&layered).position(|(a, b)| a != b);
    let at = at.unwrap_or(bare.len().min(layered.len()));
    Err(format!(
        "the filter saw {:?} in the place of {:?}",
        layered.get(at),
        bare.get(at)
    ))
}

/// Every message that would pass is refused so.
pub(crate) fn refused(bare: &Run, layered: &Run, words: &str) -> Checked {
    let all = bare.told.iter().zip(&layered.told);
    for (_, layered) in all.filter(|(bare, _)| bare.fate == Fate::Accepted) {
        let is_refused = layered
            .reply
            .as_ref()
            .is_some_and(|it| it.starts_with(words));
        if !is_refused {
            return Err(format!("not refused: {layered:?}"));
        }
    }
    Ok(())
}

/// Every message that would pass does so, without its second recipient.
pub(crate) fn refused_second(bare: &Run, layered: &Run, words: &str) -> Checked {
    let all = bare.told.iter().zip(&layered.told);
    let pass = |told: &Told| told.fate == Fate::Accepted && told.recipients.is_empty();
    for (_, layered) in all.filter(|(bare, _)| pass(bare)) {
        let is_second = |(to, reply): &(String, Option<String>)| {
            to == "<two@example.net>" && reply.as_ref().is_some_and(|it| it.starts_with(words))
        };
        let [second] = &*layered.recipients else {
            return Err(format!("not refused once: {layered:?}"));
        };
        if !is_second(second) || layered.fate != Fate::Accepted {
            return Err(format!("not the second one refused: {layered:?}"));
        }
    }
    Ok(())
}

/// What did not pass does not, maybe in other words or at another event; and the server saw no failure.
pub(crate) fn healed(bare: &Run, layered: &Run) -> Checked {
    if layered.has_failures() {
        return Err("failed".into());
    }
    let moved = true;
    same_told(
        bare,
        layered,
        But {
            moved,
            ..But::default()
        },
    )
}

/// Every message passes.
pub(crate) fn opened(layered: &Run) -> Checked {
    let is_open = layered.told.iter().all(|told| told.fate == Fate::Accepted);
    if layered.has_failures() || !is_open {
        return Err("it did not pass".into());
    }
    Ok(())
}
