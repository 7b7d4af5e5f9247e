//! Filters that see whole messages, in this process: what is delivered is the message as its
//! handler left it, on both servers.

use std::thread;

use milter_tests::address::Address;
use milter_tests::mail::{Mail, fill};
use milter_tests::mta::{self, Config, Kind, Mta};
use milter_tests::sink::{Delivered, Sink};
use milter_tests::smtp::{self, Transcript};
use milter_tests::wait::PATIENCE;
use milter_tower::message::{
    DecideAt, Incoming, Message, MessageFilter, OnLarge, message, message_streaming,
};
use milter_tower::{BoxError, Recipient, Session, SmtpReply, serve};

/// A mail server with a filter, and where its mail goes.
struct Rig {
    mta: Mta,
    sink: Sink,
}

impl Rig {
    fn new<B: Send + 'static>(kind: Kind, filter: MessageFilter<B>) -> Self {
        let address = Address::free_tcp();
        let bind = address.to_string().parse::<milter_tower::Address>();
        let bind = bind.expect("an address");
        // It serves until the test ends.
        thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async {
                let listener = bind.bind().await.expect("a free port");
                serve(listener, filter).await
            })
        });
        let sink = Sink::start().expect("a sink");
        let config = Config {
            milters: vec![address],
            ..Config::default()
        };
        let mta = Mta::start(kind, sink.port(), &config);
        let mta = mta.unwrap_or_else(|error| panic!("{error}"));
        Self { mta, sink }
    }

    fn send(&self, mail: &Mail) -> Transcript {
        smtp::send(self.mta.port(), mail)
    }

    fn deliver(&self, mail: &Mail) -> Delivered {
        let smtp = self.send(mail);
        assert!(smtp.accepted(), "{smtp:?}\n{}", self.mta.log());
        let mut all = self.sink.take(1, PATIENCE);
        let all = all.as_mut().unwrap_or_else(|error| panic!("{error}"));
        all.remove(0)
    }

    fn refused(&self, mail: &Mail) -> String {
        let smtp = self.send(mail);
        assert!(!smtp.accepted(), "{smtp:?}\n{}", self.mta.log());
        smtp.last().expect("a reply").to_string()
    }
}

/// Both servers, with the same filter.
fn on_both<B: Send + 'static>(filter: fn() -> MessageFilter<B>, test: fn(&Rig)) {
    for kind in [Kind::Postfix, Kind::Sendmail] {
        if mta::require(kind) {
            test(&Rig::new(kind, filter()));
        }
    }
}

/// The mail's own headers and the filter's, without what the server adds.
fn shown(mail: &Delivered) -> Vec<String> {
    let all = mail.headers().into_iter();
    let shown = all.filter(|(name, _)| name.starts_with("X-") || name == "Subject");
    shown
        .map(|(name, value)| format!("{name}:{value}"))
        .collect()
}

#[test]
fn edits_are_delivered() {
    let filter = || {
        message(async |mut mail: Message| {
            let headers = mail.headers_mut();
            headers.prepend("X-Top", "top");
            assert!(headers.insert_before("Subject", "X-Before", "b"));
            assert!(headers.insert_after("Subject", "X-After", "a"));
            assert!(headers.remove(("X-Old", 1)));
            // The second of those that are left.
            assert!(headers.replace(("X-Old", 2), "changed"));
            headers.append("X-Old", "last");
            mail.set_sender("bounces@example.org");
            mail.add_recipient("carol@example.net");
            assert!(mail.remove_recipient("dave@EXAMPLE.net"));
            let body = mail.body().bytes().await?;
            mail.set_body([&body[..], b"-- \r\nfooter\r\n"].concat());
            Ok::<_, BoxError>(mail)
        })
    };
    on_both(filter, |rig| {
        let mail = Mail::to_bob()
            .recipient("<dave@example.net>")
            .header("X-Old: one")
            .header("X-Old:  two")
            .header("X-Old:three")
            .header("X-Old: four\r\n\tfolded");
        let mail = rig.deliver(&mail);
        let (first, _) = &mail.headers()[0];
        assert_eq!(first, "X-Top");
        let shown = shown(&mail);
        let names: Vec<_> = shown.iter().map(|line| line.split(':').next()).collect();
        let names: Vec<_> = names.into_iter().flatten().collect();
        let expected = [
            "X-Top", "X-Before", "Subject", "X-After", "X-Old", "X-Old", "X-Old", "X-Old",
        ];
        assert_eq!(names, expected);
        let old: Vec<_> = mail.header("X-Old");
        let old: Vec<_> = old.iter().map(|value| value.trim()).collect();
        assert_eq!(old[0], "two");
        assert_eq!(old[1], "changed");
        assert!(
            old[2].starts_with("four") && old[2].ends_with("folded"),
            "{old:?}"
        );
        assert_eq!(old[3], "last");
        assert_eq!(mail.sender, "<bounces@example.org>");
        let mut to = mail.recipient_addresses();
        to.sort_unstable();
        assert_eq!(to, ["<bob@example.net>", "<carol@example.net>"]);
        assert_eq!(
            mail.body(),
            b"Hello Bob,\r\nthis is the body.\r\n-- \r\nfooter\r\n"
        );
    });
}

