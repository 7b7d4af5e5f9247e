//! A layer that adds a header to every mail that the filter lets pass.
//!
//! Needs the feature `set-header`.
//!
//! ```
//! use std::convert::Infallible;
//!
//! use milter_middleware::set_header::SetHeaderLayer;
//! use milter_tower::{BoxError, Request, Response};
//! use tower::{Layer, service_fn};
//!
//! let filter = service_fn(async |_: Request| Ok::<_, Infallible>(Response::proceed()));
//! // Whatever a sender claims, only ours arrives.
//! let filter = SetHeaderLayer::overriding("X-Scanned-By", "mx1.example.org")?.layer(filter);
//! # let _ = filter;
//! # Ok::<(), BoxError>(())
//! ```
//!
//! The filter within need not know: the layer asks for the action, and where it
//! [overrides](SetHeaderLayer::overriding) for the headers, in the negotiation. A filter that
//! accepts a mail early is asked no more about it, but the mail gets its header all the same. A
//! mail that is refused or discarded gets none.

mod future;
mod layer;
mod service;

pub use self::future::ResponseFuture;
pub use self::layer::SetHeaderLayer;
pub use self::service::SetHeader;

#[cfg(test)]
mod tests;
