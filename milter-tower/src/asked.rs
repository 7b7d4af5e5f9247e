//! What a filter asked of the MTA, where a layer around it may have asked for more.

use milter_core::{Agreement, Needs, ReplyMode, Stage, Stages, Verdict};
use tracing::warn;

use crate::response::Response;
use crate::session::Session;

/// The events that a filter asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    wanted: Stages,
    silent: Stages,
}

impl Asked {
    /// All events, each with a reply.
    pub(crate) const ALL: Self = Self {
        wanted: Stages::ALL,
        silent: Stages::NONE,
    };

    /// Whether the event was asked for. Others are not the filter's: it proceeds.
    pub(crate) const fn wants(self, stage: Stage) -> bool {
        self.wanted.contains(stage)
    }

    /// Whether the event was asked for without a reply: what is said there does not count.
    pub(crate) const fn is_silent(self, stage: Stage) -> bool {
        self.silent.contains(stage)
    }

    /// Whether a layer has the MTA wait where the filter asked for no reply: what that means must
    /// not depend on the layers around it. Without such a layer the server drops a verdict there.
    pub(crate) fn is_overruled(self, stage: Stage, session: &Session) -> bool {
        let has_reply = |agreed: &Agreement| agreed.reply_mode(stage) == ReplyMode::Verdict;
        self.is_silent(stage) && session.agreement().is_some_and(has_reply)
    }
}

/// Puts going on in the place of a verdict that does not count.
pub(crate) fn drop_verdict(stage: Stage, response: Response) -> Response {
    if *response.verdict() == Verdict::Continue {
        return response;
    }
    let verdict = response.verdict().name();
    warn!(%stage, verdict, "a verdict is lost: the filter asked for no reply there");
    response.with_verdict(Verdict::Continue)
}

impl From<&Needs> for Asked {
    fn from(needs: &Needs) -> Self {
        let wanted = needs.wanted();
        Self {
            wanted,
            silent: wanted
                .iter()
                .filter(|stage| needs.is_silent(*stage))
                .collect(),
        }
    }
}
