//! The program `hello`: it adds a header to each message.

use milter_tests::address::Address;
use milter_tests::mail::Mail;
use milter_tests::mta::{self, Config, Kind, Mta};
use milter_tests::process::Filter;
use milter_tests::sink::Sink;
use milter_tests::smtp;
use milter_tests::wait::PATIENCE;

#[test]
fn postfix() {
    says_hello(Kind::Postfix);
}

#[test]
fn sendmail() {
    says_hello(Kind::Sendmail);
}

fn says_hello(kind: Kind) {
    if !mta::require(kind) {
        return;
    }
    let sink = Sink::start().unwrap();
    let mut filter = Filter::start::<&str>("hello", &Address::free_tcp(), &[]);
    let config = Config {
        milters: vec![filter.address().clone()],
        ..Config::default()
    };
    let mta = Mta::start(kind, sink.port(), &config).unwrap_or_else(|error| panic!("{error}"));
    for _ in 0..2 {
        let smtp = smtp::send(mta.port(), &Mail::to_bob());
        assert!(
            smtp.accepted(),
            "{smtp:?}\n{}\n{}",
            filter.output(),
            mta.log()
        );
        let message = sink.take(1, PATIENCE).unwrap().remove(0);
        assert_eq!(
            message.header("X-Hello").len(),
            1,
            "{:?}",
            message.headers()
        );
        assert!(!message.header("X-Hello")[0].is_empty());
        assert_eq!(message.body(), b"Hello Bob,\r\nthis is the body.\r\n");
    }
    let status = filter.stop().unwrap();
    assert!(status.success(), "{status}\n{}", filter.output());
}
