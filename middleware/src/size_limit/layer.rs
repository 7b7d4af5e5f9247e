use std::sync::Arc;

use milter_tower::{Agreement, Event, Needs, Request, SmtpReply, Stage, Verdict};
use tower_layer::Layer;

use super::ResponseFuture;
use crate::judged::{Judge, judged_service};
use crate::reply::reply;

/// The layer that makes [`SizeLimit`]; see the [module](super).
#[derive(Clone, Debug)]
pub struct SizeLimitLayer {
    limit: Limit,
}

#[derive(Clone, Debug)]
struct Limit {
    most: u64,
    counts: bool,
    verdict: Verdict,
    needs: Arc<Needs>,
}

impl SizeLimitLayer {
    /// At most so many bytes of headers and body together.
    pub fn new(most: u64) -> Self {
        let needs = Needs::none()
            .event(Stage::Mail)
            .record(Stage::Header)
            .record(Stage::Body);
        Self {
            limit: Limit {
                most,
                counts: true,
                verdict: reply("552 5.3.4 Message size exceeds limit").into(),
                needs: Arc::new(needs),
            },
        }
    }

    /// Looks at what clients announce only, and does not count.
    #[must_use]
    pub fn announced_only(mut self) -> Self {
        self.limit.counts = false;
        self.limit.needs = Arc::new(Needs::none().event(Stage::Mail));
        self
    }

    /// What is answered to messages beyond the limit.
    #[must_use]
    pub fn verdict(mut self, verdict: impl Into<SmtpReply>) -> Self {
        self.limit.verdict = Verdict::Reply(verdict.into());
        self
    }
}

impl<S> Layer<S> for SizeLimitLayer {
    type Service = SizeLimit<S>;

    fn layer(&self, inner: S) -> SizeLimit<S> {
        SizeLimit::new(inner, Size::new(self.limit.clone()))
    }
}

judged_service! {
    /// Bounds the size of messages; see the [module](super).
    SizeLimit, Size
}

/// That of the message at hand, as far as it has come.
#[derive(Debug)]
pub(super) struct Size {
    limit: Limit,
    bytes: u64,
}

impl Size {
    const fn new(limit: Limit) -> Self {
        Self { limit, bytes: 0 }
    }

    fn anew(&self) -> Self {
        Self::new(self.limit.clone())
    }
}

impl Judge for Size {
    fn needs(&self) -> &Arc<Needs> {
        &self.limit.needs
    }

    fn judge(&mut self, request: &Request) -> Option<Verdict> {
        let more = match request.event() {
            Event::Mail(sender) => {
                let announced = sender.args().size();
                let is_over = announced.is_some_and(|size| size > self.limit.most);
                return is_over.then(|| self.limit.verdict.clone());
            }
            _ if !self.limit.counts => return None,
            Event::Header(header) => {
                let space = request.session().agreement();
                let hidden = usize::from(!space.is_some_and(Agreement::leading_space));
                header.name().len() + header.value().len() + hidden + ":\r\n".len()
            }
            Event::EndOfHeaders => "\r\n".len(),
            Event::Body(piece) => piece.len(),
            _ => return None,
        };
        self.bytes = self.bytes.saturating_add(more as u64);
        let is_over = self.bytes > self.limit.most;
        is_over.then(|| self.limit.verdict.clone())
    }

    fn end_message(&mut self) {
        self.bytes = 0;
    }
}
