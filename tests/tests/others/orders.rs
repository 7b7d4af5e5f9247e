//! Every modification, by the two filters that obey orders.

use milter_tests::mail::{BOB, Mail};
use milter_tests::mta::Kind;

use crate::ways::Way;

fn ordered(orders: &[&str]) -> Mail {
    let mail = Mail::to_bob().header("X-Gone: 1").header("X-Gone: 2");
    let add = |mail: Mail, order: &&str| mail.header(&format!("X-Do: {order}"));
    orders.iter().fold(mail, add)
}

/// What version 2 of the protocol has, too.
pub(crate) fn shared(way: &mut dyn Way) {
    let seen = way.send(&ordered(&[
        "addheader X-Added one",
        "addheader X-Second two words",
        "chgheader 1 Subject changed",
        "chgheader 2 X-Gone",
        "chgheader 1 X-New made",
        "addrcpt <carol@example.net>",
        "addrcpt <dave@example.net>",
        &format!("delrcpt {BOB}"),
        "progress",
        "body new body,",
        "body in two pieces",
    ]));
    let delivered = seen.delivered();
    assert_eq!(delivered.header("X-Added"), ["one"]);
    assert_eq!(delivered.header("X-Second"), ["two words"]);
    assert_eq!(delivered.header("Subject"), ["changed"]);
    assert_eq!(delivered.header("X-Gone"), ["1"]);
    assert_eq!(delivered.header("X-New"), ["made"]);
    assert_eq!(delivered.body(), b"new body,\r\nin two pieces\r\n");
    let mut recipients = delivered.recipient_addresses();
    recipients.sort_unstable();
    assert_eq!(recipients, ["<carol@example.net>", "<dave@example.net>"]);

    let seen = way.send(&ordered(&["macro X-Host j", "verdict accept"]));
    assert_ne!(seen.delivered().header("X-Host"), ["none"]);

    for (order, reply) in [
        ("verdict reject", "5"),
        ("verdict tempfail", "4"),
        ("reply 554 5.6.0 Not like this", "554 5.6.0 Not like this"),
        ("reply 451 4.7.1 Later", "451 4.7.1 Later"),
    ] {
        let seen = way.send(&ordered(&[order]));
        let said = seen.reply.as_deref().unwrap_or_default();
        assert!(
            said.starts_with(reply) && seen.delivered.is_none(),
            "{order}: {seen:?}"
        );
    }
    let seen = way.send(&ordered(&["verdict discard"]));
    assert!(seen.reply.is_none() && seen.delivered.is_none(), "{seen:?}");
    let seen = way.send(&ordered(&["quarantine for a look"]));
    assert!(seen.held, "{seen:?}");

    let two = Mail::new()
        .recipient("<a@nobody.test>")
        .recipient(BOB)
        .recipient("<b@later.test>");
    let seen = way.send(&two);
    assert_eq!(seen.refused, ["<a@nobody.test>", "<b@later.test>"]);
    assert_eq!(seen.delivered().recipient_addresses(), [BOB]);
}

/// What only later versions have.
pub(crate) fn newer(way: &mut dyn Way) {
    let sendmail = way.kind() == Kind::Sendmail;
    let seen = way.send(&ordered(&[
        "insheader 0 X-First top",
        "addheader X-Last bottom",
        "chgfrom <news@example.org>",
        "addrcpt <carol@example.net> NOTIFY=NEVER",
        "trace X-Trace",
        "macro X-Client {client_addr}",
        "macro X-Id i",
        "macro X-Port {client_port}",
    ]));
    let delivered = seen.delivered();
    let headers = delivered.headers();
    let place = |name: &str| headers.iter().position(|(is, _)| is == name);
    assert!(place("X-First") < place("From"), "{headers:?}");
    assert_eq!(delivered.sender, "<news@example.org>");
    assert!(
        delivered
            .recipient_addresses()
            .contains(&"<carol@example.net>")
    );
    // C connect, H helo, M mail, R rcpt, T data, L headers, N their end, B body, E end.
    assert_eq!(delivered.header("X-Trace"), ["CHMRTLNBE"]);
    assert_eq!(delivered.header("X-Client"), ["127.0.0.1"]);
    assert_ne!(delivered.header("X-Id"), ["none"]);
    // Asked for at the end alone.
    assert_ne!(delivered.header("X-Port"), ["none"]);

    let seen = way.send(&ordered(&["reply 550 5.7.1 One|Two|Three"]));
    let said = seen.reply.as_deref().unwrap_or_default();
    // Sendmail keeps the code before each line; what the two play is told as libmilter sends it.
    assert!(
        said.contains("One") && said.contains("Three"),
        "{sendmail} {seen:?}"
    );

    // It is shown the first piece alone, and delivered as a whole.
    let body = milter_tests::mail::fill(200_000);
    let seen = way.send(&ordered(&["skip", "trace X-Trace"]).body(body.clone()));
    assert_eq!(seen.delivered().header("X-Trace"), ["CHMRTLNBE"]);
    assert!(seen.delivered().body() == body);
}
