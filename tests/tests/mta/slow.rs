//! A filter that takes longer than the server waits.

use milter_tests::mail::Mail;
use milter_tests::rig::Setup;

use crate::group::{Cases, assert_reply, on_both};

on_both! {
    slow_filters: Setup { timeout: std::time::Duration::from_secs(3), ..Setup::default() };
}

fn slow_filters(cases: &mut Cases) {
    cases.case("progress is reported without orders", |rig| {
        let orders: &[&[&str]] = &[
            &["eom", "sleep", "5000"],
            &["eom", "addheader", "X-A", "late"],
        ];
        let outcome = rig.try_out(orders, &Mail::to_bob());
        assert!(outcome.smtp.accepted(), "{:?}", outcome.smtp);
        assert_eq!(outcome.message().header("X-A"), ["late"]);
    });
    cases.case("progress is reported by orders", |rig| {
        let sleep: &[&str] = &["eom", "sleep", "1500"];
        let progress: &[&str] = &["eom", "progress"];
        let outcome = rig.try_out(
            &[
                sleep,
                progress,
                sleep,
                progress,
                sleep,
                progress,
                &["eom", "addheader", "X-A", "late"],
            ],
            &Mail::to_bob(),
        );
        assert!(outcome.smtp.accepted(), "{:?}", outcome.smtp);
        assert_eq!(outcome.count("failed"), 0);
        assert_eq!(outcome.message().header("X-A"), ["late"]);
    });
    cases.case(
        "too slow at MAIL: the session ends for the filter, the next is served",
        |rig| {
            let outcome = rig.try_out(&[&["mail", "sleep", "5000"]], &Mail::to_bob());
            if rig.by_kind(false, true) {
                // Postfix would wait as long as progress is reported, Sendmail takes none there.
                assert_reply(outcome.smtp.mail.as_ref(), 451, "4.3.2");
            }
            assert_eq!(outcome.count("close"), 1);
            rig.reset();
            let outcome = rig.try_out(&[&["eom", "addheader", "X-A", "seen"]], &Mail::to_bob());
            assert_eq!(outcome.message().header("X-A"), ["seen"]);
        },
    );
}
