//! The mail server in small does what the real ones do: the same filter sees the same, the client
//! hears the same, the same is delivered.

use milter_tests::control::{self, Event};
use milter_tests::mail::{self, Mail};
use milter_tests::rig::{Rig, Setup};
use milter_tests::wait::PATIENCE;
use milter_tower::testing::{self, Delivery, MockMta, MtaProfile};

use crate::group::{Cases, on_both};

mod frames;

on_both! {
    as_the_real_ones: Setup::default();
}

fn as_the_real_ones(cases: &mut Cases) {
    let orders: &[&[&[&str]]] = &[
        &[],
        &[&["connect", "reject"]],
        &[&["connect", "accept"]],
        &[&["helo", "tempfail"]],
        &[&["mail", "reject"]],
        &[&["mail", "accept"]],
        &[&["mail", "discard"]],
        &[&["rcpt:bob@example.net", "reply", "450", "4.1.1", "later"]],
        &[&["rcpt:carol@example.net", "reject"]],
        &[&["rcpt", "reject"]],
        &[&["rcpt", "discard"]],
        &[&["data", "tempfail"]],
        &[&["data", "discard"]],
        &[&["header:Subject", "reject"]],
        &[&["eoh", "accept"]],
        &[&["body", "reply", "554", "5.6.0", "what a body"]],
        &[&["body", "discard"]],
        &[&["eom", "tempfail"]],
        &[&["eom", "reply", "550", "5.7.1", "100% no"]],
        &[&["eom", "discard"]],
        &[
            &["eom", "addheader", "X-A", "new"],
            &["eom", "insheader", "1", "X-B", "new"],
            &["eom", "chgheader", "x-a", "1", "changed"],
            &["eom", "chgheader", "Subject", "1", ""],
        ],
        &[&[
            "option",
            "steps",
            "noconnect",
            "nohelo",
            "nomail",
            "nodata",
            "noheader",
            "nobody",
        ]],
        &[&[
            "option",
            "steps",
            "nr_mail",
            "nr_rcpt",
            "nr_header",
            "nr_eoh",
            "nr_body",
            "skip",
        ]],
        &[&["option", "steps", "leadspc", "skip"], &["body", "skip"]],
        &[&["eom", "replbody", "another\r\nbody"]],
        &[
            &["eom", "addrcpt", "<dave@example.net>"],
            &["eom", "delrcpt", "<bob@example.net>"],
            &["eom", "chgfrom", "<other@example.org>"],
        ],
    ];
    for orders in orders {
        cases.case(&format!("{orders:?}"), |rig| compare(rig, orders));
    }
}

fn compare(rig: &mut Rig, orders: &[&[&str]]) {
    let mail = Mail::to_bob()
        .recipient("<carol@example.net>")
        .header("X-A: one")
        .header("x-a: two\r\n\tfolded");
    let real = rig.try_out(orders, &mail);
    rig.settle().expect("all has ended");

    let profile = rig.by_kind(MtaProfile::postfix(), MtaProfile::sendmail());
    let controlled = rig.filter(0);
    controlled.trace().clear().expect("an empty trace");
    let address = controlled.filter().address().to_string();
    let played = play(profile, &address, &mail);
    let trace = controlled.trace().wait_closed(PATIENCE);

    assert_eq!(seen(&trace.expect("closed")), seen(&real.events));
    let taken = played.is_accepted() || played.is_discarded();
    assert_eq!(real.smtp.accepted(), taken, "{:?}\n{played}", real.smtp);
    if let Some(reply) = played.reply() {
        let last = real.smtp.last().expect("a reply");
        assert_eq!(last.code, reply.code(), "{last}, {reply}");
    }
    assert_eq!(real.delivered.is_empty(), !played.is_accepted(), "{played}");
    let mut to = Vec::new();
    for delivered in &real.delivered {
        to.extend(delivered.recipient_addresses());
        let headers: Vec<_> = delivered.headers().into_iter().map(own).collect();
        assert_eq!(headers, self::headers(&played));
        assert_eq!(delivered.body(), played.message.body());
        assert_eq!(
            delivered.sender,
            played.message.sender().address().to_string()
        );
    }
    if !real.delivered.is_empty() {
        let recipients = played.message.recipients().iter();
        let mut played: Vec<String> = recipients.map(|to| to.address().to_string()).collect();
        to.sort_unstable();
        played.sort_unstable();
        assert_eq!(to, played);
    }
}

/// Delivers the same mail through the mail server in small.
fn play(profile: MtaProfile, address: &str, mail: &Mail) -> Delivery {
    let mail = testing::Mail::from_eml(mail.content())
        .client_ip([127, 0, 0, 1])
        .helo("client.example.org")
        .from(mail::SENDER)
        .to(mail::BOB)
        .to("<carol@example.net>");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let address = address.parse().expect("an address");
    runtime.block_on(async { MockMta::connect(profile, address).deliver(mail).await })
}

/// What the filter saw, but for what tells one server from another.
fn seen(events: &[Event]) -> Vec<String> {
    let shown = events.iter().map(|event| match event.name().as_str() {
        "connect" => "connect".to_owned(),
        name => {
            let args = event.args();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            format!("{name} {}", control::line(&args))
        }
    });
    shown.collect()
}

/// A header, or the server's own Received without what differs each time.
fn own((name, value): (String, String)) -> (String, String) {
    let is_own = name == "Received";
    (name, if is_own { "own".to_owned() } else { value })
}

/// The headers as they are read from what was delivered.
fn headers(done: &Delivery) -> Vec<(String, String)> {
    let fields = done.message.headers().iter();
    fields
        .map(|field| {
            let value = field.raw().to_string();
            let value = value.strip_prefix(' ').unwrap_or(&value);
            (field.name().to_string(), value.replace('\n', "\r\n"))
        })
        .map(own)
        .collect()
}
