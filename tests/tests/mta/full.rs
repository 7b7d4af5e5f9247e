//! A filter that has no room for another connection: mail waits, and none passes unfiltered.

use std::convert::Infallible;

use milter_core::SmtpReply;
use milter_tests::address::{Address, free_port};
use milter_tests::mail::Mail;
use milter_tests::mta::{self, Config, Kind, Mta};
use milter_tests::sink::Sink;
use milter_tests::smtp;
use milter_tower::{Address as Listening, OnFailure, Request, Response, Settings, serve};
use tower::service_fn;

#[test]
fn postfix() {
    turns_mail_away(Kind::Postfix);
}

#[test]
fn sendmail() {
    turns_mail_away(Kind::Sendmail);
}

fn turns_mail_away(kind: Kind) {
    if !mta::require(kind) {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let reply = SmtpReply::builder(451)
        .line("Come back later")
        .build()
        .unwrap();
    for (on_failure, said) in [
        (OnFailure::TempFail, ""),
        (OnFailure::Reply(reply), "Come back later"),
    ] {
        let sink = Sink::start().unwrap();
        let port = free_port();
        let listener = runtime.block_on(Listening::inet("127.0.0.1", port).bind());
        let filter = service_fn(async |_: Request| Ok::<_, Infallible>(Response::proceed()));
        let server = serve(listener.unwrap(), filter)
            .settings(Settings::new().max_connections(0).on_failure(on_failure));
        let handle = server.handle();
        let server = runtime.spawn(server.into_future());
        // Set up so that mail passes unfiltered when the filter is gone.
        let config = match kind {
            Kind::Postfix => Config {
                milters: vec![Address::Tcp(port)],
                extra: vec!["milter_default_action = accept".into()],
                ..Config::default()
            },
            Kind::Sendmail => Config {
                extra: vec![format!(
                    "INPUT_MAIL_FILTER(`full', `S=inet:{port}@127.0.0.1')dnl"
                )],
                ..Config::default()
            },
        };
        let mta = Mta::start(kind, sink.port(), &config).unwrap_or_else(|error| panic!("{error}"));
        let smtp = smtp::send(mta.port(), &Mail::to_bob());
        let answer = smtp.last().map(ToString::to_string).unwrap_or_default();
        assert!(answer.starts_with('4'), "{smtp:?}\n{}", mta.log());
        // Sendmail has words of its own for what is said at connect.
        assert!(kind == Kind::Sendmail || answer.contains(said), "{smtp:?}");
        mta.idle().unwrap();
        assert!(sink.take_all().is_empty());
        handle.shutdown();
        let report = runtime.block_on(server).unwrap().unwrap();
        assert!(report.refused >= 1 && report.accepted == report.refused);
    }
}
