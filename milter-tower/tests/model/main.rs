//! Random mail servers against random filters, checked against a model of the protocol.
//!
//! Each seed makes one connection: a filter that asks for random events and answers at random
//! (verdicts, errors, panics, answers that come late or never, panics in drops), and a mail
//! server that sends random commands, also in orders that no mail server has, one by one or in
//! batches. Time is paused, so that deadlines cost nothing. Checked is:
//!
//! - Each command that has a reply by the negotiation gets one final reply, others get none, and
//!   the connection stays open until the mail server says goodbye.
//! - A reply is one that its command allows; modifications come at the end of a message only.
//! - A message at which the filter failed does not pass, and the filter is told that it did not.
//! - A clone of the filter sees the negotiation first, ends of messages that it saw begin only,
//!   nothing after it panicked, and its close, unless it panicked, once and last.
//!
//! The seeds are 0 to 1,499. For more, or for others, say how many or which:
//!
//! ```sh
//! MILTER_MODEL_SEEDS=100000 cargo test -p milter-tower --test model
//! MILTER_MODEL_SEEDS=17..18 cargo test -p milter-tower --test model
//! ```
//!
//! What fails says the seed, and prints all that went to and fro.

#[path = "../common/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other tests use more of it")]
mod common;

mod check;
mod mta;
mod rng;
mod script;
mod session;
mod trace;

use std::ops::Range;

use crate::trace::Trace;

/// How many seeds there are unless said otherwise.
const SEEDS: u64 = 1500;

fn seeds() -> Range<u64> {
    let Ok(wanted) = std::env::var("MILTER_MODEL_SEEDS") else {
        return 0..SEEDS;
    };
    let number = |text: &str| -> u64 {
        let number = text.trim().parse();
        number.expect("MILTER_MODEL_SEEDS is a number or two, as in 10..20")
    };
    match wanted.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&wanted),
    }
}

#[tokio::test(start_paused = true)]
async fn random_sessions_keep_to_the_protocol() {
    for seed in seeds() {
        let trace = Trace::default();
        // A task of its own, so that whatever panics is told with its seed.
        let run = tokio::spawn(session::run(seed, trace.clone())).await;
        assert!(
            run.is_ok(),
            "seed {seed} failed as said above; alone: MILTER_MODEL_SEEDS={seed}..{}\n{trace}",
            seed + 1
        );
    }
}
