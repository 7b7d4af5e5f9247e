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
    /// Through how many chains it was told. So one that was told further is another value than the
    /// one that it was made of.
    depth: u8,
}

impl Decided {
    /// The name that the member has in the chain. Of a member that is a chain itself it is that of
    /// the member within which decided so.
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
            depth: 0,
        };
        decided.tell(self.session);
    }
}

impl Running {
    /// A member's verdict is the chain's.
    pub(super) fn tell_decided(&mut self, pass: &Pass, at: usize) {
        let (session, stage) = (pass.request.session(), pass.stage);
        let before: Option<Decided> = session.message_data().get();
        let Some((live, around)) = self.member(at, session) else {
            return;
        };
        let name = Arc::clone(&around.member.name);
        let is_lost = live.view.is_lost();
        let within: Option<Decided> = live.apart.of(session).message_data().get();
        // It reads through to what is there already.
        let within = within.filter(|within| before.as_ref() != Some(within));
        let decided = match within {
            Some(within) if is_of(within.stage, stage) => Decided {
                stage,
                depth: within.depth.saturating_add(1),
                ..within
            },
            _ => Decided {
                // One that failed in the negotiation has a verdict from connect on.
                is_failure: is_lost
                    || before.is_some_and(|one| one.is_failure && one.member == name),
                member: name,
                stage,
                depth: 0,
            },
        };
        decided.tell(session);
    }
}

/// Whether the verdict at a stage is what was decided at another one: of the content it may come
/// later.
fn is_of(decided: Stage, told: Stage) -> bool {
    use Stage::{Body, EndOfHeaders, EndOfMessage, Header};

    let is_content = |stage| matches!(stage, Header | EndOfHeaders | Body | EndOfMessage);
    decided == told || is_content(decided) && is_content(told)
}
