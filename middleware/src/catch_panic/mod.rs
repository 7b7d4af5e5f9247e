//! A layer that makes a verdict of a panic.
//!
//! Needs the feature `catch-panic`.
//!
//! ```
//! use milter_middleware::catch_panic::CatchPanicLayer;
//! use milter_tower::{Recipient, Router, SmtpReply};
//! use tower::Layer;
//!
//! let filter = Router::new().on_rcpt(async |to: Recipient| {
//!     assert!(to.mailbox().len() < 64, "a mailbox of {} bytes", to.mailbox().len());
//! });
//! let layer = CatchPanicLayer::new()
//!     .verdict(SmtpReply::tempfail("Something is wrong here, please come again"))
//!     .on_panic(|panic| eprintln!("at {:?}: {}", panic.stage(), panic.message()));
//! let filter = layer.layer(filter);
//! # let _ = filter;
//! ```
//!
//! The server catches panics by itself: without this layer the whole stack of layers is dropped, the
//! message fails, and the next one gets a fresh stack. With it only what is within is dropped: layers
//! around go on and hear of every end, a hook gets the panic, and the verdict can be chosen.
//!
//! A panic of the service within, in `poll_ready`, in `call`, in the future or when that is dropped,
//! becomes the verdict for the event at hand and for what is left of the message; where no reply is
//! due it is given at the next event that has one. What panicked is dropped and hears nothing more,
//! not even an end. The next message gets a fresh clone, which is shown the negotiation, the client
//! and its greeting first; if that needs more than was negotiated, the verdict stands until the end of
//! the connection.
//!
//! The hook runs where the panic was caught, in the span of its message. Without one the panic is
//! logged as an error. That the panic itself is printed is the doing of the process's panic hook,
//! [`std::panic::set_hook`].
//!
//! # Cost
//!
//! Some 380 instructions an event, counted by `cargo bench -p milter-tests --bench instructions`.
//! Nothing is allocated for an event, and no lock taken; a connection has one more clone of the
//! service within. A program that is built to abort on panics has no use for this layer.

mod future;
mod layer;
mod service;

pub use self::future::ResponseFuture;
pub use self::layer::{CatchPanicLayer, Panicked};
pub use self::service::CatchPanic;

#[cfg(test)]
mod tests;
