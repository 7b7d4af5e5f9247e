//! Milters that no one here wrote (see `milter_tests::others`), each by the same cases on several
//! ways: asked by the test kit's MTA and by the client, behind a real Postfix and a real Sendmail, and
//! there behind a proxy of ours and in a chain.

mod cases;
mod orders;
mod remote;
mod same;
mod serving;
mod ways;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Instant;

use milter_tests::mta::{self, Kind};
use milter_tests::others::{Milter, Running, require_verifier};

use self::ways::{Called, Mock, Server, Way};

/// Both servers.
macro_rules! on_both {
    ($($name:ident;)*) => {
        $(mod $name {
            use milter_tests::mta::Kind;

            #[test]
            fn postfix() {
                super::$name(Kind::Postfix);
            }

            #[test]
            fn sendmail() {
                super::$name(Kind::Sendmail);
            }
        })*
    };
}

/// Something with each milter, three at a time, as most of it is waiting. One that is missing is
/// skipped. Each says by itself what is wrong; those that fail are named at the end.
fn with_each(test: impl Fn(Milter, &Running) + Sync) {
    let passes = |milter: Milter| {
        let Some(running) = milter.start() else {
            return true;
        };
        let start = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(|| test(milter, &running))).is_ok();
        println!("{milter:?}: {passed} after {:.1?}", start.elapsed());
        if !passed {
            eprintln!("=== FAILED: {milter:?} says:\n{}", running.log());
        }
        passed
    };
    let mut failed = Vec::new();
    for some in Milter::ALL.chunks(3) {
        thread::scope(|scope| {
            let threads = some
                .iter()
                .map(|one| (one, scope.spawn(move || passes(*one))));
            let threads: Vec<_> = threads.collect();
            for (milter, thread) in threads {
                if !thread.join().unwrap_or(false) {
                    failed.push(milter);
                }
            }
        });
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// The cases of each milter, on a way that is made for it.
fn on_each(way: impl Fn(&Running) -> Box<dyn Way> + Sync) {
    if require_verifier() {
        with_each(|milter, running| cases::run(milter, way(running).as_mut()));
    }
}

#[test]
fn asked_as_by_postfix() {
    on_each(|milter| Box::new(Mock::postfix(milter.address())));
}

#[test]
fn asked_as_by_sendmail() {
    on_each(|milter| Box::new(Mock::sendmail(milter.address())));
}

#[test]
fn called_by_the_client() {
    on_each(|milter| Box::new(Called::new(milter.address())));
}

fn behind(kind: Kind) {
    if mta::require(kind) {
        on_each(|milter| Box::new(Server::start(kind, milter.address())));
    }
}

pub(crate) use on_both;

on_both! { behind; }
