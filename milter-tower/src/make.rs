//! A service for each connection.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tower_service::Service;
use tracing::error;

use crate::guard::guard;
use crate::session::Peer;

/// Makes the service of each connection by cloning one that is never called itself.
///
/// Clones of this share the prototype, so that a service is cloned once for each connection and
/// only when one is asked for.
pub struct Cloned<S> {
    // Not every service may be looked at from several threads at once.
    prototype: Arc<Mutex<S>>,
}

impl<S> Cloned<S> {
    /// Clones this service for each connection.
    pub fn new(prototype: S) -> Self {
        Self {
            prototype: Arc::new(Mutex::new(prototype)),
        }
    }

    /// Clones another service from now on, also in the clones of this.
    pub fn replace(&self, prototype: S) {
        let before = std::mem::replace(&mut *self.lock(), prototype);
        // Not while others wait: it may take its time, or panic.
        if let Err(panic) = guard(|| drop(before)) {
            error!(error = %panic, "the service that was replaced broke");
        }
    }

    /// A prototype whose clone panicked may work the next time.
    fn lock(&self) -> MutexGuard<'_, S> {
        self.prototype
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Clone for Cloned<S> {
    fn clone(&self) -> Self {
        Self {
            prototype: Arc::clone(&self.prototype),
        }
    }
}

impl<S> fmt::Debug for Cloned<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloned").finish_non_exhaustive()
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
        ready(Ok(self.lock().clone()))
    }
}
