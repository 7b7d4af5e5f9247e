//! Filters as services.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use milter_core::Stage;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tower_service::Service;

use super::Filter;
use crate::asked::{Asked, drop_verdict};
use crate::error::BoxError;
use crate::into_response::answer_of;
use crate::last_word::{LastWord, take_skip, takes_all};
use crate::request::{Event, Request};
use crate::response::Response;
use crate::response_future::ResponseFuture;
use crate::session::{Peer, Session};

/// A service that calls a [`Filter`], which the function makes for each SMTP session.
///
/// ```
/// use milter_tower::{BoxError, Connect, Filter, Needs, Request, Response, Stage, filter};
///
/// struct Greets;
///
/// impl Filter for Greets {
///     type Message = ();
///
///     fn needs(&self) -> Needs {
///         Needs::none().event(Stage::Connect)
///     }
///
///     async fn connect(&mut self, client: &Connect, _: &Request) -> Result<Response, BoxError> {
///         println!("hello, {}", client.host());
///         Ok(Response::proceed())
///     }
/// }
///
/// let service = filter(|| Greets);
/// # let _ = service;
/// ```
pub fn filter<F: Filter>(make: impl Fn() -> F + Send + Sync + 'static) -> FilterService<F> {
    filter_with_peer(move |_| make())
}

/// The same with a function that is told which MTA it is for, and at which listener.
///
/// To make a filter takes no time here; what has to wait belongs into a service for
/// [`serve_make`](crate::serve_make).
pub fn filter_with_peer<F: Filter>(
    make: impl Fn(&Peer) -> F + Send + Sync + 'static,
) -> FilterService<F> {
    FilterService {
        make: Arc::new(make),
        place: None,
    }
}

type Make<F> = dyn Fn(&Peer) -> F + Send + Sync;

/// The service of a [`Filter`], made by [`filter`].
///
/// A clone is for another connection, and has a filter of its own.
pub struct FilterService<F: Filter> {
    make: Arc<Make<F>>,
    /// None before the first call.
    place: Option<Arc<Mutex<State<F>>>>,
}

/// What there is on a connection. Whoever calls the filter holds the lock, which nobody waits for:
/// it is a way to lend the filter to a future that may be dropped at any time.
struct State<F: Filter> {
    /// None between two sessions.
    filter: Option<F>,
    message: F::Message,
    /// The message's state may no longer be its default.
    is_used: bool,
    last_word: LastWord,
    /// No more of the body is wanted.
    skips: bool,
    /// What the filter asked for; everything before it was asked.
    asked: Asked,
    /// A method panicked.
    is_broken: bool,
}

impl<F: Filter> State<F> {
    /// Takes out what belonged to a message.
    fn end_message(&mut self) -> F::Message {
        self.is_used = false;
        self.last_word = LastWord::None;
        self.skips = false;
        std::mem::take(&mut self.message)
    }

    /// Writes down what the filter says, and makes of it what the MTA can take.
    fn hear(&mut self, stage: Stage, session: &Session, mut response: Response) -> Response {
        if takes_all(stage, session) {
            (response, self.skips) = take_skip(response);
        }
        if self.asked.is_overruled(stage, session) {
            response = drop_verdict(stage, response);
        }
        if !self.asked.is_silent(stage) {
            self.last_word = self.last_word.then(stage, &response);
        }
        response
    }
}

/// The filter of a connection, lent to the future of a call.
struct Lent<F: Filter>(OwnedMutexGuard<State<F>>);

impl<F: Filter> Drop for Lent<F> {
    fn drop(&mut self) {
        // What a method left in its middle is not to be relied on.
        self.0.is_broken |= std::thread::panicking();
    }
}

/// Why a filter is not called.
#[derive(Debug, thiserror::Error)]
enum NotCalled {
    #[error("the filter panicked at an earlier event")]
    Broken,
    #[error("the filter is still at another event: calls are made one at a time")]
    Busy,
}

impl<F: Filter> FilterService<F> {
    fn lend(&mut self) -> Result<Lent<F>, NotCalled> {
        let place = self.place.get_or_insert_with(|| {
            Arc::new(Mutex::new(State {
                filter: None,
                message: F::Message::default(),
                is_used: false,
                last_word: LastWord::None,
                skips: false,
                asked: Asked::ALL,
                is_broken: false,
            }))
        });
        let lent = Arc::clone(place).try_lock_owned();
        let lent = lent.map_err(|_| NotCalled::Busy)?;
        if lent.is_broken {
            return Err(NotCalled::Broken);
        }
        Ok(Lent(lent))
    }

    /// Makes a filter where there is none.
    fn ensure(&self, lent: &mut Lent<F>, request: &Request) {
        if lent.0.filter.is_none() {
            lent.0.filter = Some((self.make)(request.session().peer()));
        }
    }

