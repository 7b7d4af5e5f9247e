//! A circuit breaker for connectors: who fails again and again is left alone for a while.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project::pin_project;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;
use tracing::{info, warn};

use crate::clock::after;
use crate::error::BoxError;

/// When a [`CircuitBreaker`] opens, and for how long.
///
/// As a [`Layer`], it gives each service that it is put around a circuit of its own.
///
/// ```
/// use std::time::Duration;
/// use milter_tower::remote::{CircuitBreakerLayer, Dial};
/// use tower::ServiceBuilder;
///
/// let connector = ServiceBuilder::new()
///     .layer(CircuitBreakerLayer::new().failures(5).pause(Duration::from_secs(2)))
///     .service(Dial::new("inet:8891@127.0.0.1".parse()?));
/// # let _ = connector;
/// # Ok::<(), milter_tower::AddressError>(())
/// ```
#[derive(Clone, Debug)]
pub struct CircuitBreakerLayer {
    name: Option<Arc<str>>,
    failures: u32,
    pause: Duration,
    longest_pause: Duration,
}

impl CircuitBreakerLayer {
    /// Three failures in a row open the circuit: for one second, then for twice as long each time
    /// that trying again fails, up to 30 s.
    pub const fn new() -> Self {
        Self {
            name: None,
            failures: 3,
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
        }
    }

    /// A name for log lines: the address, say.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How many failures in a row open the circuit; at least one.
    #[must_use]
    pub const fn failures(mut self, count: u32) -> Self {
        self.failures = count;
        self
    }

    /// For how long the circuit is open at first. It doubles each time that trying again fails.
    #[must_use]
    pub const fn pause(mut self, time: Duration) -> Self {
        self.pause = time;
        self
    }

    /// The most that the pause doubles to.
    #[must_use]
    pub const fn longest_pause(mut self, time: Duration) -> Self {
        self.longest_pause = time;
        self
    }
}

impl Default for CircuitBreakerLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for CircuitBreakerLayer {
    type Service = CircuitBreaker<S>;

    fn layer(&self, inner: S) -> CircuitBreaker<S> {
        CircuitBreaker {
            inner,
            circuit: Circuit::new(self.clone()),
        }
    }
}

/// Calls a service as long as it works, and leaves it alone for a while when it does not.
///
/// After [so many](CircuitBreakerLayer::failures) failures in a row the circuit is open: calls fail
/// at once with [`CircuitOpen`]. When the pause is over one call is let through to see whether the
/// service works again. If so the circuit closes; if not the next pause is twice as long.
///
/// It is made for connectors, where a call opens a connection: what fails is then a backend that is
/// down, and nobody waits for it. All clones share the circuit. A call that is dropped before its
/// end says nothing of the service, so a time-out belongs inside, around the service.
#[derive(Clone, Debug)]
pub struct CircuitBreaker<S> {
    inner: S,
    circuit: Circuit,
}

impl<S> CircuitBreaker<S> {
    /// The defaults of [`CircuitBreakerLayer::new`] around a service.
    pub fn new(inner: S) -> Self {
        CircuitBreakerLayer::new().layer(inner)
    }

    /// Until when the circuit is open, if it is.
    pub fn open(&self) -> Option<CircuitOpen> {
        self.circuit.open()
    }
}

impl<S, R> Service<R> for CircuitBreaker<S>
where
    S: Service<R>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = CircuitFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        CircuitFuture(match self.circuit.enter() {
            Ok(pass) => Kind::Runs {
                call: self.inner.call(request),
                pass,
            },
            Err(open) => Kind::Open(open),
        })
    }
}

/// The future of a [`CircuitBreaker`].
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct CircuitFuture<F>(#[pin] Kind<F>);

#[pin_project(project = KindProject)]
enum Kind<F> {
    Open(CircuitOpen),
    Runs {
        #[pin]
        call: F,
        pass: Pass,
    },
}

impl<F, T, E> Future for CircuitFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().0.project() {
            KindProject::Open(open) => Poll::Ready(Err(Box::new(open.clone()))),
            KindProject::Runs { call, pass } => {
                let called = ready!(call.poll(cx)).map_err(Into::into);
                pass.end(called.as_ref().err().map(|error| &**error));
                Poll::Ready(called)
            }
        }
    }
}

