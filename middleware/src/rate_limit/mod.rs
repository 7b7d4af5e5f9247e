//! A layer that bounds how much comes in which time.
//!
//! Needs the feature `rate-limit`.
//!
//! ```
//! use std::time::Duration;
//!
//! use milter_middleware::rate_limit::{Counts, Over, Quota, RateLimitLayer};
//! use milter_tower::Router;
//! use tower::ServiceBuilder;
//!
//! let connections = RateLimitLayer::per_client_ip(Quota::per_minute(60).burst(20))
//!     .counts(Counts::Connections)
//!     .over(Over::temp_fail("Too many connections, please slow down"));
//! // A user whose password was stolen does not send to the whole world.
//! let recipients = RateLimitLayer::per_user(Quota::per_hour(500)).counts(Counts::Recipients);
//! let patient = RateLimitLayer::per_recipient(Quota::per_second(1).burst(10))
//!     .over(Over::delay(Duration::from_secs(3)));
//! let filter = ServiceBuilder::new()
//!     .layer(connections)
//!     .layer(recipients)
//!     .layer(patient)
//!     .service(Router::new());
//! # let _ = filter;
//! ```
//!
//! A limit is a [`Quota`] for each of what it is kept by (a client, a network, a sender, a domain, a
//! user, a recipient, what a function says) of what it [counts](Counts). What is over the limit is
//! refused for now, unless [`Over`] says otherwise: made to wait, marked by a header, or logged. Each
//! time there is a log line, and [`on_over`](RateLimitLayer::on_over) is called. Both have the key,
//! which may be somebody's address.
//!
//! | counts | where | what is refused |
//! | --- | --- | --- |
//! | [`Connections`](Counts::Connections) | at connect; by a sender or a user at the first MAIL | what comes in the session: MTAs take a refusal there, and tell the client at MAIL (Sendmail in words of its own) |
//! | [`Messages`](Counts::Messages) | at MAIL | the message |
//! | [`Recipients`](Counts::Recipients) | at each RCPT | that recipient only |
//! | [`Bytes`](Counts::Bytes) | at MAIL, for the size that is announced, and at the end of the message for what came beyond | the message |
//!
//! The filter within is not asked about what is refused, which costs no more than it did. What the
//! filter or the MTA refuses later was counted all the same: a client that guesses recipients is
//! one to slow down. Where a limit cannot be kept, because the client has no address (it came over a
//! unix socket), did not authenticate, or has the null sender, there is none.
//!
//! The layer asks the MTA for what it has to see, and for replies where it may refuse; with
//! [`header`](Over::header) and [`log`](Over::log) the MTA need not wait for it. If the filter within
//! accepts early, what the limit still has to count goes on to come, but not to the filter.
//!
//! The buckets are in [`Memory`], or in another [`Store`]: one for several hosts, say.
//!
//! # Not tower's own
//!
//! `tower::limit::RateLimit` counts calls, events that is, of all clients together, and has
//! whoever comes too late wait in `poll_ready`, which knows of no event, client or deadline. It is for
//! what is behind a filter, a service that is asked over the network say.
//!
//! # Cost
//!
//! An event that is counted takes a short lock or two, a reading of the clock and an allocation, some
//! more if what it is kept by is a text. Others take some counting. A timer is set only for what waits.
//! Over the events of a message, by client address and message, that is some 350 instructions each,
//! counted by `cargo bench -p milter-tests --bench instructions`.

mod future;
mod layer;
mod lent;
mod memory;
mod over;
mod quota;
mod service;
mod store;
mod tally;

pub use self::future::ResponseFuture;
pub use self::layer::{Counts, RateLimitLayer};
pub use self::memory::Memory;
pub use self::over::{Over, OverLimit};
pub use self::quota::Quota;
pub use self::service::RateLimit;
pub use self::store::{Decision, Store, Take};
pub use crate::key::Key;

#[cfg(test)]
mod tests;
