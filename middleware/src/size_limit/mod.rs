//! A layer that bounds the size of messages.
//!
//! Needs the feature `size-limit`.
//!
//! ```
//! use milter_middleware::size_limit::SizeLimitLayer;
//! use milter_tower::Router;
//! use tower::Layer;
//!
//! let filter = SizeLimitLayer::new(25 * 1024 * 1024).layer(Router::new());
//! # let _ = filter;
//! ```
//!
//! A client that announces a larger message is refused at MAIL, before it sends any of it
//! (RFC 1870 6.1), with `552 5.3.4 Message size exceeds limit`, or with what
//! [`verdict`](SizeLimitLayer::verdict) says. Clients need not announce, nor tell the truth: the bytes
//! of headers and body are counted while they come, and a message that turns out to be larger is
//! refused as soon as a reply is due, at its end at the latest. The filter within sees no more of it.
//!
//! It asks for a reply at MAIL and records the content without having the MTA wait. A filter that
//! skips the rest of the body is spared it, but the MTA sends it. Where announcements are enough,
//! [`announced_only`](SizeLimitLayer::announced_only) asks for MAIL alone.
//!
//! A mail server has a limit of its own, `message_size_limit` in Postfix, `MaxMessageSize` in Sendmail:
//! this one is for what a filter bears, or for some messages only.
//!
//! # Cost
//!
//! Some 300 instructions an event, counted by `cargo bench -p milter-tests --bench instructions`.
//! Nothing is allocated.

mod layer;

pub use self::layer::{SizeLimit, SizeLimitLayer};
pub use crate::judged::ResponseFuture;

#[cfg(test)]
mod tests;
