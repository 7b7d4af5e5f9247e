//! A layer that writes what filters found out about a mail's origin into `Authentication-Results`.
//!
//! Needs the feature `add-auth-results`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), milter_tower::BoxError> {
//! use milter_middleware::add_auth_results::{AddAuthResultsLayer, AuthResult};
//! use milter_tower::testing::{Mail, MockMta};
//! use milter_tower::{BoxError, Event, Request, Response, assert_header};
//! use tower::{Layer, service_fn};
//!
//! let spf = service_fn(async |request: Request| {
//!     if let Event::Mail(sender) = request.event() {
//!         AuthResult::new("spf", "pass")?
//!             .with_property("smtp.mailfrom", sender.mailbox())?
//!             .add_to(request.session());
//!     }
//!     Ok::<_, BoxError>(Response::proceed())
//! });
//! let filter = AddAuthResultsLayer::new("mx.example.org")?.strip().layer(spf);
//! let forged = Mail::new()
//!     .from("alice@example.net")
//!     .header("Authentication-Results", "mx.example.org; dkim=pass");
//! let done = MockMta::postfix(filter).deliver(forged).await;
//! assert_header!(
//!     done,
//!     "Authentication-Results",
//!     "mx.example.org; spf=pass smtp.mailfrom=alice@example.net"
//! );
//! # Ok(())
//! # }
//! ```
//!
//! Filters within say what they found with [`AuthResult::add_to`], at any event of the message, and
//! so do the members of a chain within. At the end there is one header, above all others (RFC 8601 4.1),
//! in the mail that passes. Nothing that a result has in it can break the header: keywords are checked
//! when the result is made, values are put into quotes where they must be, and lines are folded at 78
//! columns between the parts of a result. A header has 16 KiB at most; results that no longer fit are
//! left out.
//!
//! Where nobody said anything there is no header, or one that [says so](AddAuthResultsLayer::or_none).
//!
//! Whoever writes such headers has to remove those that others wrote in the same name:
//! [`strip`](AddAuthResultsLayer::strip) does, and so does the layer
//! [`strip_auth_results`](crate::strip_auth_results), around this one or within. Either leaves the
//! header of this layer.
//!
//! # Cost
//!
//! Some 290 instructions an event, counted by `cargo bench -p milter-tests --bench instructions`; no
//! allocation before the end, but for the filters' own results. There the header is written,
//! with an allocation for each part of a result. With `strip` it has the cost of that layer, too.

mod layer;
mod results;
mod service;
mod write;

pub use self::layer::AddAuthResultsLayer;
pub use self::results::{AuthResult, AuthResultError, AuthResults};
pub use self::service::AddAuthResults;
pub use crate::outgoing::ResponseFuture;

#[cfg(all(test, feature = "strip-auth-results"))]
mod tests;
