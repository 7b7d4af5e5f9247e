//! An event on its way through the members.
//!
//! Group by group, in order, as an MTA goes through its filters (protocol 7.1): the first that
//! refuses ends it. `sendmail/milter.c` `milter_command`, `milter_data`; Postfix `milter.c`
//! `milter_*_event`, `milter_message`.

use std::ops::Range;
use std::task::{Context, Poll, ready};

use milter_core::{Stage, Verdict};

use super::Interrupted;
use super::live::{Judgement, Live, Task};
use super::net::Wanted;
use super::running::Running;
use crate::error::BoxError;
use crate::leading_space::without_space;
use crate::request::{Event, Request};
use crate::response::Response;
use crate::session::is_refused_recipient;

/// An event that is on its way.
pub(super) struct Pass {
    pub(super) request: Request,
    pub(super) stage: Stage,
    /// A recipient that the MTA refused.
    is_refused: bool,
    /// The group that is asked.
    pub(super) group: usize,
    step: Step,
    pub(super) wanted: Vec<Wanted>,
}

#[derive(Clone, Copy)]
enum Step {
    /// What comes is held for those who see it later.
    Hold,
    Ask,
    Wait,
}

impl Pass {
    pub(super) fn new(request: Request, stage: Stage) -> Self {
        let macros = request.session().macros();
        let is_refused = stage == Stage::Rcpt && is_refused_recipient(macros);
        Self {
            request,
            stage,
            is_refused,
            group: 0,
            step: Step::Hold,
            wanted: Vec::new(),
        }
    }
}

/// How strict a verdict is, among those given at the same time. A message that is refused comes
/// back to somebody, one that is discarded does not.
fn strictness(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Reject => 3,
        Verdict::Reply(reply) if reply.is_permanent() => 3,
        Verdict::TempFail | Verdict::Reply(_) => 2,
        Verdict::Discard => 1,
        _ => 0,
    }
}

/// The strictest verdict that nothing can outdo.
const STRICTEST: u8 = 3;

impl Running {
    pub(super) fn begin_message(&mut self) {
        self.in_message = true;
        for live in &mut self.members {
            live.end_message();
        }
        self.content.begin_message();
    }

