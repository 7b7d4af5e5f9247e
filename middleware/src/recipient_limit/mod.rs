//! A layer that bounds how many recipients a message has.
//!
//! Needs the feature `recipient-limit`.
//!
//! ```
//! use milter_middleware::recipient_limit::RecipientLimitLayer;
//! use milter_tower::Router;
//! use tower::Layer;
//!
//! let filter = RecipientLimitLayer::new(100).layer(Router::new());
//! # let _ = filter;
//! ```
//!
//! Each recipient beyond the limit is refused with `452 4.5.3 Too many recipients`, so that a client
//! sends the message to those in a transaction of its own (RFC 5321 4.5.3.1.10), or with what
//! [`verdict`](RecipientLimitLayer::verdict) says. The filter within does not see it. Recipients that
//! were refused do not count, be it by the filter or by the MTA.
//!
//! It asks for replies at RCPT, where the MTA then waits.
//!
//! # Cost
//!
//! Some 230 instructions an event, counted by `cargo bench -p milter-tests --bench instructions`.
//! Nothing is allocated.

mod layer;

pub use self::layer::{RecipientLimit, RecipientLimitLayer};
pub use crate::judged::ResponseFuture;

#[cfg(test)]
mod tests;
