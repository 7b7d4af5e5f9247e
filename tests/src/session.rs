//! The bytes that Postfix sends to a filter for typical messages, cut where it waits for a reply:
//! what the benchmarks play to a server.
//!
//! All is made before anything is measured, so that playing it is writing slices.

use std::fmt::Write as _;
use std::ops::Range;

/// Protocol flags for every event without a reply: `SMFIP_NR_HDR` and what follows it.
// include/libmilter/mfdef.h
const NO_REPLY: u32 = 0xf_f080;
/// Body bytes in one frame: include/libmilter/mfdef.h `MILTER_CHUNK_SIZE`.
const CHUNK: usize = 65_535;
const QUEUE_ID: &str = "4cXk2M1zQnz9rT7";
const LINE: &[u8] = b"It was agreed to meet again in spring, at the same place and hour.\r\n";

/// What the filter asks for and what the message is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Whether the filter asked for every event without a reply, all but the end of a message.
    pub no_reply: bool,
    /// Bytes of the body.
    pub body: usize,
}

impl Shape {
    /// The protocol flags that the filter has to ask for.
    pub fn protocol(self) -> u32 {
        if self.no_reply { NO_REPLY } else { 0 }
    }
}

/// What is written before a reply is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which of [`Part::bytes`].
    pub bytes: Range<usize>,
    /// The command that is answered.
    pub command: u8,
}

/// A part of a session.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// All that is sent.
    pub bytes: Vec<u8>,
    /// Where it is cut.
    pub steps: Vec<Step>,
    /// How many commands it has: frames without those of macros.
    pub events: usize,
}

/// A session: the negotiation, then `first`, then `next` as often as wanted.
#[derive(Debug, Clone)]
pub struct Session {
    /// The offer.
    pub negotiation: Part,
    /// CONNECT, HELO and a message.
    pub first: Part,
    /// ABORT, which ends the message before it, and a message.
    pub next: Part,
}

impl Session {
    /// Makes the bytes.
    pub fn new(shape: Shape) -> Self {
        let mut negotiation = Part::default();
        // Version 6 and all there is, as Postfix 2.6 and later offer it.
        let offer = [6_u32, 0x1ff, 0x1f_ffff].map(u32::to_be_bytes).concat();
        negotiation.frame(b'O', &offer);
        negotiation.wait(b'O');

        let mut first = Part::default();
        first.connect(shape);
        first.message(shape);
        let mut next = Part::default();
        next.frame(b'A', b"");
        next.events += 1;
        next.message(shape);
        Self {
            negotiation,
            first,
            next,
        }
    }
}

impl Part {
    fn frame(&mut self, code: u8, payload: &[u8]) {
        let length = u32::try_from(payload.len() + 1).expect("a frame is short");
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.push(code);
        self.bytes.extend_from_slice(payload);
    }

    fn wait(&mut self, command: u8) {
        let start = self.steps.last().map_or(0, |step| step.bytes.end);
        let bytes = start..self.bytes.len();
        self.steps.push(Step { bytes, command });
    }

    /// A command, and before it its macros: Postfix milter8.c `milter8_event` sends them each
    /// time, also before each header and each piece of the body.
    fn event(&mut self, shape: Shape, code: u8, macros: &[&str], payload: &[u8]) {
        let mut pairs = vec![code];
        pairs.extend_from_slice(&strings(macros));
        self.frame(b'D', &pairs);
        self.frame(code, payload);
        self.events += 1;
        if code == b'E' || !shape.no_reply {
            self.wait(code);
        }
    }

    fn connect(&mut self, shape: Shape) {
        let mut payload = strings(&["mail-lf1-f41.example.net"]);
        payload.push(b'4');
        payload.extend_from_slice(&48_122_u16.to_be_bytes());
        payload.extend_from_slice(b"192.0.2.41\0");
        let macros = [
            "j",
            "mx.example.org",
            "{daemon_name}",
            "mx.example.org",
            "{daemon_addr}",
            "198.51.100.7",
            "v",
            "Postfix 3.7.11",
            "_",
            "mail-lf1-f41.example.net [192.0.2.41]",
        ];
        self.event(shape, b'C', &macros, &payload);
        let macros = [
            "{tls_version}",
            "TLSv1.3",
            "{cipher}",
            "TLS_AES_256_GCM_SHA384",
            "{cipher_bits}",
            "256",
        ];
        let name = strings(&["mail-lf1-f41.example.net"]);
        self.event(shape, b'H', &macros, &name);
    }

