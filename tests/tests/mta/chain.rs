//! Two filters, one after the other.

use milter_tests::mail::{BOB, Mail};
use milter_tests::rig::{Rig, Setup};
use milter_tests::wait::PATIENCE;

use crate::group::{Cases, assert_reply, on_both};

on_both! {
    two_filters: Setup { filters: 2, ..Setup::default() };
}

/// What the second filter saw.
fn second(rig: &mut Rig, name: &str) -> Vec<Vec<String>> {
    let events = rig
        .filter(1)
        .trace()
        .wait_closed(PATIENCE)
        .expect("the second filter's trace");
    events
        .iter()
        .filter(|event| event.name() == name)
        .map(milter_tests::control::Event::args)
        .collect()
}

fn two_filters(cases: &mut Cases) {
    cases.case("the second sees what the first left", |rig| {
        rig.filter(1).orders(&[&["eom", "addheader", "X-B", "b"]]);
        let orders: &[&[&str]] = &[
            &["eom", "addheader", "X-A", "a"],
            &["eom", "delheader", "X-Old", "1"],
            &["eom", "replbody", "from A\r\n"],
            &["eom", "chgfrom", "<dave@example.org>"],
        ];
        let outcome = rig.try_out(orders, &Mail::to_bob().header("X-Old: o"));
        let headers = second(rig, "header");
        assert!(
            headers.contains(&vec!["X-A".to_owned(), "a".to_owned()]),
            "{headers:?}"
        );
        assert!(!headers.iter().any(|one| one[0] == "X-Old"), "{headers:?}");
        assert_eq!(second(rig, "body"), [["8", "from A\r\n"]]);
        assert_eq!(second(rig, "mail"), [["<alice@example.org>"]]);
        let message = outcome.message();
        assert_eq!(
            (message.header("X-A"), message.header("X-B")),
            (vec!["a".to_owned()], vec!["b".to_owned()])
        );
        assert_eq!(message.sender, "<dave@example.org>");
    });
    cases.case(
        "the first refuses a recipient: the second is not asked",
        |rig| {
            rig.orders(&[&["rcpt:no@example.net", "reject"]]);
            let outcome = rig.send(&Mail::to_bob().recipient("<no@example.net>"));
            assert_reply(outcome.smtp.rcpt.last(), 550, "5.7.1");
            assert_eq!(second(rig, "rcpt"), [[BOB]]);
        },
    );
    cases.case("the first refuses the message", |rig| {
        let outcome = rig.try_out(&[&["eom", "reject"]], &Mail::to_bob());
        assert!(!outcome.smtp.accepted());
        assert_eq!(
            (second(rig, "eom").len(), second(rig, "abort").len()),
            (0, 1)
        );
    });
    cases.case("the first accepts: the second still decides", |rig| {
        rig.filter(1)
            .orders(&[&["eom", "reply", "550", "5.7.42", "by B"]]);
        let outcome = rig.try_out(&[&["mail", "accept"]], &Mail::to_bob());
        assert_reply(outcome.smtp.last(), 550, "5.7.42 by B");
    });
    cases.case("the second refuses: the first has seen it all", |rig| {
        rig.filter(1).orders(&[&["eoh", "tempfail"]]);
        let outcome = rig.try_out(&[&["eom", "addheader", "X-A", "a"]], &Mail::to_bob());
        assert_reply(outcome.smtp.last(), 451, "");
        assert_eq!((outcome.count("eom"), outcome.count("abort")), (1, 0));
    });
}
