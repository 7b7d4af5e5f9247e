use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::classify::decided::decided;
use milter_tower::{Request, Response, Session, Stage, Verdict};
use pin_project::pin_project;
use tokio::time::Instant;

use super::service::Shared;
use crate::classify::watched::{Fate, Watch, Watched};
use crate::classify::{Classify, names};

/// The future of [`Metrics`](super::Metrics).
#[pin_project]
#[derive(Debug)]
pub struct ResponseFuture<F, C> {
    #[pin]
    watched: Watched<F, Timed<C>>,
}

impl<F, C> ResponseFuture<F, C> {
    pub(super) const fn new(call: F, timed: Timed<C>) -> Self {
        let watched = Watched::new(call, Some(timed));
        Self { watched }
    }
}

impl<F, C, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<Response, E>>,
    C: Classify<E>,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().watched.poll(cx)
    }
}

/// Counts what comes of a call.
pub(super) struct Timed<C> {
    shared: Arc<Shared<C>>,
    started: Instant,
    fate: Fate,
    at: &'static str,
    stage: Option<Stage>,
    session: Session,
}

impl<C> Timed<C> {
    pub(super) fn start(shared: &Arc<Shared<C>>, request: &Request) -> Self {
        Self {
            shared: Arc::clone(shared),
            at: names::event(request.event()),
            stage: request.event().stage(),
            session: request.session().clone(),
            started: Instant::now(),
            fate: Fate::of(request),
        }
    }

    pub(super) const fn called(&mut self) {
        self.fate.called();
    }

    fn took(&self) {
        if let Some(stage) = self.stage {
            self.shared.handles().took(stage, self.started.elapsed());
        }
    }

    fn response(&self, stage: Stage, response: &Response) {
        let handles = self.shared.handles();
        let verdict = response.verdict();
        if *verdict != Verdict::Continue || stage == Stage::EndOfMessage {
            let decided = decided(&self.session);
            let decided = decided.filter(|decided| decided.stage() == stage);
            handles.verdict(stage, verdict, decided.as_ref());
            // Other failures are counted at the message's end; here there is no message.
            if let Some(failed) = decided.filter(|it| it.is_failure() && !stage.is_of_message()) {
                handles.member_failure(&failed);
            }
        }
        if !response.edits().is_empty() {
            handles.edits(response.edits());
        }
    }
}

impl<C: Classify<E>, E> Watch<E> for Timed<C> {
    fn poll<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        self.fate.poll(poll)
    }

    fn answered(mut self, answer: Result<Response, E>) -> Result<Response, E> {
        self.fate.answered();
        self.took();
        let class = self.shared.classify.classify(self.stage, answer.as_ref());
        if let Some(class) = class {
            self.shared.handles().failure(self.at, class);
        }
        if let (Some(stage), Ok(response)) = (self.stage, &answer) {
            self.response(stage, response);
        }
        answer
    }
}

impl<C> Drop for Timed<C> {
    fn drop(&mut self) {
        if let Some(class) = self.fate.given_up() {
            self.took();
            self.shared.handles().failure(self.at, class);
        }
    }
}

impl<C> fmt::Debug for Timed<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timed")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}
