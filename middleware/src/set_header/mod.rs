//! A layer that sets or removes a header of every mail that the filter lets pass.
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
//! | | puts the header | others of the name |
//! | --- | --- | --- |
//! | [`appending`](SetHeaderLayer::appending) | at the end | stay |
//! | [`prepending`](SetHeaderLayer::prepending) | on top | stay |
//! | [`overriding`](SetHeaderLayer::overriding) | at the end | go |
//! | [`replacing`](SetHeaderLayer::replacing) | in the place of the first | go |
//! | [`removing`](SetHeaderLayer::removing) | nowhere | go |
//!
//! The value is fixed, or what a function makes of the session at the end of the message: the client
//! and the envelope as far as the filter within asked for them, macros, and what filters said by
//! then:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), milter_tower::BoxError> {
//! use milter_middleware::set_header::SetHeaderLayer;
//! use milter_tower::testing::{Mail, MockMta};
//! use milter_tower::{BoxError, Request, Response, Session, assert_header};
//! use tower::{Layer, service_fn};
//!
//! #[derive(Clone)]
//! struct Score(u32);
//!
//! let filter = service_fn(async |request: Request| {
//!     request.session().message_data().outer().insert(Score(7));
//!     Ok::<_, BoxError>(Response::proceed())
//! });
//! let score = |session: &Session| {
//!     let score = session.message_data().get::<Score>();
//!     score.map(|Score(score)| format!("{score} of 10"))
//! };
//! let filter = SetHeaderLayer::replacing_with("X-Spam-Score", score)?.layer(filter);
//! let forged = Mail::new().header("X-Spam-Score", "0 of 10");
//! let done = MockMta::postfix(filter).deliver(forged).await;
//! assert_header!(done, "X-Spam-Score", "7 of 10");
//! # Ok(())
//! # }
//! ```
//!
//! A value that comes from a client cannot break the mail: its lines are folded, and a header whose
//! value cannot be written, since it holds a NUL, is left out with a warning. A line has at most 998
//! octets by RFC 5322 2.1.1: the function minds that.
//!
//! The filter within need not know: the layer asks for the action, and where others of the name go
//! for the headers, in the negotiation. What the filter does to headers of another name is not
//! touched. A filter that accepts a mail early is asked no more about it, but the mail gets its
//! header all the same. A mail that is refused or discarded gets none.
//!
//! # Cost
//!
//! Where others of the name go, each header's name is compared. A fixed value is made once; one of a
//! function is copied into the modification. Each header that goes is a modification of its own.
//! Over the events of a message that is some 330 instructions each, counted
//! by `cargo bench -p milter-tests --bench instructions`, and two allocations at its end.

mod layer;
mod place;
mod service;

pub use self::layer::SetHeaderLayer;
pub use self::service::SetHeader;
pub use crate::outgoing::ResponseFuture;

#[cfg(test)]
mod tests;
