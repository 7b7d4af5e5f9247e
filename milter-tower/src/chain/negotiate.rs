//! What the members need, together (D1, protocol 7.3 rule 11).

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use milter_core::macros::names;
use milter_core::{Actions, MacroStage, Needs, NegotiationError, Offer, Stage, negotiate};
use tracing::warn;

use super::condition::{Condition, Known};
use super::live::Live;
use super::member::Member;
use super::running::Running;
use super::usual::with_usual;
use crate::error::Failure;
use crate::member::{Scope, needs_of};
use crate::request::Request;
use crate::response::Response;
use crate::session::{Mta, Session};

/// What a member may do to what those behind it see.
pub(super) const CHANGES_HEADERS: Actions = Actions::ADD_HEADERS.union(Actions::CHANGE_HEADERS);
pub(super) const CHANGES_CONTENT: Actions = CHANGES_HEADERS.union(Actions::CHANGE_BODY);

/// What both MTAs send at connect unless they are told otherwise, and those that session facts come
/// from, the version among them, which Sendmail sends on request only.
// cf/m4/cfhead.m4 confMILTER_MACROS_CONNECT; Postfix global/mail_params.h DEF_MILT_CONN_MACROS
const CONNECT_MACROS: [&str; 3] = [names::IF_NAME, names::IF_ADDR, names::DAEMON_ADDR];

/// The members are asked what they need.
pub(super) struct Negotiation {
    request: Request,
    /// What is to be done after it.
    pub(super) then: Option<Request>,
    /// The member that is asked.
    at: usize,
    /// How it failed where it was only to judge: in a check it is asked once more, and offered all.
    failed_to_judge: Option<Failure>,
    needs: Needs,
}

impl Negotiation {
    pub(super) fn new(request: Request, then: Option<Request>) -> Self {
        Self {
            request,
            then,
            at: 0,
            failed_to_judge: None,
            needs: Needs::none(),
        }
    }
}

impl Running {
    pub(super) fn poll_negotiation(
        &mut self,
        negotiation: &mut Negotiation,
        cx: &mut Context<'_>,
    ) -> Poll<Response> {
        while negotiation.at < self.members.len() {
            let Some(needs) = ready!(self.poll_needs(negotiation, cx)) else {
                continue;
            };
            let joined = std::mem::replace(&mut negotiation.needs, Needs::none());
            negotiation.needs = joined.join(&needs);
            self.drop_excess_macros(negotiation);
            negotiation.at += 1;
        }
        let needs = std::mem::replace(&mut negotiation.needs, Needs::none());
        let mut needs = with_usual(needs, &self.members);
        needs.drop_excess_macros();
        self.look_for_changes();
        if self.changes.merge {
            // Merging changes takes the headers that they are changes of, and may take other
            // modifications: what was added by a change is then inserted.
            needs = needs.record(Stage::Header).optional_action(CHANGES_HEADERS);
        }
        if self.must_know_mta(negotiation.request.session()) {
            needs = needs.macros(MacroStage::Connect, CONNECT_MACROS);
            // The version stays, that this is about.
            needs.drop_excess_macros();
        }
        if let Ok(agreed) = negotiate(&self.offer, &needs) {
            self.agreed = Arc::new(agreed);
        }
        Poll::Ready(Response::needs(needs))
    }

