//! A filter that panics, fails and hangs, within the layers that answer for it.

use std::time::Duration;

use milter_middleware::ServiceBuilderExt;
use milter_middleware::catch_panic::CatchPanicLayer;
use milter_middleware::dry_run::DryRunLayer;
use milter_middleware::failure_policy::FailurePolicyLayer;
use milter_middleware::timeout::{TimedOut, TimeoutLayer};
use milter_middleware::when::WhenLayer;
use milter_tests::mail::{BOB, Mail};
use milter_tests::mta::Kind;
use milter_tower::{BoxError, Condition, Event, Request, Response, SmtpReply};
use tower::{ServiceBuilder, service_fn};

use super::Rig;

#[test]
fn postfix() {
    failures(Kind::Postfix);
}

#[test]
fn sendmail() {
    failures(Kind::Sendmail);
}

const FAILED: &str = "451 4.3.0 Something is wrong here";
const PANICKED: &str = "451 4.3.0 Something is very wrong here";
const LATE: &str = "451 4.3.2 This takes too long";

/// It breaks as the first recipient says, `HOW-STAGE@example.net`.
async fn broken(request: Request) -> Result<Response, BoxError> {
    let stage = match request.event() {
        Event::Rcpt(_) => "rcpt",
        Event::EndOfHeaders => "headers",
        Event::EndOfMessage(_) => "end",
        _ => return Ok(Response::proceed()),
    };
    let first = match (request.event(), request.session().recipients().first()) {
        (Event::Rcpt(recipient), None) => recipient.mailbox().to_string(),
        (_, first) => first
            .map(|first| first.mailbox().to_string())
            .unwrap_or_default(),
    };
    match first
        .split_once('@')
        .map_or("", |(order, _)| order)
        .split_once('-')
    {
        Some(("panics", at)) if at == stage => panic!("as ordered"),
        Some(("fails", at)) if at == stage => Err("as ordered".into()),
        Some(("hangs", at)) if at == stage => std::future::pending().await,
        _ => Ok(Response::proceed()),
    }
}

fn failures(kind: Kind) {
    let reply = |text: &str| text.parse::<SmtpReply>().unwrap();
    let trial = Condition::sender(|sender| sender.mailbox() == "trial@example.org");
    let rig = Rig::start(kind, |log| {
        ServiceBuilder::new()
            .layer(WhenLayer::new(trial, DryRunLayer::new()))
            .failure_policy(FailurePolicyLayer::new(reply(FAILED)).on::<TimedOut>(reply(LATE)))
            .catch_panic(CatchPanicLayer::new().verdict(reply(PANICKED)))
            .milter_timeout(TimeoutLayer::new(Duration::from_millis(200)))
            .log(log)
            .service(service_fn(broken))
    });
    let Some(rig) = rig else {
        return;
    };
    // All in one session.
    let mut client = rig.client();
    for (how, wanted, class) in [
        ("fails", FAILED, "error"),
        ("panics", PANICKED, "panic"),
        ("hangs", LATE, "deadline"),
    ] {
        for (stage, name) in [
            ("rcpt", "rcpt"),
            ("headers", "end of headers"),
            ("end", "end of message"),
        ] {
            let to = format!("<{how}-{stage}@example.net>");
            let from =
                |who: &str| Mail::new().sender(&format!("<{how}-{stage}-{who}@example.org>"));
            let smtp = rig.refused(&mut client, &from("bad").recipient(&to), wanted);
            assert_eq!(smtp.end.is_none(), stage == "rcpt", "{smtp:?}");
            // The next mail, in the same session.
            assert_eq!(
                rig.accepted(&mut client, &from("good").recipient(BOB)),
                [BOB]
            );
            let bad = rig.line(&[("from", &format!("{how}-{stage}-bad@example.org"))]);
            assert_eq!(
                (&bad["failure"], &bad["failed_at"]),
                (&class.into(), &name.into()),
                "{bad}"
            );
            let good = rig.line(&[("from", &format!("{how}-{stage}-good@example.org"))]);
            assert_eq!(
                (&good["outcome"], good.get("failure")),
                (&"accept".into(), None),
                "{good}"
            );

            // The filter runs, and what comes of it is no matter.
            let trial = Mail::new().sender("<trial@example.org>").recipient(&to);
            assert_eq!(rig.accepted(&mut client, &trial), [to]);
        }
    }
    let tried = rig.lines.lock().unwrap().clone();
    let tried: Vec<_> = tried
        .iter()
        .filter(|line| line["from"] == "trial@example.org")
        .collect();
    assert_eq!(tried.len(), 9, "{tried:?}");
    assert!(
        tried.iter().all(|line| line["failure"].is_string()),
        "{tried:?}"
    );
}