    fn judge(&mut self, stage: Stage, request: Request) -> ResponseFuture {
        let mut lent = match self.lend() {
            Ok(lent) => lent,
            Err(why) => return ResponseFuture::done(Err(why.into())),
        };
        if stage == Stage::Mail && lent.0.is_used {
            // A layer lost word of the last one's end.
            lent.0.end_message();
        }
        lent.0.is_used |= stage.is_of_message();
        lent.0.last_word = lent.0.last_word.asked(stage);
        let is_skipped = lent.0.skips && takes_all(stage, request.session());
        if !lent.0.asked.wants(stage) || is_skipped {
            let response = Response::proceed();
            lent.0.last_word = lent.0.last_word.then(stage, &response);
            return ResponseFuture::ready(response);
        }
        self.ensure(&mut lent, &request);
        macro_rules! call {
            ($pattern:pat, |$filter:ident, $message:ident, $request:ident| $call:expr) => {
                ResponseFuture::runs(async move {
                    let mut lent = lent;
                    let State {
                        filter: Some($filter),
                        message: $message,
                        ..
                    } = &mut *lent.0
                    else {
                        return Ok(Response::proceed());
                    };
                    let $request = &request;
                    let $pattern = request.event() else {
                        return Ok(Response::proceed());
                    };
                    let response = $call.await.or_else(answer_of)?;
                    Ok(lent.0.hear(stage, request.session(), response))
                })
            };
        }
        match stage {
            Stage::Connect => call!(Event::Connect(client), |filter, _message, request| {
                filter.connect(client, request)
            }),
            Stage::Helo => call!(Event::Helo(helo), |filter, _message, request| {
                filter.helo(helo, request)
            }),
            Stage::Mail => call!(Event::Mail(sender), |filter, message, request| {
                filter.mail(message, sender, request)
            }),
            Stage::Rcpt => call!(Event::Rcpt(recipient), |filter, message, request| {
                filter.rcpt(message, recipient, request)
            }),
            Stage::Data => call!(Event::Data, |filter, message, request| {
                filter.data(message, request)
            }),
            Stage::Header => call!(Event::Header(header), |filter, message, request| {
                filter.header(message, header, request)
            }),
            Stage::EndOfHeaders => call!(Event::EndOfHeaders, |filter, message, request| {
                filter.end_of_headers(message, request)
            }),
            Stage::Body => call!(Event::Body(piece), |filter, message, request| {
                filter.body(message, piece, request)
            }),
            Stage::EndOfMessage => {
                call!(Event::EndOfMessage(progress), |filter, message, request| {
                    filter.end_of_message(message, progress, request)
                })
            }
            Stage::Unknown => call!(Event::Unknown(command), |filter, _message, request| {
                filter.unknown(command, request)
            }),
        }
    }

    fn negotiate(&mut self, request: Request) -> ResponseFuture {
        let mut lent = match self.lend() {
            Ok(lent) => lent,
            Err(why) => return ResponseFuture::done(Err(why.into())),
        };
        self.ensure(&mut lent, &request);
        ResponseFuture::runs(async move {
            let (
                State {
                    filter: Some(filter),
                    asked,
                    ..
                },
                Event::Negotiate(offer),
            ) = (&mut *lent.0, request.event())
            else {
                return Ok(Response::proceed());
            };
            let answer = filter.negotiate(offer, &request).await?;
            let answer = answer.or_needs(filter.needs());
            if let Some(needs) = answer.needs_asked() {
                *asked = needs.into();
            }
            Ok(answer)
        })
    }

    /// Tells the filter that a message ended, and drops what belonged to it.
    fn end_message(&mut self, request: Request) -> ResponseFuture {
        let Ok(mut lent) = self.lend() else {
            // There is nobody to tell.
            return ResponseFuture::ready(Response::proceed());
        };
        let last_word = lent.0.last_word;
        // Taken out before the filter is told: it may never come to an end of that.
        let mut message = lent.0.end_message();
        if lent.0.filter.is_none() {
            return ResponseFuture::ready(Response::proceed());
        }
        ResponseFuture::runs(async move {
            let mut lent = lent;
            let (Some(filter), Event::MessageEnd(outcome)) =
                (lent.0.filter.as_mut(), request.event())
            else {
                return Ok(Response::proceed());
            };
            let mut told = Ok(());
            if !last_word.decided(outcome) {
                told = filter.abort(&mut message, &request).await;
            }
            let ended = filter.message_end(&mut message, outcome, &request).await;
            told.and(ended).map(|()| Response::proceed())
        })
    }

    /// Tells the filter that it is of no more use, and drops it.
    fn close(&mut self, request: Request) -> ResponseFuture {
        let Ok(mut lent) = self.lend() else {
            return ResponseFuture::ready(Response::proceed());
        };
        let Some(mut filter) = lent.0.filter.take() else {
            return ResponseFuture::ready(Response::proceed());
        };
        lent.0.end_message();
        drop(lent);
        ResponseFuture::runs(async move {
            let closed = filter.close(&request).await;
            closed.map(|()| Response::proceed())
        })
    }
}

impl<F: Filter> Service<Request> for FilterService<F> {
    type Response = Response;
    type Error = BoxError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> ResponseFuture {
        match request.event() {
            Event::Negotiate(_) => self.negotiate(request),
            Event::MessageEnd(_) => self.end_message(request),
            Event::SessionEnd | Event::Close => self.close(request),
            event => match event.stage() {
                Some(stage) => self.judge(stage, request),
                None => ResponseFuture::ready(Response::proceed()),
            },
        }
    }
}

/// A fresh instance, for another connection.
impl<F: Filter> Clone for FilterService<F> {
    fn clone(&self) -> Self {
        Self {
            make: Arc::clone(&self.make),
            place: None,
        }
    }
}

impl<F: Filter> fmt::Debug for FilterService<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilterService").finish_non_exhaustive()
    }
}
