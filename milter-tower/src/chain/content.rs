//! Content: streamed to those who may see it as it comes, held for those who may not, and what
//! becomes of it at the end of the message.

use std::task::{Context, Poll, ready};

use milter_core::{Actions, Stage, Verdict};

use super::feed::Feed;
use super::hold::Hold;
use super::live::Live;
use super::negotiate::{CHANGES_CONTENT, CHANGES_HEADERS};
use super::net::{Wanted, changes_headers_once, is_of_envelope, is_quarantine, net};
use super::pass::Pass;
use super::running::Running;
use crate::error::BoxError;
use crate::message::{MessageError, OnLarge};
use crate::request::Event;
use crate::response::Response;

/// What there is to remember of the content of the message at hand.
#[derive(Default)]
pub(super) struct Content {
    /// It has begun.
    begun: bool,
    /// Something of the message has come.
    has_events: bool,
    hold: Option<Box<Hold>>,
    /// What the chain's verdict on the message was.
    pub(super) decided: Option<Verdict>,
    /// What the chain itself says of the message, at the next event with a reply.
    pub(super) owed: Option<Verdict>,
    /// A call was dropped in the middle of it.
    pub(super) interrupted: bool,
}

impl Content {
    pub(super) fn begin_message(&mut self) {
        *self = Self::default();
    }

    /// Whether this is the first that comes of the message.
    pub(super) const fn is_first_event(&self) -> bool {
        !self.has_events
    }

    pub(super) const fn begin_events(&mut self) {
        self.has_events = true;
    }

    pub(super) fn hold(&self) -> Option<&Hold> {
        self.hold.as_deref()
    }

    /// The chain itself refuses the message.
    pub(super) const fn is_refused(&self) -> bool {
        self.owed.is_some()
    }
}

impl Live {
    /// Whether it sees this later than it comes.
    pub(super) fn is_held_back(&self, stage: Stage) -> bool {
        stage != Stage::EndOfMessage && self.lags.is_some_and(|from| stage >= from)
    }

    fn actions(&self) -> Actions {
        if self.is_done() {
            Actions::empty()
        } else {
            self.view.agreement().actions()
        }
    }
}

impl Running {
    /// From which stage on a member has to wait for content until those before it have judged the
    /// whole message, since one of them may change it (D7).
    pub(super) fn waits(&self, at: usize) -> Option<Stage> {
        let group = self.spec.groups.iter().find(|group| group.contains(&at))?;
        let before = self.members.iter().take(group.start);
        let changes = before.fold(Actions::empty(), |all, live| all | live.actions());
        if !changes.intersects(CHANGES_CONTENT) {
            return None;
        }
        let agreement = self.members.get(at)?.view.agreement();
        if agreement.delivers(Stage::Header) && changes.intersects(CHANGES_HEADERS) {
            Some(Stage::Header)
        } else if agreement.delivers(Stage::Body) && changes.contains(Actions::CHANGE_BODY) {
            Some(Stage::Body)
        } else {
            None
        }
    }

    /// Holds what comes for those who see it later.
    pub(super) fn poll_hold(
        &mut self,
        pass: &Pass,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), BoxError>> {
        if let (Some(hold), Stage::Body | Stage::EndOfMessage) =
            (&mut self.content.hold, pass.stage)
        {
            ready!(hold.poll_ready(cx));
        }
        if !std::mem::replace(&mut self.content.begun, true) {
            self.begin_content(pass);
        } else if pass.stage != Stage::EndOfMessage {
            self.release();
        }
        Poll::Ready(self.hold(pass).map_err(Into::into))
    }

    fn hold(&mut self, pass: &Pass) -> Result<(), MessageError> {
        let lags = |stage| {
            let mut members = self.members.iter().filter(|live| !live.is_done());
            members.any(|live| live.is_held_back(stage))
        };
        let merges = self.changes.merge;
        let is_for_some = lags(pass.stage) || merges && pass.stage == Stage::Header;
        let Some(hold) = &mut self.content.hold else {
            return Ok(());
        };
        let place = &self.spec.place;
        match pass.request.event() {
            Event::Header(header) if is_for_some => hold.push_header(header),
            Event::EndOfHeaders if is_for_some => hold.end_headers(),
            Event::Body(piece) if is_for_some && self.content.owed.is_none() => {
                if hold.body_len() + piece.len() as u64 > self.spec.body_limit {
                    self.content.hold = None;
                    let refusal = OnLarge::Reject.refusal().unwrap_or_else(Response::tempfail);
                    self.content.owed = Some(refusal.verdict().clone());
                } else {
                    hold.push_body(piece, place)?;
                }
            }
            Event::EndOfMessage(_) => hold.end_body(place)?,
            _ => {}
        }
        Ok(())
    }

