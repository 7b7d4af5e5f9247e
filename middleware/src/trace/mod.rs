//! A layer that puts what a filter does into `tracing` spans.
//!
//! Needs the feature `trace`. The server has spans already, `milter{connection peer}` and within it
//! `message{queue_id client}`; the layer adds one for each event, `event{stage verdict edits}`, in
//! which the filter runs, and logs what comes and what is answered, in which time.
//!
//! ```
//! use milter_middleware::trace::{DefaultOnResponse, Level, TraceLayer};
//! use milter_tower::Router;
//! use tower::Layer;
//!
//! // Answers are logged at INFO, and that events come is not logged at all.
//! let layer = TraceLayer::new()
//!     .on_request(())
//!     .on_response(DefaultOnResponse::new().level(Level::INFO));
//! let filter = layer.layer(Router::new());
//! # fn check(_: impl tower::Service<milter_tower::Request> + Clone) {}
//! # check(filter);
//! ```
//!
//! By default all that is at the level DEBUG, failures at WARN. What is done at each point may be
//! given: any type with the trait, or a function.
//!
//! ```
//! use std::time::Duration;
//!
//! use milter_middleware::classify::Failed;
//! use milter_middleware::trace::{Span, TraceLayer};
//! use milter_tower::{BoxError, Request};
//!
//! let layer = TraceLayer::new()
//!     .make_span_with(|request: &Request| {
//!         let mta = request.session().mta();
//!         tracing::debug_span!("event", stage = ?request.event().stage(), ?mta)
//!     })
//!     .on_failure(|failed: &Failed<'_, BoxError>, time: Duration, _: &Span| {
//!         tracing::error!(class = %failed.class, ?time, "call somebody");
//!     });
//! # let _ = layer;
//! ```
//!
//! | hook | when | default |
//! | --- | --- | --- |
//! | [`MakeSpan`] | an event came | [`DefaultMakeSpan`] |
//! | [`OnRequest`] | then, in the span | [`DefaultOnRequest`] |
//! | [`OnResponse`] | the filter answered, not with an error | [`DefaultOnResponse`] |
//! | [`OnFailure`] | the filter [failed](crate::classify) | [`DefaultOnFailure`] |
//!
//! Negotiation and ends are events too. Queue id and client are the fields of the server's span
//! around, and not repeated. Nothing of a mail is logged but replies, which are the filter's own
//! words.
//!
//! A failure that no layer outside makes up for is logged by the server as well, with the answer
//! that the MTA got. If that is enough: `.on_failure(())`.
//!
//! # What it needs, and costs
//!
//! Of the negotiation nothing, and it changes no answer. Where no subscriber listens to the levels
//! of the hooks an event costs some 60 instructions, counted
//! by `cargo bench -p milter-tests --bench instructions`, and no allocation:
//! each default hook is asked before whether it has anything to do. A function is taken to have.
//!
//! A filter that says in `poll_ready` that it will never be ready is not called, and no hook sees
//! that. The server logs it.

#[macro_use]
mod level;

mod future;
mod hooks;
mod layer;
mod service;

use self::service::Hooks;

/// From `tracing`: the level of what is logged.
#[doc(no_inline)]
pub use tracing::Level;
/// From `tracing`: what hooks are given.
#[doc(no_inline)]
pub use tracing::Span;

pub use self::future::ResponseFuture;
pub use self::hooks::{
    DefaultMakeSpan, DefaultOnFailure, DefaultOnRequest, DefaultOnResponse, MakeSpan, OnFailure,
    OnRequest, OnResponse,
};
pub use self::layer::TraceLayer;
pub use self::service::Trace;

#[cfg(test)]
mod tests;
