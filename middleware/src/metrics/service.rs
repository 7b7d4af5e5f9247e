use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use milter_tower::chain::Decided;
use milter_tower::{Event, Request, Response, Stage};
use tokio::time::Instant;
use tower_service::Service;

use super::ResponseFuture;
use super::future::Timed;
use super::handles::{FAILED, Handles};
use crate::classify::decided::decided;
use crate::classify::{Classify, FailureClass, names};

/// Counts what the service within does; see the [module](super).
pub struct Metrics<S, C> {
    inner: S,
    life: Life<C>,
}

/// What is shared by all connections of one filter.
pub(super) struct Shared<C> {
    name: Arc<str>,
    pub(super) classify: Arc<C>,
    handles: OnceLock<Handles>,
}

impl<C> Shared<C> {
    pub(super) const fn new(name: Arc<str>, classify: Arc<C>) -> Self {
        Self {
            name,
            classify,
            handles: OnceLock::new(),
        }
    }

    /// They are looked up when the first event comes, so that the program may install its recorder
    /// after it has put its filter together.
    pub(super) fn handles(&self) -> &Handles {
        self.handles.get_or_init(|| Handles::register(&self.name))
    }
}

/// What one service counts as open.
struct Life<C> {
    shared: Arc<Shared<C>>,
    is_connected: bool,
    /// When the message at hand began.
    message: Option<Instant>,
}

impl<S, C> Metrics<S, C> {
    pub(super) const fn new(inner: S, shared: Arc<Shared<C>>) -> Self {
        let life = Life {
            shared,
            is_connected: false,
            message: None,
        };
        Self { inner, life }
    }

    inner_service!();
}

/// A clone serves another connection.
impl<S: Clone, C> Clone for Metrics<S, C> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.life.shared))
    }
}

impl<S: fmt::Debug, C> fmt::Debug for Metrics<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("inner", &self.inner)
            .field("name", &self.life.shared.name)
            .finish_non_exhaustive()
    }
}

impl<S, C> Service<Request> for Metrics<S, C>
where
    S: Service<Request, Response = Response>,
    C: Classify<S::Error>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let ready = self.inner.poll_ready(cx);
        if let Poll::Ready(Err(_)) = ready {
            let handles = self.life.shared.handles();
            handles.failure("not ready", FailureClass::ERROR);
        }
        ready
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.life.see(&request);
        let mut timed = Timed::start(&self.life.shared, &request);
        let call = self.inner.call(request);
        timed.called();
        ResponseFuture::new(call, timed)
    }
}

impl<C> Life<C> {
    fn see(&mut self, request: &Request) {
        if matches!(request.event(), Event::Mail(_)) {
            // Some layers lose ends.
            self.end_message(FAILED);
        }
        let handles = self.shared.handles();
        match request.event() {
            Event::Negotiate(_) if !self.is_connected => {
                self.is_connected = true;
                handles.connections.increment(1);
                handles.connections_open.increment(1.0);
            }
            Event::MessageEnd(outcome) => {
                let decided = decided(request.session());
                if let Some(failed) = decided.filter(Decided::is_failure) {
                    handles.member_failure(&failed);
                }
                self.end_message(names::outcome(outcome));
            }
            Event::Close => self.close(),
            event => {
                if let Event::Body(piece) = event {
                    handles.body_bytes.increment(piece.len() as u64);
                }
                let Some(stage) = event.stage() else {
                    return;
                };
                handles.event(stage);
                if self.message.is_none() && Stage::is_of_message(stage) {
                    self.message = Some(Instant::now());
                    handles.messages_open.increment(1.0);
                }
            }
        }
    }

    fn end_message(&mut self, outcome: &str) {
        let Some(began) = self.message.take() else {
            return;
        };
        let handles = self.shared.handles();
        handles.messages_open.decrement(1.0);
        handles.message_seconds.record(began.elapsed());
        handles.outcome(outcome);
    }

    fn close(&mut self) {
        // One that broke hears of no end.
        self.end_message(FAILED);
        if std::mem::take(&mut self.is_connected) {
            self.shared.handles().connections_open.decrement(1.0);
        }
    }
}

impl<C> Drop for Life<C> {
    fn drop(&mut self) {
        self.close();
    }
}
