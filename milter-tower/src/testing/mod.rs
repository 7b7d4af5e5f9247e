//! What a test of a filter needs: mails to send, and what became of them.
//!
//! A [`Mail`] is what a client sends, with as little said as the test cares about. A [`Delivery`]
//! is what became of it: what the filter answered, what it changed, and the message as the MTA
//! would deliver it.

mod assert;
#[doc(hidden)]
pub mod check;
mod corpus;
mod delivery;
mod mail;
mod show;
#[cfg(test)]
mod tests;

pub use self::corpus::{NastyMail, nasty_mails};
pub use self::delivery::{Answer, Delivered, Delivery, Fate};
pub use self::mail::Mail;
