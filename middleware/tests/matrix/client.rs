//! What clients do, and what comes of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use milter_tower::testing::{Delivery, Fate, Mail, MockMta, MtaProfile, SmtpSession};
use milter_tower::{Agreement, BoxError, Modification, Request, Response, Stage};
use tower::util::BoxCloneService;

use crate::filter::{Entry, Log, Plan, Scripted};

/// A filter with or without layers.
pub(crate) type Filter = BoxCloneService<Request, Response, BoxError>;

/// One thing that a client does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A whole message at which the filter acts.
    Acts,
    /// A whole message at which it does not.
    Mail,
    /// The client gives up after this stage.
    GivesUp(Stage),
    /// The client greets again.
    Helo,
    /// It greets again in the middle of a message.
    HeloInMessage,
    /// It says what the MTA does not know.
    Unknown,
    /// It does so in the middle of a message, at which the filter acts, and goes on.
    UnknownInMessage,
}

/// How a session ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Quit,
    /// In the middle of a message, after this stage.
    QuitAfter(Stage),
    /// The connection is lost then.
    LostAfter(Stage),
}

/// A session with an MTA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    pub(crate) steps: &'static [Step],
    pub(crate) end: End,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) fate: Fate,
    pub(crate) reply: Option<String>,
    pub(crate) quarantine: Option<String>,
    pub(crate) edits: Vec<Modification>,
    /// What is delivered, if anything is.
    pub(crate) message: Option<String>,
    /// What each recipient was told.
    pub(crate) recipients: Vec<(String, Option<String>)>,
    pub(crate) failures: Vec<String>,
}

impl Told {
    fn new(done: &Delivery) -> Self {
        let recipients = done.answers.iter().filter_map(|answer| {
            let to = answer.recipient.as_ref()?;
            let reply = answer.reply.as_ref().map(ToString::to_string);
            Some((to.address().to_string(), reply))
        });
        Self {
            fate: done.fate.clone(),
            reply: done.reply().map(ToString::to_string),
            quarantine: done.quarantine().map(|reason| reason.to_string()),
            edits: done.edits.clone(),
            message: done.is_accepted().then(|| shown(&done.message.to_string())),
            // The filter is not asked about those after it has decided.
            recipients: recipients.filter(|(_, reply)| reply.is_some()).collect(),
            failures: done.failures.clone(),
        }
    }
}

/// Without the queue id, which counts the messages that were begun.
fn shown(message: &str) -> String {
    let lines = message.lines().filter(|line| !line.contains("ESMTP id"));
    lines.map(|line| line.to_owned() + "\n").collect()
}

/// All that came of a script.
pub(crate) struct Run {
    pub(crate) told: Vec<Told>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) clones: usize,
    pub(crate) agreement: Option<Agreement>,
    /// Failures after the last message.
    pub(crate) late: Vec<String>,
}

impl Run {
    /// Whether the server logged one.
    pub(crate) fn has_failures(&self) -> bool {
        !self.late.is_empty() || self.told.iter().any(|told| !told.failures.is_empty())
    }
}

fn mail() -> &'static Mail {
    static MAIL: OnceLock<Mail> = OnceLock::new();
    MAIL.get_or_init(|| {
        Mail::new()
            .from("sender@example.org")
            .to("one@example.net")
            .to("two@example.net")
            .header("Subject", "first")
            .header("X-Gone", "to be deleted")
            .header("X-Kept", "to be kept")
    })
}

