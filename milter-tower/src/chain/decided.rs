//! Who decided.

use std::sync::Arc;

use milter_core::Stage;

use super::live::Around;
use super::pass::Pass;
use super::running::Running;
use crate::session::Session;

/// Which member of a [`Chain`](crate::Chain) decided about the message, or failed at it.
///
/// For what stands around a chain and tells of it, such as logs and counts. The chain leaves it in
/// the [`message_data`](crate::Session::message_data) of the session that it is shown, when a
/// verdict of a member other than to go on or to accept becomes its own, and when a member fails;
/// the last one is there. A mail that all let pass was decided by nobody.
///
/// ```
/// use milter_tower::chain::Decided;
/// use milter_tower::{Event, Request};
///
/// fn tell(request: &Request) {
///     if let (Event::MessageEnd(outcome), Some(decided)) = (
///         request.event(),
///         request.session().message_data().get::<Decided>(),
///     ) {
///         println!("{outcome:?} by {} at {}", decided.member(), decided.stage());
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    member: Arc<str>,
    stage: Stage,
    is_failure: bool,
}

impl Decided {
    /// The name that the member has in the chain.
    pub fn member(&self) -> &str {
        &self.member
    }

    /// The stage at which the chain gave the verdict. For a failure of which nothing came the stage
    /// at which it happened.
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether the member failed: a verdict is then that of its
    /// [policy](crate::OnMemberFailure), and there is none if that leaves the member out.
    pub const fn is_failure(&self) -> bool {
        self.is_failure
    }

    fn tell(self, session: &Session) {
        session.message_data().insert(self);
    }
}

impl Around<'_> {
    /// The member failed.
    pub(super) fn tell_failed(&self, stage: Stage) {
        let decided = Decided {
            member: Arc::clone(&self.member.name),
            stage,
            is_failure: true,
        };
        decided.tell(self.session);
    }
}

impl Running {
    /// A member's verdict is the chain's.
    pub(super) fn tell_decided(&self, pass: &Pass, at: usize) {
        let Some(member) = self.spec.members.get(at) else {
            return;
        };
        let session = pass.request.session();
        let before: Option<Decided> = session.message_data().get();
        let failed = before.is_some_and(|before| before.is_failure && before.member == member.name);
        // One that failed in the negotiation has a verdict from connect on.
        let is_lost = self.members.get(at).is_some_and(|live| live.view.is_lost());
        let decided = Decided {
            member: Arc::clone(&member.name),
            stage: pass.stage,
            is_failure: failed || is_lost,
        };
        decided.tell(session);
    }
}