    fn begin_content(&mut self, pass: &Pass) {
        for at in 0..self.members.len() {
            let waits = self.waits(at);
            let live = &mut self.members[at];
            // Nobody knows yet whether it is shown any of it.
            live.lags = if live.undecided {
                Some(Stage::Header)
            } else {
                waits
            };
        }
        if self.changes.merge || self.members.iter().any(|live| live.lags.is_some()) {
            let session = pass.request.session();
            let leading_space = self.agreement(session).leading_space();
            let hold = Hold::new(self.profile(session), leading_space);
            self.content.hold = Some(Box::new(hold));
        }
    }

    /// Lets go on who waited for a member that wants no more of the message. Too late for that is
    /// once the body has gone to a file: to read that may take more time than an event has.
    fn release(&mut self) {
        for at in 0..self.members.len() {
            let Some(from) = self.members[at].lags else {
                continue;
            };
            let waits = self.waits(at);
            let Some(hold) = &self.content.hold else {
                continue;
            };
            let has_body = hold.body_len() > 0;
            let waits_for_body = has_body && waits.is_some();
            if waits == Some(from) || waits_for_body || self.members[at].undecided {
                continue;
            }
            let live = &mut self.members[at];
            if from == Stage::Header || has_body {
                let feed = hold.feed_so_far(from, &live.view, &self.spec.place);
                let Some(feed) = feed else {
                    continue;
                };
                live.feed = Some(Box::new(match live.feed.take() {
                    Some(late) => feed.behind_that_of(*late),
                    None => feed,
                }));
            }
            live.lags = waits;
        }
    }

    /// What a member is shown before the event at hand.
    pub(super) fn feed_for(&mut self, at: usize, stage: Stage) -> Option<Box<Feed>> {
        let live = self.members.get_mut(at)?;
        if stage != Stage::EndOfMessage {
            return if live.takes(stage) {
                live.feed.take()
            } else {
                None
            };
        }
        // Headers that it could have seen, had it been asked meanwhile, are as they were.
        let (late, lags) = (live.feed.take(), live.lags.take());
        let (from, Some(hold)) = (
            late.as_ref().map(|_| Stage::Header).or(lags),
            &self.content.hold,
        ) else {
            return late;
        };
        let feed = hold.feed(from?, &live.view);
        Some(Box::new(match late {
            Some(late) => feed.behind_that_of(*late),
            None => feed,
        }))
    }

    /// Whether nobody has use for more of the body (protocol 7.3 rule 2).
    pub(super) fn needs_no_more_body(&self) -> bool {
        for live in &self.members {
            if live.objection().is_some() {
                // Those behind see no more of it.
                return true;
            }
            let wants = live.takes(Stage::Body) && !live.view.skips();
            if wants || live.is_held_back(Stage::Body) && !live.is_done() {
                return false;
            }
        }
        true
    }

    /// Takes what members of a group want changed. Whether those behind are not asked.
    pub(super) fn apply(&mut self, pass: &mut Pass) -> Result<bool, BoxError> {
        let mut holds_back = false;
        let mut of_envelope = Vec::new();
        for (at, (_, edits)) in self.judgements.drain(..) {
            if edits.is_empty() {
                continue;
            }
            let leading_space = self.members[at].view.agreement().leading_space();
            if let Some(hold) = &mut self.content.hold {
                // What fails was its member's failure (judge.rs).
                hold.apply(&edits, leading_space)?;
            }
            holds_back |= edits.iter().any(is_quarantine);
            of_envelope.extend(edits.iter().filter(|edit| is_of_envelope(edit)).cloned());
            pass.wanted.push(Wanted {
                edits,
                leading_space,
            });
        }
        if let Some(behind) = self.group(pass.group).filter(|_| !of_envelope.is_empty()) {
            // They are no events for those behind (C87), who may look at them.
            for live in &mut self.members[behind.start..] {
                live.apart
                    .tell_envelope(pass.request.session(), &of_envelope);
            }
        }
        // Postfix milter.c milter_message stops at a filter that holds the message; Sendmail
        // milter.c milter_data goes on (Q12).
        Ok(holds_back && self.profile(pass.request.session()).is_postfix())
    }

    /// All members have nothing against the message.
    pub(super) fn end_of_message(&mut self, pass: &mut Pass) -> Result<Response, BoxError> {
        let session = pass.request.session();
        let wanted = std::mem::take(&mut pass.wanted);
        let mut response = Response::accept();
        if !wanted.is_empty() {
            let agreement = self.agreement(session);
            let recipients = agreement
                .delivers(Stage::Rcpt)
                .then(|| session.recipients());
            let hold = self.content.hold.as_deref();
            let edits = net(&wanted, hold, agreement.leading_space(), recipients)?;
            response = if changes_headers_once(&wanted) {
                // They are in the order in which the member would send them.
                Response::sent(Verdict::Accept, edits)
            } else {
                response.edit_all(edits)
            };
        }
        self.content.hold = None;
        self.content.decided = Some(Verdict::Accept);
        Ok(response)
    }
}
