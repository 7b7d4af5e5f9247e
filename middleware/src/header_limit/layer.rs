use std::sync::Arc;

use milter_tower::{Event, Needs, Request, SmtpReply, Stage, Verdict};
use tower_layer::Layer;

use super::ResponseFuture;
use crate::judged::{Judge, judged_service};
use crate::reply::reply;

/// The layer that makes [`HeaderLimit`]; see the [module](super).
#[derive(Clone, Debug)]
pub struct HeaderLimitLayer {
    limit: Limit,
}

#[derive(Clone, Debug)]
struct Limit {
    most: usize,
    bytes: usize,
    verdict: Verdict,
    needs: Arc<Needs>,
}

impl HeaderLimitLayer {
    /// At most so many headers a message.
    pub fn new(most: usize) -> Self {
        let needs = Needs::none()
            .record(Stage::Header)
            .event(Stage::EndOfHeaders);
        Self {
            limit: Limit {
                most,
                bytes: usize::MAX,
                verdict: reply("552 5.3.4 Message header too large").into(),
                needs: Arc::new(needs),
            },
        }
    }

    /// At most so many bytes of them.
    #[must_use]
    pub fn bytes(mut self, most: usize) -> Self {
        self.limit.bytes = most;
        self
    }

    /// What is answered to messages beyond the limit.
    #[must_use]
    pub fn verdict(mut self, verdict: impl Into<SmtpReply>) -> Self {
        self.limit.verdict = Verdict::Reply(verdict.into());
        self
    }
}

impl<S> Layer<S> for HeaderLimitLayer {
    type Service = HeaderLimit<S>;

    fn layer(&self, inner: S) -> HeaderLimit<S> {
        HeaderLimit::new(inner, Headers::new(self.limit.clone()))
    }
}

judged_service! {
    /// Bounds how many headers a message has, and how large they are; see the [module](super).
    HeaderLimit, Headers
}

/// Those of the message at hand.
#[derive(Debug)]
pub(super) struct Headers {
    limit: Limit,
    count: usize,
    bytes: usize,
}

impl Headers {
    fn new(limit: Limit) -> Self {
        Self {
            limit,
            count: 0,
            bytes: 0,
        }
    }

    fn anew(&self) -> Self {
        Self::new(self.limit.clone())
    }
}

impl Judge for Headers {
    fn needs(&self) -> &Arc<Needs> {
        &self.limit.needs
    }

    fn judge(&mut self, request: &Request) -> Option<Verdict> {
        let Event::Header(header) = request.event() else {
            return None;
        };
        self.count = self.count.saturating_add(1);
        let bytes = header.name().len() + header.value().len() + ":\r\n".len();
        self.bytes = self.bytes.saturating_add(bytes);
        let is_over = self.count > self.limit.most || self.bytes > self.limit.bytes;
        is_over.then(|| self.limit.verdict.clone())
    }

    fn end_message(&mut self) {
        (self.count, self.bytes) = (0, 0);
    }
}
