//! A filter that does one thing at one place, and writes down all that it sees.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use milter_tower::{
    Actions, Agreement, BoxError, Event, Modification, Needs, Outcome, Request, Response,
    SmtpReply, Stage, Verdict,
};
use tower::Service;

use crate::cases::Failing;

/// What a filter asks for in the negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Everything, and answers everything.
    All,
    /// Everything, and answers the end of the message only.
    Records,
    /// The end of the message only.
    End,
}

impl Shape {
    fn needs(self) -> Needs {
        let needs = match self {
            Self::All => Needs::none().events(Stage::ALL).skip(),
            Self::Records => {
                let all = Stage::ALL.into_iter();
                let all = all.filter(|stage| *stage != Stage::EndOfMessage);
                all.fold(Needs::none(), Needs::record)
            }
            Self::End => Needs::none(),
        };
        needs.optional_action(Actions::all())
    }
}

/// Where a filter does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) stage: Stage,
    /// At which of those of a message, from 1.
    pub(crate) nth: usize,
}

/// What it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Says(Verdict),
    /// That long, and then goes on.
    Waits(Duration),
    Fails,
    Hangs,
    Panics,
    /// When its future is polled.
    PanicsLater,
}

impl Act {
    pub(crate) const fn fails(&self) -> bool {
        !matches!(self, Self::Says(_) | Self::Waits(_))
    }
}

/// All that a filter is.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) shape: Shape,
    /// In messages of which the client says so.
    pub(crate) act: Option<(Place, Act)>,
    /// Changes all that can be changed, in every message.
    pub(crate) edits: bool,
}

impl Plan {
    pub(crate) const fn new(shape: Shape) -> Self {
        Self {
            shape,
            act: None,
            edits: false,
        }
    }

    pub(crate) const fn edits(mut self) -> Self {
        self.edits = true;
        self
    }

    pub(crate) fn act(mut self, stage: Stage, nth: usize, act: Act) -> Self {
        self.act = Some((Place { stage, nth }, act));
        self
    }

    pub(crate) fn fails(&self) -> bool {
        self.act.as_ref().is_some_and(|(_, act)| act.fails())
    }

    /// How it fails.
    pub(crate) fn failing(&self) -> Option<Failing> {
        match self.act.as_ref()?.1 {
            Act::Says(_) | Act::Waits(_) => None,
            Act::Fails => Some(Failing::Errors),
            Act::Hangs => Some(Failing::Hangs),
            Act::Panics | Act::PanicsLater => Some(Failing::Panics),
        }
    }
}

/// What one filter saw, and did.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Which clone.
    pub(crate) id: usize,
    pub(crate) seen: String,
    pub(crate) stage: Option<Stage>,
    /// It wanted no more of the message.
    pub(crate) ended: bool,
    /// It is of no more use.
    pub(crate) broke: bool,
}

/// What all clones saw.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    clones: usize,
    entries: Vec<Entry>,
    agreement: Option<Agreement>,
}

impl Log {
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap().entries.clone()
    }

    pub(crate) fn clones(&self) -> usize {
        self.0.lock().unwrap().clones
    }

    /// What was agreed on with the last one that saw a connection's client or message.
    pub(crate) fn agreement(&self) -> Option<Agreement> {
        self.0.lock().unwrap().agreement.clone()
    }
}

/// The filter.
pub(crate) struct Scripted {
    plan: Arc<Plan>,
    /// Whether the message at hand is one at which it acts.
    acts: Arc<AtomicBool>,
    log: Log,
    id: usize,
    /// How many of this stage were seen in the message.
    counted: usize,
}

impl Scripted {
    pub(crate) fn new(plan: &Plan, acts: &Arc<AtomicBool>, log: &Log) -> Self {
        Self {
            plan: Arc::new(plan.clone()),
            acts: Arc::clone(acts),
            log: log.clone(),
            id: 0,
            counted: 0,
        }
    }

    /// What is to be done at this event.
    fn act(&mut self, event: &Event) -> Option<Act> {
        let (place, act) = self.plan.act.as_ref()?;
        if matches!(event, Event::Mail(_) | Event::MessageEnd(_)) {
            self.counted = 0;
        }
        if event.stage() != Some(place.stage) {
            return None;
        }
        self.counted += 1;
        let is_of_message = place.stage.is_of_message();
        let is_meant = !is_of_message || self.counted == place.nth;
        (is_meant && self.acts.load(Ordering::Relaxed)).then(|| act.clone())
    }

