//! A filter made of handlers, one for each event that it cares about.
//!
//! ```no_run
//! use std::net::IpAddr;
//!
//! use milter_tower::{Address, BoxError, Recipient, Response, Router, Session, SmtpReply, serve};
//!
//! # fn listed(_: IpAddr) -> bool { true }
//! # async fn shutdown_signal() {}
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let filter = Router::new()
//!     .on_rcpt(|rcpt: Recipient, session: Session| async move {
//!         match session.client_ip() {
//!             Some(ip) if listed(ip) => Response::from(SmtpReply::reject("You are on our block list")),
//!             _ => Response::proceed(),
//!         }
//!     });
//! let listener = "inet:10025@127.0.0.1".parse::<Address>()?.bind().await?;
//! serve(listener, filter).with_graceful_shutdown(shutdown_signal()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A handler is an async function or a closure. It takes what it wants to know as arguments, by
//! their types ([`FromRequest`] lists them), and returns what it says to the event
//! ([`IntoResponse`] lists that). What does not fit the event does not compile.
//!
//! Messages that are given up end too: [`Router::on_abort`] hears of those on which the router did
//! not have the last word, [`Router::on_message_end`] of all.
//!
//! # What is asked of the MTA
//!
//! Nothing but what the handlers need:
//!
//! * An event without a handler is not sent.
//! * A handler that returns `()` never refuses, so the MTA need not wait for it: its event gets no
//!   reply. It fails only by a panic, by the deadline, or by an argument that cannot be had; the
//!   message gets the failure verdict for that at the next event with a reply. A handler that
//!   returns a `Result` keeps its reply, since its error may be an [`SmtpReply`].
//! * An argument that was told earlier has that event recorded, without a reply:
//!   [`ClientIp`] the connection, [`Recipients`] RCPT. [`Session`] records all four of connection,
//!   HELO, MAIL and RCPT, as far as they come before the handler's event. That costs no round
//!   trip, but the events are sent and read.
//! * [`on_abort`](Router::on_abort) and [`on_message_end`](Router::on_message_end) have MAIL
//!   recorded, so that no message escapes them.
//! * [`Skip`](crate::verdict::Skip) as a handler's answer asks for that ability.
//!
//! The rest is said in words: [`actions`](Router::actions) that change a message,
//! [`macros`](Router::macros), [`rejected_recipients`](Router::rejected_recipients) and so on; or
//! in [`on_negotiate`](Router::on_negotiate), which sees the MTA's offer.
//!
//! A layer around the router may ask for more. Events without a handler then proceed. A handler's
//! call costs one box, an event without a handler none.
//!
//! # State
//!
//! What the program has is taken as [`State`]. What belongs to a message or a connection lies in
//! [`Session::message_data`] and [`Session::connection_data`], by its type:
//!
//! ```
//! use milter_tower::{Header, Router, Session, SmtpReply};
//!
//! #[derive(Clone, Copy, Default)]
//! struct HasMessageId(bool);
//!
//! let filter = Router::new()
//!     .on_header(|header: Header, session: Session| async move {
//!         if header.name().eq_ignore_ascii_case("Message-ID") {
//!             session.message_data().insert(HasMessageId(true));
//!         }
//!     })
//!     .on_end_of_message(|session: Session| async move {
//!         match session.message_data().get() {
//!             Some(HasMessageId(true)) => None,
//!             _ => Some(SmtpReply::reject("Messages without a Message-ID are not taken here")),
//!         }
//!     });
//! # let _ = filter;
//! ```
//!
//! A filter that keeps much between events is better written as a [`Filter`](crate::Filter).
//!
//! [`IntoResponse`]: crate::IntoResponse
//! [`SmtpReply`]: crate::SmtpReply
//! [`Session`]: crate::Session
//! [`Session::message_data`]: crate::Session::message_data
//! [`Session::connection_data`]: crate::Session::connection_data

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use milter_core::{Actions, DataSize, MacroStage, Needs, Stage};

