use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use milter_tower::gate::Turn;
use milter_tower::{Agreement, BoxError, Needs, Request, Response, Stage, Verdict};
use pin_project::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower_service::Service;
use tracing::{debug, info, warn};

use super::layer::Config;
use super::lent::Shelf;
use super::over::Action;
use super::service::Marks;
use super::{Counts, Decision, Key, OverLimit, Store, Take};

/// A wait is no shorter, whatever a store says.
const LEAST_WAIT: Duration = Duration::from_millis(1);

/// The future of [`RateLimit`](super::RateLimit).
#[pin_project]
pub struct ResponseFuture<S: Service<Request>, T: Store> {
    #[pin]
    kind: Kind<S, T>,
}

#[pin_project(project = KindProj)]
enum Kind<S: Service<Request>, T: Store> {
    /// The service within is not asked.
    Answer(Option<Response>),
    /// The negotiation, which is widened, or an end.
    Ends {
        #[pin]
        inner: S::Future,
        needs: Option<Arc<Needs>>,
    },
    /// The store is asked before the service within.
    Takes {
        #[pin]
        take: T::Future,
        /// Set while the bucket fills.
        timer: Option<Pin<Box<Sleep>>>,
        /// Boxed, so that events that are not counted have a small future.
        call: Option<Box<Call<S, T>>>,
    },
    Asks {
        #[pin]
        inner: S::Future,
        turn: Turn,
        after: After,
    },
}

impl<S: Service<Request>, T: Store> ResponseFuture<S, T> {
    pub(super) const fn answer(response: Response) -> Self {
        let kind = Kind::Answer(Some(response));
        Self { kind }
    }

    pub(super) const fn ends(inner: S::Future, needs: Option<Arc<Needs>>) -> Self {
        let kind = Kind::Ends { inner, needs };
        Self { kind }
    }

    pub(super) fn takes(call: Call<S, T>) -> Self {
        let kind = Kind::Takes {
            take: call.take(),
            timer: None,
            call: Some(Box::new(call)),
        };
        Self { kind }
    }

    pub(super) const fn asks(inner: S::Future, turn: Turn, after: After) -> Self {
        let kind = Kind::Asks { inner, turn, after };
        Self { kind }
    }
}

impl<S, T> Future for ResponseFuture<S, T>
where
    S: Service<Request, Response = Response>,
    T: Store,
{
    type Output = Result<Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let next = match self.as_mut().project().kind.project() {
                KindProj::Answer(response) => {
                    return Poll::Ready(Ok(response.take().unwrap_or_default()));
                }
                KindProj::Ends { inner, needs } => {
                    let response = ready!(inner.poll(cx))?;
                    return Poll::Ready(Ok(match needs {
                        Some(needs) => response.widen(needs),
                        None => response,
                    }));
                }
                KindProj::Asks { inner, turn, after } => {
                    let response = ready!(inner.poll(cx))?;
                    return Poll::Ready(Ok(after.hear(turn, response)));
                }
                KindProj::Takes {
                    mut take,
                    timer,
                    call,
                } => {
                    if let (Some(sleep), Some(call)) = (timer.as_mut(), &call) {
                        ready!(sleep.as_mut().poll(cx));
                        *timer = None;
                        take.set(call.take());
                    }
                    let decided = ready!(take.poll(cx));
                    let Some(now) = call.as_mut().map(|call| call.decide(decided)) else {
                        return Poll::Ready(Ok(Response::proceed()));
                    };
                    match (now, call.take()) {
                        (Next::Wait(time), waiting) => {
                            *call = waiting;
                            *timer = Some(Box::pin(sleep(time)));
                            continue;
                        }
                        (Next::Pass, Some(call)) => call.pass(),
                        (Next::Refuse, Some(call)) => Kind::Answer(Some(call.refuse())),
                        (_, None) => return Poll::Ready(Ok(Response::proceed())),
                    }
                }
            };
            self.as_mut().project().kind.set(next);
        }
    }
}

impl<S: Service<Request>, T: Store> fmt::Debug for ResponseFuture<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// An event that is counted, and what comes of it.
pub(super) struct Call<S, T> {
    /// None if the layer is alone with the event.
    pub(super) inner: Option<Shelf<S>>,
    pub(super) request: Request,
    pub(super) turn: Turn,
    pub(super) config: Arc<Config>,
    pub(super) store: Arc<T>,
    pub(super) marks: Arc<Marks>,
    pub(super) key: Key,
    pub(super) cost: u64,
    /// How long it may wait; none before it has to.
    pub(super) until: Option<Instant>,
}

