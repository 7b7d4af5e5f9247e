//! How a filter works, how one is written, and why things are as they are.
//!
//! | you want to | page |
//! | --- | --- |
//! | have a filter that runs, in ten minutes | [Your first filter](first_filter) |
//! | know which way to write yours | [Which way to choose](choosing) |
//! | know what happens when a mail comes, and which answers there are | [The conversation](conversation) |
//! | keep something: for the program, a connection, a message | [State](state) |
//! | have the MTA send less, or more | [Needs and the negotiation](needs) |
//! | look into bodies | [Bodies](bodies) |
//! | change messages | [Edits](edits) |
//! | know what becomes of mail when something breaks or lasts | [Failures and time](failures) |
//! | test a filter without a mail server | [Testing](testing) |
//! | run it behind Postfix or Sendmail | [Deploying](deploying) |
//! | know how much of everything is taken | [Limits](limits) |
//! | put something around a filter | [Layers](layers) |
//! | run several filters in one process | [`chain`](crate::chain) |
//! | use a filter in another process, or several of one job | [Filters elsewhere](elsewhere) |
//! | ask filters, from a mail server in Rust | [Calling milters](calling) |
//! | move a filter from libmilter, pymilter or go-milter | [Porting](porting) |
//!
//! The pages can be read in this order, and each also by itself. Their examples are tests of this
//! crate.
//!
//! # Words
//!
//! These stand everywhere in the documentation:
//!
//! | word | what it means |
//! | --- | --- |
//! | MTA | the mail server: Postfix or Sendmail |
//! | client | the program that sends mail to the MTA by SMTP, not the MTA itself |
//! | event | what the MTA tells the filter: a client connected, a recipient was named |
//! | stage | the kind of an event, if it asks for an answer |
//! | verdict | the answer: proceed, accept, reject, tempfail, discard, skip, or a reply in words |
//! | edit | a change to a message, made at its end |
//! | macro | a fact that the MTA knows by name: the queue id is `i`, the user `{auth_authen}` |
//! | negotiation | the first thing on a connection: what the MTA can do, and what the filter needs |
//! | failure verdict | what the MTA hears when the filter breaks: tempfail, unless set otherwise |

#[doc = include_str!("first_filter.md")]
pub mod first_filter {}

#[doc = include_str!("choosing.md")]
pub mod choosing {}

#[doc = include_str!("conversation.md")]
pub mod conversation {}

#[doc = include_str!("state.md")]
pub mod state {}

#[doc = include_str!("needs.md")]
pub mod needs {}

#[doc = include_str!("bodies.md")]
pub mod bodies {}

#[doc = include_str!("edits.md")]
pub mod edits {}

#[doc = include_str!("failures.md")]
pub mod failures {}

// The test kit is there with its feature only, and what links to it.
#[cfg_attr(feature = "testing", doc = include_str!("testing.md"))]
#[cfg_attr(
    not(feature = "testing"),
    doc = "Testing a filter without a mail server: this page needs the feature `testing`."
)]
pub mod testing {}

#[doc = include_str!("deploying.md")]
pub mod deploying {}

#[doc = include_str!("limits.md")]
pub mod limits {}

#[doc = include_str!("layers.md")]
pub mod layers {}

#[doc = include_str!("elsewhere.md")]
pub mod elsewhere {}
#[doc = include_str!("calling.md")]
pub mod calling {}

#[doc = include_str!("porting.md")]
pub mod porting {}
