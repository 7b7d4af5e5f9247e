//! Filters that see whole messages: one function a message, no state machine.
//!
//! [`message`] calls a handler at the end of each message, with all of it: who sent it to whom,
//! its headers, its body. The handler looks at it, edits it as one would think of it, and accepts
//! or refuses it.
//!
//! ```no_run
//! use milter_tower::{Message, message};
//! use milter_tower::{Address, BoxError, SmtpReply, serve};
//!
//! async fn filter(mut mail: Message) -> Result<Message, SmtpReply> {
//!     if mail.headers().get_all("From").count() != 1 {
//!         return Err(SmtpReply::reject("One From, please"));
//!     }
//!     mail.headers_mut().remove_all("X-Tracker");
//!     mail.add_recipient("archive@example.net");
//!     Ok(mail)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let listener = "inet:10025@127.0.0.1".parse::<Address>()?.bind().await?;
//! serve(listener, message(filter)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! | the handler | is made with |
//! | --- | --- |
//! | waits for others, or looks at some headers | [`message`] |
//! | computes, or blocks | [`message`] and [`blocking`] |
//! | passes bodies on, or looks at their beginning only | [`message_streaming`] |
//! | needs no body, or no content at all | [`message`] and [`decide_at`](MessageFilter::decide_at) |
//!
//! # What is asked of the MTA
//!
//! What is only written down comes without replies: the MTA need not wait. Replies are kept where a
//! setting needs them: [`decide_at`](MessageFilter::decide_at),
//! [`check_rcpt`](MessageFilter::check_rcpt),
//! [`early_verdicts`](MessageFilter::early_verdicts). What is not needed is not sent. All edits
//! are asked for, unless [`actions`](MessageFilter::actions) says otherwise, and header values with
//! every byte (leading space).
//!
//! # Edits
//!
//! Edits are made on the [`Message`]. At its end the difference between what came and what it is
//! then is told the MTA at hand, with the fewest changes: Postfix and Sendmail count headers
//! differently, and each gets the indices that it understands
//! ([`Planner`](crate::edit::Planner)). What cannot be told is refused or done nearly, as
//! [`unplaceable`](MessageFilter::unplaceable) says.
//!
//! # When something fails
//!
//! An error of the handler is the service's, and so the message's failure verdict; one that is an
//! [`SmtpReply`](crate::SmtpReply) is that answer. Edits that cannot be made, or that would get
//! lost, a disk that is full and a handler that is too late fail the message as well
//! ([`MessageError`]), and the next one is not concerned.
//!
//! Whatever ends a message (a verdict, an abort, a lost connection, a deadline) ends its handler,
//! which is dropped where it waits, and gives back what the message took.
//!
//! # Memory
//!
//! A message takes what its headers and envelope have, which the server
//! [bounds](crate::Settings), and as much of its body as
//! [`memory_limit`](MessageFilter::memory_limit) allows. So the most for all is that times the
//! messages that are in progress at a time: as many as there are connections. A body in a file takes
//! a descriptor (`LimitNOFILE=` in systemd, `ulimit -n`). For an MTA that is idle nothing is kept.

mod blocking;
mod body;
mod config;
mod envelope;
mod error;
mod fate;
mod file;
mod filter;
mod future;
mod incoming;
mod mail;
mod parse;
mod reader;
mod service;
mod spool;
mod state;
#[cfg(feature = "mail-parser")]
mod structure;

pub use self::blocking::{Blocking, blocking};
pub use self::body::Body;
pub use self::config::{DecideAt, OnLarge};
pub use self::error::MessageError;
pub use self::filter::{MessageFilter, message, message_streaming};
pub use self::future::ResponseFuture;
pub use self::incoming::Incoming;
pub use self::mail::Message;
pub use self::parse::ToBytesError;
pub use self::reader::{BlockingReader, BodyReader};
