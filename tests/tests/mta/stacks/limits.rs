//! Limits: what is too large, too many, too fast or too much at once.

use milter_middleware::ServiceBuilderExt;
use milter_middleware::concurrency_limit::ConcurrencyLimitLayer;
use milter_middleware::header_limit::HeaderLimitLayer;
use milter_middleware::rate_limit::{Over, Quota, RateLimitLayer};
use milter_middleware::recipient_limit::RecipientLimitLayer;
use milter_middleware::size_limit::SizeLimitLayer;
use milter_tests::mail::{BOB, Mail, fill};
use milter_tests::mta::Kind;
use milter_tests::smtp::Client;
use milter_tests::wait::{self, PATIENCE};
use milter_tower::{Message, message};
use tower::ServiceBuilder;

use super::{Rig, is, says};

#[test]
fn postfix() {
    limits(Kind::Postfix);
}

#[test]
fn sendmail() {
    limits(Kind::Sendmail);
}

fn limits(kind: Kind) {
    let filter = message(async |mut mail: Message| {
        mail.headers_mut().append("X-Seen", "yes");
        mail.accept()
    });
    let rig = Rig::start(kind, |log| {
        ServiceBuilder::new()
            .log(log)
            .milter_concurrency_limit(ConcurrencyLimitLayer::per_client_ip(2))
            .milter_rate_limit(
                RateLimitLayer::per_sender(Quota::per_hour(3)).over(Over::temp_fail("Slow down")),
            )
            .size_limit(SizeLimitLayer::new(10_000))
            .recipient_limit(RecipientLimitLayer::new(2))
            .header_limit(HeaderLimitLayer::new(12))
            .service(filter)
    });
    let Some(rig) = rig else {
        return;
    };
    let from = |sender: &str| Mail::to_bob().sender(&format!("<{sender}@example.org>"));
    // All in one session.
    let mut client = rig.client();

    let size = "552 5.3.4 Message size exceeds limit";
    let smtp = rig.refused(
        &mut client,
        &from("announced").sender_args("SIZE=20000"),
        size,
    );
    assert!(smtp.rcpt.is_empty() && smtp.data.is_none(), "{smtp:?}");
    assert_eq!(rig.accepted(&mut client, &from("announced")), [BOB]);

    let smtp = rig.refused(&mut client, &from("large").body(fill(20_000)), size);
    assert!(smtp.end.is_some(), "{smtp:?}");
    assert_eq!(
        rig.accepted(&mut client, &from("large").body(fill(5_000))),
        [BOB]
    );

    let third = "<third@example.net>";
    let three = from("many")
        .recipient("<second@example.net>")
        .recipient(third);
    let smtp = client.deliver(&three);
    let codes: Vec<u16> = smtp.rcpt.iter().map(|reply| reply.code).collect();
    assert_eq!(codes, [250, 250, 452], "{smtp:?}\n{}", rig.report());
    assert!(
        is(&says(&smtp.rcpt[2]), "452 4.5.3 Too many recipients"),
        "{smtp:?}"
    );
    assert!(smtp.accepted(), "{smtp:?}");
    rig.mta.idle().unwrap();
    let delivered = rig.sink.take_all();
    let to: Vec<&str> = delivered
        .iter()
        .flat_map(|one| one.recipient_addresses())
        .collect();
    assert_eq!(to.len(), 2, "{to:?}");
    assert!(!to.contains(&third), "{to:?}");

    let headers = (0..12).fold(from("headers"), |mail, n| {
        mail.header(&format!("X-{n}: {n}"))
    });
    let smtp = rig.refused(&mut client, &headers, "552 5.3.4 Message header too large");
    assert!(smtp.end.is_some(), "{smtp:?}");
    assert_eq!(rig.accepted(&mut client, &from("headers")), [BOB]);

    for _ in 0..3 {
        assert_eq!(rig.accepted(&mut client, &from("fast")), [BOB]);
    }
    let smtp = rig.refused(&mut client, &from("Fast"), "450 4.7.1 Slow down");
    assert!(smtp.rcpt.is_empty(), "{smtp:?}");
    assert_eq!(rig.accepted(&mut client, &from("slow")), [BOB]);

    // A second client finds room, a third one does not, until one leaves.
    let second = rig.client();
    let (_third, greeting) = Client::connect(rig.mta.port()).unwrap();
    assert_eq!(greeting.code, 421, "{greeting}\n{}", rig.report());
    drop(second);
    let again = || {
        let (client, greeting) = Client::connect(rig.mta.port()).ok()?;
        (greeting.code == 220).then_some(client)
    };
    let mut third = wait::until("room", PATIENCE, again).unwrap();
    third.command("EHLO client.example.org").unwrap();
    assert_eq!(rig.accepted(&mut third, &from("third")), [BOB]);
    assert_eq!(rig.accepted(&mut client, &from("first")), [BOB]);

    for (sender, outcome, reply) in [
        ("announced", "reject", size),
        ("announced", "accept", ""),
        ("large", "reject", size),
        ("many", "accept", ""),
        ("headers", "reject", "552 5.3.4 Message header too large"),
        ("Fast", "tempfail", "450 4.7.1 Slow down"),
    ] {
        let from = format!("{sender}@example.org");
        let line = rig.line(&[("from", &from), ("outcome", outcome)]);
        let said = line["reply"].as_str().unwrap_or_default();
        assert_eq!(said, reply, "{line}");
    }
    assert_eq!(rig.line(&[("from", "many@example.org")])["refused"], 1);
    let turned_away = rig.line(&[("event", "connection"), ("outcome", "tempfail")]);
    let reply = turned_away["reply"].as_str().unwrap_or_default();
    assert!(reply.starts_with("421 4.3.2 "), "{turned_away}");
}
