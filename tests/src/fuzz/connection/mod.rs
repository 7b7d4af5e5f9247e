//! A whole connection: a mail server's moves against a filter's acts.
//!
//! The input is text of four lines, a letter a choice: the settings ([`plan`]), what the filter
//! needs (the letters of the target `negotiation`), its acts ([`filter`]) in the order of its
//! calls, and the mail server's moves ([`moves`]). Bytes that mean nothing somewhere stand for
//! something that does. A session with a message, each command answered before the next:
//!
//! ```text
//! .
//! A
//! cccccccccc
//! CHMRTLNBE
//! ```
//!
//! Time is paused, so that hours of silence cost nothing.

mod calls;
mod chain;
mod check;
pub(super) mod edits;
mod filter;
mod moves;
mod mta;
mod plan;
mod replies;
mod trace;

use std::time::Duration;

use milter_tower::{ConnectionError, serve_connection};
use tokio::runtime::Builder;
use tokio::time::timeout;

pub use self::chain::chain;
use self::filter::Scripted;
pub(super) use self::moves::command;
use self::mta::Mta;
use self::plan::Plan;
use self::trace::Trace;
use super::input::Choices;

/// Longer than the server ever takes for a command, and for what it tells the filter with it.
const PATIENCE: Duration = Duration::from_secs(400);

/// A filter that answers legally or not, fails, panics or hangs, before a mail server that keeps
/// to the protocol or not. Whatever they do:
///
/// - What the mail server gets are whole frames, a reply for each command that has one by the
///   negotiation and no other, each allowed where it comes; in order, and all of them where the
///   mail server waits and says goodbye.
/// - The answer to the offer is the agreement, and edits are within it.
/// - What the filter says is what the mail server is told, and a message at which it failed does
///   not pass.
/// - A clone of the filter is told the negotiation first, each message that it saw begin has one
///   end, and its close comes once and last. After it panicked it is not called.
/// - The connection ends when the mail server is gone, and an error has its cause.
///
/// # Panics
///
/// If something is wrong.
pub fn connection(data: &[u8]) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(run(data));
}

async fn run(data: &[u8]) {
    let mut input = Choices::new(data);
    let plan = Plan::read(&mut input);
    let trace = Trace::default();
    let service = Scripted::new(&plan, trace.clone());
    let (mta, io) = tokio::io::duplex(plan.buffer);
    let served = serve_connection(io, service).settings(plan.settings.clone());
    let driver = tokio::spawn(served.into_future());

    let mut mta = Mta::new(mta, &plan, trace.clone());
    moves::play(&mut mta, &mut input).await;
    let mta = mta.leave().await;

    let bound = PATIENCE * u32::try_from(mta.commands() + 2).expect("not so many");
    let ended = timeout(bound, driver).await.expect("the server ends");
    let ended = ended.expect("the server does not panic");
    let in_turn = plan.in_turn && !mta.causes.is_any();
    let agreement = mta.finish(&ended).await;
    let entries = trace.entries();
    calls::clones(&entries);
    if let Some(agreement) = agreement.filter(|_| in_turn) {
        check::verdicts(&entries, &agreement, &plan.failure);
        check::failures(&entries, &agreement);
    }
}

/// How the server's side ended.
type Ended = Result<(), ConnectionError>;
