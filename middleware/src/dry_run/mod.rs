//! A layer that lets a filter run without effect.
//!
//! Needs the feature `dry-run`.
//!
//! ```
//! use milter_middleware::dry_run::DryRunLayer;
//! use milter_tower::{Recipient, Router, SmtpReply};
//! use tower::Layer;
//!
//! let policy = Router::new().on_rcpt(async |to: Recipient| {
//!     (!to.is_at("example.org")).then(|| SmtpReply::reject("We do not relay"))
//! });
//! let layer = DryRunLayer::new();
//! let counts = layer.counts();
//! let filter = layer.layer(policy);
//! // Later, where numbers are shown:
//! println!("would have refused {} messages or recipients", counts.refused());
//! # let _ = filter;
//! ```
//!
//! A new policy is tried on real mail: the filter sees everything that it would see, and what it answers
//! is logged and counted, but the MTA hears to go on, and nothing is changed. When it is good it goes
//! live, maybe step by step: [`share`](DryRunLayer::share) says for which part of the messages it is
//! a dry run, and the rest is for real.
//!
//! A filter whose verdict ended its message is left out until the next, as it would be: it hears of
//! the message's end with its own verdict. One that refused a recipient or the client goes on, though
//! it would not have seen as much; a recipient that it refused is among the session's nevertheless.
//! A filter that fails is left out of its message, too.
//!
//! Verdicts on the client and its greeting come before any message: they are for real for the same
//! part of the sessions. In the negotiation the filter asks for what it needs, but nothing of it is
//! required: an MTA that lacks an action would not be asked for it.
//!
//! # Cost
//!
//! Some 190 instructions an event, counted by `cargo bench -p milter-tests --bench instructions`.
//! What would have been the answer is a line in the log, or what the hook makes of it.

mod counts;
mod future;
mod layer;
mod service;

pub use self::counts::Counts;
pub use self::future::ResponseFuture;
pub use self::layer::{DryRunLayer, WouldBe};
pub use self::service::DryRun;

#[cfg(test)]
mod tests;
