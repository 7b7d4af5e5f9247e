//! A member at work: its service, what it was told, and the call that it is in.

use milter_core::{Agreement, Modification, Offer, Stage, Verdict};
use tracing::Span;

use super::Spec;
use super::feed::Feed;
use super::introduce::Introduction;
use super::lost::Seat;
use super::member::Member;
use super::time::Time;
use crate::error::Failure;
use crate::guard::guard;
use crate::member::{Scope, View};
use crate::request::Request;
use crate::session::{Apart, Session};

/// A verdict and the edits that go with it.
pub(super) type Judgement = (Verdict, Vec<Modification>);

/// Goes on, and changes nothing.
pub(super) const PROCEEDS: Judgement = (Verdict::Continue, Vec::new());

/// A member of a chain that has a connection.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each tells of another thing, and any of them may be true"
)]
pub(super) struct Live {
    pub(super) seat: Seat,
    /// It works but is of no use: it hears of its end and nothing else.
    pub(super) condemned: bool,
    /// It broke at the message at hand, whose rest fails.
    pub(super) broke: bool,
    pub(super) view: View,
    pub(super) apart: Apart,
    /// Its verdict on the message at hand, if it is final.
    pub(super) over: Option<Verdict>,
    /// Its condition is not known yet for the message at hand.
    pub(super) undecided: bool,
    /// It wants nothing more, or is left out, for so long.
    pub(super) out: Option<Scope>,
    /// Content is held for it from this stage on.
    pub(super) lags: Option<Stage>,
    /// What was held for it, and need not be any longer.
    pub(super) feed: Option<Box<Feed>>,
    pub(super) task: Task,
    pub(super) call: Call,
    pub(super) span: Span,
}

/// What a member is asked, step by step.
#[derive(Default)]
pub(super) enum Task {
    #[default]
    None,
    /// A fresh service is shown what it has to know, and then asked.
    Introduce(Introduction, Box<Asked>),
    /// It is shown content that was held for it, and then asked.
    Feed(Box<Feed>, Request),
    /// It is asked at this stage.
    Ask(Stage),
}

/// What a member is asked in the end.
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) feed: Option<Box<Feed>>,
}

/// The call that a member is in.
#[derive(Default)]
pub(super) enum Call {
    #[default]
    None,
    /// With the request, until the service is ready for it.
    Pending(Option<Request>),
}

/// What stands around a member while it is polled.
pub(super) struct Around<'a> {
    pub(super) spec: &'a Spec,
    pub(super) member: &'a Member,
    pub(super) session: &'a Session,
    /// What the chain agreed on.
    pub(super) agreement: &'a Agreement,
    /// Changes of several members are merged.
    pub(super) merges: bool,
    pub(super) offer: Offer,
    pub(super) time: &'a mut Time,
    /// How many groups of members come behind it.
    pub(super) behind: usize,
}

impl Live {
    pub(super) fn new() -> Self {
        Self {
            seat: Seat::Empty,
            condemned: false,
            broke: false,
            view: View::default(),
            apart: Apart::default(),
            over: None,
            undecided: false,
            out: None,
            lags: None,
            feed: None,
            task: Task::None,
            call: Call::None,
            span: Span::none(),
        }
    }

    /// Makes its service. What is left of another one is dropped.
    pub(super) fn make(&mut self, member: &Member) -> Result<(), Failure> {
        self.discard();
        self.seat = Seat::Here(guard(|| member.make())?);
        Ok(())
    }

    /// Drops the service, and with it a call that was lost: it gets nothing more.
    pub(super) fn discard(&mut self) {
        self.condemned = false;
        self.call = Call::None;
        let seat = std::mem::take(&mut self.seat);
        // A service that panics when it is dropped has nothing more to break.
        let _ = guard(|| drop(seat));
    }

    /// Whether it wants nothing more of the message, and has nothing against it.
    pub(super) fn is_done(&self) -> bool {
        self.out.is_some() || self.over == Some(Verdict::Accept)
    }

    /// Its refusal of the message at hand, or that it discards it.
    pub(super) fn objection(&self) -> Option<&Verdict> {
        self.over.as_ref().filter(|_| !self.is_done())
    }

    /// Forgets the message. Whether it saw something of it and has to hear of the end.
    pub(super) fn end_message(&mut self) -> bool {
        self.view.forget_standing(Scope::Message);
        self.over = None;
        self.undecided = false;
        self.lags = None;
        self.feed = None;
        self.broke = false;
        if self.out == Some(Scope::Message) {
            self.out = None;
        }
        // The next one stands in the span of the next message.
        self.span = Span::none();
        self.view.end_message()
    }

    pub(super) fn end_session(&mut self) {
        self.end_message();
        self.view.forget_standing(Scope::Session);
        if self.out == Some(Scope::Session) {
            self.out = None;
        }
    }

    /// Gives back the memory that calls took.
    pub(super) fn shrink(&mut self) {
        if let Some(service) = self.seat.here() {
            service.shrink();
        }
    }

    /// Whether it is shown an event, as far as it is known.
    pub(super) fn takes(&self, stage: Stage) -> bool {
        self.out.is_none() && self.over.is_none() && self.view.agreement().delivers(stage)
    }

    /// Whether there is nobody to ask, as far as it is known.
    pub(super) const fn is_broken(&self) -> bool {
        self.seat.is_empty() || self.condemned
    }
}

impl Task {
    /// The stage of the event that the service is being asked or shown.
    pub(super) fn stage(&self) -> Option<Stage> {
        match self {
            Self::None => None,
            Self::Introduce(_, asked) => Some(asked.stage()),
            Self::Feed(feed, _) => feed.shown,
            Self::Ask(stage) => Some(*stage),
        }
    }
}

impl Asked {
    pub(super) fn stage(&self) -> Stage {
        self.request.event().stage().unwrap_or(Stage::Mail)
    }
}
