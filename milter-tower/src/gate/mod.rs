//! For layers that answer in the place of the service within.
//!
//! A layer that refuses, lets pass or gives up on behalf of what is inside has more to mind than its
//! own answer: whether the MTA waits for one at this event, whether it takes one like that here,
//! what is asked of the service within from then on, and which ends it has to hear of. A [`Gate`]
//! minds that, in the way in which the server itself treats a filter that failed.
//!
//! * An answer where no reply is due, or that the MTA does not take at that event (discarding at
//!   connect), stands, and is given at the next event that can carry it, at the latest at the end of
//!   the message. One from before the message stands for each message of the session.
//! * A refused recipient is that recipient's only, and so is a refused DATA or unknown command.
//! * A service within whose message is over sees no more of it, and its
//!   [`MessageEnd`](crate::Event::MessageEnd) once, if it saw anything of it.
//!
//! A layer says in `poll_ready` what the service within says, for it does not know the event yet. If it
//! then answers itself, the service within stays ready until it is called next: what that holds (a
//! permit of tower's `ConcurrencyLimit`) it keeps so long. Such services stand around the layer, or
//! in a [`Chain`](crate::Chain) within, which asks a member only when there is something for it.
//!
//! ```
//! # #[cfg(feature = "testing")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use std::task::{Context, Poll};
//!
//! use futures::future::{Either, Ready, ready};
//! use milter_tower::gate::{Entry, Gate};
//! use milter_tower::testing::{Mail, MockMta};
//! use milter_tower::{Event, Request, Response, Router, SmtpReply, assert_refused};
//! use tower::Service;
//!
//! /// Lets nobody send to more than two recipients.
//! #[derive(Clone)]
//! struct Two<S> {
//!     inner: S,
//!     gate: Gate,
//! }
//!
//! impl<S> Service<Request> for Two<S>
//! where
//!     S: Service<Request, Response = Response>,
//! {
//!     type Response = Response;
//!     type Error = S::Error;
//!     type Future = Either<S::Future, Ready<Result<Response, S::Error>>>;
//!
//!     fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
//!         self.inner.poll_ready(cx)
//!     }
//!
//!     fn call(&mut self, request: Request) -> Self::Future {
//!         match self.gate.enter(request) {
//!             Entry::Ask(turn, request) => {
//!                 let many = request.session().recipients().len() >= 2;
//!                 if many && matches!(request.event(), Event::Rcpt(_)) {
//!                     let full = SmtpReply::tempfail("Two recipients at a time, please");
//!                     return Either::Right(ready(Ok(turn.instead(full))));
//!                 }
//!                 Either::Left(turn.call(&mut self.inner, request))
//!             }
//!             Entry::Alone(_, _) => Either::Right(ready(Ok(Response::proceed()))),
//!             Entry::Answer(response) => Either::Right(ready(Ok(response))),
//!         }
//!     }
//! }
//!
//! // It answers at RCPT, and so must the MTA ask: a filter that needs all is asked all.
//! let filter = tower::service_fn(async |_| Ok::<_, milter_tower::BoxError>(Response::proceed()));
//! let filter = Two { inner: filter, gate: Gate::new() };
//! let mail = Mail::new().to("a@example.net").to("b@example.net").to("c@example.net");
//! let done = MockMta::postfix(filter).deliver(mail).await;
//! assert_eq!(done.message.recipients().len(), 2);
//! # }
//! # #[cfg(not(feature = "testing"))]
//! # fn main() {}
//! ```

mod introduce;
mod turn;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use milter_core::{Agreement, ReplyMode, Stage, Verdict};

pub use self::introduce::introduce;
pub use self::turn::Turn;
use crate::member::{Scope, Standing};
use crate::request::{Event, Outcome, Request};
use crate::response::Response;

/// What a layer keeps of one connection, to answer rightly in the place of the service within; see
/// the [module](self).
///
/// A clone is that of another connection: nothing has happened there.
#[derive(Debug, Default)]
pub struct Gate {
    shared: Arc<Shared>,
}

/// Shared with the turn of the event at hand, which lives in the layer's future.
#[derive(Debug, Default)]
struct Shared {
    flags: AtomicU8,
    /// Looked at only if the flags say so.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// What is answered from now on.
    standing: Option<Standing>,
    /// The verdict by which the message ended for the service within.
    own: Option<Verdict>,
}

/// The service within has seen something of the message.
const SEEN: u8 = 1;
/// It gets no more of the message.
const OVER: u8 = 2;
/// It gets no more of the session.
const OUT: u8 = 4;
/// It gets no more at all, but for ends.
const GONE: u8 = 32;
/// It gets no more of the body.
const SKIPS: u8 = 64;
/// A verdict stands.
const STANDS: u8 = 8;
/// It has a verdict of its own on the message.
const OWN: u8 = 16;

