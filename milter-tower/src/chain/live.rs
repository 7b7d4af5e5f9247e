//! A member at work: its service, what it was told, and the call that it is in.

use std::task::{Context, Poll, ready};

use milter_core::{Modification, Offer, Stage, Verdict};
use tracing::Span;

use super::feed::Feed;
use super::introduce::Introduction;
use super::member::Member;
use super::prototype::Instance;
use super::time::Time;
use crate::error::Failure;
use crate::guard::guard;
use crate::member::{Scope, View};
use crate::request::{Event, Request};
use crate::response::Response;
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
    /// None before the negotiation, and after it broke.
    pub(super) service: Option<Box<dyn Instance>>,
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
    /// A call of it was lost to a stricter verdict and runs on.
    lingers: bool,
    span: Span,
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
    pub(super) member: &'a Member,
    pub(super) session: &'a Session,
    pub(super) offer: Offer,
    pub(super) time: &'a mut Time,
    /// How many groups of members come behind it.
    pub(super) behind: usize,
}

impl Live {
    pub(super) fn new() -> Self {
        Self {
            service: None,
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
            lingers: false,
            span: Span::none(),
        }
    }

    /// Makes its service. What is left of another one is dropped.
    pub(super) fn make(&mut self, member: &Member) -> Result<(), Failure> {
        self.discard();
        self.service = Some(guard(|| member.make())?);
        Ok(())
    }

    /// Drops the service: it gets nothing more.
    pub(super) fn discard(&mut self) {
        self.condemned = false;
        self.lingers = false;
        self.call = Call::None;
        let service = self.service.take();
        // A service that panics when it is dropped has nothing more to break.
        let _ = guard(|| drop(service));
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
        if let Some(service) = self.service.as_mut().filter(|_| !self.lingers) {
            service.shrink();
        }
    }

    /// Whether it is shown an event, as far as it is known.
    pub(super) fn takes(&self, stage: Stage) -> bool {
        self.out.is_none() && self.over.is_none() && self.view.agreement().delivers(stage)
    }

    /// Begins to ask it, after what was held for it was shown; or its judgement, if there is
    /// nothing to ask.
    pub(super) fn ask(
        &mut self,
        request: &Request,
        stage: Stage,
        feed: Option<Box<Feed>>,
        around: &mut Around<'_>,
    ) -> Option<Judgement> {
        if !self.takes(stage) {
            return Some(PROCEEDS);
        }
        // An unknown command may stand in the middle of the message whose rest fails.
        let in_broken = stage == Stage::Unknown || stage.is_of_message() && self.broke;
        let mends = self.is_broken() && !in_broken;
        if !mends && feed.is_none() {
            if let Some(judgement) = self.foregone(stage) {
                return Some(judgement);
            }
        }
        let request = self.request(request, around);
        if mends && !self.view.is_standing() {
            self.task = Task::Introduce(Introduction::START, Box::new(Asked { request, feed }));
            return None;
        }
        self.begin(request, stage, feed)
    }

    /// Begins to ask a service that is there.
    pub(super) fn begin(
        &mut self,
        request: Request,
        stage: Stage,
        feed: Option<Box<Feed>>,
    ) -> Option<Judgement> {
        if let Some(feed) = feed {
            self.task = Task::Feed(feed, request);
            return None;
        }
        if let Some(judgement) = self.foregone(stage) {
            return Some(judgement);
        }
        self.start(request);
        self.task = Task::Ask(stage);
        None
    }

    /// Whether it is asked, by a service that is there, and nothing has to be shown to it before.
    fn is_at_hand(&self, stage: Stage) -> bool {
        let is_there = self.service.is_some() && !self.condemned && !self.lingers;
        let has_all =
            !self.undecided && self.feed.is_none() && self.lags.is_none_or(|from| stage < from);
        let is_open = self.out.is_none() && self.over.is_none();
        is_there && has_all && is_open && self.view.is_asked(stage)
    }

