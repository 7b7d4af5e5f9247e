//! What programs are told: an object for each mail. `README.md` lists the fields.

use std::collections::BTreeMap;
use std::time::Duration;

use milter_examples::edits::Edit;
use milter_tower::testing::{Delivery, Reaction, Step};
use milter_tower::{Agreement, MacroStage, Recipient, Stage};
use serde::Serialize;

use crate::ending::Ending;
use crate::run;
use crate::show::{is_changed, macro_stage, reply_to};
use crate::trouble::Trouble;

/// A mail, and what became of it.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    mail: String,
    milter: String,
    mta: &'static str,
    outcome: Ending,
    /// The stage at which it was decided.
    stage: Option<&'static str>,
    /// What the client was told, where it was refused.
    reply: Option<String>,
    quarantine: Option<String>,
    changed: bool,
    error: Option<Error>,
    ms: f64,
    connect_ms: f64,
    negotiation: Option<Negotiation>,
    steps: Vec<StepOf>,
    edits: Vec<Edit>,
    /// None if nothing was agreed on, and so nothing was sent.
    message: Option<Message>,
}

#[derive(Debug, Serialize)]
struct Error {
    at: String,
    why: String,
    /// How many bytes came last, and the first of them.
    received: usize,
    received_text: String,
}

#[derive(Debug, Serialize)]
struct Negotiation {
    ms: f64,
    version: u32,
    /// Names of the protocol's flags, as far as they have some.
    actions: Vec<&'static str>,
    steps: Vec<&'static str>,
    /// Those that it asks for, by stage.
    macros: BTreeMap<&'static str, Vec<String>>,
}

#[derive(Debug, Serialize)]
struct StepOf {
    stage: &'static str,
    about: String,
    reaction: String,
    reply: Option<String>,
    progress: u32,
    /// None where no answer was due.
    ms: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Message {
    from: String,
    to: Vec<String>,
    headers: Vec<Header>,
    body_changed: bool,
    body_size: usize,
}

#[derive(Debug, Serialize)]
struct Header {
    name: String,
    value: String,
}

/// Nothing was checked.
#[derive(Debug, Serialize)]
pub(crate) struct Nothing {
    outcome: &'static str,
    error: Why,
}

#[derive(Debug, Serialize)]
struct Why {
    why: String,
}

pub(crate) fn ms(time: Duration) -> f64 {
    // To the microsecond.
    (time.as_secs_f64() * 1e6).round() / 1e3
}

impl From<&Trouble> for Nothing {
    fn from(trouble: &Trouble) -> Self {
        Self {
            outcome: match trouble {
                Trouble::Connect(..) => "unreachable",
                Trouble::Mail(..) | Trouble::Output(_) => "none",
            },
            error: Why {
                why: trouble.to_string(),
            },
        }
    }
}

impl From<&run::Checked<'_>> for Checked {
    fn from(checked: &run::Checked<'_>) -> Self {
        let run::Checked { done, opened, .. } = checked;
        let is_sent = opened.agreement.is_some();
        let negotiation = opened.agreement.as_ref().map(|agreement| {
            let took = opened.negotiation.took;
            Negotiation::new(agreement, took)
        });
        Self {
            mail: checked.letter.name.clone(),
            milter: opened.address.to_string(),
            mta: opened.mta,
            outcome: checked.ending,
            stage: done.ended_at.filter(|_| is_sent).map(Stage::name),
            reply: done.reply().map(ToString::to_string),
            quarantine: done.quarantine().map(|reason| reason.to_string()),
            changed: is_changed(done),
            error: checked.broken.as_ref().map(Error::from),
            ms: ms(checked.took),
            connect_ms: ms(opened.connected_in),
            negotiation,
            steps: done
                .steps
                .iter()
                .filter(|_| is_sent)
                .map(|step| StepOf::new(step, reply_to(step, done)))
                .collect(),
            edits: done.edits.iter().map(Edit::from).collect(),
            message: is_sent.then(|| Message::of(done)),
        }
    }
}

impl Message {
    fn of(done: &Delivery) -> Self {
        let after = &done.message;
        let to = after.recipients().iter().map(Recipient::address);
        let headers = after.headers().iter().map(|field| Header {
            name: field.name().to_string(),
            value: field.value().to_string(),
        });
        Self {
            from: after.sender().address().to_string(),
            to: to.map(|to| to.to_string()).collect(),
            headers: headers.collect(),
            body_changed: done.before.body() != after.body(),
            body_size: after.body().len(),
        }
    }
}

impl From<&run::Broken> for Error {
    fn from(broken: &run::Broken) -> Self {
        let (bytes, received) = &broken.heard;
        Self {
            at: broken.at.clone(),
            why: broken.why.clone(),
            received: *received,
            received_text: bytes.escape_ascii().to_string(),
        }
    }
}

impl Negotiation {
    fn new(agreement: &Agreement, took: Duration) -> Self {
        let macros = MacroStage::ALL.into_iter().filter_map(|stage| {
            let names = agreement.macros().get(stage)?;
            Some((
                macro_stage(stage),
                names.map(|name| name.to_string()).collect(),
            ))
        });
        Self {
            ms: ms(took),
            version: agreement.version(),
            actions: agreement
                .actions()
                .iter_names()
                .map(|(name, _)| name)
                .collect(),
            steps: agreement
                .steps()
                .iter_names()
                .map(|(name, _)| name)
                .collect(),
            macros: macros.collect(),
        }
    }
}

impl StepOf {
    fn new(step: &Step, reply: Option<String>) -> Self {
        let is_timed = matches!(step.reaction, Reaction::Answered(_) | Reaction::Failed);
        Self {
            stage: step.stage.name(),
            about: step.about().to_string(),
            reaction: step.reaction.to_string(),
            reply,
            progress: step.progress,
            ms: is_timed.then(|| ms(step.took)),
        }
    }
}
