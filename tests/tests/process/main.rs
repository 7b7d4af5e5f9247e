//! Filters as processes: what the system around them gives and takes.

mod check;
mod descriptors;
mod systemd;
mod trace;