    /// Asks it the short way, if it is [at hand](Self::is_at_hand): most answer at once and say to
    /// go on, and there is no judgement then. With one that pends [`poll`](Self::poll) goes on.
    pub(super) fn ask_at_once(
        &mut self,
        request: &Request,
        stage: Stage,
        around: &mut Around<'_>,
        cx: &mut Context<'_>,
    ) -> Option<Poll<Option<Judgement>>> {
        if !self.is_at_hand(stage) {
            return None;
        }
        let mut request = Some(self.request(request, around));
        let polled = self.service.as_mut()?.poll(&mut request, &self.span, cx);
        if request.is_none() {
            // Whatever becomes of its answer: it has to hear of the end of what it saw.
            self.view.reach(stage);
        }
        if stage != Stage::EndOfMessage
            && matches!(&polled, Poll::Ready(Ok(response)) if response.is_bare_proceed())
        {
            // Allowed, and the end of nothing.
            return Some(Poll::Ready(None));
        }
        self.call = Call::Pending(request);
        self.task = Task::Ask(stage);
        let called = self.called(polled, around, cx);
        Some(called.map(|called| {
            self.task = Task::None;
            Some(self.judged(stage, called, around))
        }))
    }

    /// The judgement where the service is not asked.
    fn foregone(&mut self, stage: Stage) -> Option<Judgement> {
        let verdict = self.view.foregone(stage)?;
        self.settle(stage, &verdict);
        Some((verdict, Vec::new()))
    }

    /// The chain's request as the member sees it.
    fn request(&mut self, request: &Request, around: &mut Around<'_>) -> Request {
        if self.span.is_none() {
            self.span = tracing::info_span!("member", name = &*around.member.name);
        }
        let session = self.apart.of(request.session());
        request.for_member(session, around.time.share(around.behind))
    }

