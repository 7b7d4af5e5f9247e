//! Calling milters: what a mail server written in Rust needs.
//!
//! A [`Client`] says where a milter is and how to treat it; it opens [`Connection`]s, one for each
//! SMTP session. Over such a one an MTA tells what its client does, step by step, or a whole
//! [`Mail`] in one call, of which it gets a [`Delivery`]. What the milter answers is checked: a
//! failure is a [`ClientError`] that says what happened, at which stage, with which milter, and the
//! [`DefaultAction`] says what becomes of the mail then.
//!
//! ```no_run
//! # async fn example() -> Result<(), milter_tower::BoxError> {
//! use milter_tower::client::{Client, DefaultAction, Mail};
//!
//! let client = Client::new("inet:8891@127.0.0.1".parse()?).on_failure(DefaultAction::TempFail);
//! let mut milter = client.connect().await?;
//! let mail = Mail::read("letter.eml")?.from("alice@example.org").to("bob@example.net");
//! let delivery = milter.deliver(&mail).await;
//! println!("{delivery}");
//! milter.quit().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The [guide](crate::guide::calling) has a page on it.
//!
//! # Cost
//!
//! A step with its macros is one write and, where a reply is due, one read. Steps that need no
//! reply are collected, and written with the next one that does, or when there are 8 KiB of them.
//! A header or a piece of the body allocates nothing, a step with macros their frame; what is
//! written is copied once, into the connection's buffer. A body that comes from a reader has a
//! buffer of 64 KiB for each piece.
//!
//! # Bounds
//!
//! A frame that the milter sends is at most 1 MiB ([`Client::max_read`]), the modifications of a
//! message together 256 MiB ([`Client::max_edit_bytes`]). A connection between messages has buffers
//! of 16 KiB at most for each direction, and the macros that were set.

mod builder;
mod connection;
mod default_action;
mod deliver;
mod delivery;
pub(crate) mod dial;
mod error;
pub(crate) mod letter;
pub(crate) mod link;
pub(crate) mod lists;
pub(crate) mod mail;
mod steps;
mod timeouts;
mod values;
pub(crate) mod words;

pub use milter_core::OfferReply;
pub use milter_core::client::{Answer, EmptyList, Failure, SendError, Timeout};

pub use self::builder::Client;
pub use self::connection::Connection;
pub use self::default_action::DefaultAction;
pub use self::delivery::{Delivered, Delivery, Fate, StageAnswer};
pub use self::error::{ClientError, ClientErrorKind};
pub use self::mail::Mail;
pub use self::timeouts::Timeouts;
pub use self::values::MacroScope;
