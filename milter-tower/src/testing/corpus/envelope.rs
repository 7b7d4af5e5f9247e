//! Odd senders and recipients.

use milter_core::{Recipient, Sender};

use super::{Mail, Recipe};

pub(super) const MAILS: &[Recipe] = &[
    ("null sender", || Mail::new().from("<>")),
    // Postfix shows mail that did not come by SMTP so (milter8.c milter8_mail_event, Q7).
    ("null sender without brackets", || {
        Mail::new().with_sender(Sender::new("", [""; 0]))
    }),
    // Both MTAs show what the client sent (Q7).
    ("addresses without brackets", || {
        Mail::new()
            .with_sender(Sender::new("alice@example.org", [""; 0]))
            .with_recipient(Recipient::new("bob@example.net", [""; 0]))
    }),
    ("one bracket only", || {
        Mail::new()
            .with_sender(Sender::new("<alice@example.org", [""; 0]))
            .with_recipient(Recipient::new("bob@example.net>", [""; 0]))
    }),
    // RFC 5321 4.1.1.3 has postmaster without a domain.
    ("addresses without a domain", || {
        Mail::new().from("alice").to("postmaster")
    }),
    ("addresses of a domain only", || {
        Mail::new().from("@example.org").to("@example.net")
    }),
    ("addresses of nothing but an at sign", || {
        Mail::new().from("@").to("@")
    }),
    ("several at signs", || {
        Mail::new().from("a@b@example.org").to("c@d@example.net")
    }),
    ("quoted local parts", || {
        Mail::new()
            .from(r#""a b@c, <d>\" ;"@example.org"#)
            .to(r#"""@example.net"#)
            .to(r#""\\"@example.net"#)
    }),
    // RFC 5321 4.1.1.3: to be ignored.
    ("source routes", || {
        Mail::new()
            .from("@one.example,@two.example:alice@example.org")
            .to("@one.example:bob@example.net")
    }),
    ("address literals", || {
        Mail::new()
            .from("alice@[192.0.2.1]")
            .to("bob@[IPv6:2001:db8::1]")
    }),
    ("dots where none belong", || {
        Mail::new()
            .from(".alice..@example.org.")
            .to("bob@.example..net")
    }),
    // Both MTAs take them for formats in replies (C67).
    ("percent signs in addresses", || {
        Mail::new()
            .from("%s%n%d%@example.org")
            .to("bob%example.com@example.net")
    }),
    ("upper case addresses", || {
        Mail::new().from("ALICE@EXAMPLE.ORG").to("BOB@EXAMPLE.NET")
    }),
    // RFC 6531 3.4
    ("UTF-8 addresses", || {
        Mail::new()
            .mail_from("jürgen@bücher.example", ["SMTPUTF8"])
            .to("用户@例え.example")
    }),
    ("8-bit addresses that are not UTF-8", || {
        Mail::new()
            .from(b"j\xfcrgen@example.org")
            .to(b"\xff\xfe@\x80")
    }),
    ("control characters in addresses", || {
        Mail::new()
            .from("a\x01\tb\x7f@example.org")
            .to("\x1b[31m@example.net")
    }),
    ("addresses of 2,000 bytes", || {
        let local = "a".repeat(1000);
        Mail::new()
            .from(format!("{local}@{}example", "b".repeat(990) + "."))
            .to(format!("{local}@{}example", "b.".repeat(495)))
    }),
    ("odd ESMTP arguments", || {
        let many = (0..100).map(|n| format!("X-{n}={n}"));
        let odd = [
            "SIZE=-1",
            "size=99999999999999999999",
            "BODY=",
            "=",
            "",
            "AUTH=+ZZ",
            "RET",
            "x y",
        ];
        Mail::new()
            .mail_from(
                "alice@example.org",
                odd.map(str::to_owned).into_iter().chain(many),
            )
            .rcpt_to(
                "bob@example.net",
                [
                    "NOTIFY=NEVER,SUCCESS",
                    "ORCPT=rfc822",
                    "ORCPT=;+4",
                    "NOTIFY=",
                ],
            )
    }),
    // Postfix takes as many of one client (smtpd_recipient_limit).
    ("1,000 recipients", || {
        (0..1000).fold(Mail::new(), |mail, n| {
            mail.to(format!("user{n}@example.net"))
        })
    }),
    ("one recipient a hundred times", || {
        (0..100).fold(Mail::new(), |mail, _| mail.to("bob@example.net"))
    }),
];