enum Next {
    Pass,
    Refuse,
    Wait(Duration),
}

impl<S, T: Store> Call<S, T> {
    fn take(&self) -> T::Future {
        self.store.take(&Take {
            key: &self.key,
            cost: self.cost,
            quota: self.config.quota,
        })
    }

    fn decide(&mut self, decided: Result<Decision, BoxError>) -> Next {
        match decided {
            Ok(Decision::Allowed) => Next::Pass,
            Ok(Decision::Denied { retry_after }) => self.deny(retry_after),
            Err(error) => {
                let answer = if self.config.is_closed {
                    "refuse"
                } else {
                    "pass"
                };
                let error = &*error as &dyn std::error::Error;
                warn!(key = %self.key, answer, error, "it is not known whether this is over the rate limit");
                if self.config.is_closed {
                    Next::Refuse
                } else {
                    Next::Pass
                }
            }
        }
    }

    fn deny(&mut self, retry_after: Duration) -> Next {
        let action = &self.config.over.action;
        if let Action::Delay(most) = action {
            let time = retry_after.max(LEAST_WAIT);
            let now = Instant::now();
            // The service within and the answer need their time too.
            let most = (*most).min(self.request.deadline().remaining() / 2);
            let until = *self.until.get_or_insert_with(|| now + most);
            if time <= until.saturating_duration_since(now) {
                debug!(key = %self.key, ?time, "waits for the rate limit");
                return Next::Wait(time);
            }
        }
        info!(
            key = %self.key,
            limit = %self.config.quota,
            answer = action.name(),
            "over the rate limit"
        );
        if let Some(hook) = &self.config.hook {
            hook(&OverLimit {
                key: &self.key,
                cost: self.cost,
                retry_after,
                stage: self.turn.stage(),
                session: self.request.session(),
            });
        }
        if action.answers() {
            return Next::Refuse;
        }
        self.marks.set(self.config.counts());
        Next::Pass
    }

    fn refuse(self) -> Response {
        let reply = self.config.over.reply.clone();
        match self.config.counts() {
            // Also where it is counted at MAIL: who tries again is in the same session.
            Counts::Connections => self.turn.fail_session(reply),
            _ => self.turn.instead(reply),
        }
    }

    /// Asks the service within.
    fn pass(self) -> Kind<S, T>
    where
        S: Service<Request>,
    {
        let stage = self.turn.stage().unwrap_or(Stage::Connect);
        let after = After::new(stage, &self.request, &self.config, &self.marks);
        let Some(inner) = self.inner else {
            return Kind::Answer(Some(after.alone(stage)));
        };
        let mut inner = inner.lock();
        let called = inner
            .as_mut()
            .map(|inner| self.turn.call(inner, self.request));
        match called {
            Some(inner) => Kind::Asks {
                inner,
                turn: self.turn,
                after,
            },
            // Another call came before this one was over, which nobody does.
            None => Kind::Answer(Some(self.turn.instead(self.config.over.reply.clone()))),
        }
    }
}

/// What is made of the answer of the service within.
pub(super) struct After {
    goes_on: bool,
    /// The message gets the header.
    header: Option<Arc<Config>>,
    /// Values keep their leading space: this one needs one of its own.
    spaced: bool,
}

impl After {
    pub(super) fn new(
        stage: Stage,
        request: &Request,
        config: &Arc<Config>,
        marks: &Marks,
    ) -> Self {
        let adds = marks.adds_header(stage, config);
        let agreement = request.session().agreement();
        Self {
            goes_on: config.goes_on(stage),
            header: adds.then(|| Arc::clone(config)),
            spaced: adds && agreement.is_some_and(Agreement::leading_space),
        }
    }

    fn hear(&self, turn: &Turn, response: Response) -> Response {
        let response = if self.goes_on {
            turn.go_on(response)
        } else {
            response
        };
        if matches!(response.verdict(), Verdict::Continue | Verdict::Accept) {
            self.add_header(response)
        } else {
            response
        }
    }

    /// The answer where the service within is not asked.
    pub(super) fn alone(&self, stage: Stage) -> Response {
        if stage == Stage::EndOfMessage {
            self.add_header(Response::accept())
        } else {
            Response::proceed()
        }
    }

    fn add_header(&self, response: Response) -> Response {
        let action = self.header.as_ref().map(|config| &config.over.action);
        let Some(Action::Header(header)) = action else {
            return response;
        };
        response.edit(if self.spaced {
            header.spaced.clone()
        } else {
            header.plain.clone()
        })
    }
}
