//! Calls that a backend has a part in.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use milter_core::client::{Answer, Failure, Heard};
use milter_core::{Stage, Verdict};
use tokio::time::Instant;

use super::connector::Connector;
use super::error::{RemoteError, RemoteErrorKind};
use super::open::replace;
use super::state::{NotTold, State, hides_space};
use crate::client::Connection;
use crate::leading_space::spaced;
use crate::request::{Event, Request};
use crate::response::Response;

/// The future of a [`Remote`](super::Remote).
///
/// One that is dropped before it is done leaves the backend in the middle of something: that
/// connection is closed, the message fails, and the next one gets another connection.
#[must_use = "futures do nothing unless polled"]
pub struct RemoteFuture<C: Connector>(Kind<C>);

enum Kind<C: Connector> {
    /// Taken when it is given.
    Done(Option<Result<Response, RemoteError>>),
    Asks(Asks<C>),
    Writes(Writes<C>),
    Opens(Opening),
}

/// What opens connections. That is rare.
pub(super) type Opening = Pin<Box<dyn Future<Output = Result<Response, RemoteError>> + Send>>;

impl<C: Connector> Kind<C> {
    /// Goes on with another backend.
    fn open_another(&mut self) {
        if let Self::Asks(asks) = std::mem::replace(self, Self::Done(None)) {
            let Asks {
                lent,
                request,
                stage,
                ..
            } = asks;
            *self = Self::Opens(Box::pin(replace(lent, request, stage)));
        }
    }
}

impl<C: Connector> RemoteFuture<C> {
    pub(super) const fn done(answer: Result<Response, RemoteError>) -> Self {
        Self(Kind::Done(Some(answer)))
    }

    pub(super) const fn asks(asks: Asks<C>) -> Self {
        Self(Kind::Asks(asks))
    }

    pub(super) const fn writes(writes: Writes<C>) -> Self {
        Self(Kind::Writes(writes))
    }

    pub(super) const fn opens(opening: Opening) -> Self {
        Self(Kind::Opens(opening))
    }
}

impl<C: Connector> Future for RemoteFuture<C> {
    type Output = Result<Response, RemoteError>;

    /// # Panics
    ///
    /// If it is polled after it has ended, as futures do.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let answer = match &mut self.0 {
                Kind::Done(answer) => {
                    return Poll::Ready(answer.take().expect("not polled after it was done"));
                }
                Kind::Writes(writes) => ready!(writes.poll(cx)),
                Kind::Opens(opening) => ready!(opening.as_mut().poll(cx)),
                Kind::Asks(asks) => {
                    if let Ok(answer) = ready!(asks.poll(cx)) {
                        answer
                    } else {
                        self.0.open_another();
                        continue;
                    }
                }
            };
            // What was lent is given back before the answer is.
            self.0 = Kind::Done(None);
            return Poll::Ready(answer);
        }
    }
}

impl<C: Connector> fmt::Debug for RemoteFuture<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteFuture").finish_non_exhaustive()
    }
}

/// The state of a connection, lent to the future of a call, which may be dropped at any time: it is
/// given back then.
pub(super) struct Lent<C: Connector> {
    /// None when it was given back.
    state: Option<Box<State<C>>>,
    back: Back<C>,
    /// The call came to its end.
    is_done: bool,
}

/// Where it is given back. Nobody waits for the lock.
pub(super) struct Back<C: Connector>(Arc<Mutex<Option<Box<State<C>>>>>);
const LENT: &str = "it is given back when this is dropped";

impl<C: Connector> Lent<C> {
    pub(super) const fn new(state: Box<State<C>>, back: Back<C>) -> Self {
        Self {
            state: Some(state),
            back,
            is_done: false,
        }
    }

    /// The call comes to its end.
    pub(super) const fn done(&mut self) {
        self.is_done = true;
    }
}

impl<C: Connector> Deref for Lent<C> {
    type Target = State<C>;

    fn deref(&self) -> &State<C> {
        self.state.as_ref().expect(LENT)
    }
}

impl<C: Connector> DerefMut for Lent<C> {
    fn deref_mut(&mut self) -> &mut State<C> {
        self.state.as_mut().expect(LENT)
    }
}

impl<C: Connector> Drop for Lent<C> {
    fn drop(&mut self) {
        if let (false, Some(state)) = (self.is_done, &mut self.state) {
            state.interrupted();
        }
        *self.back.slot() = self.state.take();
    }
}

impl<C: Connector> Back<C> {
    pub(super) fn take(&self) -> Option<Box<State<C>>> {
        self.slot().take()
    }

