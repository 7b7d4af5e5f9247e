//! The bodies of the fuzz targets: plain functions of bytes, which panic where something is wrong.
//!
//! `tests/fuzz` runs them under libFuzzer and says how; the test `corpus` runs them on what was
//! found worth keeping. Each looks for more than panics:
//!
//! | target | what goes in | what must hold |
//! | --- | --- | --- |
//! | [`filter_codec`], [`mta_codec`] | bytes from a peer, in pieces | the pieces make no difference, what is read can be written, buffers stay small |
//! | [`connection`] | a mail server's moves and a filter's acts | replies in step and allowed, ends told once, what fails does not pass |
//! | [`chain`] | the same moves, and members of every kind with their acts | the same, and for each member: its ends, nothing after its last word |
//! | [`negotiation`] | an offer and needs | nothing is agreed that was not offered, nothing needed is missing |
//! | [`smtp_reply`] | the parts of a reply, and what a filter may send | what is made can be sent, and means the same when it is read |
//! | [`client`] | a mail server's calls, and what a filter answers | nothing is sent that was not agreed on, failures stay, edits are bounded |
//! | [`network`] | the same over a connection, with time | every call ends, mail whose milter failed is treated as configured |
//! | [`planner`] | headers, and what filters make of them | the plan makes the same of them at once |
//!
//! The same bytes always do the same: there is no other source of chance, and time is paused.

mod client;
mod codec;
mod connection;
mod input;
mod negotiation;
mod network;
mod planner;
mod smtp_reply;

pub use client::client;
pub use codec::{filter_codec, mta_codec};
pub use connection::{chain, connection};
pub use negotiation::negotiation;
pub use network::network;
pub use planner::planner;
pub use smtp_reply::smtp_reply;

/// A target, and its name in `tests/fuzz`.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 9] = [
    ("filter_codec", filter_codec),
    ("mta_codec", mta_codec),
    ("connection", connection),
    ("chain", chain),
    ("negotiation", negotiation),
    ("smtp_reply", smtp_reply),
    ("client", client),
    ("network", network),
    ("planner", planner),
];
