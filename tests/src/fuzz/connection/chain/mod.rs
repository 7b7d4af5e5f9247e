//! A whole connection: a mail server's moves against a chain of filters.
//!
//! The input is text of four lines, a letter a choice: the settings ([`plan`](super::plan)), the
//! chain ([`members`]), what its members do, those of each up to a comma, and the mail server's moves
//! ([`moves`](super::moves)). A chain of a plain service, of a router and a `message` filter that
//! are asked at the same time, and of another chain with a time-out, before a mail server with one
//! message:
//!
//! ```text
//! .
//! p0[rm]t(p0f)
//! ccce,,,
//! C0H0M0R0TL0NB1E0
//! ```

mod check;
mod instances;
mod leaves;
mod members;
mod spy;

use milter_tower::serve_connection;
use tokio::runtime::Builder;
use tokio::time::timeout;

use self::members::Members;
use self::spy::{Log, Seen, Spy};
use super::PATIENCE;
use super::calls;
use super::mta::Mta;
use super::plan::Plan;
use super::trace::{Entry, Trace};
use crate::fuzz::input::Choices;

/// More than any member is ever called for one command or what is read as one, for all members
/// together.
const MOST_CALLS: usize = 1_000;

/// A chain of services of every kind, nested, in parallel, with conditions, time-outs and failure
/// policies, that answer legally or not, fail, panic or hang, before a mail server that keeps to the
/// protocol or not. Whatever they do:
///
/// - All that [`connection`](super::connection()) says of a filter and its mail server holds of a
///   chain and its mail server, and a chain neither panics nor fails by itself.
/// - Each instance of a member, and of each service within it, sees the negotiation first, one end
///   of each message of which it saw something, and none of others; its close comes once and last;
///   nothing comes after it broke, nor, in a message, after its own verdict on that.
/// - No chain says what would harm the mail server: each answer is allowed at its stage and within
///   the chain's agreement, edits come at the end only and with a message that passes.
/// - A message at which a member failed does not pass, unless some member's policy says so.
/// - The same input does the same again.
///
/// # Panics
///
/// If something is wrong.
pub fn chain(data: &[u8]) {
    let Some(first) = play(data) else { return };
    let again = play(data).expect("the same members");
    let differs = first.iter().zip(&again).find(|(one, other)| one != other);
    assert!(
        differs.is_none(),
        "the same does not do the same: {differs:#?}"
    );
    assert_eq!(first.len(), again.len());
}

/// All that happened, as text; none if it depends on the machine's threads.
fn play(data: &[u8]) -> Option<Vec<String>> {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(run(data))
}

async fn run(data: &[u8]) -> Option<Vec<String>> {
    let mut input = Choices::new(data);
    let plan = Plan::read(&mut Choices::new(input.line()));
    let tree = input.line();
    let acts = input.line();
    let trace = Trace::default();
    let log = Log::new(trace.clone());
    let members = Members::read(tree, acts, &log);
    let (may_pass, uses_files) = (members.may_pass, members.uses_files);

    let (mta, io) = tokio::io::duplex(plan.buffer);
    let served =
        serve_connection(io, Spy::root(members.chain, &log)).settings(plan.settings.clone());
    let driver = tokio::spawn(served.into_future());

    let mut mta = Mta::new(mta, &plan, trace.clone());
    super::moves::play(&mut mta, &mut input).await;
    let mta = mta.leave().await;

    let commands = mta.commands();
    let bound = PATIENCE * u32::try_from(commands + 2).expect("not so many");
    let ended = timeout(bound, driver).await.expect("the server ends");
    let ended = ended.expect("the server does not panic");
    let in_turn = plan.in_turn && !mta.causes.is_any();
    let agreement = mta.finish(&ended).await;
    // Calls that were lost end by themselves.
    tokio::time::sleep(PATIENCE).await;
    let entries = trace.entries();
    let seen = log.seen();
    let shown = OnPanic(&seen, &entries);
    calls::clones(&entries);
    instances::keep_to_the_order(&seen);
    check::chains_answer_legally(&seen);
    let calls = seen
        .iter()
        .filter(|one| matches!(one.what, spy::What::Called { .. }));
    let most = MOST_CALLS * (commands + 1);
    assert!(calls.count() <= most, "{commands} commands");
    if !may_pass {
        check::failures_do_not_pass(&seen);
    }
    if let Some(agreement) = agreement.filter(|_| in_turn) {
        super::check::verdicts(&entries, &agreement, &plan.failure);
    }
    (!uses_files).then(|| shown.lines().collect())
}

/// Shows all that happened where something is wrong.
struct OnPanic<'a>(&'a [Seen], &'a [Entry]);

impl OnPanic<'_> {
    fn lines(&self) -> impl Iterator<Item = String> {
        let Self(seen, entries) = self;
        let seen = seen.iter().map(ToString::to_string);
        let entries = entries.iter().enumerate();
        seen.chain(entries.map(|(at, entry)| format!("{at}: {entry:?}")))
    }
}

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.lines().for_each(|line| eprintln!("{line}"));
        }
    }
}
