//! Changes of sender and recipients at the end of a message.

use milter_tests::mail::{BOB, Mail};
use milter_tests::rig::Setup;

use crate::group::{Cases, on_both};

on_both! {
    of_the_envelope: Setup::default();
}

const CAROL: &str = "<carol@example.net>";

fn of_the_envelope(cases: &mut Cases) {
    cases.case("addrcpt", |rig| {
        let outcome = rig.try_out(&[&["eom", "addrcpt", CAROL]], &Mail::to_bob());
        assert_eq!(recipients(&outcome.delivered), [BOB, CAROL]);
    });
    cases.case("addrcpt without <>", |rig| {
        let outcome = rig.try_out(&[&["eom", "addrcpt", "carol@example.net"]], &Mail::to_bob());
        assert_eq!(recipients(&outcome.delivered), [BOB, CAROL]);
    });
    cases.case("addrcpt with parameters", |rig| {
        let args = "NOTIFY=NEVER ORCPT=rfc822;orig@example.net";
        let outcome = rig.try_out(&[&["eom", "addrcpt", CAROL, args]], &Mail::to_bob());
        let all: Vec<_> = outcome
            .delivered
            .iter()
            .flat_map(|one| &one.recipients)
            .collect();
        let (_, got) = all.iter().find(|(path, _)| path == CAROL).expect("Carol");
        assert!(got.contains(&"NOTIFY=NEVER".to_owned()), "{got:?}");
        assert!(
            got.contains(&"ORCPT=rfc822;orig@example.net".to_owned()),
            "{got:?}"
        );
    });
    cases.case("delrcpt", |rig| {
        let mail = Mail::to_bob().recipient(CAROL);
        let outcome = rig.try_out(&[&["eom", "delrcpt", BOB]], &mail);
        assert_eq!(recipients(&outcome.delivered), [CAROL]);
    });
    cases.case("delrcpt of one that is not there", |rig| {
        let outcome = rig.try_out(&[&["eom", "delrcpt", CAROL]], &Mail::to_bob());
        assert_eq!(recipients(&outcome.delivered), [BOB]);
    });
    cases.case("delrcpt of the only one", |rig| {
        let outcome = rig.try_out(&[&["eom", "delrcpt", BOB]], &Mail::to_bob());
        assert!(outcome.smtp.accepted());
        assert!(outcome.delivered.is_empty());
    });
    cases.case("one recipient for another", |rig| {
        let outcome = rig.try_out(
            &[&["eom", "delrcpt", BOB], &["eom", "addrcpt", CAROL]],
            &Mail::to_bob(),
        );
        assert_eq!(recipients(&outcome.delivered), [CAROL]);
    });
    of_the_sender(cases);
}

fn of_the_sender(cases: &mut Cases) {
    cases.case("chgfrom", |rig| {
        let outcome = rig.try_out(
            &[&["eom", "chgfrom", "<dave@example.org>"]],
            &Mail::to_bob(),
        );
        assert_eq!(outcome.message().sender, "<dave@example.org>");
        assert_eq!(
            outcome.message().header("From"),
            ["Alice <alice@example.org>"]
        );
    });
    cases.case("chgfrom to the null sender", |rig| {
        let outcome = rig.try_out(&[&["eom", "chgfrom", "<>"]], &Mail::to_bob());
        assert_eq!(outcome.message().sender, "<>");
    });
    cases.case("chgfrom with parameters", |rig| {
        let outcome = rig.try_out(
            &[&["eom", "chgfrom", "<dave@example.org>", "RET=HDRS ENVID=e42"]],
            &Mail::to_bob(),
        );
        let message = outcome.message();
        assert_eq!(message.sender, "<dave@example.org>");
        for arg in ["RET=HDRS", "ENVID=e42"] {
            assert!(
                message.sender_args.contains(&arg.to_owned()),
                "{:?}",
                message.sender_args
            );
        }
    });
    cases.case("addresses that are none", |rig| {
        let outcome = rig.try_out(
            &[
                &["eom", "addrcpt", ""],
                &["eom", "delrcpt", ""],
                &["eom", "chgfrom", ""],
            ],
            &Mail::to_bob(),
        );
        assert_eq!(
            outcome.all("failed"),
            [["addrcpt"], ["delrcpt"], ["chgfrom"]]
        );
        assert_eq!(recipients(&outcome.delivered), [BOB]);
    });
    cases.case("all of it at once", |rig| {
        let orders: &[&[&str]] = &[
            &["eom", "chgfrom", "<dave@example.org>"],
            &["eom", "addrcpt", CAROL],
            &["eom", "delrcpt", BOB],
            &["eom", "addheader", "X-A", "a"],
            &["eom", "chgheader", "Subject", "1", "changed"],
            &["eom", "replbody", "b\r\n"],
            &["eom", "accept"],
        ];
        let outcome = rig.try_out(orders, &Mail::to_bob());
        let message = outcome.message();
        assert_eq!(message.sender, "<dave@example.org>");
        assert_eq!(message.recipient_addresses(), [CAROL]);
        assert_eq!(message.header("X-A"), ["a"]);
        assert_eq!(message.header("Subject"), ["changed"]);
        assert_eq!(message.body(), b"b\r\n");
    });
}

/// Of all that was delivered: a server may send recipients apart.
fn recipients(delivered: &[milter_tests::sink::Delivered]) -> Vec<&str> {
    let mut all: Vec<&str> = delivered
        .iter()
        .flat_map(|one| one.recipient_addresses())
        .collect();
    all.sort_unstable();
    all
}
