//! A layer that bounds how many connections or messages there are at once.
//!
//! Needs the feature `concurrency-limit`.
//!
//! ```
//! use milter_middleware::concurrency_limit::{ConcurrencyLimitLayer, Counts};
//! use milter_tower::{Router, SmtpReply};
//! use tower::ServiceBuilder;
//!
//! let filter = ServiceBuilder::new()
//!     .layer(ConcurrencyLimitLayer::per_client_ip(20))
//!     .layer(
//!         ConcurrencyLimitLayer::new(500)
//!             .counts(Counts::Messages)
//!             .verdict(SmtpReply::tempfail("Busy, please come again")),
//!     )
//!     .service(Router::new());
//! # let _ = filter;
//! ```
//!
//! What is beyond the limit gets an answer at once, and never waits: a connection at connect, a
//! message at MAIL. The filter within does not see it. What was let in counts until it is over for the
//! filter: a [connection](Counts::Connections) until the client or the MTA ends the session, also
//! while nothing comes; a [message](Counts::Messages) until its end, however that comes.
//!
//! The answer to a connection is `421 4.3.2 Too many connections, please try again later`. Both MTAs
//! hang up on the client then. Other temporary refusals at connect let the client stay: it is greeted,
//! and hears of it at MAIL; it does not count meanwhile. The answer to a message is `451 4.3.2 Too
//! many messages at once, please try again later`, which leaves the session to others of its kind;
//! with a 421 the session would be over there, too. [`verdict`](ConcurrencyLimitLayer::verdict) says
//! otherwise.
//!
//! It asks for replies at connect, or at MAIL.
//!
//! # Not tower's own
//!
//! `tower::limit::ConcurrencyLimit` bounds calls, events that is, not messages. It takes a permit in
//! `poll_ready`, keeps it until the call that follows has its answer, and has whoever comes too late
//! wait there, and the MTA with it. The server asks `poll_ready` only when there is an event, so that
//! no idle connection keeps a permit, unless a layer around it answers that event itself (a rate
//! limit, a size limit): then the permit is kept until the filter is called next, and clients that
//! were refused and stay take all there are. So have it around such layers, or as a member of a
//! [`Chain`](milter_tower::Chain) within them, which asks a member whether it is ready only when
//! there is something for it. With `load_shed` around it there is an error in the place of the wait, of which
//! [`failure_policy`](https://docs.rs/milter-middleware/latest/milter_middleware/failure_policy/) makes
//! a verdict: in the middle of a message, maybe. That is right for what an event costs, a scanner
//! that bears ten scans at once say; this layer is for what a connection or a message does, which is
//! let in or not when it comes.
//!
//! # Cost
//!
//! One atomic step for a connection or a message and one for its end; by a key a short lock for
//! each. Other events take nothing but some counting: some 270 instructions, counted
//! by `cargo bench -p milter-tests --bench instructions`.

mod layer;
mod permit;

pub use self::layer::{ConcurrencyLimit, ConcurrencyLimitLayer, Counts};
pub use crate::judged::ResponseFuture;
pub use crate::key::Key;

#[cfg(test)]
mod tests;
