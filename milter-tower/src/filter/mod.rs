//! A filter with a state of its own: one method for each event.
//!
//! ```no_run
//! use milter_tower::{
//!     Address, BoxError, Filter, Header, Needs, Progress, Request, Response, SmtpReply, Stage,
//!     filter, serve,
//! };
//!
//! /// Refuses mail that has no Message-ID.
//! struct WantsMessageId;
//!
//! #[derive(Default)]
//! struct Message {
//!     has_id: bool,
//! }
//!
//! impl Filter for WantsMessageId {
//!     type Message = Message;
//!
//!     fn needs(&self) -> Needs {
//!         Needs::none().record(Stage::Header)
//!     }
//!
//!     async fn header(
//!         &mut self,
//!         message: &mut Message,
//!         header: &Header,
//!         _: &Request,
//!     ) -> Result<Response, BoxError> {
//!         message.has_id |= header.name().eq_ignore_ascii_case("Message-ID");
//!         Ok(Response::proceed())
//!     }
//!
//!     async fn end_of_message(
//!         &mut self,
//!         message: &mut Message,
//!         _: &Progress,
//!         _: &Request,
//!     ) -> Result<Response, BoxError> {
//!         if !message.has_id {
//!             Err(SmtpReply::reject("Messages without a Message-ID are not taken here"))?;
//!         }
//!         Ok(Response::accept())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let listener = "inet:10025@127.0.0.1".parse::<Address>()?.bind().await?;
//! serve(listener, filter(|| WantsMessageId)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Whose state is whose
//!
//! [`filter`] takes a function that makes the [`Filter`]. It is called for each SMTP session: when
//! the MTA connects, and again if it begins another session on the same connection, which Postfix
//! and Sendmail never do. So `self` holds what belongs to one client.
//!
//! What belongs to one message is [`Filter::Message`]. Every message begins with its default,
//! however the one before ended: by a verdict, an abort, a new HELO, a lost session, or in the
//! middle of a call that took too long.
//!
//! The methods take both by `&mut`, and are called one at a time: no locks. A call that takes too
//! long is dropped where it waits, and `self` stays as it was left there; after a panic the filter
//! is not called again.
//!
//! # For those who know another library
//!
//! | here | libmilter | pymilter | go-milter |
//! | --- | --- | --- | --- |
//! | [`negotiate`](Filter::negotiate) | `xxfi_negotiate` | `negotiate` | |
//! | [`connect`](Filter::connect) | `xxfi_connect` | `connect` | `Connect` |
//! | [`helo`](Filter::helo) | `xxfi_helo` | `hello` | `Helo` |
//! | [`mail`](Filter::mail) | `xxfi_envfrom` | `envfrom` | `MailFrom` |
//! | [`rcpt`](Filter::rcpt) | `xxfi_envrcpt` | `envrcpt` | `RcptTo` |
//! | [`data`](Filter::data) | `xxfi_data` | `data` | |
//! | [`header`](Filter::header) | `xxfi_header` | `header` | `Header` |
//! | [`end_of_headers`](Filter::end_of_headers) | `xxfi_eoh` | `eoh` | `Headers` |
//! | [`body`](Filter::body) | `xxfi_body` | `body` | `BodyChunk` |
//! | [`end_of_message`](Filter::end_of_message) | `xxfi_eom` | `eom` | `Body` |
//! | [`unknown`](Filter::unknown) | `xxfi_unknown` | `unknown` | |
//! | [`abort`](Filter::abort) | `xxfi_abort` | `abort` | `Abort` |
//! | [`close`](Filter::close) | `xxfi_close` | `close` | |
//! | `self` | `smfi_setpriv` | `self` | the value that `NewMilter` makes |
//! | [`Session::macros`](crate::Session::macros) | `smfi_getsymval` | `getsymval` | `Modifier.Macros` |
//! | [`Response::add_header`](crate::Response::add_header) … | `smfi_addheader` … | `addheader` … | `Modifier.AddHeader` … |
//! | [`SmtpReply`](crate::SmtpReply) | `smfi_setreply` | `setreply` | |
//! | [`Progress`] | `smfi_progress` | `progress` | |
//!
//! Unlike there the changes to a message are a part of the answer at its end, a reply's text is
//! the answer itself, and progress goes out without being asked for.