    /// What a member adds to what the chain needs; none if it is to be asked once more.
    fn poll_needs(
        &mut self,
        negotiation: &mut Negotiation,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Needs>> {
        let (at, is_check) = (negotiation.at, self.is_check);
        let is_first = self.is_first(at);
        let (whole, is_parallel) = (self.offer.normalized(), self.spec.is_parallel(at));
        let offer = match negotiation.failed_to_judge {
            Some(_) => whole,
            None => self.offer_to(at),
        };
        let session = negotiation.request.session();
        // A check is of no listener, and means all members.
        let left_out = self.is_left_out(at, Known::Listener, session);
        if matches!(left_out, Ok(Some(true))) && !self.is_check {
            self.members[at].out = Some(Scope::Connection);
            return Poll::Ready(Some(Needs::none()));
        }
        let Some((live, mut around)) = self.member(at, session) else {
            return Poll::Ready(Some(Needs::none()));
        };
        around.offer = offer;
        let asked = match ready!(live.poll_offer(&mut around, cx)) {
            Ok(response) if response.is_refused() => Err(Failure::Refuses),
            Ok(response) => {
                needs_of(response).and_then(|needs| fits_condition(around.member, needs))
            }
            Err(failure) => Err(failure),
        };
        // A member that asks for what the MTA does not offer ends the connection by the chain's own
        // negotiation, unless the chain can do without it. Macros that no MTA takes are its mistake.
        let policy = around.member.on_failure.get(None).verdict();
        let failure = match asked {
            Ok(needs) => match (negotiate(&offer, &needs), &policy) {
                (Ok(agreement), _) => {
                    if let Some(failure) = negotiation.failed_to_judge.take() {
                        let failure = Failure::OnlyJudges(Box::new(failure));
                        self.negotiation_failed(at, session, failure);
                        return Poll::Ready(Some(needs));
                    }
                    let agreement = Arc::new(agreement);
                    live.apart.agree(session, Arc::clone(&agreement));
                    live.view.agree(agreement);
                    // What it is not to have is not to be asked for.
                    let mut needs = needs.without_action(offer.actions.complement());
                    if let Some(condition) = &around.member.condition {
                        needs = needs.join(&condition.needs());
                    }
                    return Poll::Ready(Some(if is_first {
                        needs
                    } else {
                        without_replies(needs)
                    }));
                }
                (Err(error @ NegotiationError::NotOffered { .. }), Some(_)) if !is_parallel => {
                    self.negotiation_failed(at, session, error.into());
                    return Poll::Ready(Some(needs));
                }
                (Err(error), _)
                    if !is_check && is_parallel && negotiate(&whole, &needs).is_ok() =>
                {
                    Failure::OnlyJudges(Box::new(error.into()))
                }
                (Err(error), _) => error.into(),
            },
            Err(failure) => failure,
        };
        // Other people's filters do not say why they do not agree. If it is for the changes that
        // are not offered here, they agree where these are.
        let failure = match negotiation.failed_to_judge.take() {
            Some(first) => first,
            None if is_check && offer != whole => {
                negotiation.failed_to_judge = Some(failure);
                return Poll::Ready(None);
            }
            None => failure,
        };
        let Some(verdict) = policy else {
            live.out = Some(Scope::Connection);
            self.negotiation_failed(at, session, failure);
            return Poll::Ready(Some(Needs::none()));
        };
        // From connect on.
        let needs = Needs::none().events(Stage::ALL);
        if let Ok(agreement) = negotiate(&offer, &needs) {
            live.view.agree(Arc::new(agreement));
        }
        live.view.stand(Scope::Connection, verdict);
        self.negotiation_failed(at, session, failure);
        Poll::Ready(Some(needs))
    }

    /// Each member's own list may be sent, but all together may be too long: better some macros are
    /// missing, as an MTA may leave out any, than all of them, or the mail.
    fn drop_excess_macros(&mut self, negotiation: &mut Negotiation) {
        let (at, offer) = (negotiation.at, self.offer_to(negotiation.at));
        if self.is_check {
            let joined = negotiate(&offer, &negotiation.needs);
            if let Err(error @ NegotiationError::Macros(_)) = joined {
                self.failed.get_or_insert((at, error.into()));
            }
        }
        let excess = negotiation.needs.drop_excess_macros();
        let Some(member) = self.spec.members.get(at) else {
            return;
        };
        if !excess.is_empty() && !self.is_check {
            warn!(
                connection = negotiation.request.session().peer().connection_id(),
                member = member.name(),
                macros = ?excess,
                "the members of the chain together ask for more macros than Sendmail takes for one \
                 stage: these are not asked for"
            );
        }
    }

    fn negotiation_failed(&mut self, at: usize, session: &Session, failure: Failure) {
        if self.is_check {
            self.failed.get_or_insert((at, failure));
        } else if let Some((_, around)) = self.member(at, session) {
            let policy = around.member.on_failure.get(None).verdict();
            around.log("negotiate", failure, policy.as_ref());
        }
    }

    /// Whether no other member has to judge the content before this one.
    fn is_first(&self, at: usize) -> bool {
        let mut groups = self.spec.groups.iter();
        let start = groups
            .find(|group| group.contains(&at))
            .map_or(0, |group| group.start);
        let mut before = self.members.iter().take(start);
        before.all(|live| live.out == Some(Scope::Connection))
    }

    /// What a member is offered. One that is asked at the same time as others only judges.
    fn offer_to(&self, at: usize) -> Offer {
        let mut offer = self.offer.normalized();
        if self.spec.is_parallel(at) {
            offer.actions &= Actions::QUARANTINE | Actions::REQUEST_MACROS;
            if offer.actions.is_empty() {
                // An empty word would stand for changes (C12).
                offer.actions = Actions::REQUEST_MACROS;
            }
        }
        offer
    }

    /// Whether what is to be done depends on the MTA, and only the MTA can tell what it is.
    fn must_know_mta(&self, session: &Session) -> bool {
        let holds_back = |live: &&Live| {
            live.view
                .agreement()
                .actions()
                .contains(Actions::QUARANTINE)
        };
        let depends = self.changes.hold
            || self.members.len() > 1 && self.members.iter().any(|live| holds_back(&live));
        depends && self.spec.profile.is_none() && session.mta() == Mta::Unknown
    }

    /// Finds out who may change what others see.
    fn look_for_changes(&mut self) {
        let actions = |live: &Live| {
            let is_there = live.out != Some(Scope::Connection);
            if is_there {
                live.view.agreement().actions()
            } else {
                Actions::empty()
            }
        };
        let mut editors = 0;
        let mut counts = false;
        for live in &self.members {
            editors += usize::from(actions(live).intersects(CHANGES_HEADERS));
            counts |= actions(live).contains(Actions::CHANGE_HEADERS);
        }
        self.changes.merge = editors > 1 && counts;
        let waits = (0..self.members.len()).any(|at| self.waits(at).is_some());
        let late = |member: &Member| {
            let condition = member.condition.as_ref();
            condition.is_some_and(|condition| condition.known_at() == Known::Headers)
        };
        self.changes.hold = self.changes.merge || waits || self.spec.members.iter().any(late);
    }
}

/// The needs of a member, unless it judges what comes before its condition is known.
fn fits_condition(member: &Member, needs: Needs) -> Result<Needs, Failure> {
    let late = member.condition.as_ref().is_some_and(Condition::is_late);
    let judged = Stage::ALL
        .into_iter()
        .take_while(|stage| *stage < Stage::Header);
    let mut judged = judged.filter(|stage| needs.wants(*stage) && !needs.is_silent(*stage));
    match judged.next().filter(|_| late) {
        Some(stage) => Err(Failure::JudgesTooEarly(stage)),
        None => Ok(needs),
    }
}

/// The needs of a member whose verdicts on content count only once those before it have judged the
/// whole message: the MTA need not wait for them.
fn without_replies(needs: Needs) -> Needs {
    let headers = [Stage::Header, Stage::EndOfHeaders];
    headers.into_iter().fold(needs, |needs, stage| {
        if needs.wants(stage) {
            needs.without(stage).record(stage)
        } else {
            needs
        }
    })
}
