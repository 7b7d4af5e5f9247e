//! What goes through the program `proxy` is delivered as without it, byte for byte, but for what differs from
//! one second to the next and from one message to the next.

use milter_tests::address::Address;
use milter_tests::mail::{self, Mail};
use milter_tests::mta::{self, Kind};
use milter_tests::others::{EICAR, GTUBE, GTUBE_MARKED, UNSOLICITED};
use milter_tests::process::Filter;
use milter_tests::sink::Delivered;

use crate::cases::to_be_signed;
use crate::ways::{Server, Way};
use crate::{on_both, with_each};

on_both! { through_the_proxy; }

fn through_the_proxy(kind: Kind) {
    is_the_same(kind, &[]);
}

/// What an old mail server offers gets to the milter, also to rspamd, which goes away then.
#[test]
fn through_the_proxy_in_version_2() {
    is_the_same(Kind::Postfix, &["milter_protocol = 2"]);
}

fn is_the_same(kind: Kind, lines: &[&str]) {
    if !mta::require(kind) {
        return;
    }
    with_each(|milter, running| {
        let to = running.address().to_string();
        let proxy = Filter::start("proxy", &Address::free_tcp(), &["--to", &to]);
        let server = |milter| Server::configured(kind, milter, lines).in_one_session();
        let (mut direct, mut proxied) = (server(running.address()), server(proxy.address()));
        for (n, mail) in mails().iter().enumerate() {
            let [wanted, got] = [direct.send(mail), proxied.send(mail)].map(|seen| {
                let delivered = seen.delivered.as_ref().map(timeless);
                (seen.reply, seen.refused, seen.held, delivered)
            });
            assert!(
                wanted == got,
                "{milter:?}, mail {n}: {wanted:#?}\nthrough the proxy: {got:#?}"
            );
        }
    });
}

/// Mails of all kinds.
fn mails() -> Vec<Mail> {
    let mut many = Mail::to_bob().recipient("<carol@example.net>");
    for n in 0..50 {
        many = many.header(&format!("X-Many: {n}\r\n\tfolded"));
    }
    let ordered = [
        "addheader X-A b",
        "trace X-Trace",
        "body new",
        "chgheader 1 To x@example.net",
    ];
    let ordered = ordered.iter().fold(Mail::to_bob(), |mail, order| {
        mail.header(&format!("X-Do: {order}"))
    });
    vec![
        Mail::to_bob(),
        to_be_signed(),
        Mail::to_bob().body(""),
        Mail::to_bob().body(mail::fill(200_000)),
        Mail::to_bob()
            .sender("<>")
            .with("Subject", "=?utf-8?q?gr=C3=BC=C3=9Fe?=")
            .sender_args("BODY=8BITMIME")
            .body("gr\u{fc}\u{df}e \u{1f4e8}\r\n\0\r\n"),
        Mail::to_bob().with("From", "carol@other.test"),
        Mail::new()
            .recipient("<a@nobody.test>")
            .recipient("<bob@example.net>"),
        many,
        ordered,
        Mail::to_bob().body(format!("{UNSOLICITED}\r\n")),
        Mail::to_bob().body(format!("{}\r\n", GTUBE.concat())),
        Mail::to_bob().body(format!("{}\r\n", GTUBE_MARKED.concat())),
        Mail::to_bob().body(format!("{}\r\n", EICAR.concat())),
    ]
}

/// A message without the server's `Received` but for its place, and without the time of a
/// signature and the signature itself; the hash of the body, and how it all is folded, stay.
fn timeless(mail: &Delivered) -> (Delivered, Vec<(String, String)>, Vec<u8>) {
    let envelope = Delivered {
        content: Vec::new(),
        ..mail.clone()
    };
    let headers = mail.headers().into_iter().map(|(name, value)| {
        let value = match name.as_str() {
            "Received" => String::new(),
            "DKIM-Signature" => without_tags(&value),
            _ => value,
        };
        (name, value)
    });
    (envelope, headers.collect(), mail.body().to_vec())
}

/// A signature without its tags `t` and `b`.
fn without_tags(signature: &str) -> String {
    let mut kept: Vec<&str> = signature.split(';').collect();
    kept.retain(|tag| !tag.trim_start().starts_with("t=") && !tag.trim_start().starts_with("b="));
    kept.join(";")
}
