//! Milters that no one here wrote (see `milter_tests::others`), each by the same cases on several
//! ways: asked by the test kit's MTA, and behind a real Postfix and a real Sendmail.

mod cases;
mod orders;
mod ways;

use milter_tests::mta::{self, Kind};
use milter_tests::others::{Milter, Running, require_verifier};

use self::ways::{Mock, Server, Way};

/// The cases of each milter, on a way that is made for it. A milter that is missing is skipped.
fn on_each(way: impl Fn(&Running) -> Box<dyn Way>) {
    if !require_verifier() {
        return;
    }
    let failed = Milter::ALL.into_iter().filter(|milter| {
        let Some(running) = milter.start() else {
            return false;
        };
        !cases::run(*milter, way(&running).as_mut(), &running)
    });
    let failed: Vec<Milter> = failed.collect();
    assert!(failed.is_empty(), "{failed:?}");
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
fn behind_postfix() {
    if mta::require(Kind::Postfix) {
        on_each(|milter| Box::new(Server::start(Kind::Postfix, milter.address())));
    }
}

#[test]
fn behind_sendmail() {
    if mta::require(Kind::Sendmail) {
        on_each(|milter| Box::new(Server::start(Kind::Sendmail, milter.address())));
    }
}
