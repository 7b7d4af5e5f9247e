//! What layers have in common that look at messages and may have something against them.

mod future;

use std::sync::Arc;
use std::task::{Context, Poll};

use milter_tower::gate::{Entry, Gate};
use milter_tower::{Event, Needs, Request, Response, Stage, Verdict};
use tower_service::Service;

use self::future::After;
pub use self::future::ResponseFuture;

/// What a layer has against messages.
pub(crate) trait Judge {
    /// Whether it has to see messages to their end, though the service within wants no more.
    const SEES_ALL: bool = true;

    /// What it has to see, and where it must be able to answer.
    fn needs(&self) -> &Arc<Needs>;

    /// Looks at an event that has a stage, before the service within does: what it has against it.
    fn judge(&mut self, request: &Request) -> Option<Verdict>;

    /// The message is over.
    fn end_message(&mut self);

    /// The session is over, and with it a message that there may be.
    fn end_session(&mut self) {
        self.end_message();
    }
}

/// A service within, and what the layer has against its messages.
#[derive(Debug)]
pub(crate) struct Judged<S, J> {
    pub(crate) inner: S,
    judge: J,
    gate: Gate,
}

impl<S, J> Judged<S, J> {
    pub(crate) fn new(inner: S, judge: J) -> Self {
        Self {
            inner,
            judge,
            gate: Gate::new(),
        }
    }

    pub(crate) const fn judge(&self) -> &J {
        &self.judge
    }
}

impl<S, J> Service<Request> for Judged<S, J>
where
    S: Service<Request, Response = Response>,
    J: Judge,
{
    type Response = Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match request.event() {
            // Some layers lose ends.
            Event::MessageEnd(_) | Event::Mail(_) => self.judge.end_message(),
            Event::SessionEnd | Event::Close => self.judge.end_session(),
            _ => {}
        }
        let (turn, request, is_alone) = match self.gate.enter(request) {
            Entry::Ask(turn, request) => (turn, request, false),
            Entry::Alone(turn, request) => (turn, request, true),
            Entry::Answer(response) => return ResponseFuture::answer(response),
        };
        if turn.is_negotiation() {
            let widens = After::Widens(Arc::clone(self.judge.needs()));
            return ResponseFuture::asks(turn.call(&mut self.inner, request), Some(widens));
        }
        if turn.stage().is_some() {
            if let Some(verdict) = self.judge.judge(&request) {
                return ResponseFuture::answer(turn.instead(verdict));
            }
        }
        if is_alone {
            let at_end = turn.stage() == Some(Stage::EndOfMessage);
            let accept = at_end.then(Response::accept);
            return ResponseFuture::answer(accept.unwrap_or_default());
        }
        let inner = turn.call(&mut self.inner, request);
        ResponseFuture::asks(inner, J::SEES_ALL.then_some(After::GoesOn(turn)))
    }
}

/// The service that a layer makes which has a [`Judge`].
macro_rules! judged_service {
    ($(#[$doc:meta])* $name:ident, $judge:ty) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<S> {
            judged: $crate::judged::Judged<S, $judge>,
        }

        impl<S> $name<S> {
            pub(super) fn new(inner: S, judge: $judge) -> Self {
                let judged = $crate::judged::Judged::new(inner, judge);
                Self { judged }
            }

            /// The service within.
            pub fn get_ref(&self) -> &S {
                &self.judged.inner
            }

            /// The service within, to be changed.
            pub fn get_mut(&mut self) -> &mut S {
                &mut self.judged.inner
            }

            /// The service within.
            pub fn into_inner(self) -> S {
                self.judged.inner
            }
        }

        /// A clone serves another connection.
        impl<S: Clone> Clone for $name<S> {
            fn clone(&self) -> Self {
                Self::new(self.get_ref().clone(), self.judged.judge().anew())
            }
        }

        impl<S> tower_service::Service<milter_tower::Request> for $name<S>
        where
            S: tower_service::Service<milter_tower::Request, Response = milter_tower::Response>,
        {
            type Response = milter_tower::Response;
            type Error = S::Error;
            type Future = ResponseFuture<S::Future>;

            fn poll_ready(
                &mut self,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Result<(), S::Error>> {
                self.judged.poll_ready(cx)
            }

            fn call(&mut self, request: milter_tower::Request) -> Self::Future {
                self.judged.call(request)
            }
        }
    };
}
pub(crate) use judged_service;
