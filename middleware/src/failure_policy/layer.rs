use std::error::Error;
use std::fmt;
use std::sync::Arc;

use milter_tower::{BoxError, SmtpReply, Stage, Verdict};
use tower_layer::Layer;

use super::FailurePolicy;

/// What becomes of mail after an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnError {
    /// Refuse for now: the client tries again later.
    #[default]
    TempFail,
    /// Refuse for good.
    Reject,
    /// Refuse in these words.
    Reply(SmtpReply),
    /// Go on as if the filter were not there.
    Open,
    /// Close the connection with the MTA, which then does what it is configured to do without the
    /// filter.
    Close,
    /// Leave it to those around.
    Fail,
}

impl OnError {
    /// A word for logs.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::TempFail => "tempfail",
            Self::Reject => "reject",
            Self::Reply(_) => "reply",
            Self::Open => "left out",
            Self::Close => "close",
            Self::Fail => "error",
        }
    }

    /// The verdict, if it is one.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        Some(match self {
            Self::TempFail => Verdict::TempFail,
            Self::Reject => Verdict::Reject,
            Self::Reply(reply) => reply.clone().into(),
            Self::Open | Self::Close | Self::Fail => return None,
        })
    }
}

impl From<SmtpReply> for OnError {
    fn from(reply: SmtpReply) -> Self {
        Self::Reply(reply)
    }
}

/// The layer that makes [`FailurePolicy`]; see the [module](super).
#[derive(Clone)]
pub struct FailurePolicyLayer {
    policy: Arc<Policy>,
}

type Is = Arc<dyn Fn(&(dyn Error + 'static)) -> bool + Send + Sync>;

#[derive(Clone)]
pub(super) struct Policy {
    otherwise: OnError,
    stages: Vec<(Stage, OnError)>,
    kinds: Vec<(Is, OnError)>,
}

impl FailurePolicyLayer {
    /// This for every error that nothing else is said about.
    pub fn new(otherwise: impl Into<OnError>) -> Self {
        Self {
            policy: Arc::new(Policy {
                otherwise: otherwise.into(),
                stages: Vec::new(),
                kinds: Vec::new(),
            }),
        }
    }

    /// Mail passes that the filter could not look at. For what is nice to have.
    pub fn fail_open() -> Self {
        Self::new(OnError::Open)
    }

    /// Mail comes again that the filter could not look at: tempfail.
    pub fn fail_closed() -> Self {
        Self::new(OnError::TempFail)
    }

    /// The MTA does what it is configured to do without the filter.
    pub fn close() -> Self {
        Self::new(OnError::Close)
    }

    /// This for errors at a stage.
    #[must_use]
    pub fn at(self, stage: Stage, action: impl Into<OnError>) -> Self {
        let action = action.into();
        self.with(|policy| {
            policy.stages.retain(|(of, _)| *of != stage);
            policy.stages.push((stage, action));
        })
    }

    /// This for errors of a type, or that have one of that type among their
    /// [sources](Error::source).
    #[must_use]
    pub fn on<E: Error + 'static>(self, action: impl Into<OnError>) -> Self {
        self.on_match(<dyn Error>::is::<E>, action)
    }

    /// This for errors that the function says yes to, be it to one of their
    /// [sources](Error::source).
    #[must_use]
    pub fn on_match(
        self,
        is: impl Fn(&(dyn Error + 'static)) -> bool + Send + Sync + 'static,
        action: impl Into<OnError>,
    ) -> Self {
        let action = action.into();
        self.with(|policy| policy.kinds.push((Arc::new(is), action)))
    }

    fn with(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        change(Arc::make_mut(&mut self.policy));
        self
    }
}

impl<S> Layer<S> for FailurePolicyLayer {
    type Service = FailurePolicy<S>;

    fn layer(&self, inner: S) -> FailurePolicy<S> {
        FailurePolicy::new(inner, Arc::clone(&self.policy))
    }
}

impl Policy {
    pub(super) fn action(&self, stage: Option<Stage>, error: &BoxError) -> &OnError {
        let mut next: Option<&(dyn Error + 'static)> = Some(&**error);
        while let Some(error) = next {
            if let Some((_, action)) = self.kinds.iter().find(|(is, _)| is(error)) {
                return action;
            }
            next = error.source();
        }
        let of_stage = self.stages.iter().find(|(of, _)| Some(*of) == stage);
        of_stage.map_or(&self.otherwise, |(_, action)| action)
    }
}

impl fmt::Debug for FailurePolicyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FailurePolicyLayer")
            .field(&self.policy)
            .finish()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.kinds.iter().map(|(_, action)| action).collect();
        f.debug_struct("Policy")
            .field("otherwise", &self.otherwise)
            .field("stages", &self.stages)
            .field("kinds", &kinds)
            .finish()
    }
}
