//! How long codec and connection take by themselves, without sockets.
//!
//!     cargo bench -p milter-tests --bench micro

mod common;

use std::hint::black_box;
use std::time::Instant;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use milter_core::{FilterCodec, Modification, Reply};
use tokio_util::codec::{Decoder, Encoder};

use common::SCENARIOS;

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    for scenario in [SCENARIOS[0], SCENARIOS[3]] {
        let wire = &common::session(scenario).first.bytes;
        group.throughput(Throughput::Bytes(wire.len() as u64));
        group.bench_function(format!("decode a message, {}", scenario.0), |b| {
            b.iter_batched(
                || BytesMut::from(&wire[..]),
                |mut wire| {
                    let mut codec = FilterCodec::new();
                    while let Some(command) = codec.decode(&mut wire).expect("a command") {
                        black_box(command);
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.throughput(Throughput::Elements(1));
    let header = Modification::add_header("X-Bench", "seen").expect("a header");
    for (name, reply) in [
        ("encode continue", Reply::Continue),
        ("encode a header", Reply::Modify(header)),
    ] {
        let mut codec = FilterCodec::new();
        let mut wire = BytesMut::with_capacity(4096);
        group.bench_function(name, |b| {
            b.iter(|| {
                wire.clear();
                codec.encode(black_box(&reply), &mut wire).expect("written");
            });
        });
    }
    group.finish();
}

/// One message of a connection that goes on.
fn connection(c: &mut Criterion) {
    let runtime = common::runtime();
    let mut group = c.benchmark_group("connection");
    group.throughput(Throughput::Elements(1));
    for scenario in SCENARIOS {
        let (name, mode, _) = scenario;
        let session = &*Box::leak(Box::new(common::session(scenario)));
        group.bench_function(name, |b| {
            b.iter_custom(|messages| {
                let start = Instant::now();
                runtime.block_on(common::serve(mode, session, messages));
                start.elapsed()
            });
        });
        group.bench_function(format!("{name}, reads and writes alone"), |b| {
            b.iter_custom(|messages| {
                let start = Instant::now();
                runtime.block_on(common::floor(session, messages));
                start.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, codec, connection);
criterion_main!(benches);