    /// Goes on with what was begun by [`ask`](Self::ask).
    pub(super) fn poll(
        &mut self,
        around: &mut Around<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Judgement> {
        loop {
            let judgement = match &self.task {
                Task::None => PROCEEDS,
                Task::Ask(stage) => {
                    let stage = *stage;
                    let called = ready!(self.poll_call(around, cx));
                    self.judged(stage, called, around)
                }
                Task::Feed(..) => match ready!(self.poll_feed(around, cx)) {
                    Some(judgement) => judgement,
                    None => continue,
                },
                Task::Introduce(..) => match ready!(self.poll_introduction(around, cx)) {
                    Some(judgement) => judgement,
                    None => continue,
                },
            };
            self.task = Task::None;
            return Poll::Ready(judgement);
        }
    }

    /// Shows it what was held. Ready with its judgement, if it came to one; with none when
    /// another task is next.
    fn poll_feed(
        &mut self,
        around: &mut Around<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Judgement>> {
        while let Task::Feed(feed, request) = &mut self.task {
            if let Some(stage) = feed.shown {
                let called = ready!(self.poll_call(around, cx));
                if let Task::Feed(feed, _) = &mut self.task {
                    feed.shown = None;
                }
                let judgement = self.judged(stage, called, around);
                if self.over.is_some() || self.out.is_some() {
                    return Poll::Ready(Some(judgement));
                }
                continue;
            }
            match ready!(feed.poll_next(&self.view, cx)) {
                Ok(Some(event)) => {
                    feed.shown = event.stage();
                    let request = request.clone().with_event(event);
                    self.start(request);
                }
                Ok(None) => {
                    let Task::Feed(_, request) = std::mem::take(&mut self.task) else {
                        break;
                    };
                    let stage = request.event().stage().unwrap_or(Stage::EndOfMessage);
                    if let Some(judgement) = self.begin(request, stage, None) {
                        return Poll::Ready(Some(judgement));
                    }
                }
                Err(error) => {
                    let failure = Failure::Held(error);
                    return Poll::Ready(Some(self.failed(Stage::EndOfMessage, failure, around)));
                }
            }
        }
        Poll::Ready(None)
    }

    /// Makes a service and asks it what it needs. Whatever was before is forgotten.
    pub(super) fn poll_offer(
        &mut self,
        around: &mut Around<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response, Failure>> {
        if matches!(self.call, Call::None) {
            *self = Self::new();
            self.make(around.member)?;
            self.start_event(Event::Negotiate(around.offer), around);
        }
        let called = ready!(self.poll_call(around, cx));
        self.call = Call::None;
        Poll::Ready(called)
    }

    /// The chain's call was dropped, and this one's with it.
    pub(super) fn cancel(&mut self) {
        let task = std::mem::take(&mut self.task);
        let was_calling = matches!(std::mem::take(&mut self.call), Call::Pending(None));
        let dropped = match &mut self.service {
            Some(service) if was_calling => service.clear(&self.span),
            _ => Ok(()),
        };
        if dropped.is_err() {
            self.discard();
            self.broke = true;
        } else if let Task::Introduce(step, _) = task {
            self.abandon(step, was_calling);
            self.broke = true;
        }
    }

    /// Its answer does not count any more. A call that got as far as the service runs on.
    pub(super) fn linger(&mut self) {
        match std::mem::take(&mut self.task) {
            Task::None => return,
            Task::Introduce(step, _) => self.abandon(step, self.was_reached()),
            Task::Feed(..) | Task::Ask(_) => {}
        }
        self.lingers |= self.was_reached();
        self.call = Call::None;
    }

    /// Its introduction ends on the way: it would be taken for one that was shown all it has to
    /// know.
    fn abandon(&mut self, step: Introduction, was_reached: bool) {
        if matches!(step, Introduction::Dismiss) && was_reached {
            // That was its last event.
            self.discard();
        }
        self.condemned = self.service.is_some();
    }

    /// Whether there is nobody to ask.
    pub(super) const fn is_broken(&self) -> bool {
        self.service.is_none() || self.condemned
    }

    /// Begins a call.
    pub(super) fn start(&mut self, request: Request) {
        self.call = Call::Pending(Some(request));
    }

    /// Begins a call with this event.
    pub(super) fn start_event(&mut self, event: Event, around: &mut Around<'_>) {
        let session = self.apart.of(around.session);
        let deadline = around.time.share(around.behind);
        self.start(Request::with_deadline(event, session, deadline));
    }

    /// Polls the call that was begun. A service that breaks is dropped.
    pub(super) fn poll_call(
        &mut self,
        around: &mut Around<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response, Failure>> {
        if self.lingers {
            ready!(self.poll_lost(around, cx))?;
        }
        let Some(service) = &mut self.service else {
            self.call = Call::None;
            return Poll::Ready(Err(Failure::Broken));
        };
        let Call::Pending(request) = &mut self.call else {
            return Poll::Ready(Err(Failure::Broken));
        };
        if self.condemned {
            return Poll::Ready(Err(Failure::Broken));
        }
        let stage = request.as_ref().and_then(|request| request.event().stage());
        let polled = service.poll(request, &self.span, cx);
        if let (Some(stage), None) = (stage, &request) {
            // Whatever becomes of its answer: it has to hear of the end of what it saw.
            self.view.reach(stage);
        }
        self.called(polled, around, cx)
    }

    /// What came of polling its service, if that is all.
    fn called(
        &mut self,
        polled: Poll<Result<Response, Failure>>,
        around: &mut Around<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response, Failure>> {
        let mut called = match polled {
            // Nothing is left of the call.
            Poll::Ready(Ok(response)) => return Poll::Ready(Ok(response)),
            Poll::Ready(called) => called,
            Poll::Pending => {
                let limit = ready!(around.time.poll_over(cx));
                Err(if self.was_reached() {
                    Failure::Deadline(limit)
                } else {
                    Failure::NotReadyInTime(limit)
                })
            }
        };
        let dropped = match &mut self.service {
            Some(service) => service.clear(&self.span),
            None => Ok(()),
        };
        let breaks = matches!(&called, Err(failure) if failure.breaks_service());
        if breaks || dropped.is_err() {
            self.discard();
            self.broke = true;
        }
        if let Err(panic) = dropped {
            called = Err(panic);
        }
        Poll::Ready(called)
    }

    /// Waits for a call that was lost: one at a time (D3). One that takes too long is dropped, so
    /// that what comes next has a service to go to.
    fn poll_lost(
        &mut self,
        around: &mut Around<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        let mut broken = None;
        if let Some(service) = &mut self.service {
            match service.poll(&mut None, &self.span, cx) {
                Poll::Ready(answered) => broken = answered.err().filter(Failure::breaks_service),
                Poll::Pending => {
                    ready!(around.time.poll_over(cx));
                }
            }
            broken = broken.or(service.clear(&self.span).err());
        }
        self.lingers = false;
        Poll::Ready(match broken {
            Some(failure) => {
                self.discard();
                self.broke = true;
                Err(failure)
            }
            None => Ok(()),
        })
    }

    /// Whether the last call got as far as the service.
    pub(super) const fn was_reached(&self) -> bool {
        matches!(self.call, Call::Pending(None))
    }
}