    /// The verdict, if it can be given here.
    fn spoken(verdict: Verdict, stage: Stage, agreement: &Agreement) -> Response {
        match verdict.check(stage, agreement) {
            Ok(()) => verdict.into(),
            Err(_) => Response::proceed(),
        }
    }

    fn change(response: Response, agreement: &Agreement) -> Response {
        let edits = [
            Modification::add_header("X-Added", "at the end"),
            Modification::insert_header(0, "X-First", "on top"),
            Modification::change_header("Subject", 1, "changed"),
            Modification::delete_header("X-Gone", 1),
            Ok(Modification::replace_body("new\r\n")),
            Modification::change_sender("<new@example.org>"),
            Modification::add_recipient("<more@example.net>"),
            Modification::delete_recipient("<one@example.net>"),
            Modification::quarantine("odd"),
        ];
        let edits = edits.into_iter().map(Result::unwrap);
        response.edit_all(edits.filter(|edit| agreement.permits(edit).is_ok()))
    }
}

impl Clone for Scripted {
    fn clone(&self) -> Self {
        let mut seen = self.log.0.lock().unwrap();
        seen.clones += 1;
        Self {
            plan: Arc::clone(&self.plan),
            acts: Arc::clone(&self.acts),
            log: self.log.clone(),
            id: seen.clones,
            counted: 0,
        }
    }
}

impl Service<Request> for Scripted {
    type Response = Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (event, session) = (request.event(), request.session());
        let stage = event.stage();
        let act = self.act(event);
        let agreement = session.agreement();
        let mut response = match (event, stage, agreement) {
            (Event::Negotiate(_), ..) => Response::needs(self.plan.shape.needs()),
            (_, Some(stage), Some(agreement)) => match &act {
                Some(Act::Says(verdict)) => Self::spoken(verdict.clone(), stage, agreement),
                _ => Response::proceed(),
            },
            _ => Response::proceed(),
        };
        let passes = matches!(response.verdict(), Verdict::Continue | Verdict::Accept);
        if let (Event::EndOfMessage(_), Some(agreement)) = (event, agreement) {
            if self.plan.edits && passes {
                response = Self::change(response, agreement);
            }
        }
        let broke = matches!(act, Some(Act::Panics | Act::PanicsLater));
        let ended = stage.is_some_and(|stage| {
            stage.is_of_message() && response.verdict().ends_message_at(stage)
        });
        let mut log = self.log.0.lock().unwrap();
        if stage.is_some() {
            log.agreement = agreement.cloned();
        }
        log.entries.push(Entry {
            id: self.id,
            seen: seen(event),
            stage,
            ended,
            broke,
        });
        drop(log);
        match act {
            None | Some(Act::Says(_)) => Box::pin(std::future::ready(Ok(response))),
            Some(Act::Waits(time)) => Box::pin(async move {
                tokio::time::sleep(time).await;
                Ok(response)
            }),
            Some(Act::Fails) => Box::pin(std::future::ready(Err("expected".into()))),
            Some(Act::Hangs) => Box::pin(std::future::pending()),
            Some(Act::Panics) => panic(),
            Some(Act::PanicsLater) => Box::pin(async { panic() }),
        }
    }
}

/// The hook that prints is not asked.
fn panic() -> ! {
    std::panic::resume_unwind(Box::new("expected"))
}

/// What a filter sees of an event.
fn seen(event: &Event) -> String {
    match event {
        Event::Negotiate(_) => "negotiate".into(),
        Event::Connect(client) => format!("connect {}", client.host()),
        Event::Helo(helo) => format!("helo {}", helo.name()),
        Event::Mail(sender) => format!("mail {}", sender.address()),
        Event::Rcpt(to) => format!("rcpt {}", to.address()),
        Event::Unknown(command) => format!("unknown {}", command.line()),
        Event::Header(header) => format!("header {}: {}", header.name(), header.value()),
        Event::Body(piece) => format!("body {}", piece.len()),
        Event::MessageEnd(Outcome::Verdict(verdict)) => format!("end: {}", verdict.name()),
        Event::MessageEnd(outcome) => format!("end: {outcome:?}"),
        Event::SessionEnd => "session end".into(),
        Event::Close => "close".into(),
        other => other.stage().map_or("?", Stage::name).into(),
    }
}

/// A verdict in words of the filter's own.
pub(crate) fn own_words() -> Verdict {
    Verdict::Reply(SmtpReply::reject("the filter's own words"))
}
