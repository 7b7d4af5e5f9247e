//! The milters as services: a server around one is a proxy, and they are members of chains.

use std::thread;

use milter_tests::mail::Mail;
use milter_tests::mta::{self, Kind};
use milter_tests::others::{DOMAIN, HOST, Milter, Running, require_verifier, verify_dkim};
use milter_tests::smtp;
use milter_tower::message::{Message, MessageFilter, message};
use milter_tower::{Chain, Remote, RemotePool};

use crate::cases::{signed, to_be_signed};
use crate::serving::Serving;
use crate::ways::{Seen, Server, Way};
use crate::{on_both, on_each};

/// The milter as a service.
pub(crate) fn remote(milter: &Running) -> Remote {
    Remote::new(milter.address().to_string().parse().unwrap())
}

/// A real mail server before a filter of this process.
struct Behind {
    server: Server,
    /// Headers that it adds to all that is delivered.
    adds: &'static [&'static str],
    _serving: Serving,
}

impl Behind {
    fn start(kind: Kind, serving: Serving) -> Self {
        Self {
            server: Server::start(kind, serving.address()),
            adds: &[],
            _serving: serving,
        }
    }
}

impl Way for Behind {
    fn send(&mut self, mail: &Mail) -> Seen {
        let seen = self.server.send(mail);
        if let Some(delivered) = &seen.delivered {
            for name in self.adds {
                assert_eq!(delivered.header(name), ["here"]);
            }
        }
        seen
    }

    fn kind(&self) -> Kind {
        self.server.kind()
    }

    fn report(&self) -> String {
        self.server.report()
    }
}

/// Every case of every milter through our proxy.
fn through_a_proxy(kind: Kind) {
    if mta::require(kind) {
        on_each(|milter| Box::new(Behind::start(kind, Serving::start(remote(milter)))));
    }
}

/// Every case of every milter as a member of a chain, between others that change what it is shown
/// and what it did.
fn in_a_chain(kind: Kind) {
    if mta::require(kind) {
        on_each(|milter| {
            let chain = Chain::new()
                .with("before", adds("X-Before"))
                .with("milter", remote(milter))
                .with("after", adds("X-After"));
            let mut way = Behind::start(kind, Serving::start(chain));
            way.adds = &["X-Before", "X-After"];
            Box::new(way)
        });
    }
}

fn adds(name: &'static str) -> MessageFilter {
    message(move |mut mail: Message| async move {
        mail.headers_mut().append(name, "here");
        mail.accept()
    })
}

/// What is signed is what earlier members left, and what a verifier sees is that with the
/// signature: neither is what the mail server holds at that time.
fn signs_what_earlier_members_left(kind: Kind) {
    if !mta::require(kind) || !require_verifier() {
        return;
    }
    let milters = [Milter::Orders, Milter::Signer, Milter::Verifier].map(Milter::start);
    let [Some(orders), Some(signer), Some(verifier)] = milters else {
        return;
    };
    let chain = Chain::new()
        .with("orders", remote(&orders))
        .with("stamp", adds("X-Signed"))
        .with("signer", remote(&signer))
        .with("verifier", remote(&verifier));
    let mut way = Behind::start(kind, Serving::start(chain));
    for mail in [to_be_signed(), changed_a_lot()] {
        let seen = way.send(&mail);
        let delivered = seen.delivered();
        let report = || format!("{}\n{}", way.report(), signer.log());
        verify_dkim(&[&delivered.content]).unwrap_or_else(|error| panic!("{error}\n{}", report()));
        assert!(delivered.header("X-Signed").contains(&"here".to_owned()));
        let results = delivered.header("Authentication-Results");
        assert!(
            results[0].contains(HOST) && results[0].contains(&format!("header.d={DOMAIN}")),
            "{results:?}"
        );
        assert!(results[0].contains("dkim=pass"), "{results:?}");
    }
}

