use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use milter_tower::{Event, Needs, ReplyMode, Request, Response, Session, Stage, Verdict};
use pin_project::pin_project;

use super::told::Told;
use crate::classify::watched::{Fate, Watch, Watched};
use crate::classify::{Classify, names};

/// The future of [`Log`](super::Log).
#[pin_project]
#[derive(Debug)]
pub struct ResponseFuture<F, C> {
    #[pin]
    watched: Watched<F, Noted<C>>,
}

impl<F, C> ResponseFuture<F, C> {
    pub(super) const fn new(call: F, noted: Noted<C>) -> Self {
        let watched = Watched::new(call, Some(noted));
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

/// Writes down what comes of a call.
pub(super) struct Noted<C> {
    told: Arc<Told>,
    classify: Arc<C>,
    fate: Fate,
    at: &'static str,
    stage: Option<Stage>,
    is_offer: bool,
    session: Session,
}

impl<C> Noted<C> {
    pub(super) fn start(told: &Arc<Told>, classify: &Arc<C>, request: &Request) -> Self {
        Self {
            told: Arc::clone(told),
            classify: Arc::clone(classify),
            at: names::event(request.event()),
            stage: request.event().stage(),
            is_offer: matches!(request.event(), Event::Negotiate(_)),
            session: request.session().clone(),
            fate: Fate::of(request),
        }
    }

    pub(super) const fn called(&mut self) {
        self.fate.called();
    }

    /// What it says where nobody listens means nothing.
    fn is_heard(&self, stage: Stage) -> bool {
        let agreement = self.session.agreement();
        agreement.is_none_or(|agreed| agreed.reply_mode(stage) == ReplyMode::Verdict)
    }
}

impl<C: Classify<E>, E> Watch<E> for Noted<C> {
    fn poll<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        self.fate.poll(poll)
    }

    fn answered(mut self, answer: Result<Response, E>) -> Result<Response, E> {
        self.fate.answered();
        let class = self.classify.classify(self.stage, answer.as_ref());
        if let Some(class) = class {
            self.told.failure(class, self.at);
        }
        let response = answer?;
        match self.stage {
            Some(stage) => {
                let says_nothing =
                    *response.verdict() == Verdict::Continue && response.edits().is_empty();
                if !says_nothing && self.is_heard(stage) {
                    self.told.answer(stage, &response);
                }
                Ok(response)
            }
            None if self.is_offer => Ok(response.widen(&needs())),
            None => Ok(response),
        }
    }
}

impl<C> Drop for Noted<C> {
    fn drop(&mut self) {
        if let Some(class) = self.fate.given_up() {
            self.told.failure(class, self.at);
            self.told.given_up(self.session.clone());
        }
    }
}

impl<C> fmt::Debug for Noted<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Noted")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// What a line tells of, if the filter does not ask for it.
fn needs() -> Needs {
    let stages = [Stage::Connect, Stage::Helo, Stage::Mail, Stage::Rcpt];
    stages.into_iter().fold(Needs::none(), Needs::record)
}
