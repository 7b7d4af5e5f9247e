//! Filters elsewhere: what they are told, what comes of it, and what happens when they are lost.

#[path = "../common/mod.rs"]
#[allow(dead_code, unused_imports, reason = "what other tests use, too")]
mod common;

mod backend;
mod chain;
mod connectors;
mod ends;
mod faults;
mod negotiation;
mod pool;
mod proxy;
mod replaced;