/// What becomes of a request at a [`Gate`].
#[derive(Debug)]
pub enum Entry {
    /// It is for the service within, unless the layer answers [instead](Turn::instead). So are the
    /// negotiation and ends.
    Ask(Turn, Request),
    /// The service within was left out ([`leave_out`](Turn::leave_out), [`go_on`](Turn::go_on)) before: the layer is alone with it. Never
    /// an end.
    Alone(Turn, Request),
    /// Neither is asked: a verdict stands, or it is the end of a message of which the service within
    /// saw nothing. This is the answer.
    Answer(Response),
}

impl Gate {
    /// Before the first event of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at a request that came to the layer. To be called with every one, before anything
    /// else is done with it.
    pub fn enter(&mut self, request: Request) -> Entry {
        let stage = match request.event() {
            // Some layers lose ends, and what was of a message must not be of the next.
            Event::Mail(_) => {
                self.shared.end_message();
                Stage::Mail
            }
            Event::Negotiate(_) => {
                self.shared = Arc::default();
                return Entry::Ask(self.turn(At::Negotiation), request);
            }
            Event::MessageEnd(outcome) => {
                let outcome = outcome.clone();
                return self.end_message(request, outcome);
            }
            Event::SessionEnd | Event::Close => {
                self.shared.forget(Scope::Session, OUT);
                return Entry::Ask(self.turn(At::End), request);
            }
            event => match event.stage() {
                Some(stage) => stage,
                None => return Entry::Ask(self.turn(At::End), request),
            },
        };
        let flags = self.shared.flags();
        // Where the MTA waits for going on only, the server takes nothing else from a service.
        let is_due = |agreed: &Agreement| agreed.reply_mode(stage) == ReplyMode::Verdict;
        let due = request.session().agreement().is_none_or(is_due);
        if flags & STANDS != 0 {
            let kept = self.shared.kept();
            let standing = kept.standing.as_ref();
            let verdict = standing.map(|standing| standing.at(stage, due));
            return Entry::Answer(verdict.unwrap_or_default().into());
        }
        let turn = self.turn(At::Stage { stage, due });
        let is_out = match stage {
            Stage::Body => flags & (OUT | GONE | OVER | SKIPS),
            stage if stage.is_of_message() => flags & (OUT | GONE | OVER),
            _ => flags & (OUT | GONE),
        };
        if is_out != 0 {
            Entry::Alone(turn, request)
        } else {
            Entry::Ask(turn, request)
        }
    }

    fn end_message(&mut self, request: Request, outcome: Outcome) -> Entry {
        let (is_seen, own) = self.shared.end_message();
        if !is_seen {
            return Entry::Answer(Response::proceed());
        }
        let outcome = own.map_or(outcome, Outcome::Verdict);
        let request = request.with_event(Event::MessageEnd(outcome));
        Entry::Ask(self.turn(At::End), request)
    }

    fn turn(&self, at: At) -> Turn {
        Turn::new(Arc::clone(&self.shared), at)
    }
}

impl Clone for Gate {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl Shared {
    // One call of a connection at a time: the order is that of the calls.
    fn flags(&self) -> u8 {
        self.flags.load(Ordering::Relaxed)
    }

    fn set(&self, flags: u8) {
        self.flags.fetch_or(flags, Ordering::Relaxed);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the message: whether the service within saw anything of it, and its own verdict.
    fn end_message(&self) -> (bool, Option<Verdict>) {
        let flags = self.flags();
        if flags & (SEEN | OVER | SKIPS | STANDS | OWN) == 0 {
            return (false, None);
        }
        let own = if flags & OWN == 0 {
            None
        } else {
            self.kept().own.take()
        };
        self.forget(Scope::Message, SEEN | OVER | OWN | SKIPS);
        (flags & SEEN != 0, own)
    }

    /// Forgets flags, and a standing verdict that reaches no further than this.
    fn forget(&self, scope: Scope, flags: u8) {
        let had = self.flags.fetch_and(!flags, Ordering::Relaxed);
        if had & STANDS == 0 {
            return;
        }
        let mut kept = self.kept();
        if kept
            .standing
            .as_ref()
            .is_some_and(|standing| standing.scope <= scope)
        {
            kept.standing = None;
            self.flags.fetch_and(!STANDS, Ordering::Relaxed);
        }
    }
}

/// Where a turn is.
#[derive(Clone, Copy, Debug)]
enum At {
    Negotiation,
    End,
    Stage {
        stage: Stage,
        /// The MTA takes an answer.
        due: bool,
    },
}
