//! Cases that share a rig.

use std::panic::{AssertUnwindSafe, catch_unwind};

use milter_tests::mta::{self, Kind};
use milter_tests::rig::{Rig, Setup};
use milter_tests::smtp::Reply;

/// The cases of one test.
pub(crate) struct Cases {
    name: String,
    pub(crate) rig: Rig,
    run: usize,
    failed: Vec<String>,
}

/// Runs the cases that `body` tells, with a server of that kind.
pub(crate) fn group(kind: Kind, name: &str, setup: &Setup, body: impl FnOnce(&mut Cases)) {
    if !mta::require(kind) {
        return;
    }
    let name = format!("{name}, {kind}");
    let rig = Rig::start(kind, setup);
    let mut cases = Cases {
        name,
        rig,
        run: 0,
        failed: Vec::new(),
    };
    body(&mut cases);
    let Cases {
        name, run, failed, ..
    } = cases;
    assert!(run > 0, "{name}: no case was run");
    println!("{name}: {} of {run} cases passed", run - failed.len());
    assert!(
        failed.is_empty(),
        "{name}: {} of {run} cases failed: {}",
        failed.len(),
        failed.join("; ")
    );
}

impl Cases {
    /// Runs one case on the rig, which is as new.
    pub(crate) fn case(&mut self, name: &str, body: impl FnOnce(&mut Rig)) {
        self.rig.reset();
        self.check(name, |rig| {
            body(rig);
            rig.settle().unwrap_or_else(|error| panic!("{error}"));
        });
    }

    /// Runs one case on the rig as it is, where several cases share what was sent.
    pub(crate) fn check(&mut self, name: &str, body: impl FnOnce(&mut Rig)) {
        self.run += 1;
        if catch_unwind(AssertUnwindSafe(|| body(&mut self.rig))).is_err() {
            eprintln!("=== FAILED: {}: {name}\n{}", self.name, self.rig.report());
            self.failed.push(name.to_owned());
        }
    }
}

/// Both servers run the same cases.
macro_rules! on_both {
    ($($name:ident: $setup:expr;)*) => {
        $(mod $name {
            use super::Setup;
            use milter_tests::mta::Kind;

            #[test]
            fn postfix() {
                crate::group::group(Kind::Postfix, stringify!($name), &$setup, super::$name);
            }

            #[test]
            fn sendmail() {
                crate::group::group(Kind::Sendmail, stringify!($name), &$setup, super::$name);
            }
        })*
    };
}
pub(crate) use on_both;

/// The reply has this code, and its text begins so.
#[track_caller]
pub(crate) fn assert_reply(reply: Option<&Reply>, code: u16, text: &str) {
    let Some(reply) = reply else {
        panic!("no reply, but {code} {text} was expected");
    };
    assert!(
        reply.code == code && reply.lines[0].starts_with(text),
        "{reply}, but {code} {text} was expected"
    );
}