    pub(super) fn poll_pass(
        &mut self,
        pass: &mut Pass,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response, BoxError>> {
        if self.content.interrupted && pass.stage.is_of_message() {
            return Poll::Ready(Err(Interrupted.into()));
        }
        let has_reply = self.has_reply(pass.stage, pass.request.session());
        if let Some(verdict) = self.content.decided.clone() {
            if pass.stage.is_of_message() {
                return Poll::Ready(Ok(self.told(pass, verdict, has_reply)));
            }
        }
        if matches!(pass.step, Step::Hold) {
            self.look_at_conditions(&pass.request, pass.stage);
            if self.changes.hold && pass.stage >= Stage::Header && !self.content.is_refused() {
                ready!(self.poll_hold(pass, cx))?;
            }
            pass.step = Step::Ask;
        }
        if let Some(verdict) = self.content.owed.clone() {
            // Nobody sees more of it.
            return Poll::Ready(Ok(self.told(pass, verdict, has_reply)));
        }
        while let Some(group) = self.group(pass.group) {
            let mut at_once = None;
            if matches!(pass.step, Step::Ask) {
                self.judgements.clear();
                at_once = self.poll_at_once(pass, &group, cx);
                if at_once.is_none() {
                    self.begin_group(pass, group.clone());
                }
                pass.step = Step::Wait;
            }
            ready!(at_once.unwrap_or_else(|| self.poll_group(pass, group, cx)));
            pass.step = Step::Ask;
            // What is not told of the envelope, its members keep for the content.
            let counts = has_reply || pass.stage >= Stage::Header;
            if let Some(objection) = strictest(&self.judgements).filter(|_| counts) {
                if let Some(response) = self.object(pass, objection) {
                    return Poll::Ready(Ok(response));
                }
                // Others are first to judge the whole message; those behind see no more of it.
                break;
            }
            pass.group += 1;
            if pass.stage == Stage::EndOfMessage && self.apply(pass)? {
                break;
            }
        }
        Poll::Ready(self.passed(pass))
    }

    /// Asks the only member of a group the short way, if nothing stands in it.
    fn poll_at_once(
        &mut self,
        pass: &Pass,
        group: &Range<usize>,
        cx: &mut Context<'_>,
    ) -> Option<Poll<()>> {
        let (at, session) = (group.start, pass.request.session());
        let is_plain = match pass.stage {
            Stage::Header => !self.agreement(session).leading_space(),
            _ => !pass.is_refused,
        };
        if !is_plain || group.len() != 1 {
            return None;
        }
        let behind = self.spec.groups.len().saturating_sub(pass.group + 1);
        let (live, mut around) = self.member_before(behind, at, session)?;
        let asked = live.ask_at_once(&pass.request, pass.stage, &mut around, cx)?;
        Some(asked.map(|judgement| {
            if let Some(judgement) = judgement {
                self.judgements.push((at, judgement));
            }
            self.time.passed();
        }))
    }

    /// Begins to ask the members of a group.
    fn begin_group(&mut self, pass: &Pass, group: Range<usize>) {
        let session = pass.request.session();
        let bare = self.without_space(pass);
        for at in group {
            if pass.stage >= Stage::Header {
                if let Some(objection) = self.members[at].objection() {
                    // From before, when others had not judged the message yet.
                    let judgement = (objection.clone(), Vec::new());
                    self.judgements.push((at, judgement));
                    continue;
                }
                if self.members[at].is_held_back(pass.stage) {
                    continue;
                }
            }
            let feed = self.feed_for(at, pass.stage);
            let Some((live, mut around)) = self.member(at, session) else {
                continue;
            };
            if live.undecided && pass.stage.is_of_message() {
                continue;
            }
            // Recipients that the MTA refused are for those who asked for them
            // (protocol 7.3 rule 11).
            if pass.is_refused && !live.view.agreement().rejected_recipients() {
                continue;
            }
            let spaced = live.view.agreement().leading_space();
            let request = bare.as_ref().filter(|_| !spaced).unwrap_or(&pass.request);
            if let Some(judgement) = live.ask(request, pass.stage, feed, &mut around) {
                self.judgements.push((at, judgement));
            }
        }
    }

    /// A header for those who did not ask for leading space, if the MTA shows it.
    fn without_space(&self, pass: &Pass) -> Option<Request> {
        let Event::Header(header) = pass.request.event() else {
            return None;
        };
        if !self.agreement(pass.request.session()).leading_space() {
            return None;
        }
        let bare = without_space(header)?;
        Some(pass.request.clone().with_event(Event::Header(bare)))
    }

    /// Waits for the members of a group, or for the first verdict that nothing can outdo.
    fn poll_group(&mut self, pass: &Pass, group: Range<usize>, cx: &mut Context<'_>) -> Poll<()> {
        let mut pends = false;
        for at in group.clone() {
            let Some((live, mut around)) = self.member(at, pass.request.session()) else {
                continue;
            };
            if matches!(live.task, Task::None) {
                continue;
            }
            match live.poll(&mut around, cx) {
                Poll::Ready(judgement) => self.judgements.push((at, judgement)),
                Poll::Pending => pends = true,
            }
        }
        if pends {
            let outdone = |(_, (verdict, _)): &(usize, Judgement)| strictness(verdict) == STRICTEST;
            if !self.judgements.iter().any(outdone) {
                return Poll::Pending;
            }
            for at in group {
                if let Some((live, around)) = self.member(at, pass.request.session()) {
                    live.lose(&around);
                }
            }
        }
        self.time.passed();
        Poll::Ready(())
    }

    /// A group objects. The response, if it is time for it.
    fn object(&mut self, pass: &Pass, (at, objection): (usize, Verdict)) -> Option<Response> {
        let session = pass.request.session();
        if pass.is_refused {
            // Nothing can rescue it (protocol 4.5), and it cannot be refused once more.
            return Some(Response::proceed());
        }
        if matches!(
            pass.stage,
            Stage::Header | Stage::EndOfHeaders | Stage::Body
        ) {
            let start = self.group(pass.group).map_or(0, |group| group.start);
            let is_next = self.members.iter().take(start).all(Live::is_done);
            if !is_next || !self.has_reply(pass.stage, session) {
                return None;
            }
        }
        self.tell_decided(pass, at);
        Some(self.conclude(pass, objection))
    }

    /// The answer where the verdict is there already.
    fn told(&mut self, pass: &Pass, verdict: Verdict, has_reply: bool) -> Response {
        if has_reply {
            self.conclude(pass, verdict)
        } else {
            Response::proceed()
        }
    }

    /// The chain's verdict on an event, if it is not to go on.
    pub(super) fn conclude(&mut self, pass: &Pass, verdict: Verdict) -> Response {
        if pass.stage == Stage::Rcpt && verdict.is_refusal() {
            self.keep_recipient(pass, true);
        }
        if verdict.ends_message_at(pass.stage) {
            self.content.decided = Some(verdict.clone());
        }
        verdict.into()
    }

    /// No member objects.
    fn passed(&mut self, pass: &mut Pass) -> Result<Response, BoxError> {
        let (stage, session) = (pass.stage, pass.request.session());
        if stage == Stage::Rcpt {
            self.keep_recipient(pass, false);
        }
        if stage == Stage::EndOfMessage {
            return self.end_of_message(pass);
        }
        if !self.has_reply(stage, session) {
            return Ok(Response::proceed());
        }
        if stage != Stage::Unknown && self.members.iter().all(Live::is_done) {
            // Only here, and only then (protocol 7.3 rule 2).
            return Ok(self.conclude(pass, Verdict::Accept));
        }
        if stage == Stage::Body && self.agreement(session).skip() && self.needs_no_more_body() {
            return Ok(Response::skip());
        }
        Ok(Response::proceed())
    }

    /// Keeps a recipient for the members whose list is not the chain's (D2): of one that a later
    /// member refused they are not told.
    fn keep_recipient(&mut self, pass: &Pass, refused: bool) {
        let (session, Event::Rcpt(recipient)) = (pass.request.session(), pass.request.event())
        else {
            return;
        };
        if pass.is_refused {
            return;
        }
        let asked = self
            .group(pass.group)
            .map_or(self.members.len(), |group| group.end);
        let judgements = &self.judgements;
        let refused_it = |at| {
            let mut judgements = judgements.iter();
            judgements.any(|(of, (verdict, _))| *of == at && verdict.is_refusal())
        };
        for (at, live) in self.members.iter_mut().enumerate().take(asked) {
            // One whose condition is not known yet was not shown it.
            let was_asked = live.takes(Stage::Rcpt) && !live.undecided;
            let accepted = was_asked && !refused_it(at);
            if accepted && (refused || live.apart.has_recipients()) {
                live.apart.add_recipient(session, recipient.clone());
            }
        }
    }

    /// A call was dropped on its way: of a message in which it was nobody knows what the members
    /// saw.
    pub(super) fn interrupt(&mut self, pass: &Pass) {
        match pass.stage {
            Stage::Rcpt => self.keep_recipient(pass, true),
            Stage::Connect | Stage::Helo | Stage::Unknown | Stage::Data => {}
            _ => self.content.interrupted = true,
        }
    }
}

/// The strictest of several verdicts given at the same time that refuse or discard; of equals the
/// first in order.
fn strictest(judgements: &[(usize, Judgement)]) -> Option<(usize, Verdict)> {
    let mut worst: Option<(&Verdict, usize)> = None;
    for (at, (verdict, _)) in judgements {
        let stricter = worst.is_none_or(|(than, of)| {
            let (new, old) = (strictness(verdict), strictness(than));
            new > old || new == old && *at < of
        });
        if stricter {
            worst = Some((verdict, *at));
        }
    }
    let (verdict, at) = worst?;
    (strictness(verdict) > 0).then(|| (at, verdict.clone()))
}
