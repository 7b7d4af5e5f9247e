use std::sync::Arc;

use milter_tower::{Event, Needs, Request, SmtpReply, Stage, Verdict};
use tower_layer::Layer;

use super::ResponseFuture;
use crate::judged::{Judge, judged_service};
use crate::reply::reply;

/// The layer that makes [`RecipientLimit`]; see the [module](super).
#[derive(Clone, Debug)]
pub struct RecipientLimitLayer {
    limit: Limit,
}

#[derive(Clone, Debug)]
struct Limit {
    most: usize,
    verdict: Verdict,
    needs: Arc<Needs>,
}

impl RecipientLimitLayer {
    /// At most so many recipients a message; at least one.
    pub fn new(most: usize) -> Self {
        Self {
            limit: Limit {
                most: most.max(1),
                verdict: reply("452 4.5.3 Too many recipients").into(),
                needs: Arc::new(Needs::none().event(Stage::Rcpt)),
            },
        }
    }

    /// What is answered to those beyond the limit.
    #[must_use]
    pub fn verdict(mut self, reply: impl Into<SmtpReply>) -> Self {
        self.limit.verdict = Verdict::Reply(reply.into());
        self
    }
}

impl<S> Layer<S> for RecipientLimitLayer {
    type Service = RecipientLimit<S>;

    fn layer(&self, inner: S) -> RecipientLimit<S> {
        RecipientLimit::new(inner, Recipients(self.limit.clone()))
    }
}

judged_service! {
    /// Bounds how many recipients a message has; see the [module](super).
    RecipientLimit, Recipients
}

#[derive(Debug)]
pub(super) struct Recipients(Limit);

impl Recipients {
    fn anew(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Judge for Recipients {
    fn needs(&self) -> &Arc<Needs> {
        &self.0.needs
    }

    fn judge(&mut self, request: &Request) -> Option<Verdict> {
        let is_rcpt = matches!(request.event(), Event::Rcpt(_));
        let is_over = is_rcpt && request.session().recipients().len() >= self.0.most;
        is_over.then(|| self.0.verdict.clone())
    }

    fn end_message(&mut self) {}
}
