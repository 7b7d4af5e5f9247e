use std::sync::Arc;

use tower_layer::Layer;

use super::hooks::{DefaultMakeSpan, DefaultOnFailure, DefaultOnRequest, DefaultOnResponse};
use super::{Hooks, Trace};
use crate::classify::Failures;

/// The layer that makes [`Trace`]; see the [module](super).
#[derive(Clone, Copy, Debug)]
pub struct TraceLayer<
    M = DefaultMakeSpan,
    Q = DefaultOnRequest,
    R = DefaultOnResponse,
    F = DefaultOnFailure,
    C = Failures,
> {
    hooks: Hooks<M, Q, R, F, C>,
}

impl TraceLayer {
    /// With the default hooks: all at the level DEBUG, but failures at WARN.
    pub const fn new() -> Self {
        Self {
            hooks: Hooks {
                make_span: DefaultMakeSpan::new(),
                on_request: DefaultOnRequest::new(),
                on_response: DefaultOnResponse::new(),
                on_failure: DefaultOnFailure::new(),
                classify: Failures::new(),
            },
        }
    }
}

impl Default for TraceLayer {
    fn default() -> Self {
        Self::new()
    }
}

/// The layer with one hook in the place of another.
macro_rules! with {
    ($layer:ident, $new:ident, $($kept:ident),+) => {
        TraceLayer {
            hooks: Hooks {
                $new,
                $($kept: $layer.hooks.$kept),+
            },
        }
    };
}

impl<M, Q, R, F, C> TraceLayer<M, Q, R, F, C> {
    /// How the span of an event is made: a [`MakeSpan`](super::MakeSpan).
    pub fn make_span_with<N>(self, make_span: N) -> TraceLayer<N, Q, R, F, C> {
        with!(
            self,
            make_span,
            on_request,
            on_response,
            on_failure,
            classify
        )
    }

    /// What is done when an event comes: an [`OnRequest`](super::OnRequest).
    pub fn on_request<N>(self, on_request: N) -> TraceLayer<M, N, R, F, C> {
        with!(
            self,
            on_request,
            make_span,
            on_response,
            on_failure,
            classify
        )
    }

    /// What is done with an answer: an [`OnResponse`](super::OnResponse).
    pub fn on_response<N>(self, on_response: N) -> TraceLayer<M, Q, N, F, C> {
        with!(
            self,
            on_response,
            make_span,
            on_request,
            on_failure,
            classify
        )
    }

    /// What is done with a failure: an [`OnFailure`](super::OnFailure).
    pub fn on_failure<N>(self, on_failure: N) -> TraceLayer<M, Q, R, N, C> {
        with!(
            self,
            on_failure,
            make_span,
            on_request,
            on_response,
            classify
        )
    }

    /// What counts as a failure: see [`classify`](crate::classify).
    pub fn classify_with<N>(self, classify: N) -> TraceLayer<M, Q, R, F, N> {
        with!(
            self,
            classify,
            make_span,
            on_request,
            on_response,
            on_failure
        )
    }
}

impl<S, M, Q, R, F, C> Layer<S> for TraceLayer<M, Q, R, F, C>
where
    M: Clone,
    Q: Clone,
    R: Clone,
    F: Clone,
    C: Clone,
{
    type Service = Trace<S, M, Q, R, F, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Trace::new(inner, Arc::new(self.hooks.clone()))
    }
}
