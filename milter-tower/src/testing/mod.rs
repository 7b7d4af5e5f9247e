//! What a test of a filter needs: mails to send, a mail server to send them through, and what
//! became of them. Needs the feature `testing`.
//!
//! A [`Mail`] is what a client sends, with as little said as the test cares about. A [`MockMta`]
//! is a mail server in small, which asks the filter as Postfix or Sendmail would. A [`Delivery`]
//! is what became of the mail: what the filter answered, what it changed, and the message as the
//! MTA would deliver it.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use std::convert::Infallible;
//! use milter_tower::testing::{Mail, MockMta};
//! use milter_tower::{Event, Request, Response, SmtpReply};
//! use tower::service_fn;
//!
//! let filter = service_fn(async |request: Request| {
//!     Ok::<_, Infallible>(match request.event() {
//!         Event::Mail(sender) if sender.is_null() => SmtpReply::reject("No bounces here").into(),
//!         _ => Response::proceed(),
//!     })
//! });
//! for mut mta in [MockMta::postfix(filter), MockMta::sendmail(filter)] {
//!     assert!(mta.deliver(Mail::new()).await.is_accepted());
//!     let bounce = mta.deliver(Mail::new().from("<>")).await;
//!     assert_eq!(bounce.reply().unwrap().to_string(), "550 5.7.1 No bounces here");
//! }
//! # }
//! ```
//!
//! # Assertions
//!
//! A delivery answers questions; assertions ask them, and show what differs when they fail. Macros
//! of the crate: [`assert_accepted`](crate::assert_accepted),
//! [`assert_refused`](crate::assert_refused), [`assert_discarded`](crate::assert_discarded),
//! [`assert_quarantined`](crate::assert_quarantined), [`assert_header`](crate::assert_header),
//! [`assert_no_header`](crate::assert_no_header), [`assert_body`](crate::assert_body),
//! [`assert_recipients`](crate::assert_recipients).
//!
//! ```text
//! not the expected header X-Spam; the mail was accepted at end of message
//!   From: alice@example.org
//! - X-Spam: YES
//! + X-Spam: NO
//! ```
//!
//! # Recordings
//!
//! What a mail server and a milter said to each other in production can be [recorded](recording), and
//! [replayed](Recording::replay) before a filter.
//!
//! # Nasty mails
//!
//! Real mail has broken filters with what nobody thinks of. [`nasty_mails`] has some ninety of such,
//! and [`survives`] runs them all over a filter:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! # use milter_tower::{BoxError, Request, Response};
//! # let filter = tower::service_fn(async |_: Request| Ok::<_, BoxError>(Response::proceed()));
//! milter_tower::testing::survives(filter).await;
//! # }
//! ```

mod ask;
mod assert;
#[doc(hidden)]
pub mod check;
mod corpus;
mod deliver;
mod dialogue;
mod failures;
mod mta;
mod profile;
pub mod recording;
mod smtp_session;
mod step;
mod survive;
#[cfg(test)]
mod tests;
mod values;
mod wire;

pub use self::corpus::{NastyMail, nasty_mails};
pub(crate) use self::failures::Failures;
pub use self::mta::MockMta;
pub use self::profile::MtaProfile;
pub use self::recording::Recording;
pub use self::smtp_session::SmtpSession;
pub use self::step::{Negotiation, Reaction, Step};
pub use self::survive::survives;
#[doc(no_inline)]
pub use crate::client::Failure;
use crate::client::mail;
#[doc(inline)]
pub use crate::client::{Delivered, Delivery, Fate, Mail, StageAnswer as Answer};
