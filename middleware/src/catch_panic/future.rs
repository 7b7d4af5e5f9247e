use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use milter_tower::gate::{Turn, introduce};
use milter_tower::{BoxError, Event, Failure, Offer, Request, Response, Verdict};
use pin_project::{pin_project, pinned_drop};
use tower_service::Service;
use tracing::warn;

use super::layer::Config;
use super::service::{Caught, Fate, guard};

/// The future of [`CatchPanic`](super::CatchPanic).
#[pin_project(PinnedDrop)]
pub struct ResponseFuture<S: Service<Request>> {
    #[pin]
    kind: Kind<S>,
}

#[pin_project(project = KindProj)]
enum Kind<S: Service<Request>> {
    /// The service within is not asked.
    Answer(Option<Response>),
    Asks {
        /// None after it answered or panicked.
        #[pin]
        inner: Option<S::Future>,
        then: Option<Then<S>>,
    },
    /// A fresh service is shown what it has to know, and then asked.
    Introduces(Introduction<S>, Option<(Request, Then<S>)>),
}

/// What the answer needs besides the call.
struct Then<S> {
    turn: Turn,
    config: Arc<Config>,
    fate: Arc<Fate<S>>,
}

type Introduced<S> = (S, Result<Option<Verdict>, Failure>);
type Introduction<S> = Pin<Box<dyn Future<Output = Introduced<S>> + Send>>;

impl<S: Service<Request>> ResponseFuture<S> {
    pub(super) const fn answer(response: Response) -> Self {
        let kind = Kind::Answer(Some(response));
        Self { kind }
    }

    pub(super) const fn asks(
        future: S::Future,
        turn: Turn,
        config: Arc<Config>,
        fate: Arc<Fate<S>>,
    ) -> Self {
        let kind = Kind::Asks {
            inner: Some(future),
            then: Some(Then { turn, config, fate }),
        };
        Self { kind }
    }
}

impl<S> ResponseFuture<S>
where
    S: Service<Request, Response = Response> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    pub(super) fn introduces(
        mut fresh: S,
        offer: Offer,
        turn: Turn,
        request: Request,
        config: Arc<Config>,
        fate: Arc<Fate<S>>,
    ) -> Self {
        let before = request.clone();
        let introduction = async move {
            let mut introduced = introduce(&mut fresh, offer, &before).await;
            if matches!(introduced, Ok(None)) {
                let ready = poll_fn(|cx| fresh.poll_ready(cx)).await;
                introduced = ready
                    .map_err(|error| Failure::NotReady(error.into()))
                    .map(|()| None);
            }
            if !matches!(introduced, Ok(_) | Err(Failure::NotReady(_))) {
                let close = before.with_event(Event::Close);
                if poll_fn(|cx| fresh.poll_ready(cx)).await.is_ok() {
                    // Its answer means nothing.
                    let _ = fresh.call(close).await;
                }
            }
            (fresh, introduced)
        };
        let then = Then { turn, config, fate };
        Self {
            kind: Kind::Introduces(Box::pin(introduction), Some((request, then))),
        }
    }
}

impl<S> Then<S> {
    /// What panicked is of no more use.
    fn broke(self) -> Response {
        self.fate.change(None);
        self.turn.fail(self.config.verdict.clone())
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: Service<Request, Response = Response> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    type Output = Result<Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let next = match self.as_mut().project().kind.project() {
                KindProj::Answer(response) => {
                    return Poll::Ready(Ok(response.take().unwrap_or_default()));
                }
                KindProj::Asks { mut inner, then } => {
                    let Some(Then { turn, config, .. }) = then else {
                        return Poll::Ready(Ok(Response::proceed()));
                    };
                    let stage = turn.stage();
                    let poll = || {
                        let polled = inner.as_mut().as_pin_mut().map(|inner| inner.poll(cx));
                        if polled.as_ref().is_some_and(Poll::is_ready) {
                            inner.set(None);
                        }
                        polled
                    };
                    if let Ok(Some(polled)) = guard(config, stage, poll) {
                        if polled.is_ready() {
                            drop(then.take());
                        }
                        return polled;
                    }
                    let _ = guard(config, stage, || inner.set(None));
                    let response = then.take().map(Then::broke);
                    return Poll::Ready(Ok(response.unwrap_or_default()));
                }
                KindProj::Introduces(introduction, then) => {
                    let Some((_, Then { turn, config, .. })) = then else {
                        return Poll::Ready(Ok(Response::proceed()));
                    };
                    let poll = || introduction.as_mut().poll(cx);
                    let introduced = match guard(config, turn.stage(), poll) {
                        Ok(polled) => Some(ready!(polled)),
                        Err(Caught) => None,
                    };
                    let Some((request, then)) = then.take() else {
                        return Poll::Ready(Ok(Response::proceed()));
                    };
                    match introduced {
                        Some(introduced) => ask(introduced, request, then),
                        None => Kind::Answer(Some(then.broke())),
                    }
                }
            };
            self.as_mut().project().kind.set(next);
        }
    }
}

/// Asks the fresh service about the event at hand.
fn ask<S>((mut fresh, introduced): Introduced<S>, request: Request, then: Then<S>) -> Kind<S>
where
    S: Service<Request, Response = Response>,
{
    let verdict = then.config.verdict.clone();
    let response = match introduced {
        Ok(None) => {
            let called = guard(&then.config, then.turn.stage(), || {
                then.turn.call(&mut fresh, request)
            });
            match called {
                Ok(future) => {
                    then.fate.change(Some(fresh));
                    return Kind::Asks {
                        inner: Some(future),
                        then: Some(then),
                    };
                }
                Err(Caught) => then.broke(),
            }
        }
        // What it thinks of the client holds for the messages that are left.
        Ok(Some(verdict)) => {
            then.fate.change(Some(fresh));
            then.turn.fail_session(verdict)
        }
        Err(failure) => {
            warn!(%failure, answer = verdict.name(), "no fresh service takes the place of one that panicked");
            if matches!(failure, Failure::Unfit | Failure::Refuses) {
                then.turn.fail_session(verdict)
            } else {
                then.turn.fail(verdict)
            }
        }
    };
    Kind::Answer(Some(response))
}

/// A call that is given up may panic when it is dropped.
#[pinned_drop]
impl<S: Service<Request>> PinnedDrop for ResponseFuture<S> {
    fn drop(mut self: Pin<&mut Self>) {
        let (stage, config, fate) = match self.as_mut().project().kind.project() {
            KindProj::Asks {
                then: Some(Then { turn, config, fate }),
                ..
            }
            | KindProj::Introduces(_, Some((_, Then { turn, config, fate }))) => {
                (turn.stage(), Arc::clone(config), Arc::clone(fate))
            }
            _ => return,
        };
        let drop = || self.project().kind.set(Kind::Answer(None));
        if let Err(Caught) = guard(&config, stage, drop) {
            fate.change(None);
        }
    }
}

impl<S: Service<Request>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