    fn slot(&self) -> MutexGuard<'_, Option<Box<State<C>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Connector> Clone for Back<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: Connector> Default for Back<C> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// The backend was lost before it said anything of the message: it was lost before that.
pub(super) struct Lost;

/// The backend was told of an event, and answers.
pub(super) struct Asks<C: Connector> {
    lent: Lent<C>,
    request: Request,
    stage: Stage,
    /// What is still to be told of a piece of a body.
    rest: Bytes,
    /// Another backend can be asked in its place.
    may_replace: bool,
    /// It was looked for an answer before.
    has_waited: bool,
}

impl<C: Connector> Asks<C> {
    pub(super) fn new(
        lent: Lent<C>,
        mut request: Request,
        stage: Stage,
        rest: Bytes,
        may_replace: bool,
    ) -> Self {
        if !may_replace && matches!(stage, Stage::Header | Stage::Body | Stage::Unknown) {
            // It was told. What is kept of the server's buffer would have that read into another.
            request = request.with_event(Event::EndOfHeaders);
        }
        Self {
            lent,
            request,
            stage,
            rest,
            may_replace,
            has_waited: false,
        }
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Result<Response, RemoteError>, Lost>> {
        let wrong = loop {
            let heard = match self.lent.backend.as_mut().map(Connection::link) {
                Some(link) => match link.poll_hear(cx) {
                    Poll::Ready(heard) => heard,
                    Poll::Pending if self.is_overdue() => break RemoteErrorKind::Deadline,
                    Poll::Pending => return Poll::Pending,
                },
                None => Some(Err(Failure::ConnectionLost)),
            };
            match heard {
                Some(Ok(Heard::Answer(answer))) => {
                    if answer.verdict == Verdict::Continue && !self.rest.is_empty() {
                        match self.lent.tell_rest(&mut self.rest) {
                            Ok(()) => continue,
                            Err(error) => break error.into(),
                        }
                    }
                    if let Some(failure) = self.find_surplus() {
                        break RemoteErrorKind::Failed(failure);
                    }
                    self.lent.done();
                    return Poll::Ready(Ok(Ok(self.pass_on(answer))));
                }
                Some(Ok(Heard::Progress)) => {
                    if let Event::EndOfMessage(progress) = self.request.event() {
                        progress.send();
                    }
                }
                Some(Ok(_)) => {}
                None => {
                    self.lent.done();
                    let answer = self.lent.unasked(&self.request, self.stage);
                    return Poll::Ready(Ok(Ok(answer)));
                }
                Some(Err(Failure::ConnectionLost)) if self.may_replace => {
                    return Poll::Ready(Err(Lost));
                }
                Some(Err(failure)) => break RemoteErrorKind::Failed(failure),
            }
        };
        self.lent.done();
        Poll::Ready(Ok(self.lent.fail(wrong, &self.request, Some(self.stage))))
    }

    /// The backend's answer, as the MTA is told it.
    fn pass_on(&mut self, answer: Answer) -> Response {
        let agreed = self.request.session().agreement();
        let verdict = match answer.verdict {
            // The session with the backend keeps in mind that it wants no more of it (Q9). The MTA
            // is told only where that was agreed on.
            Verdict::Skip
                if answer.stage != Stage::Body || agreed.is_some_and(|agreed| !agreed.skip()) =>
            {
                Verdict::Continue
            }
            verdict => verdict,
        };
        let mut response = Response::sent(verdict, answer.edits);
        let link = self.lent.backend.as_mut().map(Connection::link);
        if !response.edits().is_empty() && link.is_some_and(|link| hides_space(&self.request, link))
        {
            response = response.map_edits(spaced);
        }
        response
    }

    /// A reply too many behind that to the end of a message: one of those before it came where none
    /// was due, and this verdict may be meant for something else.
    fn find_surplus(&mut self) -> Option<Failure> {
        if self.stage != Stage::EndOfMessage {
            // It is found before the next question.
            return None;
        }
        let surplus = self.lent.backend.as_mut()?.link().surplus();
        surplus.filter(|failure| *failure != Failure::ConnectionLost)
    }

    /// Whether the request's time is up. Whoever made the request wakes the task then; that this
    /// ends the call, and is no one's who drops it, tells which backend it was.
    fn is_overdue(&mut self) -> bool {
        let had_time = !std::mem::replace(&mut self.has_waited, true);
        !had_time && Instant::now() >= Instant::from_std(self.request.deadline().instant())
    }
}

/// What was told is written, though nobody waits for an answer.
pub(super) struct Writes<C: Connector> {
    lent: Lent<C>,
    /// None at an end.
    event: Option<(Request, Stage)>,
    /// The connection ends with it.
    closes: bool,
}

impl<C: Connector> Writes<C> {
    /// Of an event.
    pub(super) const fn event(lent: Lent<C>, request: Request, stage: Stage) -> Self {
        Self {
            lent,
            event: Some((request, stage)),
            closes: false,
        }
    }

    /// Of an end.
    pub(super) const fn end(lent: Lent<C>, closes: bool) -> Self {
        Self {
            lent,
            event: None,
            closes,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response, RemoteError>> {
        let written = match self.lent.backend.as_mut() {
            Some(backend) => ready!(backend.link().poll_flush(cx)),
            None => Err(Failure::ConnectionLost),
        };
        self.lent.done();
        if self.closes || written.is_err() && self.event.is_none() {
            // At an end there is nobody to be told.
            self.lent.backend = None;
        }
        Poll::Ready(match (written, &self.event) {
            (Err(failure), Some((request, stage))) => {
                self.lent
                    .fail(NotTold::from(failure).into(), request, Some(*stage))
            }
            (Ok(()), Some((request, stage))) => Ok(self.lent.unasked(request, *stage)),
            (_, None) => Ok(Response::proceed()),
        })
    }
}
