//! Tower's own layers around a filter: which of them work, and what those do that do not.

mod common;
mod sound;
mod unsound;
