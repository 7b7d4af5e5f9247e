//! Mail filters for Postfix and Sendmail as [`tower`](https://docs.rs/tower) services.
//!
//! A milter is a filter that an MTA asks, step by step, what to do with a mail. Here each step is
//! a [`Request`] that a `tower::Service` answers with a [`Response`], so that filters compose as
//! layers and everything made for tower works.
//!
//! ```no_run
//! use std::convert::Infallible;
//!
//! use milter_tower::{Actions, Address, BoxError, Event, Needs, Request, Response, serve};
//! use tower::service_fn;
//!
//! async fn filter(request: Request) -> Result<Response, Infallible> {
//!     Ok(match request.event() {
//!         // Asked for nothing else, the MTA sends only the end of each message.
//!         Event::Negotiate(_) => Response::needs(Needs::none().action(Actions::ADD_HEADERS)),
//!         Event::EndOfMessage(_) => Response::accept().add_header("X-Hello", "from a tower service"),
//!         _ => Response::proceed(),
//!     })
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let listener = "inet:10025@127.0.0.1".parse::<Address>()?.bind().await?;
//! serve(listener, service_fn(filter)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The [`guide`] begins with [a first filter](guide::first_filter), and explains how filters work
//! and why.
//!
//! A [`Router`] makes a filter of async functions, one for each event that matters; [`message`](mod@message)
//! of one that gets each message as a whole; a [`Filter`] is a type with a method for each event.
//! All are services like the one above. So is a [`Remote`], a milter in another process, and a
//! [`Chain`] of several filters. The other way round, a mail server in Rust calls filters,
//! whoever wrote them, by [`client`].
//!
//! Start with [`Request`], [`Event`], [`Response`], [`Needs`], [`Session`] and [`SmtpReply`].
//! What comes from `milter-core` is here too: examples that import it from there work with
//! `milter_tower` in its place. Letters and numbers such as C12 or Q7 in the documentation are
//! those of the project's page on conformance.
//!
//! # What a service sees
//!
//! * The first request is [`Event::Negotiate`]; its response says what the filter
//!   [needs](Needs). A service that just proceeds gets everything.
//! * Every request carries the [`Session`]: what is known so far of client, HELO, TLS,
//!   authentication, sender, recipients and queue id.
//! * One call at a time: the next event comes when the last one is answered. `poll_ready` is
//!   asked directly before each call.
//! * A message that the service saw begin ends with exactly one [`Event::MessageEnd`], the
//!   connection with one [`Event::Close`].
//! * A service is cloned for each connection. It may keep what it likes of a session in itself.
//!
//! # When something fails
//!
//! An error, a panic, a time-out or a response that the protocol does not allow becomes the
//! failure verdict (tempfail, see [`Settings::on_failure`]) and a log line; the connection goes
//! on and stays in step. After a panic the message's rest fails too, and the next message gets
//! a fresh clone. See [`Failure`].
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | what it adds | where |
//! | --- | --- | --- |
//! | `testing` | mails, a mail server in small, recordings, assertions: for `[dev-dependencies]` | `testing`, `assert_*` |
//! | `mail-parser` | the MIME structure of messages | `Message::parse`, `mail_parser` |
//! | `systemd` | sockets from systemd, and telling it how the service does | `Listeners::from_systemd`, `Serve::notify_systemd` |
//!
//! # Systems
//!
//! Unix only, as the mail servers: unix sockets are part of the interface.
//!
//! # Logging
//!
//! What happens is told through [`tracing`](https://docs.rs/tracing); a program shows it with a
//! subscriber such as `tracing-subscriber`. Each call of a service runs in the span
//! `milter{connection peer}`, and within a message in `message{queue_id client}`: what a filter
//! logs itself carries them too. Failures of a filter are warnings.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

/// The crate whose types [`Message::parse`] returns, in the version that it does. Needs the feature
/// `mail-parser`.
#[cfg(feature = "mail-parser")]
#[cfg_attr(docsrs, doc(cfg(feature = "mail-parser")))]
#[doc(no_inline)]
pub use mail_parser;
pub use milter_core::edit;
pub use milter_core::state::NotNegotiated;
pub use milter_core::{
    Actions, AddressProblem, Agreement, BodyType, ClientAddr, CodecError, Connect, DataSize,
    DsnNotify, DsnReturn, EnhancedCode, EnhancedCodeError, EsmtpArg, EsmtpArgs, EsmtpArgsIter,
    Foreign, Header, Helo, MacroLists, MacroPairs, MacroRequestError, MacroStage, Macros,
    MalformedFrame, Modification, ModificationError, ModificationKind, Needs, NegotiationError,
    NotAgreed, NotAllowed, Offer, OriginalRecipient, Recipient, ReplyMode, Sender, SmtpReply,
    SmtpReplyBuilder, SmtpReplyError, Stage, Stages, StagesIter, Steps, Text, UnknownCommand,
    Verdict, decode_xtext, domain_key, macros, mailbox_key, same_domain,
};

pub use crate::address::{Address, AddressError, BindError};
pub use crate::chain::{
    Chain, ChainError, ChainFuture, Condition, Member, MemberFailure, NetworkError, OnMemberFailure,
};
pub use crate::error::{BoxError, ConnectionError, Failure};
pub use crate::extensions::{Extensions, Shared};
pub use crate::filter::{Filter, FilterService, filter, filter_with_peer};
pub use crate::headers::{Field, Fields, Headers, Which};
pub use crate::into_response::IntoResponse;
pub use crate::listener::{
    Accepted, BoundListener, ListenOptions, Listener, Listeners, Split, Stream,
};
pub use crate::make::Cloned;
pub use crate::message::{Message, blocking, message, message_streaming};
pub use crate::progress::Progress;
pub use crate::remote::{OnRemoteFailure, Remote, RemotePool};
pub use crate::request::{Deadline, Event, Outcome, Parts, Request};
pub use crate::response::Response;
pub use crate::response_future::ResponseFuture;
pub use crate::router::Router;
pub use crate::serve::{
    Handle, Report, Serve, ServeConnection, ServeThreads, Stats, serve, serve_connection,
    serve_make,
};
pub use crate::session::{Auth, Mta, Peer, PeerAddr, Session, Tls};
pub use crate::settings::{OnFailure, OnNegotiateFailure, Settings};

pub mod at;
pub mod chain;
pub mod client;
pub mod filter;
pub mod gate;
pub mod guide;
pub mod remote;
pub mod router;
pub mod verdict;

mod address;
mod asked;
mod base64;
mod clock;
mod connection;
mod error;
mod extensions;
mod guard;
mod headers;
mod into_response;
mod last_word;
mod leading_space;
mod listener;
mod make;
mod member;
pub mod message;
mod progress;
mod request;
mod response;
mod response_future;
mod serve;
mod session;
mod settings;
mod show;
mod stop;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;

/// The README's programs compile.
#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../../README.md")]
struct Readme;