    fn message(&mut self, shape: Shape) {
        let macros = [
            "{mail_addr}",
            "alice@example.net",
            "{mail_host}",
            "example.net",
            "{mail_mailer}",
            "smtp",
        ];
        let size = format!("SIZE={}", shape.body + 3000);
        let sender = strings(&["<alice@example.net>", &size, "BODY=8BITMIME"]);
        self.event(shape, b'M', &macros, &sender);
        let macros = [
            "i",
            QUEUE_ID,
            "{rcpt_addr}",
            "bob@example.org",
            "{rcpt_host}",
            "example.org",
            "{rcpt_mailer}",
            "local",
        ];
        let recipient = strings(&["<bob@example.org>", "ORCPT=rfc822;bob@example.org"]);
        self.event(shape, b'R', &macros, &recipient);
        let macros = ["i", QUEUE_ID];
        self.event(shape, b'T', &macros, b"");
        for (name, value) in headers() {
            self.event(shape, b'L', &macros, &strings(&[name, &value]));
        }
        self.event(shape, b'N', &macros, b"");
        let mut body = LINE.repeat(shape.body / LINE.len() + 1);
        body.truncate(shape.body);
        for chunk in body.chunks(CHUNK) {
            self.event(shape, b'B', &macros, chunk);
        }
        self.event(shape, b'E', &macros, b"");
    }
}

/// Each with the NUL that ends it.
fn strings(all: &[&str]) -> Vec<u8> {
    all.iter().flat_map(|one| one.bytes().chain([0])).collect()
}

/// Eighteen headers, 2.5 KB, as mail has them that came through a large provider.
fn headers() -> Vec<(&'static str, String)> {
    // Stands for base64; a number makes each different.
    let noise = |length: usize| {
        let mut text = String::with_capacity(length + 24);
        let mut word = 0x9e37_79b9_7f4a_7c15_u64;
        while text.len() < length {
            word = word.rotate_left(13).wrapping_mul(0x2545_f491_4f6c_dd1d);
            let _ = write!(text, "{word:016x}");
        }
        text.truncate(length);
        text
    };
    let signature = |domain: &str| {
        format!(
            "v=1; a=rsa-sha256; c=relaxed/relaxed;\n        d={domain}; s=2025; t=1760000000; \
             x=1760604800;\n        h=to:subject:message-id:date:from:mime-version:from:to:cc\n         \
             :subject:date:message-id:reply-to;\n        bh={};\n        b={}",
            noise(44),
            noise(344)
        )
    };
    let received = |from: &str, by: &str| {
        format!(
            "from {from} ({from} [192.0.2.41])\n\tby {by} with ESMTPS id {}\n\t\
             for <bob@example.org>; Thu, 9 Oct 2025 10:53:20 +0200 (CEST)",
            noise(15)
        )
    };
    vec![
        (
            "Received",
            received("mail-lf1-f41.example.net", "mx.example.org"),
        ),
        (
            "Received",
            received("relay.example.net", "mail-lf1-f41.example.net"),
        ),
        ("DKIM-Signature", signature("example.net")),
        ("X-Provider-DKIM-Signature", signature("provider.example")),
        ("X-Message-State", noise(132)),
        ("X-Source", noise(140)),
        ("MIME-Version", "1.0".into()),
        ("References", format!("<{}@mail.example.net>", noise(36))),
        ("In-Reply-To", format!("<{}@mail.example.org>", noise(36))),
        ("From", "Alice Example <alice@example.net>".into()),
        ("Date", "Thu, 9 Oct 2025 10:53:12 +0200".into()),
        ("Message-ID", format!("<{}@mail.example.net>", noise(40))),
        (
            "Subject",
            "Re: notes of the last meeting, and the date of the next".into(),
        ),
        ("To", "Bob Example <bob@example.org>".into()),
        ("Cc", "group@lists.example.org".into()),
        ("List-Id", "A small group <group.lists.example.org>".into()),
        (
            "List-Unsubscribe",
            "<https://lists.example.org/leave/group>".into(),
        ),
        ("Content-Type", "text/plain; charset=\"UTF-8\"".into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes of the frames.
    fn codes(part: &Part) -> String {
        let (mut rest, mut codes) = (&part.bytes[..], String::new());
        while let [a, b, c, d, code, ..] = *rest {
            codes.push(char::from(code));
            rest = &rest[4 + u32::from_be_bytes([a, b, c, d]) as usize..];
        }
        assert!(rest.is_empty());
        codes
    }

    fn answered(part: &Part) -> String {
        let codes = part.steps.iter().map(|step| char::from(step.command));
        codes.collect()
    }

    #[test]
    fn macros_go_before_each_command() {
        let shape = Shape {
            no_reply: false,
            body: 100_000,
        };
        let session = Session::new(shape);
        let headers = "DL".repeat(18);
        let message = format!("DMDRDT{headers}DNDBDBDE");
        assert_eq!(codes(&session.first), format!("DCDH{message}"));
        assert_eq!(codes(&session.next), format!("A{message}"));
        assert_eq!(session.next.events, 1 + 3 + 18 + 4);
        let end = session.next.steps.last().unwrap().bytes.end;
        assert_eq!(end, session.next.bytes.len());
    }

    #[test]
    fn only_commands_with_a_reply_are_waited_for() {
        let shape = |no_reply| Shape {
            no_reply,
            body: 4096,
        };
        let headers = "L".repeat(18);
        let session = Session::new(shape(false));
        assert_eq!(answered(&session.next), format!("MRT{headers}NBE"));
        let session = Session::new(shape(true));
        assert_eq!(answered(&session.first), "E");
        assert_eq!(session.first.steps[0].bytes, 0..session.first.bytes.len());
    }
}
