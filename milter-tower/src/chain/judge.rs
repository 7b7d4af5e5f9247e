//! What a member's answer means, and what becomes of its failures.

use milter_core::edit::{Mail, Profile};
use milter_core::{Modification, ReplyMode, Stage, Verdict};
use tracing::{field, warn};

use super::live::{Around, Call, Judgement, Live, PROCEEDS};
use super::net::{check_headers, has_args, is_of_envelope};
use crate::error::Failure;
use crate::guard::guard;
use crate::member::Scope;
use crate::response::Response;
use crate::session::{Mta, Session, client_for_log};

impl Live {
    /// What the service's answer means.
    pub(super) fn judged(
        &mut self,
        stage: Stage,
        called: Result<Response, Failure>,
        around: &Around<'_>,
    ) -> Judgement {
        self.call = Call::None;
        let checked = match called {
            // The chain cannot have the MTA do without this member only.
            Ok(response) if response.is_refused() => Err(Failure::Refuses),
            Ok(response) => self.view.check(stage, response),
            Err(failure) => Err(failure),
        };
        let leading_space = self.view.agreement().leading_space();
        let checked = checked.and_then(|checked| {
            around.check_edits(&checked.edits, leading_space)?;
            Ok(checked)
        });
        match checked {
            Ok(checked) => {
                if let Some(lost) = checked.lost {
                    around.log(stage.name(), lost, None);
                }
                self.settle(stage, &checked.verdict);
                (checked.verdict, checked.edits)
            }
            Err(failure) => self.failed(stage, failure, around),
        }
    }

    /// What is said of a failure, by the member's policy.
    pub(super) fn failed(
        &mut self,
        stage: Stage,
        failure: Failure,
        around: &Around<'_>,
    ) -> Judgement {
        around.tell_failed(stage);
        let policy = around.member.on_failure.get(Some(stage));
        let Some(verdict) = policy.verdict() else {
            around.log(stage.name(), failure, None);
            let scope = match stage {
                // It is no part of a message, and clients may send any number of them.
                Stage::Unknown => None,
                stage if stage.is_of_message() => Some(Scope::Message),
                _ => Some(Scope::Session),
            };
            self.out = self.out.max(scope);
            return PROCEEDS;
        };
        around.log(stage.name(), failure, Some(&verdict));
        let verdict = if around.agreement.reply_mode(stage) == ReplyMode::Verdict {
            self.view.fail(stage, verdict)
        } else {
            self.view.owe(stage, verdict)
        };
        self.settle(stage, &verdict);
        (verdict, Vec::new())
    }

    /// Takes note of a verdict that was given for it.
    pub(super) fn settle(&mut self, stage: Stage, verdict: &Verdict) {
        if matches!(stage, Stage::Connect | Stage::Helo) {
            if *verdict == Verdict::Accept {
                self.out = Some(Scope::Session);
            }
        } else if verdict.ends_message_at(stage) {
            // To go on with a message at its end is to accept it.
            self.over = Some(match verdict {
                Verdict::Continue => Verdict::Accept,
                other => other.clone(),
            });
        }
    }
}

impl Around<'_> {
    /// Whether a member's modifications can be part of the list that goes out: what cannot is that
    /// member's failure, and not one of all.
    fn check_edits(&self, edits: &[Modification], leading_space: bool) -> Result<(), Failure> {
        if self.merges || self.agreement.leading_space() && !leading_space {
            check_headers(edits)?;
        }
        if !edits.iter().any(has_args) {
            return Ok(());
        }
        let profile = match (&self.spec.profile, self.session.mta()) {
            (Some(profile), _) => profile.clone(),
            (None, Mta::Postfix) => Profile::postfix(),
            // One that does not tell what it is may be Sendmail.
            (None, _) => Profile::sendmail(),
        };
        let mut mail = Mail::new(profile);
        mail.apply(edits.iter().filter(|edit| is_of_envelope(edit)), true)?;
        Ok(())
    }

    /// Logs a failure, and what is said for it.
    pub(super) fn log(&self, at: &str, failure: Failure, answer: Option<&Verdict>) {
        let answer = answer.map_or("left out", Verdict::name);
        log(&self.member.name, self.session, at, failure, answer);
    }
}

/// Logs a member's failure, and what is said for it.
pub(super) fn log(name: &str, session: &Session, at: &str, failure: Failure, answer: &str) {
    if failure.was_logged() {
        return;
    }
    // The error is the user's: to show and to drop it may panic.
    let logged = guard(move || {
        let queue_id = session.queue_id().map(|id| id.to_string());
        warn!(
            connection = session.peer().connection_id(),
            queue_id = queue_id.as_deref().map(field::display),
            client = session.client().map(client_for_log).map(field::display),
            member = name,
            at,
            answer,
            error = &failure as &dyn std::error::Error,
            "a member of the chain failed"
        );
    });
    if logged.is_err() {
        warn!(
            connection = session.peer().connection_id(),
            member = name,
            at,
            "a member of the chain failed, and its error cannot be shown: it panics"
        );
    }
}
