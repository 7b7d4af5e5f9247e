//! A layer that removes what others claim to be our results of authentication.
//!
//! Needs the feature `strip-auth-results`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use milter_middleware::strip_auth_results::StripAuthResultsLayer;
//! use milter_tower::testing::{Mail, MockMta};
//! use milter_tower::{Router, assert_header};
//! use tower::Layer;
//!
//! let layer = StripAuthResultsLayer::new("mx.example.org").also("mail.example.org");
//! let forged = Mail::new()
//!     .header("Authentication-Results", "mx.example.org; dkim=pass header.d=bank.example")
//!     .header("Authentication-Results", "mx.example.net; spf=pass smtp.mailfrom=example.net");
//! let done = MockMta::postfix(layer.layer(Router::new())).deliver(forged).await;
//! assert_header!(
//!     done,
//!     "Authentication-Results",
//!     "mx.example.net; spf=pass smtp.mailfrom=example.net"
//! );
//! # }
//! ```
//!
//! Programs behind this host believe the headers `Authentication-Results` that carry its name, the
//! authserv-id. So a host that does such checks has to remove what comes in that name from outside
//! (RFC 8601 5). Which headers that are says
//! [`Headers::remove_auth_results`](milter_tower::Headers::remove_auth_results), which is for filters
//! that see whole messages: those of an id however it is written, and those of which nobody can say
//! whose a program takes them for. Results of others stay, and those of a chain
//! (`ARC-Authentication-Results`).
//!
//! They are removed from the mail that the filter within lets pass, also where it accepts early. The
//! filter itself sees them. What it writes is its own and stays, so that
//! [`add_auth_results`](crate::add_auth_results) may stand within this layer as well as around it;
//! a header to which it gives another value is its own, too.
//!
//! Headers that other filters of this MTA added before come in the same name, and go as well. Let the
//! filter that has this layer be the MTA's first, or have another id.
//!
//! On Postfix a header that the filter within inserts at an index above 1 may come to stand lower by
//! as many as were removed above it.
//!
//! # Cost
//!
//! The names of the headers are compared, and the ids of those that have that name read, which
//! allocates for each. Each header that goes is a modification of its own.
//! Where there are none it takes some 290 instructions an event, counted
//! by `cargo bench -p milter-tests --bench instructions`, and no allocation.

mod layer;
mod service;

pub use self::layer::StripAuthResultsLayer;
pub use self::service::StripAuthResults;
pub use crate::outgoing::ResponseFuture;

#[cfg(test)]
mod tests;
