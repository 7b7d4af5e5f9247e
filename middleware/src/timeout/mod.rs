//! A layer that bounds how long the filter may take.
//!
//! Needs the feature `timeout`.
//!
//! ```
//! use std::time::Duration;
//!
//! use milter_middleware::timeout::TimeoutLayer;
//! use milter_tower::{Router, SmtpReply, Stage};
//! use tower::Layer;
//!
//! let layer = TimeoutLayer::new(Duration::from_secs(5))
//!     .at(Stage::EndOfMessage, Duration::from_secs(60))
//!     .per_message(Duration::from_secs(90))
//!     .verdict(SmtpReply::tempfail("Checking takes too long, please come again"));
//! let filter = layer.layer(Router::new());
//! # let _ = filter;
//! ```
//!
//! There are three limits: for each event, for the events of one [stage](TimeoutLayer::at), and for
//! [all events of a message](TimeoutLayer::per_message) together. What the MTA takes between the
//! events does not count, nor how long the filter takes until it is ready, as with tower's own. The MTA has limits of its own, which the server knows
//! ([`Request::deadline`](milter_tower::Request::deadline)): where those are shorter they hold, a
//! little earlier, so that the answer is this layer's and is there before the MTA gives up.
//!
//! The filter is told: the request's deadline is that of this layer, and a filter that asks what is
//! left ([`Deadline::remaining`](milter_tower::Deadline::remaining)) can do with less.
//!
//! When the time is up the call is dropped. Without a [verdict](TimeoutLayer::verdict) the result is
//! an error, [`TimedOut`], as with tower's own `timeout`: a failure, which layers around can
//! count, and which is the failure verdict in the end. With one, that is the answer; where no reply
//! is due, it is given at the next event that has one. The filter within hears no more of a message
//! that ended so but its end. In the negotiation it is the answer from connect on.
//!
//! # Cost
//!
//! A reading of the clock for each event, a second one with a limit for messages, or where the MTA's
//! limit is the shorter one: some 460, 810 and 590 instructions an event, counted
//! by `cargo bench -p milter-tests --bench instructions`. A timer is only set for a call that does not
//! answer at once. Nothing is allocated.

mod error;
mod future;
mod layer;
mod service;

pub use self::error::TimedOut;
pub use self::future::ResponseFuture;
pub use self::layer::TimeoutLayer;
pub use self::service::Timeout;

#[cfg(test)]
mod tests;