/// A body in a file, and one that is streamed, are what the client sent.
#[test]
fn large_bodies_arrive_whole() {
    fn sum(mail: &Delivered) -> Vec<String> {
        mail.header("X-Size")
    }
    let kept = || {
        message(async |mut mail: Message| {
            let read = mail.body().bytes().await?;
            let is_whole = *read == fill(3_000_000)[..];
            let text = format!("{} {is_whole}", mail.body().len());
            mail.headers_mut().append("X-Size", text);
            Ok::<_, BoxError>(mail)
        })
        .memory_limit(100_000)
    };
    on_both(kept, |rig| {
        let mail = rig.deliver(&Mail::to_bob().body(fill(3_000_000)));
        assert_eq!(sum(&mail), ["3000000 true"]);
        assert_eq!(mail.body(), fill(3_000_000));
    });
    let streamed = || {
        message_streaming(async |mut mail: Message<Incoming>| {
            let mut size = 0;
            while let Some(piece) = mail.body_mut().piece().await? {
                size += piece.len();
            }
            mail.headers_mut().append("X-Size", size.to_string());
            Ok::<_, BoxError>(mail)
        })
    };
    on_both(streamed, |rig| {
        let mail = rig.deliver(&Mail::to_bob().body(fill(3_000_000)));
        assert_eq!(sum(&mail), ["3000000"]);
    });
}

/// What is decided before the end, the MTA takes; and the next mail on the connection is filtered.
#[test]
fn early_decisions() {
    let filter = || {
        message(async |mut mail: Message| {
            if mail.headers().get_str("X-Bad") == Some("yes") {
                return Err(SmtpReply::reject("Not this"));
            }
            mail.headers_mut().append("X-Seen", "yes");
            Ok(mail)
        })
        .decide_at(DecideAt::EndOfHeaders)
        .check_rcpt(async |to: Recipient, _: Session| {
            let is_bad = to.is("mallory@example.net");
            is_bad.then(|| SmtpReply::reject("Not her"))
        })
    };
    on_both(filter, |rig| {
        let mail = Mail::to_bob().recipient("<mallory@example.net>");
        let smtp = rig.send(&mail);
        assert!(format!("{smtp:?}").contains("Not her"), "{smtp:?}");
        let mail = rig.sink.take(1, PATIENCE).unwrap().remove(0);
        assert_eq!(mail.recipient_addresses(), ["<bob@example.net>"]);
        assert_eq!(shown(&mail).last().unwrap(), "X-Seen:yes");
        let refused = rig.refused(&Mail::to_bob().header("X-Bad: yes"));
        assert!(refused.contains("Not this"), "{refused}");
    });
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    let at_the_end = || message(async |mail: Message| mail).body_limit(100_000, OnLarge::Reject);
    let early = || {
        message(async |mail: Message| mail)
            .body_limit(100_000, OnLarge::Reject)
            .early_verdicts()
    };
    for filter in [at_the_end, early] {
        on_both(filter, |rig| {
            let refused = rig.refused(&Mail::to_bob().body(fill(300_000)));
            assert!(refused.contains("5.3.4 Message too large"), "{refused}");
            rig.deliver(&Mail::to_bob().body(fill(90_000)));
        });
    }
}
