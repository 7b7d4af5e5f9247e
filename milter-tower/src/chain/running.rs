//! A chain at work on one connection.
//!
//! ```text
//! request ─ start ─ poll ─┬─ Negotiate: the members one after the other      (negotiate.rs)
//!                         ├─ Pass: group by group, content by member         (pass.rs, content.rs)
//!                         └─ End: all members at once                        (end.rs)
//! ```
//!
//! There is no I/O here, and no task but for calls that were lost (lost.rs): what is to be done next
//! is a value, and a call that is dropped leaves it where it is.

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use milter_core::edit::Profile;
use milter_core::{Agreement, Offer, ReplyMode, Stage};

use super::content::Content;
use super::live::{Around, Judgement, Live};
use super::negotiate::Negotiation;
use super::pass::Pass;
use super::time::Time;
use super::{Interrupted, Spec};
use crate::error::{BoxError, Failure};
use crate::request::{Event, Request};
use crate::response::Response;
use crate::session::{Mta, Session};

/// The state of a chain on one connection.
pub(super) struct Running {
    pub(super) spec: Arc<Spec>,
    pub(super) members: Vec<Live>,
    pub(super) offer: Offer,
    /// What the members together agreed on, where the session does not tell.
    pub(super) agreed: Arc<Agreement>,
    pub(super) changes: Changes,
    /// A message has begun.
    pub(super) in_message: bool,
    pub(super) content: Content,
    pub(super) time: Time,
    /// Those of the group at hand, and what its members want changed. Its memory is used again.
    pub(super) judgements: Vec<(usize, Judgement)>,
    doing: Doing,
    negotiated: bool,
    /// For a check of the chain: the first member that fails in the negotiation, and how.
    pub(super) failed: Option<(usize, Failure)>,
    /// Failures are kept there and not logged.
    pub(super) is_check: bool,
    /// The number of the call that is in progress.
    call: u64,
}

/// What changes to content there may be, as was negotiated.
#[derive(Clone, Copy, Default)]
pub(super) struct Changes {
    /// Those of several members may have to be merged.
    pub(super) merge: bool,
    /// For that, or because a member may have to wait for content, it is held.
    pub(super) hold: bool,
}

/// What the call in progress is about.
#[derive(Default)]
enum Doing {
    #[default]
    Nothing,
    Negotiate(Box<Negotiation>),
    Pass(Pass),
    End(Request),
}

impl Running {
    pub(super) fn new(spec: Arc<Spec>) -> Self {
        Self {
            members: spec.members.iter().map(|_| Live::new()).collect(),
            spec,
            offer: Offer::V6,
            agreed: Arc::default(),
            changes: Changes::default(),
            in_message: false,
            content: Content::default(),
            time: Time::default(),
            judgements: Vec::new(),
            doing: Doing::Nothing,
            negotiated: false,
            failed: None,
            is_check: false,
            call: 0,
        }
    }

    /// Begins a call. Its number.
    pub(super) fn start(&mut self, request: Request) -> u64 {
        self.cancel(self.call);
        self.call += 1;
        self.time.begin(request.deadline());
        self.doing = match request.event() {
            Event::Negotiate(offer) => {
                self.offer = *offer;
                self.negotiated = true;
                Doing::Negotiate(Box::new(Negotiation::new(request, None)))
            }
            event if event.is_end() => {
                self.start_end(&request);
                Doing::End(request)
            }
            // Somebody calls it without a negotiation, a test say: the members have one.
            _ if !self.negotiated => {
                self.negotiated = true;
                let event = Event::Negotiate(self.offer);
                let offer = request.clone().with_event(event);
                Doing::Negotiate(Box::new(Negotiation::new(offer, Some(request))))
            }
            _ => self.begin_pass(request),
        };
        self.call
    }

