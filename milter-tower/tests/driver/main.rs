//! The server against an MTA in small: what goes over the wire, and what a service sees.

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod closing;
mod ends;
mod failures;
mod faults;
mod filter;
mod frames;
mod hardening;
mod illegal;
mod instances;
mod life;
mod limits;
mod listening;
mod negotiate;
mod progress;
mod replies;
mod router;
mod serving;
mod session;
mod silent;
mod swap;
mod tracing;
