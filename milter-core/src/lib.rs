//! The milter protocol without I/O.
#![forbid(unsafe_code)]

mod text;

pub use text::Text;
