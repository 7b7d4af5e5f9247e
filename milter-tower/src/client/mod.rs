//! Calling milters: what a mail server written in Rust needs.
//!
//! A [`Client`] says where a milter is and how to treat it; it opens [`Connection`]s, one for each
//! SMTP session. What the milter answers is checked, and a failure is a [`ClientError`] that says
//! what happened, at which stage, with which milter.

mod builder;
mod connection;
mod default_action;
mod deliver;
pub(crate) mod dial;
mod error;
pub(crate) mod letter;
pub(crate) mod link;
pub(crate) mod lists;
pub(crate) mod mail;
mod outcome;
mod steps;
mod timeouts;
mod values;
pub(crate) mod words;

pub use milter_core::OfferReply;
pub use milter_core::client::{Answer, EmptyList, Failure, SendError, Timeout};

pub use self::builder::Client;
pub use self::connection::Connection;
pub use self::default_action::DefaultAction;
pub use self::error::{ClientError, ClientErrorKind};
pub use self::mail::Mail;
pub use self::outcome::{Delivered, Fate, Outcome, StageAnswer};
pub use self::timeouts::Timeouts;
pub use self::values::MacroScope;
