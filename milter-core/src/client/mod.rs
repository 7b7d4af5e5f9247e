//! The MTA's side of a connection with a filter, without I/O.
//!
//! An MTA says what happens, and the [`Session`] knows which frames tell the filter so: the macros
//! that the filter asked for go before their command, and what it declined does not go at all.
//! Replies come in and are told as what they mean: a verdict, a modification, progress, or that
//! the filter failed. Bytes are the business of [`MtaCodec`](crate::MtaCodec), time that of whoever
//! drives the session.
//!
//! ```
//! use milter_core::client::{Config, Heard, Session};
//! use milter_core::{Agreement, Command, Helo, Needs, Offer, Reply, Verdict, negotiate};
//! use milter_core::{ClientAddr, Connect, MacroStage};
//!
//! let config = Config::new().macros(MacroStage::Connect, ["j", "{daemon_name}"]);
//! let mut session = Session::new(config);
//!
//! // The filter answers the offer; here, one that wants everything.
//! let Command::Negotiate(offer) = session.offer()? else { unreachable!() };
//! let answer = negotiate(&offer, &Needs::all())?.to_reply();
//! assert_eq!(session.receive(Reply::Negotiate(answer))?, Heard::Agreed);
//!
//! // A client connects. What the MTA knows is looked up by name.
//! let connect = Command::Connect(Connect::new("client.example", ClientAddr::Unknown));
//! let frames = session.send(connect, |name| (name == "j").then(|| "mx.example.org".into()))?;
//! let letters: Vec<u8> = frames.into_iter().map(|frame| frame.code()).collect();
//! assert_eq!(letters, b"DC");
//!
//! // The filter has nothing against it.
//! let Heard::Answer(answer) = session.receive(Reply::Continue)? else { unreachable!() };
//! assert_eq!(answer.verdict, Verdict::Continue);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The order of calls
//!
//! [`offer`](Session::offer) first; then [`send`](Session::send) for connect, HELO, and each
//! message: MAIL, RCPT once or more, DATA, the headers, their end, the body, the end. A call out of
//! order is refused with a [`SendError`] and changes nothing. While a reply is
//! [awaited](Session::awaited), nothing can be sent but the goodbye. Where no frame is to be sent
//! and no reply is due the MTA just goes on: it tells everything, and the session leaves out what
//! this filter does not want, also after the filter [decided](Session::decided) the message.
//!
//! A message that ends early is [aborted](Session::abort), which sends a frame only if the
//! filter saw something of it and did not decide it (C79). HELO may come within a message, before
//! or after its abort (Q5).
//!
//! # Time
//!
//! [`awaited`](Session::awaited) says what is waited for, and so which [`Timeout`] applies. Each
//! frame restarts the time; at the end of the message there should be a limit for all of it
//! besides, since a filter may be "still at work" for ever (C76). A driver whose time is up
//! tells [`fail`](Session::fail) (C83): libmilter drops commands that do not fit without any reply
//! (Q25).

pub use self::config::{Config, EmptyList};
pub use self::error::{Failure, Said, SendError};
pub use self::frames::Frames;
pub use self::session::{Answer, Awaited, Heard, Session, Timeout};

mod config;
mod error;
mod frames;
mod order;
mod session;

#[cfg(test)]
mod tests;
