//! The mail server in small: what it sends, what it makes of answers, and when it gives up.

#[path = "../common/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other tests need more of it")]
mod common;

mod corpus;
mod edits;
mod failures;
mod raw;
mod steps;
mod traces;
mod verdicts;

use milter_tower::testing::MtaProfile;

/// All of them.
fn profiles() -> [MtaProfile; 4] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::stalwart(),
        MtaProfile::version_2(),
    ]
}
