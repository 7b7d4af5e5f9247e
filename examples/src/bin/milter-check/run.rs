//! Sends the mails, one after the other.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use milter_tower::testing::{
    Delivery, Failure, MockMta, MtaProfile, Negotiation, Reaction, SmtpSession,
};
use milter_tower::{Address, Agreement};

use crate::args::Args;
use crate::ending::Ending;
use crate::letters::{self, Letter};
use crate::link::{Heard, Tap, dial};
use crate::output::Output;
use crate::trouble::Trouble;

/// A milter that was connected to, and what it said to the offer.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    pub(crate) address: &'a Address,
    /// The mail server that is played.
    pub(crate) mta: &'static str,
    /// How long connecting took.
    pub(crate) connected_in: Duration,
    pub(crate) negotiation: Negotiation,
    /// None if there is none.
    pub(crate) agreement: Option<Agreement>,
    heard: Heard,
}

/// A mail, and what became of it.
#[derive(Debug)]
pub(crate) struct Checked<'a> {
    pub(crate) opened: &'a Opened<'a>,
    pub(crate) letter: &'a Letter,
    /// Its number, of how many.
    pub(crate) nth: (u64, u64),
    pub(crate) done: Delivery,
    pub(crate) took: Duration,
    pub(crate) ending: Ending,
    /// How the milter failed, if it did.
    pub(crate) broken: Option<Broken>,
}

/// How a milter failed.
#[derive(Debug)]
pub(crate) struct Broken {
    /// When.
    pub(crate) at: String,
    /// How long was waited for an answer, if one was due.
    pub(crate) after: Option<Duration>,
    pub(crate) why: String,
    /// None if it is not about a single reply.
    pub(crate) failure: Option<Failure>,
    /// The beginning of what came last, and how many bytes there were of it.
    pub(crate) heard: (Vec<u8>, usize),
}

/// Checks each mail, and gives the highest of the exit codes.
pub(crate) async fn run(args: &Args, output: &mut Output) -> Result<ExitCode, Trouble> {
    let letters = letters::load(args)?;
    let profile = args.profile();
    let repeat = u64::from(args.server.repeat);
    let all = repeat.saturating_mul(letters.len() as u64);
    let mut letters = letters
        .iter()
        .flat_map(|letter| (0..repeat).map(move |_| letter))
        .zip(1..)
        .peekable();
    let mut link = None;
    let mut code = 0;
    while let Some((letter, nth)) = letters.next() {
        let (mut session, opened) = if let Some(link) = link.take() {
            link
        } else {
            let link = open(args, &profile).await?;
            output.opened(&link.1)?;
            link
        };
        let began = Instant::now();
        let mut done = session.deliver(&letter.mail).await;
        let took = began.elapsed();
        let mut heard = opened.heard.bytes();
        let failure = session.protocol_failure().cloned();
        let why = session.failure().map(str::to_owned);
        let goes_on = letters.peek().is_some() && !args.server.new_connection && why.is_none();
        let rest = if goes_on {
            Some(session)
        } else {
            // What it answers to the last question, and then more, is found here.
            let late = session.quit().await;
            if !late.is_empty() {
                heard = opened.heard.bytes();
            }
            done.failures.extend(late);
            None
        };
        let why = why.or_else(|| done.failures.first().cloned());
        let broken = why.map(|why| {
            let (at, after) = place_of(&opened, &done);
            Broken {
                at,
                after,
                why,
                failure: failure.clone(),
                heard,
            }
        });
        let ending = match Ending::of(&done, failure.as_ref()) {
            ending if broken.is_some() && ending.is_verdict() => Ending::Failed,
            ending => ending,
        };
        code = code.max(ending.exit_code_if(args.output.expect));
        output.checked(&Checked {
            opened: &opened,
            letter,
            nth: (nth, all),
            done,
            took,
            ending,
            broken,
        })?;
        link = rest.map(|session| (session, opened));
    }
    Ok(code.into())
}

pub(crate) async fn open<'a>(
    args: &'a Args,
    profile: &MtaProfile,
) -> Result<(SmtpSession, Opened<'a>), Trouble> {
    let began = Instant::now();
    let io = dial(&args.address, args.connect_timeout()).await?;
    let connected_in = began.elapsed();
    let (tap, heard) = Tap::new(io);
    let session = MockMta::over(profile.clone(), tap).open().await;
    let is_agreed = session.failure().is_none();
    let opened = Opened {
        address: &args.address,
        mta: profile.name(),
        connected_in,
        negotiation: session.negotiation().clone(),
        agreement: is_agreed.then(|| session.agreement().clone()),
        heard,
    };
    Ok((session, opened))
}

/// Where the milter failed, and how long was waited there.
fn place_of(opened: &Opened<'_>, done: &Delivery) -> (String, Option<Duration>) {
    if opened.agreement.is_none() {
        let after = opened.negotiation.took;
        return ("the negotiation".to_owned(), Some(after));
    }
    let mut steps = done.steps.iter();
    match steps.find(|step| step.reaction == Reaction::Failed) {
        Some(step) => (step.stage.to_string(), Some(step.took)),
        None => ("the end, after its last answer".to_owned(), None),
    }
}