pub use self::extract::{Extension, FromRef, FromRequest, NoExtension, State};
pub use self::facts::{ClientIp, NotKnown, Recipients};
use self::handler::At;
pub use self::handler::Handler;
use self::routes::{Route, Routes, Slot};
use self::said::Said;
use crate::at;
use crate::into_response::IntoResponse;

/// Calls a macro for each number of arguments that a handler may have.
macro_rules! each_arity {
    ($macro:ident) => {
        $macro!();
        $macro!(A1);
        $macro!(A1 A2);
        $macro!(A1 A2 A3);
        $macro!(A1 A2 A3 A4);
        $macro!(A1 A2 A3 A4 A5);
        $macro!(A1 A2 A3 A4 A5 A6);
        $macro!(A1 A2 A3 A4 A5 A6 A7);
        $macro!(A1 A2 A3 A4 A5 A6 A7 A8);
    };
}
use each_arity;

mod extract;
mod facts;
mod handler;
mod routes;
mod said;
mod service;
#[cfg(test)]
mod tests;

/// Handlers of events; see the [module](self).
///
/// One event has one handler: another one for the same event takes the place of the first.
///
/// A clone is a filter for another connection, and costs one count.
pub struct Router<T = ()> {
    routes: Arc<Routes<T>>,
    said: Said,
}

impl Router {
    /// A router without handlers: it asks for nothing and lets everything pass.
    pub fn new() -> Self {
        Self::with_state(())
    }
}

