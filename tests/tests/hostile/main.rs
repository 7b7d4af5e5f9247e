//! Clients that mean harm, over real sockets, against a server in a process of its own.
//!
//! Each row of the table is an attack. While it runs a well-behaved client sends message after
//! message over a connection of its own. A row says how long the server may take to answer or to
//! close, and by how much its memory may grow; see `target.rs` for what else holds for every row.

mod cuts;
mod floods;
mod frames;
mod orders;
mod slow;
mod storms;
mod target;
