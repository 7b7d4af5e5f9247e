//! Filters as processes: what the system around them gives and takes.

mod descriptors;
mod systemd;
mod trace;
