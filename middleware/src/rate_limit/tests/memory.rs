//! The buckets in memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::runtime::Builder;
use tokio::time::{Instant, advance};

use super::super::*;

const SECOND: Duration = Duration::from_secs(1);

fn take(memory: &Memory, quota: Quota, key: &str, cost: u64) -> Option<Decision> {
    let key = key.into();
    let take = Take {
        key: &key,
        cost,
        quota,
    };
    memory.take(&take).into_inner().ok()
}

fn paused(test: impl Future) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(test);
}

#[tokio::test(start_paused = true)]
async fn says_when_there_will_be_enough() {
    let quota = Quota::per_minute(60).burst(2);
    let memory = Memory::new(quota, 10);
    let denied = |retry_after| Some(Decision::Denied { retry_after });
    for _ in 0..2 {
        assert_eq!(take(&memory, quota, "a", 1), Some(Decision::Allowed));
    }
    assert_eq!(take(&memory, quota, "a", 1), denied(SECOND));
    // What was refused costs nothing, and others are others.
    assert_eq!(take(&memory, quota, "a", 2), denied(2 * SECOND));
    assert_eq!(take(&memory, quota, "b", 2), Some(Decision::Allowed));
    advance(SECOND / 2).await;
    assert_eq!(take(&memory, quota, "a", 1), denied(SECOND / 2));
    advance(SECOND / 2).await;
    assert_eq!(take(&memory, quota, "a", 1), Some(Decision::Allowed));
    // More than there can be is all that there can be.
    advance(SECOND).await;
    assert_eq!(take(&memory, quota, "a", 1000), denied(SECOND));
    advance(SECOND).await;
    assert_eq!(take(&memory, quota, "a", u64::MAX), Some(Decision::Allowed));
    assert_eq!(take(&memory, quota, "a", 1), denied(SECOND));
}

#[tokio::test(start_paused = true)]
async fn what_is_as_new_goes() {
    let quota = Quota::per_second(1);
    let memory = Memory::new(quota, 1_000_000);
    for round in 0..50 {
        for key in 0..100 {
            take(&memory, quota, &format!("{round} {key}"), 1);
        }
        advance(SECOND).await;
        assert!(memory.keys() <= 300, "{}", memory.keys());
    }
    // Those that are not full stay.
    let busy = Quota::per_hour(1);
    let memory = Memory::new(busy, 1_000_000);
    for key in 0..1000 {
        take(&memory, busy, &key.to_string(), 1);
    }
    assert_eq!(memory.keys(), 1000);
    for key in 0..1000 {
        let again = take(&memory, busy, &key.to_string(), 1);
        assert!(matches!(again, Some(Decision::Denied { .. })), "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn has_no_more_keys_than_it_may() {
    let quota = Quota::per_minute(1);
    let memory = Memory::new(quota, 3);
    for key in ["a", "b", "c"] {
        assert_eq!(take(&memory, quota, key, 1), Some(Decision::Allowed));
        advance(SECOND).await;
    }
    for _ in 0..100 {
        assert_eq!(take(&memory, quota, "d", 1), None);
    }
    // Those that are there are limited as ever.
    assert!(matches!(
        take(&memory, quota, "a", 1),
        Some(Decision::Denied { .. })
    ));
    assert_eq!(memory.keys(), 3);
    // `a` is as new.
    advance(57 * SECOND).await;
    assert_eq!(take(&memory, quota, "d", 1), Some(Decision::Allowed));
    assert_eq!(take(&memory, quota, "e", 1), None);
    assert_eq!(memory.keys(), 3);
}

#[test]
fn bears_every_quota() {
    paused(async {
        for quota in [
            Quota::new(0, Duration::ZERO).burst(0),
            Quota::new(u64::MAX, Duration::MAX),
            Quota::new(1, Duration::MAX).burst(u64::MAX),
            Quota::new(u64::MAX, Duration::from_nanos(1)),
            Quota::per_day(1).burst(u64::MAX),
            Quota::per_second(u64::MAX).burst(1),
        ] {
            let memory = Memory::new(quota, 10);
            for cost in [1, u64::MAX, 0, 7] {
                take(&memory, quota, "a", cost);
                advance(Duration::from_secs(3_000_000_000)).await;
            }
            let first = take(&Memory::new(quota, 10), quota, "a", 1);
            assert_eq!(first, Some(Decision::Allowed), "{quota}");
        }
    });
}

/// Large quotas are not much less than they say.
#[test]
fn large_quotas_come_near() {
    paused(async {
        for count in [1_500_000, 3_000_000_000, 7_000_000_000_000] {
            let quota = Quota::per_second(count).burst(count / 10);
            let memory = Memory::new(quota, 10);
            let piece = count / 1000;
            let mut through = 0;
            for _ in 0..10_000 {
                while take(&memory, quota, "a", piece) == Some(Decision::Allowed) {
                    through += piece;
                }
                advance(Duration::from_millis(1)).await;
            }
            let all = 10 * count + count / 10;
            assert!(
                through <= all && through > all - all / 100,
                "{count}: {through}"
            );
        }
    });
}

#[tokio::test(start_paused = true)]
async fn many_threads_get_no_more() {
    let quota = Quota::per_hour(100);
    let memory = Arc::new(Memory::new(quota, 10));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let memory = Arc::clone(&memory);
            std::thread::spawn(move || {
                let takes = (0..100).map(|_| take(&memory, quota, "a", 1));
                takes
                    .filter(|done| *done == Some(Decision::Allowed))
                    .count()
            })
        })
        .collect();
    let through: usize = threads.into_iter().map(|t| t.join().unwrap()).sum();
    assert_eq!(through, 100);
}

