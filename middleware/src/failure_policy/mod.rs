//! A layer that says what becomes of mail when the filter fails.
//!
//! Needs the feature `failure-policy`.
//!
//! ```
//! use std::time::Duration;
//!
//! use milter_middleware::failure_policy::{FailurePolicyLayer, OnError};
//! use milter_tower::{Router, SmtpReply, Stage};
//! use tower::ServiceBuilder;
//! use tower::load_shed::error::Overloaded;
//!
//! let policy = FailurePolicyLayer::fail_open()
//!     // Most is done at the end: there it is worth another try.
//!     .at(Stage::EndOfMessage, OnError::TempFail)
//!     .on::<Overloaded>(SmtpReply::tempfail("Busy, please come again"));
//! let filter = ServiceBuilder::new()
//!     .layer(policy)
//!     .load_shed()
//!     .concurrency_limit(100)
//!     .service(Router::new());
//! # let _ = filter;
//! ```
//!
//! Without it an error of the filter is what [`Settings::on_failure`](milter_tower::Settings::on_failure)
//! says, for the whole server. This layer decides for what is within it, by the kind of the error and
//! by the stage: the first [`on`](FailurePolicyLayer::on) that fits the error or one of its sources,
//! else [`at`](FailurePolicyLayer::at) this stage, else what the layer was made with. It is how an
//! error of any tower layer (a load that was shed, a time-out) becomes a verdict of choice.
//!
//! | | what the MTA hears, and what follows |
//! | --- | --- |
//! | [`TempFail`](OnError::TempFail), [`Reject`](OnError::Reject), [`Reply`](OnError::Reply) | that; where no reply is due, at the next event that has one |
//! | [`Open`](OnError::Open) | to go on: the filter is left out for the rest of the message, at connect and HELO of the session |
//! | [`Close`](OnError::Close) | the connection is closed, and the MTA does what it is configured to do without the filter: Postfix `milter_default_action`, Sendmail `F=` |
//! | [`Fail`](OnError::Fail) | the error goes on, to layers around and the server |
//!
//! In the negotiation a verdict is that from connect on, and `Open` leaves the filter out for the
//! connection: it is asked for nothing. A filter that says in `poll_ready` that it failed is of no more
//! use: the policy holds for all that is left of the connection. Errors at ends are logged only.
//!
//! Every error is logged as a warning, with what was answered, in the span of its message.
//!
//! # Cost
//!
//! Some 170 instructions an event, counted by `cargo bench -p milter-tests --bench instructions`.
//! Nothing is allocated but for errors.

mod future;
mod layer;
mod service;

pub use self::future::ResponseFuture;
pub use self::layer::{FailurePolicyLayer, OnError};
pub use self::service::FailurePolicy;

#[cfg(test)]
mod tests;
