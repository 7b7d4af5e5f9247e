use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use milter_tower::{Request, Response, Session, Stage};
use pin_project::pin_project;
use tokio::time::Instant;
use tower_service::Service;
use tracing::Span;

use super::hooks::{MakeSpan, OnFailure, OnRequest, OnResponse};
use super::service::Hooks;
use crate::classify::watched::{Fate, Watch, Watched};
use crate::classify::{Classify, Failed, FailureClass};

/// The future of [`Trace`](super::Trace).
#[pin_project]
pub struct ResponseFuture<Fut, E, M, Q, R, F: OnFailure<E>, C> {
    #[pin]
    watched: Watched<Fut, Traced<E, M, Q, R, F, C>>,
}

impl<Fut, E, M, Q, R, F: OnFailure<E>, C> ResponseFuture<Fut, E, M, Q, R, F, C> {
    pub(super) const fn new(call: Fut, traced: Option<Traced<E, M, Q, R, F, C>>) -> Self {
        let watched = Watched::new(call, traced);
        Self { watched }
    }
}

impl<Fut, E, M, Q, R, F, C> Future for ResponseFuture<Fut, E, M, Q, R, F, C>
where
    Fut: Future<Output = Result<Response, E>>,
    M: MakeSpan,
    Q: OnRequest,
    R: OnResponse,
    F: OnFailure<E>,
    C: Classify<E>,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().watched.poll(cx)
    }
}

impl<Fut, E, M, Q, R, F: OnFailure<E>, C> fmt::Debug for ResponseFuture<Fut, E, M, Q, R, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// A call in its span.
pub(super) struct Traced<E, M, Q, R, F: OnFailure<E>, C> {
    hooks: Arc<Hooks<M, Q, R, F, C>>,
    span: Span,
    stage: Option<Stage>,
    session: Session,
    started: Instant,
    fate: Fate,
    error: PhantomData<fn() -> E>,
}

impl<E, M, Q, R, F, C> Traced<E, M, Q, R, F, C>
where
    M: MakeSpan,
    Q: OnRequest,
    F: OnFailure<E>,
{
    pub(super) fn start(hooks: &Arc<Hooks<M, Q, R, F, C>>, request: &Request) -> Self {
        let span = if hooks.make_span.is_enabled() {
            hooks.make_span.make_span(request)
        } else {
            Span::none()
        };
        Self {
            hooks: Arc::clone(hooks),
            span,
            stage: request.event().stage(),
            session: request.session().clone(),
            started: Instant::now(),
            fate: Fate::of(request),
            error: PhantomData,
        }
    }

    pub(super) fn call<S: Service<Request>>(
        &mut self,
        inner: &mut S,
        request: Request,
    ) -> S::Future {
        let call = self.span.in_scope(|| {
            if self.hooks.on_request.is_enabled() {
                self.hooks.on_request.on_request(&request, &self.span);
            }
            inner.call(request)
        });
        self.fate.called();
        call
    }
}

impl<E, M, Q, R, F: OnFailure<E>, C> Traced<E, M, Q, R, F, C> {
    fn failed(&self, class: FailureClass, error: Option<&E>) {
        let stage = self.stage;
        let failed = Failed {
            class,
            error,
            stage,
            session: &self.session,
        };
        let hook = &self.hooks.on_failure;
        self.span
            .in_scope(|| hook.on_failure(&failed, self.started.elapsed(), &self.span));
    }
}

impl<E, M, Q, R, F, C> Watch<E> for Traced<E, M, Q, R, F, C>
where
    R: OnResponse,
    F: OnFailure<E>,
    C: Classify<E>,
{
    fn poll<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        let _entered = self.span.enter();
        self.fate.poll(poll)
    }

    fn answered(mut self, answer: Result<Response, E>) -> Result<Response, E> {
        self.fate.answered();
        if let Ok(response) = &answer {
            let hook = &self.hooks.on_response;
            if hook.is_enabled() {
                let time = self.started.elapsed();
                self.span
                    .in_scope(|| hook.on_response(self.stage, response, time, &self.span));
            }
        }
        if self.hooks.on_failure.is_enabled() {
            let class = self.hooks.classify.classify(self.stage, answer.as_ref());
            if let Some(class) = class {
                self.failed(class, answer.as_ref().err());
            }
        }
        answer
    }
}

impl<E, M, Q, R, F: OnFailure<E>, C> Drop for Traced<E, M, Q, R, F, C> {
    fn drop(&mut self) {
        if !self.hooks.on_failure.is_enabled() {
            return;
        }
        if let Some(class) = self.fate.given_up() {
            self.failed(class, None);
        }
    }
}
