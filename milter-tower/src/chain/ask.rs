//! A member is asked: what it is shown before, and what it says.

use std::task::{Context, Poll, ready};

use milter_core::Stage;

use super::feed::Feed;
use super::introduce::Introduction;
use super::live::{Around, Asked, Call, Judgement, Live, PROCEEDS, Task};
use super::lost::Seat;
use crate::error::Failure;
use crate::request::Request;

impl Live {
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
        let is_there = matches!(self.seat, Seat::Here(_)) && !self.condemned;
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
        let polled = self.seat.here()?.poll(&mut request, &self.span, cx);
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
}
