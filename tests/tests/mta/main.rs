//! The program `control` (and `hello`) behind a real Postfix and a real Sendmail: what the SMTP
//! client is told, what is delivered, and what the filter saw.
//!
//! Each test is a group of cases that share one mail server and one filter process; a case that
//! fails does not end its group. Where the servers differ, the cases say what each does. `model` and
//! `stacks` have other filters: see there.

mod body;
mod chain;
mod edits;
mod envelope;
mod full;
mod group;
mod hello;
mod local;
mod message;
mod mock;
mod model;
mod planned;
mod programs;
mod replies;
mod secured;
mod session;
mod slow;
mod stacks;
mod steps;
mod together;
mod verdicts;
