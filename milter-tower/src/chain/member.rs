//! Members of a chain, as they are described.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use milter_core::{SmtpReply, Stage, Verdict};
use tower_service::Service;

use super::condition::Condition;
use super::prototype::{Instance, Of, Prototype};
use crate::error::BoxError;
use crate::request::Request;
use crate::response::Response;

/// A filter that is to be a member of a [`Chain`](super::Chain): its name, the service, and what
/// becomes of mail when it fails.
///
/// ```
/// # use std::convert::Infallible;
/// # use milter_tower::{Request, Response};
/// use milter_tower::{Chain, Member, MemberFailure, OnMemberFailure, Stage};
/// # let service = tower::service_fn(async |_: Request| Ok::<_, Infallible>(Response::proceed()));
///
/// // Statistics are nice to have; but not to look at the content is a reason to wait.
/// let failing = OnMemberFailure::leave_out().at(Stage::EndOfMessage, MemberFailure::TempFail);
/// let chain = Chain::new().with_member(Member::new("statistics", service).on_failure(failing));
/// ```
pub struct Member {
    pub(super) name: Arc<str>,
    /// A lock, for it need not be `Sync`; taken once for each connection.
    prototype: Mutex<Box<dyn Prototype>>,
    pub(super) on_failure: OnMemberFailure,
    pub(super) condition: Option<Condition>,
}

impl Member {
    /// A member. The name is for logs and for whoever reads the chain.
    ///
    /// Each connection gets a clone of the service, which must be a fresh one, as each service of
    /// this crate makes it.
    pub fn new<S>(name: impl Into<Arc<str>>, service: S) -> Self
    where
        S: Service<Request, Response = Response> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        Self {
            name: name.into(),
            prototype: Mutex::new(Box::new(Of(service))),
            on_failure: OnMemberFailure::default(),
            condition: None,
        }
    }

    /// What becomes of mail when this member fails. By default tempfail.
    #[must_use]
    pub fn on_failure(mut self, on_failure: impl Into<OnMemberFailure>) -> Self {
        self.on_failure = on_failure.into();
        self
    }

    /// Shows it only messages of which this holds. Several conditions must all hold.
    #[must_use]
    pub fn when(mut self, condition: Condition) -> Self {
        self.condition = Some(match self.condition {
            Some(other) => other.and(condition),
            None => condition,
        });
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A fresh service.
    pub(super) fn make(&self) -> Box<dyn Instance> {
        self.lock(|prototype| prototype.make())
    }

    fn lock<R>(&self, with: impl FnOnce(&dyn Prototype) -> R) -> R {
        with(
            &**self
                .prototype
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

impl Clone for Member {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            prototype: Mutex::new(self.lock(|prototype| prototype.copy())),
            on_failure: self.on_failure.clone(),
            condition: self.condition.clone(),
        }
    }
}

impl<N, S> From<(N, S)> for Member
where
    N: Into<Arc<str>>,
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    fn from((name, service): (N, S)) -> Self {
        Self::new(name, service)
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("name", &self.name)
            .field("on_failure", &self.on_failure)
            .field("condition", &self.condition)
            .finish_non_exhaustive()
    }
}

/// What the MTA hears when a member of a chain fails: with an error, a panic, be it of its
/// condition, a deadline that passed, or an answer that the stage or the negotiation does not allow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemberFailure {
    /// Refuse for now: the client tries again later.
    #[default]
    TempFail,
    /// Refuse for good.
    Reject,
    /// Refuse in these words.
    Reply(SmtpReply),
    /// Go on as if the member were not there: for the rest of the message; after a failure at
    /// connect or HELO for the rest of the session, in the negotiation for that of the connection;
    /// at an unknown command for that command.
    ///
    /// Mail passes that this member did not judge.
    LeaveOut,
}

impl MemberFailure {
    /// The verdict; none if the member is left out.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        Some(match self {
            Self::TempFail => Verdict::TempFail,
            Self::Reject => Verdict::Reject,
            Self::Reply(reply) => Verdict::Reply(reply.clone()),
            Self::LeaveOut => return None,
        })
    }
}

/// What the MTA hears when a member fails, by stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnMemberFailure {
    otherwise: MemberFailure,
    stages: Vec<(Stage, MemberFailure)>,
}

impl OnMemberFailure {
    /// [Refuse for now](MemberFailure::TempFail) at every stage: the default.
    pub fn tempfail() -> Self {
        MemberFailure::TempFail.into()
    }

    /// [Refuse for good](MemberFailure::Reject) at every stage.
    pub fn reject() -> Self {
        MemberFailure::Reject.into()
    }

    /// [Leave the member out](MemberFailure::LeaveOut) at every stage.
    pub fn leave_out() -> Self {
        MemberFailure::LeaveOut.into()
    }

    /// The same, but this at that stage. A failure in the negotiation is one at
    /// [`Stage::Connect`].
    #[must_use]
    pub fn at(mut self, stage: Stage, failure: MemberFailure) -> Self {
        self.stages.retain(|(of, _)| *of != stage);
        self.stages.push((stage, failure));
        self
    }

    /// What is to be done at this stage; none stands for the negotiation.
    pub(super) fn get(&self, stage: Option<Stage>) -> &MemberFailure {
        let stage = stage.unwrap_or(Stage::Connect);
        let of_stage = self.stages.iter().find(|(of, _)| *of == stage);
        of_stage.map_or(&self.otherwise, |(_, failure)| failure)
    }
}

impl From<MemberFailure> for OnMemberFailure {
    fn from(otherwise: MemberFailure) -> Self {
        Self {
            otherwise,
            stages: Vec::new(),
        }
    }
}
