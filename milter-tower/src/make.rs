//! A service for each connection.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use tower_service::Service;

use crate::session::Peer;

/// Makes the service of each connection by cloning one that is never called itself.
#[derive(Clone, Debug)]
pub struct Cloned<S> {
    prototype: S,
}

impl<S> Cloned<S> {
    /// Clones this service for each connection.
    pub const fn new(prototype: S) -> Self {
        Self { prototype }
    }
}

impl<S: Clone> Service<Peer> for Cloned<S> {
    type Response = S;
    type Error = Infallible;
    type Future = Ready<Result<S, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Peer) -> Self::Future {
        ready(Ok(self.prototype.clone()))
    }
}
