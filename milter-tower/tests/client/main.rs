//! The client: what it tells a milter, what it makes of the answers, and of milters that fail.

#[path = "../common/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other tests need more of it")]
mod common;

mod deliver;
mod failures;
mod macros;
mod order;
mod peer;
mod steps;
mod writes;