fn quotas() -> impl Strategy<Value = Quota> {
    let period = prop_oneof![1_u64..5_000, 1_000_000_u64..100_000_000_000];
    (1_u64..2000, period, 1_u64..50).prop_map(|(count, period, burst)| {
        Quota::new(count, Duration::from_nanos(period)).burst(burst)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// In whatever stretch of time, no more than the burst and what the rate makes of it; and who waits
    /// for as long as was said gets what was asked for.
    #[test]
    fn no_more_gets_through_than_the_quota(
        quota in quotas(),
        steps in prop::collection::vec((0_u64..2_000_000_000, 1_u64..20, any::<bool>()), 1..200),
    ) {
        paused(async {
            let memory = Memory::new(quota, 10);
            let start = Instant::now();
            let mut through: VecDeque<(Duration, u64)> = VecDeque::new();
            for (wait, cost, is_patient) in steps {
                let cost = cost.min(quota.burst_size());
                let mut decision = take(&memory, quota, "a", cost).unwrap();
                if let (Decision::Denied { retry_after }, true) = (decision, is_patient) {
                    if !retry_after.is_zero() {
                        // Tokio's time goes by milliseconds when it sleeps, not when it is told to.
                        advance(retry_after).await;
                    }
                    decision = take(&memory, quota, "a", cost).unwrap();
                    assert_eq!(decision, Decision::Allowed);
                }
                if decision == Decision::Allowed {
                    through.push_back((start.elapsed(), cost));
                }
                let period = u64::try_from(quota.period().as_nanos()).unwrap();
                advance(Duration::from_nanos(wait % (period / quota.count() * 8 + 2))).await;
            }
            for first in 0..through.len() {
                let mut sum = 0;
                for (at, cost) in through.range(first..) {
                    sum += cost;
                    let stretch = at.as_nanos() - through[first].0.as_nanos();
                    let rate = stretch * u128::from(quota.count()) / quota.period().as_nanos();
                    assert!(u128::from(sum) <= u128::from(quota.burst_size()) + rate, "{quota}: {through:?}");
                }
            }
        });
    }
}