use bytes::Bytes;
use milter_core::{Connect, Header, Helo, Needs, Offer, Recipient, Sender, UnknownCommand};

pub use self::service::{FilterService, filter, filter_with_peer};
use crate::error::BoxError;
use crate::progress::Progress;
use crate::request::{Outcome, Request};
use crate::response::Response;

mod service;
#[cfg(test)]
mod tests;

/// A filter with one method for each event; see the [module](self).
///
/// Write the methods as `async fn`. Each that is not written lets the event pass. Their answers
/// are those of [`Response`]; an error that is an [`SmtpReply`](crate::SmtpReply) is that answer,
/// any other is the filter's failure: logged, and answered with the failure verdict.
///
/// Every method gets the [`Request`], in which there is the session, the deadline, and what
/// layers told.
pub trait Filter: Send + 'static {
    /// What belongs to one message; made anew for each. `()` if there is nothing.
    type Message: Default + Send + 'static;

    /// What is asked of the MTA. An event that is not asked for does not reach its method.
    ///
    /// Every event that is sent costs, most of all where the MTA waits for the answer: ask for
    /// those with a method, and [record](Needs::record) those whose method only looks: a verdict
    /// there is lost. To change messages ask for the [actions](Needs::action). [`Needs::all`] asks
    /// for everything.
    fn needs(&self) -> Needs;

    /// The MTA offers to work together. An answer without needs has those of
    /// [`needs`](Self::needs).
    ///
    /// There is one negotiation on a connection: a filter that is made for a later session is not
    /// asked, and finds the result in [`Session::agreement`](crate::Session::agreement).
    ///
    /// # Errors
    ///
    /// The filter failed.
    fn negotiate(
        &mut self,
        offer: &Offer,
        request: &Request,
    ) -> impl Future<Output = Result<Response, BoxError>> + Send {
        let _ = (offer, request);
        std::future::ready(Ok(Response::proceed()))
    }

    /// A client connected.
    ///
    /// # Errors
    ///
    /// A refusal, or the filter failed.
    fn connect(
        &mut self,
        client: &Connect,
        request: &Request,
    ) -> impl Future<Output = Result<Response, BoxError>> + Send {
        let _ = (client, request);
        std::future::ready(Ok(Response::proceed()))
    }

    /// HELO or EHLO. It may come more than once.
    ///
    /// # Errors
    ///
    /// A refusal, or the filter failed.
    fn helo(
        &mut self,
        helo: &Helo,
        request: &Request,
    ) -> impl Future<Output = Result<Response, BoxError>> + Send {
        let _ = (helo, request);
        std::future::ready(Ok(Response::proceed()))
    }

    /// MAIL: a message begins.
    ///
    /// # Errors
    ///
    /// A refusal, or the filter failed.
    fn mail(
        &mut self,
        message: &mut Self::Message,
        sender: &Sender,
        request: &Request,
    ) -> impl Future<Output = Result<Response, BoxError>> + Send {
        let _ = (message, sender, request);
        std::future::ready(Ok(Response::proceed()))
    }

    /// RCPT: one recipient. Refusing it leaves the message open.
    ///
    /// # Errors
    ///
    /// A refusal, or the filter failed.
    fn rcpt(
        &mut self,
        message: &mut Self::Message,
        recipient: &Recipient,
        request: &Request,
    ) -> impl Future<Output = Result<Response, BoxError>> + Send {
        let _ = (message, recipient, request);
        std::future::ready(Ok(Response::proceed()))
    }

    /// DATA. Refusing it leaves the message open.
    ///
    /// An MTA that speaks a version of the protocol before 4 does not tell it, and mail passes
    /// without: a filter that must not let it refuses such an offer in
    /// [`negotiate`](Self::negotiate), or looks again at a later event.
    ///
    /// # Errors
    ///
    /// A refusal, or the filter failed.
    fn data(
        &mut self,
        message: &mut Self::Message,
        request: &Request,
    ) -> impl Future<Output = Result<Response, BoxError>> + Send {
        let _ = (message, request);
        std::future::ready(Ok(Response::proceed()))
    }

    /// A header field.
    ///
    /// # Errors
    ///
    /// A refusal, or the filter failed.
    fn header(
        &mut self,
        message: &mut Self::Message,
        header: &Header,
        request: &Request,
    ) -> impl Future<Output = Result<Response, BoxError>> + Send {
        let _ = (message, header, request);
        std::future::ready(Ok(Response::proceed()))
    }

    /// All headers were seen.
    ///
    /// # Errors
    ///
    /// A refusal, or the filter failed.
    fn end_of_headers(
        &mut self,
        message: &mut Self::Message,
        request: &Request,
    ) -> impl Future<Output = Result<Response, BoxError>> + Send {
        let _ = (message, request);
        std::future::ready(Ok(Response::proceed()))
    }

    /// A piece of the body. After an answer of [skip](Response::skip) no more of it comes, also
    /// where the MTA cannot leave it out; where it can, that is to be [asked for](Needs::skip).
    ///
    /// # Errors
    ///
    /// A refusal, or the filter failed.
    fn body(
        &mut self,
        message: &mut Self::Message,
        piece: &Bytes,
        request: &Request,
    ) -> impl Future<Output = Result<Response, BoxError>> + Send {
        let _ = (message, piece, request);
        std::future::ready(Ok(Response::proceed()))
    }

    /// The whole message was seen. Here, and only here, it can be changed.
    ///
    /// # Errors
    ///
    /// A refusal, or the filter failed.
    fn end_of_message(
        &mut self,
        message: &mut Self::Message,
        progress: &Progress,
        request: &Request,
    ) -> impl Future<Output = Result<Response, BoxError>> + Send {
        let _ = (message, progress, request);
        std::future::ready(Ok(Response::proceed()))
    }

    /// A command that the MTA does not know, at any time: in a message or not. MTAs tell it since
    /// version 3 of the protocol.
    ///
    /// # Errors
    ///
    /// A refusal, or the filter failed.
    fn unknown(
        &mut self,
        command: &UnknownCommand,
        request: &Request,
    ) -> impl Future<Output = Result<Response, BoxError>> + Send {
        let _ = (command, request);
        std::future::ready(Ok(Response::proceed()))
    }

    /// A message ended on which this filter did not have the last word: it was given up, a method
    /// failed, or what it said could not be sent. Comes before
    /// [`message_end`](Self::message_end).
    ///
    /// As that it comes only for messages of which the filter saw something: to hear of every one,
    /// record [`Stage::Mail`](crate::Stage::Mail).
    ///
    /// # Errors
    ///
    /// The filter failed: it is logged.
    fn abort(
        &mut self,
        message: &mut Self::Message,
        request: &Request,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = (message, request);
        std::future::ready(Ok(()))
    }

    /// A message ended, however it came. Comes once for each of which the filter saw something,
    /// also if [`abort`](Self::abort) failed, but not if that took all of the time that there is for
    /// an end. The message's state is dropped after it.
    ///
    /// # Errors
    ///
    /// The filter failed: it is logged.
    fn message_end(
        &mut self,
        message: &mut Self::Message,
        outcome: &Outcome,
        request: &Request,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = (message, outcome, request);
        std::future::ready(Ok(()))
    }

    /// The SMTP session ended, and with it this filter. Comes once.
    ///
    /// # Errors
    ///
    /// The filter failed: it is logged.
    fn close(&mut self, request: &Request) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = request;
        std::future::ready(Ok(()))
    }
}
