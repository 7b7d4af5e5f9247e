//! Conditions, looked at as early as the facts are there.

use milter_core::{Header, Stage};

use super::condition::Known;
use super::feed::Feed;
use super::hold::Hold;
use super::running::Running;
use crate::error::Failure;
use crate::guard::guard;
use crate::member::Scope;
use crate::request::{Event, Request};
use crate::session::Session;

impl Running {
    /// Leaves members out of whom it is known by now, and shows those the message of whom it is
    /// known that they see it.
    pub(super) fn look_at_conditions(&mut self, request: &Request, stage: Stage) {
        if !self.spec.has_conditions {
            return;
        }
        let session = request.session();
        let (known, scope) = match stage {
            Stage::Connect | Stage::Helo => (Known::Client, Scope::Session),
            Stage::Unknown => return,
            Stage::Mail | Stage::Rcpt | Stage::Data => (Known::Sender, Scope::Message),
            Stage::Header => (Known::Recipients, Scope::Message),
            _ => (Known::Headers, Scope::Message),
        };
        for at in 0..self.members.len() {
            let is_first = self.content.is_first_event();
            let live = &self.members[at];
            let has_condition = self.spec.members[at].condition.is_some();
            let is_to_look_at = has_condition && (is_first || live.undecided);
            if !is_to_look_at || live.out.is_some() || live.over.is_some() {
                continue;
            }
            let left_out = match self.is_left_out(at, known, session) {
                Ok(left_out) => left_out,
                Err(panic) => {
                    self.condition_failed(at, stage, panic, session);
                    continue;
                }
            };
            let envelope = (stage >= Stage::Header).then(|| envelope(session));
            let live = &mut self.members[at];
            match left_out {
                Some(true) => live.out = Some(scope),
                Some(false) => {
                    let was_undecided = std::mem::replace(&mut live.undecided, false);
                    if let Some(envelope) = envelope.filter(|_| was_undecided) {
                        let feed = Feed::new(Vec::new(), false, super::hold::Pieces::none());
                        live.feed = Some(Box::new(feed.behind(envelope)));
                    }
                }
                None => live.undecided = scope == Scope::Message,
            }
        }
        if stage.is_of_message() {
            self.content.begin_events();
        }
    }

    /// Whether a member is left out, if that can be told.
    ///
    /// # Errors
    ///
    /// If the condition is a function of the user's, and panics.
    pub(super) fn is_left_out(
        &self,
        at: usize,
        known: Known,
        session: &Session,
    ) -> Result<Option<bool>, Failure> {
        let member = self.spec.members.get(at);
        let Some(condition) = member.and_then(|member| member.condition.as_ref()) else {
            return Ok(None);
        };
        let headers: Vec<Header> = match self.content.hold() {
            Some(hold) if known == Known::Headers => Hold::shown(hold).collect(),
            _ => Vec::new(),
        };
        let holds = guard(|| condition.holds(known, session, &headers))?;
        Ok(holds.map(|holds| !holds))
    }

    /// A condition panics: its member fails, and no other.
    fn condition_failed(&mut self, at: usize, stage: Stage, panic: Failure, session: &Session) {
        let Some((live, around)) = self.member(at, session) else {
            return;
        };
        live.undecided = false;
        let scope = if stage.is_of_message() {
            Scope::Message
        } else {
            Scope::Session
        };
        let verdict = around.member.on_failure.get(Some(stage)).verdict();
        around.tell_failed(stage);
        around.log(stage.name(), panic, verdict.as_ref());
        match verdict {
            Some(verdict) => live.view.stand(scope, verdict),
            None => live.out = Some(scope),
        }
    }
}

/// What a member missed of a message's envelope.
fn envelope(session: &Session) -> Vec<Event> {
    let sender = session.sender().cloned().map(Event::Mail);
    let recipients = session.recipients().iter().cloned().map(Event::Rcpt);
    sender
        .into_iter()
        .chain(recipients)
        .chain([Event::Data])
        .collect()
}