macro_rules! handlers {
    ($($(#[$doc:meta])+ $name:ident $slot:ident;)*) => {$(
        $(#[$doc])+
        #[must_use]
        pub fn $name<H, A>(self, handler: H) -> Self
        where
            H: Handler<A>,
            H::Future: Send + 'static,
            H::Output: IntoResponse<at::$slot>,
            A: FromRequest<at::$slot, T> + 'static,
        {
            self.on::<at::$slot, _, _>(Slot::$slot, handler)
        }
    )*};
}

impl<T: Clone + Send + Sync + 'static> Router<T> {
    /// A router without handlers, whose handlers may take the state, or a part of it, as
    /// [`State`].
    ///
    /// Each call that takes it clones it.
    pub fn with_state(state: T) -> Self {
        Self {
            routes: Arc::new(Routes {
                handlers: [const { None }; Slot::COUNT],
                needs: Needs::none(),
                exact: Vec::new(),
                state,
            }),
            said: Said::default(),
        }
    }

    handlers! {
        /// Handles the connection of a client: [`Event::Connect`](crate::Event::Connect).
        on_connect Connect;
        /// Handles HELO and EHLO: [`Event::Helo`](crate::Event::Helo). It may come more than once.
        on_helo Helo;
        /// Handles the beginning of a message: [`Event::Mail`](crate::Event::Mail).
        on_mail Mail;
        /// Handles a recipient: [`Event::Rcpt`](crate::Event::Rcpt). To refuse it leaves the
        /// message open.
        on_rcpt Rcpt;
        /// Handles DATA: [`Event::Data`](crate::Event::Data).
        ///
        /// An MTA that speaks a version of the protocol before 4 does not tell it, and mail passes
        /// without: a filter that must not let it refuses such an [`Offer`](crate::Offer) in
        /// [`on_negotiate`](Self::on_negotiate), or looks again at a later event.
        on_data Data;
        /// Handles a header field: [`Event::Header`](crate::Event::Header).
        on_header Header;
        /// Handles the end of the headers: [`Event::EndOfHeaders`](crate::Event::EndOfHeaders).
        on_end_of_headers EndOfHeaders;
        /// Handles a piece of the body: [`Event::Body`](crate::Event::Body).
        ///
        /// After an answer of skip no more of this body comes, also where the MTA cannot leave
        /// it out.
        on_body Body;
        /// Handles the end of a message: [`Event::EndOfMessage`](crate::Event::EndOfMessage).
        ///
        /// Here it can be changed: ask for the [`actions`](Self::actions) that do so.
        on_end_of_message EndOfMessage;
        /// Handles a command that the MTA does not know: [`Event::Unknown`](crate::Event::Unknown).
        /// MTAs tell it since version 3 of the protocol.
        on_unknown Unknown;
    }

    /// Handles the end of a message on which this router did not have the last word: it was given
    /// up, a handler failed, or what it said could not be sent. Runs before
    /// [`on_message_end`](Self::on_message_end).
    #[must_use]
    pub fn on_abort<H, A>(self, handler: H) -> Self
    where
        H: Handler<A>,
        H::Future: Send + 'static,
        H::Output: IntoResponse<at::MessageEnd>,
        A: FromRequest<at::MessageEnd, T> + 'static,
    {
        self.on::<at::MessageEnd, _, _>(Slot::Abort, handler)
    }

    /// Handles the end of every message, however it came:
    /// [`Event::MessageEnd`](crate::Event::MessageEnd). Also if [`on_abort`](Self::on_abort) failed,
    /// but not if that took all of the time that there is for an end.
    #[must_use]
    pub fn on_message_end<H, A>(self, handler: H) -> Self
    where
        H: Handler<A>,
        H::Future: Send + 'static,
        H::Output: IntoResponse<at::MessageEnd>,
        A: FromRequest<at::MessageEnd, T> + 'static,
    {
        self.on::<at::MessageEnd, _, _>(Slot::MessageEnd, handler)
    }

    /// Handles the end of the connection, once: [`Event::Close`](crate::Event::Close).
    #[must_use]
    pub fn on_close<H, A>(self, handler: H) -> Self
    where
        H: Handler<A>,
        H::Future: Send + 'static,
        H::Output: IntoResponse<at::End>,
        A: FromRequest<at::End, T> + 'static,
    {
        self.on::<at::End, _, _>(Slot::Close, handler)
    }

    /// Handles the negotiation: [`Event::Negotiate`](crate::Event::Negotiate).
    ///
    /// The handler may take the [`Offer`](crate::Offer), and as [`Needs`] what the router needs.
    /// It returns other needs, a [`Response`](crate::Response) that
    /// [refuses](crate::Response::refuse), or nothing where the needs are right as they are. Needs
    /// without an event keep that event from its handler, and at an event without a reply no
    /// handler's verdict counts.
    ///
    /// ```
    /// use milter_tower::{Actions, Needs, Offer, Response, Router};
    ///
    /// let filter = Router::new().on_negotiate(|offer: Offer, needs: Needs| async move {
    ///     if offer.version < 6 {
    ///         return Response::refuse();
    ///     }
    ///     Response::needs(needs.optional_action(Actions::QUARANTINE))
    /// });
    /// # let _ = filter;
    /// ```
    #[must_use]
    pub fn on_negotiate<H, A>(self, handler: H) -> Self
    where
        H: Handler<A>,
        H::Future: Send + 'static,
        H::Output: IntoResponse<at::Negotiate>,
        A: FromRequest<at::Negotiate, T> + 'static,
    {
        self.on::<at::Negotiate, _, _>(Slot::Negotiate, handler)
    }

    /// Asks for actions without which the filter cannot work: see [`Needs::action`].
    #[must_use]
    pub fn actions(self, actions: Actions) -> Self {
        self.needing(|needs| needs.action(actions))
    }

    /// Asks for actions if the MTA offers them: see [`Needs::optional_action`].
    #[must_use]
    pub fn optional_actions(self, actions: Actions) -> Self {
        self.needing(|needs| needs.optional_action(actions))
    }

    /// Asks for macros at a stage, and for those that the session's facts come from: see
    /// [`Needs::macros`].
    #[must_use]
    pub fn macros<I>(self, stage: MacroStage, names: I) -> Self
    where
        I: IntoIterator<Item: Into<Cow<'static, str>>>,
    {
        self.needing(|needs| needs.macros(stage, names))
    }

    /// Asks for these macros at a stage and no others: see [`Needs::macros_exact`].
    #[must_use]
    pub fn macros_exact<I>(mut self, stage: MacroStage, names: I) -> Self
    where
        I: IntoIterator<Item: Into<Cow<'static, str>>>,
    {
        let names = names.into_iter().map(Into::into).collect();
        Arc::make_mut(&mut self.routes).exact.push((stage, names));
        self
    }

    /// Wishes to see recipients that the MTA refused, too: see [`Needs::rejected_recipients`].
    #[must_use]
    pub fn rejected_recipients(self) -> Self {
        self.needing(Needs::rejected_recipients)
    }

    /// Wishes for header values exactly as they were sent: see [`Needs::leading_space`].
    #[must_use]
    pub fn leading_space(self) -> Self {
        self.needing(Needs::leading_space)
    }

    /// Wishes to be able to skip the rest of a body: see [`Needs::skip`]. A handler whose type
    /// says that it skips has asked for it.
    #[must_use]
    pub fn skip(self) -> Self {
        self.needing(Needs::skip)
    }

    /// Allows larger frames: see [`Needs::data_size`].
    #[must_use]
    pub fn data_size(self, most: DataSize) -> Self {
        self.needing(|needs| needs.data_size(most))
    }

    /// Asks for an event, or something else, that no handler's type asks for.
    ///
    /// ```
    /// use milter_tower::{Needs, Router, Stage};
    ///
    /// // The MTA is to wait until each message has been counted.
    /// let filter = Router::new()
    ///     .on_mail(async || {})
    ///     .also_needs(&Needs::none().event(Stage::Mail));
    /// assert!(!filter.needs().is_silent(Stage::Mail));
    /// ```
    #[must_use]
    pub fn also_needs(self, more: &Needs) -> Self {
        self.needing(|needs| needs.join(more))
    }

    /// What the router asks of the MTA, unless [`on_negotiate`](Self::on_negotiate) changes it.
    pub fn needs(&self) -> Needs {
        self.routes.needs()
    }

    fn on<S, H, A>(mut self, slot: Slot, handler: H) -> Self
    where
        S: at::Marker,
        H: Handler<A, Future: Send + 'static, Output: IntoResponse<S>>,
        A: FromRequest<S, T> + 'static,
    {
        let needs = match (slot, S::STAGE) {
            // What was asked for is known when it runs.
            (Slot::Negotiate, _) => Needs::none(),
            // A message of which nothing was seen has no end.
            (Slot::Abort | Slot::MessageEnd, _) => A::needs().record(Stage::Mail),
            (_, None) => A::needs(),
            (_, Some(stage)) if H::Output::SILENT => A::needs().record(stage),
            (_, Some(stage)) => A::needs().event(stage),
        };
        let route = Route {
            handler: Arc::new(At::<S, _, A>::new(handler)),
            needs: needs.join(&H::Output::needs()),
        };
        if let Some(place) = Arc::make_mut(&mut self.routes)
            .handlers
            .get_mut(slot as usize)
        {
            *place = Some(route);
        }
        self
    }

    fn needing(mut self, more: impl FnOnce(Needs) -> Needs) -> Self {
        let routes = Arc::make_mut(&mut self.routes);
        routes.needs = more(std::mem::replace(&mut routes.needs, Needs::none()));
        self
    }
}

/// A fresh instance, for another connection.
impl<T> Clone for Router<T> {
    fn clone(&self) -> Self {
        Self {
            routes: Arc::clone(&self.routes),
            said: Said::default(),
        }
    }
}

impl<T: Clone + Default + Send + Sync + 'static> Default for Router<T> {
    fn default() -> Self {
        Self::with_state(T::default())
    }
}

impl<T> fmt::Debug for Router<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handlers = self.routes.handlers.iter().flatten().count();
        f.debug_struct("Router")
            .field("handlers", &handlers)
            .field("needs", &self.routes.needs())
            .finish_non_exhaustive()
    }
}
