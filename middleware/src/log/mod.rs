//! A layer that writes one line for each message, however it ended.
//!
//! Needs the feature `log`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use milter_middleware::log::{Addresses, LogLayer};
//! use milter_tower::testing::{Mail, MockMta};
//! use milter_tower::{Router, SmtpReply};
//! use tower::Layer;
//!
//! let filter = Router::new().on_mail(async || SmtpReply::tempfail("Later, please"));
//! let layer = LogLayer::new().addresses(Addresses::Domain);
//! # let lines = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
//! # let log = std::sync::Arc::clone(&lines);
//! # let layer = layer.to(move |line: &str| log.lock().unwrap().push_str(line));
//! let mut mta = MockMta::sendmail(layer.layer(filter));
//! mta.deliver(Mail::new().from("alice@example.org").to("bob@example.net")).await;
//! # let line = lines.lock().unwrap();
//! # assert!(line.contains("client_name=client.example helo=client.example from=*@example.org recipients=0 outcome=tempfail stage=mail reply=\"451 4.7.1 Later, please\" time="), "{line}");
//! # assert_eq!(line.matches("event=message").count(), 1);
//! # }
//! ```
//!
//! That logs, by `tracing`:
//!
//! ```text
//! event=message connection=1 queue_id=8AAAAAA0001 client=192.0.2.1 client_name=client.example
//! helo=client.example from=*@example.org recipients=0 outcome=tempfail stage=mail
//! reply="451 4.7.1 Later, please" time=0.000084
//! ```
//!
//! (in one line). A message has its line when it ends: by a verdict, by the client, or with the connection, and
//! also if the filter breaks at it. A message of which the layer saw nothing has none: one that the
//! server or a layer outside answered alone, and those that follow on an *accept* at connect or
//! HELO, of which the MTA tells no more.
//!
//! # Fields
//!
//! In this order; what is not known is left out.
//!
//! | field | what |
//! | --- | --- |
//! | `ts` | the time, unless lines go to [`Tracing`], whose subscriber has it |
//! | `event` | `message`, or `connection` ([if wanted](LogLayer::connections)) |
//! | `connection` | the number of the connection with the MTA, as in the server's own lines |
//! | `queue_id` | Postfix has none for a message of which it took no recipient |
//! | `client`, `client_name`, `helo` | the client's address, its host name, and what it says it is |
//! | `user` | the user who authenticated |
//! | `from` | the sender |
//! | `recipients`, `refused` | how many were accepted so far as this filter knows, and how many it refused |
//! | `to` | the recipients, [if wanted](LogLayer::list_recipients) |
//! | `size` | what the client announced with `SIZE=` |
//! | `body` | the bytes of the body, if the filter is shown it: for the log alone it is not asked for |
//! | `outcome` | `accept`, `reject`, `tempfail`, `discard`: what the MTA was told; `aborted`: by the client, the MTA or another filter; `lost`: the connection; `failed`: the filter broke, or a layer lost the end, and it did not hear how it ended |
//! | `stage` | where that was; of an aborted message where the filter refused last, or what came last of it |
//! | `reply` | the filter's words |
//! | `member`, `member_failed_at` | the member of a [`Chain`](milter_tower::Chain) that [decided so](milter_tower::chain::Decided), or failed |
//! | `failure`, `failed_at` | the first [failure](crate::classify) of the filter, and the event |
//! | `edits`, `kinds` | how many modifications an accepted message got, and of each kind |
//! | `quarantine` | why it is held |
//! | `time` | seconds from its first event to its end |
//!
//! What comes from outside cannot break a line or look like a field: it is quoted and escaped, with
//! characters that terminals act on or do not show, and cut after 1,000 bytes.
//!
//! # What it needs, and costs
//!
//! It records what it tells of: client, HELO, sender and recipients are asked for without a reply
//! where the filter does not want them, so that the MTA need not wait. Verdicts it leaves as they
//! are. An event takes no allocation and no reading of the clock, but the first of a message and the
//! last, with which the line is made: some 190 instructions. What is done once a message takes some
//! 30,000 more, counted by `cargo bench -p milter-tests --bench instructions`, and six allocations.

mod future;
mod layer;
mod line;
mod privacy;
mod service;
mod sink;
mod told;
mod write;

use self::service::Config;

pub use self::future::ResponseFuture;
pub use self::layer::LogLayer;
pub use self::privacy::{Addresses, Clients, HashKey};
pub use self::service::Log;
pub use self::sink::{Tracing, WriteLine, Writer};

#[cfg(test)]
mod tests;
