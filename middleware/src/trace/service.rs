use std::sync::Arc;
use std::task::{Context, Poll};

use milter_tower::{Request, Response};
use tower_service::Service;

use super::ResponseFuture;
use super::future::Traced;
use super::hooks::{
    DefaultMakeSpan, DefaultOnFailure, DefaultOnRequest, DefaultOnResponse, MakeSpan, OnFailure,
    OnRequest, OnResponse,
};
use crate::classify::{Classify, Failures};

/// Has what the service within does in spans; see the [module](super).
#[derive(Debug)]
pub struct Trace<
    S,
    M = DefaultMakeSpan,
    Q = DefaultOnRequest,
    R = DefaultOnResponse,
    F = DefaultOnFailure,
    C = Failures,
> {
    inner: S,
    hooks: Arc<Hooks<M, Q, R, F, C>>,
}

/// What is done when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hooks<M, Q, R, F, C> {
    pub(super) make_span: M,
    pub(super) on_request: Q,
    pub(super) on_response: R,
    pub(super) on_failure: F,
    pub(super) classify: C,
}

impl<S, M, Q, R, F, C> Trace<S, M, Q, R, F, C> {
    pub(super) const fn new(inner: S, hooks: Arc<Hooks<M, Q, R, F, C>>) -> Self {
        Self { inner, hooks }
    }

    inner_service!();
}

/// A clone serves another connection.
impl<S: Clone, M, Q, R, F, C> Clone for Trace<S, M, Q, R, F, C> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.hooks))
    }
}

impl<S, M, Q, R, F, C> Service<Request> for Trace<S, M, Q, R, F, C>
where
    S: Service<Request, Response = Response>,
    M: MakeSpan,
    Q: OnRequest,
    R: OnResponse,
    F: OnFailure<S::Error>,
    C: Classify<S::Error>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, S::Error, M, Q, R, F, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let hooks = &self.hooks;
        let is_heard = hooks.make_span.is_enabled()
            || hooks.on_failure.is_enabled()
            || hooks.on_response.is_enabled()
            || hooks.on_request.is_enabled();
        if !is_heard {
            return ResponseFuture::new(self.inner.call(request), None);
        }
        let mut traced = Traced::start(hooks, &request);
        let call = traced.call(&mut self.inner, request);
        ResponseFuture::new(call, Some(traced))
    }
}
