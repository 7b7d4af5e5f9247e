//! What becomes of mail when a filter elsewhere fails.

use milter_core::{ReplyMode, Stage, Verdict};
use tracing::{field, warn};

use super::error::RemoteError;
use crate::request::Request;
use crate::response::Response;
use crate::session::client_for_log;
use crate::settings::OnFailure;

/// What becomes of mail when a filter elsewhere cannot be reached, or fails.
///
/// ```
/// use milter_tower::{OnFailure, OnRemoteFailure, Remote};
///
/// let remote = Remote::new("inet:8891@127.0.0.1".parse()?).on_failure(OnFailure::Reject);
/// let nice_to_have = remote.clone().on_failure(OnRemoteFailure::LeaveOut);
/// # let _ = nice_to_have;
/// # Ok::<(), milter_tower::AddressError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnRemoteFailure {
    /// The call fails, and whoever calls says what that means: a server by
    /// [`Settings::on_failure`](crate::Settings::on_failure), which is tempfail unless told
    /// otherwise, a chain by the member's [`OnMemberFailure`](crate::OnMemberFailure), a layer as it
    /// likes.
    #[default]
    Fail,
    /// The call succeeds with this verdict, as do those for the rest of the message. The failure is
    /// logged here.
    Answer(OnFailure),
    /// The filter goes on as if there were no backend, for the rest of the message; at connect and
    /// HELO until the next message. The failure is logged here.
    ///
    /// Mail passes that the backend did not judge. In a chain the member's
    /// [`LeaveOut`](crate::MemberFailure::LeaveOut) does the same for less: a backend that is not
    /// there in the negotiation might come back and then want everything, so that everything is
    /// asked for.
    LeaveOut,
}

impl From<OnFailure> for OnRemoteFailure {
    fn from(on_failure: OnFailure) -> Self {
        Self::Answer(on_failure)
    }
}

impl OnRemoteFailure {
    /// What is said at an event at which the backend failed, or to which it did not come any more.
    /// The negotiation has no stage.
    pub(super) fn answer(
        &self,
        error: RemoteError,
        request: &Request,
        stage: Option<Stage>,
    ) -> Result<Response, RemoteError> {
        let verdict = match self {
            Self::Fail => return Err(error),
            Self::Answer(on_failure) => on_failure.verdict(),
            Self::LeaveOut => Verdict::Continue,
        };
        if !error.is_repeated() {
            log(&error, request, stage, self);
        }
        Ok(match stage {
            Some(stage) => stand(&verdict, stage, request),
            None => Response::proceed(),
        })
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Fail => "failure",
            Self::Answer(OnFailure::TempFail) => "tempfail",
            Self::Answer(_) => "refusal",
            Self::LeaveOut => "left out",
        }
    }
}

/// A verdict that holds for what comes, as far as it can be told at this stage.
pub(super) fn stand(verdict: &Verdict, stage: Stage, request: &Request) -> Response {
    let agreed = request.session().agreement();
    let is_heard = agreed.is_none_or(|agreed| agreed.reply_mode(stage) == ReplyMode::Verdict);
    if is_heard && verdict.is_allowed_at(stage) {
        verdict.clone().into()
    } else {
        Response::proceed()
    }
}

fn log(error: &RemoteError, request: &Request, stage: Option<Stage>, policy: &OnRemoteFailure) {
    let session = request.session();
    let queue_id = session.queue_id().map(|id| id.to_string());
    warn!(
        connection = session.peer().connection_id(),
        queue_id = queue_id.as_deref().map(field::display),
        client = session.client().map(client_for_log).map(field::display),
        at = stage.map_or("negotiate", Stage::name),
        answer = policy.name(),
        error = error as &dyn std::error::Error,
        "the backend failed"
    );
}