    fn begin_pass(&mut self, request: Request) -> Doing {
        match request.event().stage() {
            Some(stage) => {
                if stage == Stage::Mail && self.in_message {
                    // Some layers lose ends.
                    for live in &mut self.members {
                        live.apart.end_message(request.session());
                    }
                    self.in_message = false;
                }
                if stage.is_of_message() && !self.in_message {
                    self.begin_message();
                }
                Doing::Pass(Pass::new(request, stage))
            }
            None => Doing::Nothing,
        }
    }

    pub(super) fn poll(
        &mut self,
        call: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response, BoxError>> {
        if call != self.call {
            return Poll::Ready(Err(Interrupted.into()));
        }
        loop {
            // Taken out meanwhile, so that it and the members can be changed side by side.
            let mut doing = std::mem::take(&mut self.doing);
            let polled = match &mut doing {
                Doing::Nothing => Poll::Ready(Ok(Response::proceed())),
                Doing::Negotiate(negotiation) => self.poll_negotiation(negotiation, cx).map(Ok),
                Doing::Pass(pass) => self.poll_pass(pass, cx),
                Doing::End(request) => self.poll_end(request, cx).map(Ok),
            };
            let Poll::Ready(done) = polled else {
                self.doing = doing;
                return Poll::Pending;
            };
            if let Doing::Negotiate(negotiation) = doing {
                if let Some(request) = negotiation.then {
                    self.doing = self.begin_pass(request);
                    continue;
                }
            }
            return Poll::Ready(done);
        }
    }

    /// The call was dropped before it ended.
    pub(super) fn cancel(&mut self, call: u64) {
        if call != self.call || matches!(self.doing, Doing::Nothing) {
            return;
        }
        match std::mem::take(&mut self.doing) {
            Doing::Nothing => {}
            Doing::Negotiate(_) => self.members.iter_mut().for_each(Live::cancel),
            Doing::Pass(pass) => {
                self.members.iter_mut().for_each(Live::cancel);
                self.interrupt(&pass);
            }
            Doing::End(request) => {
                self.members.iter_mut().for_each(Live::cancel_end);
                self.ended(&request);
            }
        }
    }

    /// The members of a group.
    pub(super) fn group(&self, group: usize) -> Option<Range<usize>> {
        self.spec.groups.get(group).cloned()
    }

    /// A member, and what stands around it.
    pub(super) fn member<'a>(
        &'a mut self,
        at: usize,
        session: &'a Session,
    ) -> Option<(&'a mut Live, Around<'a>)> {
        let behind = self.spec.behind(at);
        self.member_before(behind, at, session)
    }

    /// The same, where it is known how many groups come behind it.
    pub(super) fn member_before<'a>(
        &'a mut self,
        behind: usize,
        at: usize,
        session: &'a Session,
    ) -> Option<(&'a mut Live, Around<'a>)> {
        let member = self.spec.members.get(at)?;
        let around = Around {
            spec: &self.spec,
            member,
            session,
            agreement: session.agreement().unwrap_or(&self.agreed),
            merges: self.changes.merge,
            offer: self.offer,
            time: &mut self.time,
            behind,
        };
        Some((self.members.get_mut(at)?, around))
    }

    /// What the MTA and everything around the chain agreed on.
    pub(super) fn agreement<'a>(&'a self, session: &'a Session) -> &'a Agreement {
        session.agreement().unwrap_or(&self.agreed)
    }

    /// Whether a verdict at this stage is told: none is where the MTA waits for a reply that it
    /// cannot leave out, though nobody asked for one.
    pub(super) fn has_reply(&self, stage: Stage, session: &Session) -> bool {
        self.agreement(session).reply_mode(stage) == ReplyMode::Verdict
    }

    /// How the MTA at hand does things.
    pub(super) fn profile(&self, session: &Session) -> Profile {
        match (&self.spec.profile, session.mta()) {
            (Some(profile), _) => profile.clone(),
            (None, Mta::Sendmail) => Profile::sendmail(),
            (None, _) => Profile::postfix(),
        }
    }
}
