//! What the server allocates for a message and for each of its events, by scenario.
//!
//!     cargo bench -p milter-tests --bench allocations
//!
//! These are figures of one connection that goes on: what negotiation and set-up take is left
//! out. A reallocation counts as an allocation. The second table is what each layer of
//! `milter-middleware` adds to that of the filter without it.

mod common;
#[path = "common/layers.rs"]
mod layers;

use common::SCENARIOS;
use layers::LAYERS;

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
        let run = |messages| runtime.block_on(common::serve(mode, session, messages));
        let [blocks, bytes] = a_message(few, run);
        let events = common::per(session.next.events as u64, 1);
        println!(
            "{name:12} {events:8} {blocks:22.2} {:9.3} {bytes:18.0} {:9.1}",
            blocks / events,
            bytes / events
        );
    }

    println!("\nlayer               allocations a message  an event");
    let session = &*Box::leak(Box::new(layers::layer_session()));
    let events = common::per(session.next.events as u64, 1);
    let mut none = None;
    for layer in LAYERS {
        let run = |messages| runtime.block_on(layers::serve_layer(layer, session, messages));
        let [blocks, _] = a_message(few, run);
        let added = blocks - *none.get_or_insert(blocks);
        println!("{layer:24} {added:16.2} {:9.3}", added / events);
    }
}

/// How many allocations and bytes a message takes.
fn a_message(few: u64, run: impl Fn(u64)) -> [f64; 2] {
    let count = |messages| {
        let before = dhat::HeapStats::get();
        run(messages);
        let after = dhat::HeapStats::get();
        [
            after.total_blocks - before.total_blocks,
            after.total_bytes - before.total_bytes,
        ]
    };
    // What is made once falls out of the difference.
    let (once, twice) = (count(few), count(2 * few));
    [0, 1].map(|n| common::per(twice[n] - once[n], few))
}
