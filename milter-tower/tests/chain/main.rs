//! Chains against an MTA in small: what goes over the wire, and what each member sees.

#[path = "../common/mod.rs"]
#[allow(dead_code, unused_imports, reason = "what other tests use, too")]
mod common;

mod apart;
mod conditions;
mod content;
mod decided;
mod early;
mod edits;
mod ends;
mod envelope;
mod equivalence;
mod failures;
mod held;
mod lost;
mod members;
mod negotiation;
mod parallel;
mod turns;