/// As people run these two: what the one finds out is a header that the other judges by.
fn judges_by_what_an_earlier_member_found(kind: Kind) {
    if !mta::require(kind) {
        return;
    }
    let (verifier, dmarc) = (Milter::Verifier.start(), Milter::Dmarc.start());
    let (Some(verifier), Some(dmarc), Some(mail)) = (verifier, dmarc, signed()) else {
        return;
    };
    let chain = Chain::new()
        .with("verifier", remote(&verifier))
        .with("dmarc", remote(&dmarc));
    let mut way = Behind::start(kind, Serving::start(chain));
    let seen = way.send(&mail);
    let results = seen.delivered().header("Authentication-Results").join("\n");
    assert!(
        results.contains("dkim=pass") && results.contains("dmarc=pass"),
        "{results}"
    );

    let seen = way.send(&mail.with("Subject", "changed on the way"));
    let reply = seen.reply.as_deref().unwrap_or_default();
    assert!(
        reply.starts_with("550 5.7.1 rejected by DMARC policy"),
        "{seen:?}"
    );
}

/// A milter that is restarted costs no mail, also in an SMTP session that goes on: the next message
/// is another connection's, which is shown who the client is.
fn outlives_a_restart(kind: Kind) {
    if !mta::require(kind) || !require_verifier() {
        return;
    }
    let (Some(mut signer), Some(mut orders)) = (Milter::Signer.start(), Milter::Orders.start())
    else {
        return;
    };
    let chain = Chain::new()
        .with("orders", remote(&orders))
        .with("signer", remote(&signer));
    let mut way = Behind::start(kind, Serving::start(chain));
    way.server = way.server.in_one_session();
    for _ in 0..3 {
        let seen = way.send(&Mail::to_bob().header("X-Do: trace X-Trace"));
        assert_eq!(seen.delivered().header("X-Trace"), ["CHMRTLNBE"]);
        verify_dkim(&[&seen.delivered().content]).unwrap();
        signer.restart();
        orders.restart();
    }
}

/// Of two milters one goes away: each session gets the other one.
fn a_pool_does_with_one(kind: Kind) {
    if !mta::require(kind) || !require_verifier() {
        return;
    }
    let (Some(one), Some(other)) = (Milter::Signer.start(), Milter::Signer.start()) else {
        return;
    };
    let addresses = [&one, &other].map(|milter| milter.address().to_string().parse().unwrap());
    let pool = RemotePool::new(addresses);
    let mut way = Behind::start(kind, Serving::start(pool));
    let mut sign = || {
        let seen = way.send(&Mail::to_bob());
        verify_dkim(&[&seen.delivered().content]).unwrap();
    };
    sign();
    drop(one);
    for _ in 0..4 {
        sign();
    }
    assert!(
        other.log().contains("DKIM-Signature field added"),
        "{}",
        other.log()
    );
}

/// Many sessions at a time, each with connections of its own: no answer gets to another's mail.
fn signs_many_at_once(kind: Kind) {
    if !mta::require(kind) || !require_verifier() {
        return;
    }
    let Some(signer) = Milter::Signer.start() else {
        return;
    };
    let chain = Chain::new()
        .with("before", adds("X-Signed"))
        .with("signer", remote(&signer));
    let way = Behind::start(kind, Serving::start(chain));
    let port = way.server.port();
    thread::scope(|scope| {
        for n in 0..8 {
            scope.spawn(move || {
                let (mut client, _) = smtp::Client::connect(port).unwrap();
                client.command("EHLO client.example.org").unwrap();
                for m in 0..3 {
                    let mail = to_be_signed().with("Subject", &format!("{n} of {m}"));
                    assert!(client.deliver(&mail).accepted(), "{n} {m}");
                }
            });
        }
    });
    let delivered = way.server.delivered();
    assert_eq!(delivered.len(), 24);
    let contents: Vec<&[u8]> = delivered
        .iter()
        .map(|mail| mail.content.as_slice())
        .collect();
    verify_dkim(&contents).unwrap();
}

/// Its body and headers are replaced, some of those that are signed among them.
fn changed_a_lot() -> Mail {
    to_be_signed()
        .header("X-Do: body new,")
        .header("X-Do: body ..and longer")
        .header("X-Do: chgheader 1 Subject changed")
        .header("X-Do: chgheader 1 X-Signed changed")
        .header("X-Do: chgheader 2 X-Signed")
        .header("X-Do: insheader 0 X-Signed on top")
        .header("X-Do: addrcpt <carol@example.net>")
}

on_both! {
    through_a_proxy;
    in_a_chain;
    signs_what_earlier_members_left;
    judges_by_what_an_earlier_member_found;
    outlives_a_restart;
    a_pool_does_with_one;
    signs_many_at_once;
}
