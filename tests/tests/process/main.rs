//! Filters as processes: what the system around them gives and takes.

mod check;
mod descriptors;
mod production;
mod systemd;
mod trace;