impl<F> fmt::Debug for CircuitFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitFuture").finish_non_exhaustive()
    }
}

/// The circuit is open: what it protects failed several times in a row, and is not tried now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}not tried for another {:.1?}, after {failures} failures in a row",
    self.name.as_deref().map(|name| format!("{name} is ")).unwrap_or_default(),
    self.retry_after()
)]
pub struct CircuitOpen {
    name: Option<Arc<str>>,
    failures: u32,
    until: Instant,
}

impl CircuitOpen {
    /// When it is tried again.
    pub fn until(&self) -> std::time::Instant {
        self.until.into_std()
    }

    /// How long it takes until it is tried again; zero while it is being tried.
    pub fn retry_after(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// How often it failed in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

/// A circuit, which all who hold a clone share.
#[derive(Clone, Debug)]
pub(super) struct Circuit(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: CircuitBreakerLayer,
    /// Taken twice for each call, which opens a connection.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// In a row.
    failures: u32,
    /// None while the circuit is closed.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    pause: Duration,
    /// Somebody is trying.
    is_tried: bool,
}

impl Circuit {
    pub(super) fn new(settings: CircuitBreakerLayer) -> Self {
        Self(Arc::new(Shared {
            settings,
            state: Mutex::new(State {
                failures: 0,
                open: None,
            }),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self, failures: u32, until: Instant) -> CircuitOpen {
        CircuitOpen {
            name: self.0.settings.name.clone(),
            failures,
            until,
        }
    }

    /// Until when the circuit is open, if a call would not be let through now.
    pub(super) fn open(&self) -> Option<CircuitOpen> {
        let state = self.state();
        let open = state.open.as_ref()?;
        let is_shut = open.is_tried || Instant::now() < open.until;
        is_shut.then(|| self.told(state.failures, open.until))
    }

    /// Lets a call through, or says why not.
    pub(super) fn enter(&self) -> Result<Pass, CircuitOpen> {
        let mut state = self.state();
        let failures = state.failures;
        let mut is_trial = false;
        if let Some(open) = &mut state.open {
            if open.is_tried || Instant::now() < open.until {
                return Err(self.told(failures, open.until));
            }
            open.is_tried = true;
            is_trial = true;
        }
        drop(state);
        Ok(Pass {
            circuit: self.clone(),
            is_trial,
            is_over: false,
        })
    }

    fn succeeded(&self) {
        let mut state = self.state();
        state.failures = 0;
        if state.open.take().is_some() {
            let name = self.0.settings.name.as_deref();
            info!(name, "it works again: the circuit is closed");
        }
    }

    fn failed(&self, is_trial: bool, error: &(dyn Error + Send + Sync + 'static)) {
        let settings = &self.0.settings;
        let mut state = self.state();
        let pause = match &state.open {
            // One that was under way when the circuit opened.
            Some(_) if !is_trial => return,
            Some(open) => (open.pause.saturating_mul(2)).min(settings.longest_pause),
            None => settings.pause.min(settings.longest_pause),
        };
        state.failures = state.failures.saturating_add(1);
        if state.open.is_none() && state.failures < settings.failures {
            return;
        }
        state.open = Some(Open {
            until: after(Instant::now(), pause),
            pause,
            is_tried: false,
        });
        let (name, failures) = (settings.name.as_deref(), state.failures);
        drop(state);
        warn!(
            name,
            failures,
            ?pause,
            error = error as &dyn Error,
            "it fails again and again: the circuit is open"
        );
    }

    /// The trial came to no end: the next call is one.
    fn not_tried(&self) {
        if let Some(open) = &mut self.state().open {
            open.is_tried = false;
        }
    }
}

/// The leave to make one call.
#[derive(Debug)]
pub(super) struct Pass {
    circuit: Circuit,
    is_trial: bool,
    is_over: bool,
}

impl Pass {
    /// Takes note of what came of the call.
    pub(super) fn end(&mut self, error: Option<&(dyn Error + Send + Sync + 'static)>) {
        self.is_over = true;
        match error {
            None => self.circuit.succeeded(),
            Some(error) => self.circuit.failed(self.is_trial, error),
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.is_trial && !self.is_over {
            self.circuit.not_tried();
        }
    }
}

#[cfg(test)]
mod tests;
