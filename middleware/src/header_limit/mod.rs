//! A layer that bounds how many headers a message has, and how large they are.
//!
//! Needs the feature `header-limit`.
//!
//! ```
//! use milter_middleware::header_limit::HeaderLimitLayer;
//! use milter_tower::Router;
//! use tower::Layer;
//!
//! let filter = HeaderLimitLayer::new(500).bytes(64 * 1024).layer(Router::new());
//! # let _ = filter;
//! ```
//!
//! A message beyond it is refused with `552 5.3.4 Message header too large`, or with what
//! [`verdict`](HeaderLimitLayer::verdict) says, at the end of its headers at the latest, before its
//! body comes. The filter within sees no more of it. Bytes are those of names and values, with colons
//! and line ends.
//!
//! It records headers without having the MTA wait, and asks for a reply at their end. The server has
//! limits of its own, far above what mail has:
//! [`Settings::max_headers`](milter_tower::Settings::max_headers).
//!
//! # Cost
//!
//! Some 250 instructions an event, counted by `cargo bench -p milter-tests --bench instructions`.
//! Nothing is allocated.

mod layer;

pub use self::layer::{HeaderLimit, HeaderLimitLayer};
pub use crate::judged::ResponseFuture;

#[cfg(test)]
mod tests;
