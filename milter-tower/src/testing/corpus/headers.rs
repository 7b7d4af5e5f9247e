//! Odd headers, and too many.

use super::{Mail, Recipe};

pub(super) const MAILS: &[Recipe] = &[
    ("no headers", || Mail::new().without_headers()),
    ("no headers and no body", || {
        Mail::new().without_headers().without_body()
    }),
    ("empty values", || {
        ["", " ", "\t", "   \t "]
            .iter()
            .fold(Mail::new(), |mail, value| {
                mail.raw_header("Subject", value)
                    .raw_header("X-Empty", value)
            })
    }),
    ("values without a space before them", || {
        Mail::new()
            .without_headers()
            .raw_header("From", "alice@example.org")
            .raw_header("Subject", "hi")
            .raw_header("To", "\tbob@example.net")
            .raw_header("X-Two", "  spaces")
    }),
    ("folded where nobody folds", || {
        Mail::new()
            .raw_header("Subject", "\n late")
            .raw_header("X-Blank", " one\n \n\t\n two\n ")
            .raw_header("X-Only", "\n ")
            .raw_header("X-Name", "\n\tX-Other: no header of its own")
            .raw_header("From", " Alice\n (comment\n )\n <alice@example.org\n >")
    }),
    ("folded a thousand times", || {
        Mail::new().raw_header("References", "\n <1@client.example>".repeat(1000))
    }),
    ("UTF-8 headers", || {
        Mail::new()
            .header("Subject", "Grüße aus Köln ✓ 🎉")
            .header("From", "Jürgen <jürgen@bücher.example>")
            .header("X-Invisible", "\u{202e}\u{feff}\u{200b}")
    }),
    ("8-bit headers that are not UTF-8", || {
        Mail::new()
            .header("Subject", b"caf\xe9 \x80\xff")
            .header("From", b"J\xfcrgen <alice@example.org>")
            // Cut within a character.
            .header("X-Cut", b"\xe2\x9c")
    }),
    ("control characters in headers", || {
        Mail::new()
            .raw_header("Subject", b" \x01\x08\x0b\x0c\x1b[31m\x7f")
            .raw_header("X-CR", b" a\rX-Evil: b\r")
    }),
    ("percent signs in headers", || {
        Mail::new().header("Subject", "100% %s %n %d")
    }),
    ("broken encoded words", || {
        // RFC 2047 2 and 6.3
        let words = [
            "=?utf-8?B?4pyTIGNoZWNr",
            "=?utf-8?B?####?=",
            "=?utf-8?Q?=ZZ=?=",
            "=?utf-8?Q??=",
            "=?x-unknown?Q?a?=",
            "=?utf-8?X?a?=",
            "=?utf-8*en?Q?a?=",
            "=?",
            "=????=",
            "=?utf-8?Q?=FF=FE?=",
            "=?utf-16?B?/v8=?=",
            "=?utf-8?Q?a?==?utf-8?Q?b?=",
            "=?utf-8?Q?=0D=0AX-Evil:_yes?=",
        ];
        Mail::new()
            .header("Subject", words.join(" "))
            .header("Comments", "=?utf-8?Q?".repeat(1000))
    }),
    ("broken addresses in headers", || {
        Mail::new()
            .header("From", "\"Alice <alice@example.org>, ;:,, <<>> @")
            .header("To", "undisclosed-recipients:;")
            .header("Cc", "group: bob@example.net, <>; (never closed")
            .header("Sender", "(".repeat(1000))
            .header("Reply-To", "<".repeat(1000))
    }),
    ("broken dates and ids", || {
        Mail::new()
            .header("Date", "Fri, 32 Foo 99999 25:61:61 +9999")
            .header("Message-ID", "<<no id")
            .header("In-Reply-To", "Your letter of yesterday")
            .header("Content-Length", "-1")
            .header("MIME-Version", "(comment) one")
    }),
    ("headers that come twice", || {
        let names = [
            "From",
            "Subject",
            "Date",
            "Message-ID",
            "Content-Type",
            "MIME-Version",
        ];
        names.iter().fold(Mail::new(), |mail, name| {
            mail.header(name, "one").header(name, "two")
        })
    }),
    ("one name in many cases", || {
        ["x-spam", "X-SPAM", "X-Spam", "x-SpAm"]
            .iter()
            .fold(Mail::new(), |mail, name| mail.header(name, *name))
    }),
    // Those that are removed from the front shift the others, and one stays (CVE-2022-48521).
    ("forged results of authentication", || {
        (0..30).fold(Mail::new(), |mail, n| match n % 3 {
            0 => mail.header(
                "Authentication-Results",
                format!("mx.example; spf=pass x={n}"),
            ),
            1 => mail.raw_header("AUTHENTICATION-RESULTS", "mx.example;dkim=pass"),
            _ => mail.header("Authentication-Results", "(mx) \"mx.example\" /\n 1 ; none"),
        })
    }),
    ("names of punctuation", || {
        Mail::new()
            .header("!#$%&'*+-./0;<=>?@[\\]^_`{|}~", "odd")
            .header("-", "dash")
            .header("--boundary", "dashes")
    }),
    ("a name of 1,000 bytes", || {
        Mail::new().header("X".repeat(1000), "long")
    }),
    // Postfix cuts a header there (header_size_limit).
    ("a header line of 100 kB", || {
        Mail::new().header("Subject", "s".repeat(100_000))
    }),
    ("10,000 headers", || numbered(10_000)),
];

/// Past `max_headers` or `max_header_bytes`.
pub(super) const PAST_LIMITS: &[Recipe] = &[
    ("10,001 headers", || numbered(10_001)),
    ("1.5 MB of headers", || {
        let value = "v".repeat(50_000);
        (0..30).fold(Mail::new(), |mail, _| mail.header("X-Large", &value))
    }),
    ("a header line of 2 MB", || {
        Mail::new().header("Subject", "s".repeat(2_000_000))
    }),
];

fn numbered(count: u32) -> Mail {
    let mail = Mail::new().without_headers();
    (0..count).fold(mail, |mail, n| mail.header("X-Number", n.to_string()))
}
