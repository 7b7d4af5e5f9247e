//! What goes through the program `proxy` is delivered as without it, and what goes through a chain as
//! if the mail server asked its members: byte for byte, but for what differs from one second to the
//! next and from one message to the next.

use milter_tests::address::Address;
use milter_tests::mail::{self, Mail};
use milter_tests::mta::{self, Kind};
use milter_tests::others::{EICAR, GTUBE, GTUBE_MARKED, Milter, Running, UNSOLICITED};
use milter_tests::process::Filter;
use milter_tests::sink::Delivered;
use milter_tower::Chain;

use crate::cases::to_be_signed;
use crate::remote::remote;
use crate::serving::Serving;
use crate::ways::{Server, Way};
use crate::{on_both, with_each};

on_both! {
    through_the_proxy;
    as_one_chain;
}

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
        let server = |milter| Server::configured(kind, &[milter], lines);
        compare(
            &format!("{milter:?}"),
            server(running.address()),
            server(proxy.address()),
        );
    });
}

/// Six milters that the server asks one after the other, against a chain that does.
fn as_one_chain(kind: Kind) {
    if !mta::require(kind) {
        return;
    }
    let milters = [
        Milter::Clamav,
        Milter::Rspamd,
        Milter::Verifier,
        Milter::Spamass,
        Milter::Orders,
        Milter::Signer,
    ];
    let Some(running) = milters
        .iter()
        .map(|one| one.start())
        .collect::<Option<Vec<_>>>()
    else {
        return;
    };
    let addresses: Vec<&Address> = running.iter().map(Running::address).collect();
    let chain = milters
        .iter()
        .zip(&running)
        .fold(Chain::new(), |chain, (name, one)| {
            chain.with(format!("{name:?}"), remote(one))
        });
    let serving = Serving::start(chain);
    compare(
        "six milters",
        Server::configured(kind, &addresses, &[]),
        Server::start(kind, serving.address()),
    );
}

/// Sends mails of all kinds to both, in one SMTP session each.
fn compare(what: &str, direct: Server, other: Server) {
    let (mut direct, mut other) = (direct.in_one_session(), other.in_one_session());
    for (n, mail) in mails().iter().enumerate() {
        let [wanted, got] = [direct.send(mail), other.send(mail)].map(|seen| {
            let delivered = seen.delivered.as_ref().map(timeless);
            (seen.reply, seen.refused, seen.held, delivered)
        });
        assert!(
            wanted == got,
            "{what}, mail {n}: {wanted:#?}\nthrough ours: {got:#?}"
        );
    }
}

/// Mails of all kinds.
fn mails() -> Vec<Mail> {
    let mut many = Mail::to_bob().recipient("<carol@example.net>");
    for n in 0..50 {
        many = many.header(&format!("X-Many: {n}\r\n\tfolded"));
    }
    let ordered = |orders: &[&str]| {
        let all = orders.iter();
        all.fold(Mail::to_bob(), |mail, order| {
            mail.header(&format!("X-Do: {order}"))
        })
    };
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
        ordered(&[
            "addheader X-A b",
            "trace X-Trace",
            "body new",
            "chgheader 1 To x@example.net",
        ]),
        ordered(&[
            "insheader 0 X-Top a",
            "insheader 3 X-Third b",
            "chgheader 1 Subject",
            "chgheader 1 X-New c",
            "chgfrom <news@example.org>",
            "addrcpt <carol@example.net>",
            "delrcpt <bob@example.net>",
        ]),
        ordered(&["addrcpt <carol@example.net>", "quarantine for a look"]),
        ordered(&["reply 451 4.7.1 One|Two"]),
        ordered(&["verdict discard"]),
        Mail::to_bob().body(format!("{UNSOLICITED}\r\n")),
        Mail::to_bob().body(format!("{}\r\n", GTUBE.concat())),
        Mail::to_bob().body(format!("{}\r\n", GTUBE_MARKED.concat())),
        Mail::to_bob().body(format!("{}\r\n", EICAR.concat())),
    ]
}

/// A message without the server's `Received` but for its place, and without the time of a
/// signature and the signature itself; the hash of the body, and how it all is folded, stay.
fn timeless(mail: &Delivered) -> (Delivered, Vec<(String, String)>, Vec<u8>) {
    let mut envelope = Delivered {
        content: Vec::new(),
        ..mail.clone()
    };
    // A guess: Sendmail counts the space of a header that is added by a filter that tells of it.
    envelope.sender_args.retain(|arg| !arg.starts_with("SIZE="));
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
