use std::task::{Context, Poll};

use milter_tower::{
    BoxError, Chain, ChainFuture, Condition, Member, OnMemberFailure, Request, Response,
};
use tower_layer::Layer;
use tower_service::Service;

/// The layer that makes [`When`]; see the [module](super).
#[derive(Clone, Debug)]
pub struct WhenLayer<L> {
    condition: Condition,
    layer: L,
    on_failure: Option<OnMemberFailure>,
}

impl<L> WhenLayer<L> {
    /// Applies the layer to messages of which this holds.
    pub const fn new(condition: Condition, layer: L) -> Self {
        Self {
            condition,
            layer,
            on_failure: None,
        }
    }

    /// What becomes of mail when the filter fails, with the layer or without. By default tempfail.
    #[must_use]
    pub fn on_failure(mut self, on_failure: impl Into<OnMemberFailure>) -> Self {
        self.on_failure = Some(on_failure.into());
        self
    }
}

impl<L, S> Layer<S> for WhenLayer<L>
where
    L: Layer<S>,
    L::Service: Service<Request, Response = Response> + Clone + Send + 'static,
    <L::Service as Service<Request>>::Error: Into<BoxError>,
    <L::Service as Service<Request>>::Future: Send,
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    type Service = When;

    fn layer(&self, inner: S) -> When {
        let layered = self.layer.layer(inner.clone());
        let on_failure = self.on_failure.clone().unwrap_or_default();
        let with = Member::new("when", layered).when(self.condition.clone());
        let without = Member::new("otherwise", inner).when(!self.condition.clone());
        When {
            chain: Chain::new()
                .with_member(with.on_failure(on_failure.clone()))
                .with_member(without.on_failure(on_failure)),
        }
    }
}

/// A filter with a layer for some messages, and without it for others; see the [module](super).
#[derive(Clone, Debug)]
pub struct When {
    chain: Chain,
}

impl Service<Request> for When {
    type Response = Response;
    type Error = BoxError;
    type Future = ChainFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.chain.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.chain.call(request)
    }
}
