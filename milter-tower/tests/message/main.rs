//! Filters that see whole messages, behind the server and an MTA in small.

#[path = "../common/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other tests use more of it")]
mod common;

mod body;
mod early;
mod edits;
mod ends;
mod negotiate;
mod server;
mod streaming;