/// Runs a script, and a session with a message after it.
pub(crate) async fn run(
    profile: &MtaProfile,
    (plan, script): &(Plan, Script),
    wrap: &dyn Fn(Filter) -> Filter,
) -> Run {
    let (acts, log) = (Arc::new(AtomicBool::new(false)), Log::default());
    let filter = wrap(Filter::new(Scripted::new(plan, &acts, &log)));
    let mut mta = MockMta::with_profile(profile.clone(), filter);
    let mut told = Vec::new();
    let mut session = mta.open().await;
    // What it does at connect and HELO it does from the beginning.
    acts.store(true, Ordering::Relaxed);
    session.connect(mail().connection()).await;
    session.helo("client.example").await;
    for step in script.steps {
        told.extend(take(*step, &mut session, &acts).await);
    }
    acts.store(false, Ordering::Relaxed);
    let mut late = match script.end {
        End::Quit => session.quit().await,
        End::QuitAfter(stage) => {
            go_to(stage, &mut session).await;
            session.quit().await
        }
        End::LostAfter(stage) => {
            go_to(stage, &mut session).await;
            session.lose().await
        }
    };
    let mut session = mta.open().await;
    session.connect(mail().connection()).await;
    session.helo("client.example").await;
    told.push(deliver(Stage::Mail, &mut session).await);
    late.extend(session.quit().await);
    Run {
        told,
        entries: log.entries(),
        clones: log.clones(),
        agreement: log.agreement(),
        late,
    }
}

async fn take(step: Step, session: &mut SmtpSession, acts: &AtomicBool) -> Option<Told> {
    let is_meant = matches!(step, Step::Acts | Step::UnknownInMessage);
    acts.store(is_meant, Ordering::Relaxed);
    match step {
        Step::Acts | Step::Mail => Some(deliver(Stage::Mail, session).await),
        Step::GivesUp(stage) => {
            go_to(stage, session).await;
            session.abort().await;
            None
        }
        Step::Helo => {
            session.helo("again.example").await;
            None
        }
        Step::HeloInMessage => {
            go_to(Stage::Rcpt, session).await;
            session.helo("again.example").await;
            None
        }
        Step::Unknown => {
            unknown(session).await;
            None
        }
        Step::UnknownInMessage => {
            if go_to(Stage::Rcpt, session).await || unknown(session).await {
                return Some(Told::new(&session.abort().await));
            }
            Some(deliver(Stage::Data, session).await)
        }
    }
}

/// A message from this stage on.
async fn deliver(from: Stage, session: &mut SmtpSession) -> Told {
    let is_refused = go_on(from, Stage::EndOfMessage, session).await;
    Told::new(&if is_refused {
        session.abort().await
    } else {
        session.end().await
    })
}

async fn unknown(session: &mut SmtpSession) -> bool {
    session.unknown("XYZZY").await.reply.is_some()
}

const ORDER: [Stage; 6] = [
    Stage::Mail,
    Stage::Rcpt,
    Stage::Data,
    Stage::Header,
    Stage::EndOfHeaders,
    Stage::Body,
];

/// Begins a message and goes on until after this stage. Whether it was refused before.
async fn go_to(stage: Stage, session: &mut SmtpSession) -> bool {
    let after = ORDER.iter().position(|one| *one == stage);
    let next = after.and_then(|at| ORDER.get(at + 1));
    let to = next.copied().unwrap_or(Stage::EndOfMessage);
    go_on(Stage::Mail, to, session).await
}

async fn go_on(from: Stage, to: Stage, session: &mut SmtpSession) -> bool {
    let mail = mail();
    let stages = ORDER.iter().skip_while(|one| **one != from);
    for stage in stages.take_while(|one| **one != to) {
        let is_refused = match stage {
            Stage::Mail => session.mail_as(mail.sender()).await.reply.is_some(),
            Stage::Rcpt => {
                let mut all = true;
                for to in mail.recipients() {
                    all &= session.rcpt_as(to).await.reply.is_some();
                }
                all
            }
            Stage::Data => session.data().await.reply.is_some(),
            Stage::Header => {
                let mut any = false;
                for header in &mail.headers() {
                    any |= !any
                        && session
                            .header_as(header.header().clone())
                            .await
                            .reply
                            .is_some();
                }
                any
            }
            Stage::EndOfHeaders => session.end_of_headers().await.reply.is_some(),
            // In two pieces.
            _ => {
                session.body("one\r\n").await.reply.is_some()
                    || session.body("two\r\n").await.reply.is_some()
            }
        };
        if is_refused {
            return true;
        }
    }
    false
}
