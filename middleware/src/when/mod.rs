//! A layer that applies another one to some messages only.
//!
//! Needs the feature `when`.
//!
//! ```
//! use milter_middleware::size_limit::SizeLimitLayer;
//! use milter_middleware::when::WhenLayer;
//! use milter_tower::{Condition, Router};
//! use tower::Layer;
//!
//! // Who did not authenticate may send less.
//! let small = SizeLimitLayer::new(10 * 1024 * 1024);
//! let filter = WhenLayer::new(!Condition::authenticated(), small).layer(Router::new());
//! # let _ = filter;
//! ```
//!
//! The filter sees every message: those of which the [`Condition`](milter_tower::Condition) holds through the layer, the others
//! without it. To have a filter see some messages only, there is
//! [`Chain::with_when`](milter_tower::Chain::with_when).
//!
//! What a condition means, when it is known and what it needs of the MTA is that of a
//! [`Chain`](milter_tower::Chain), and it is one: of two members, the filter with the layer and the
//! filter without it, with the condition and its opposite. So a connection has two of the filter, and
//! each sees the negotiation, and connect and HELO unless it is known by then that it is left out. A
//! [late condition](milter_tower::Condition::recipient) cannot be used around a filter, or a layer, that judges the
//! envelope.
//!
//! A failure of either is that of a member too: it becomes a verdict here, by
//! [`on_failure`](WhenLayer::on_failure), and layers around see no error. In logs and metrics the two
//! are `when` and `otherwise`, and if the filter is a chain its member that decided.
//!
//! # Cost
//!
//! Some 2,430 instructions an event, counted by `cargo bench -p milter-tests --bench instructions`.
//! That is what a chain of two takes, of which one is left out.

mod layer;

pub use self::layer::{When, WhenLayer};

#[cfg(test)]
mod tests;
