//! What the server allocates for a message and for each of its events, by scenario.
//!
//!     cargo bench -p milter-tests --bench allocations
//!
//! These are figures of one connection that goes on: what negotiation and set-up take is left
//! out. A reallocation counts as an allocation.

mod common;

use common::SCENARIOS;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

fn main() {
    // `cargo test --benches` only wants to know whether it runs.
    let few = if std::env::args().any(|arg| arg == "--bench") {
        100
    } else {
        1
    };
    let runtime = common::runtime();
    let _profiler = dhat::Profiler::builder().testing().build();
    println!("scenario       events  allocations a message  an event    bytes a message  an event");
    for scenario in SCENARIOS {
        let (name, mode, _) = scenario;
        let session = &*Box::leak(Box::new(common::session(scenario)));
        let run = |messages| {
            let before = dhat::HeapStats::get();
            runtime.block_on(common::serve(mode, session, messages));
            let after = dhat::HeapStats::get();
            [
                after.total_blocks - before.total_blocks,
                after.total_bytes - before.total_bytes,
            ]
        };
        // What is made once falls out of the difference.
        let (once, twice) = (run(few), run(2 * few));
        let [blocks, bytes] = [0, 1].map(|n| common::per(twice[n] - once[n], few));
        let events = common::per(session.next.events as u64, 1);
        println!(
            "{name:12} {events:8} {blocks:22.2} {:9.3} {bytes:18.0} {:9.1}",
            blocks / events,
            bytes / events
        );
    }
}
