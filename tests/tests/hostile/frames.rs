//! Frames that are none, or that hold something else than they should.

use milter_tests::raw::{
    ACTIONS, Message, Peer, STEPS_WITH_REPLIES, connect, frame, offer, strings,
};

use crate::target::{Row, Target, deliver};

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The server closes it.
    Closes,
    /// It is in step: this many answers come, and a message passes.
    Answers(usize),
}
use Then::{Answers, Closes};

/// Sends the bytes within a session, and sees what comes of it.
fn try_bytes(peer: &mut Peer, name: &str, bytes: &[u8], then: Then) {
    // The server may have closed before all is sent.
    let sent = peer.send(bytes);
    match then {
        Closes => {
            let rest = peer.receive_all();
            let closed = rest.as_ref().is_ok_and(Vec::is_empty);
            assert!(closed, "{name} does not close: {rest:?}");
        }
        Answers(count) => {
            sent.unwrap_or_else(|error| panic!("{name}: {error}"));
            for _ in 0..count {
                let answer = peer.answer();
                answer.unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            deliver(peer, &Message::small("after@example.org"), |_| {})
                .unwrap_or_else(|error| panic!("{name}: out of step: {error}"));
        }
    }
}

fn in_session(target: &Target, rows: &[(&str, Vec<u8>, Then)]) {
    for (name, bytes, then) in rows {
        let mut peer = target.session(STEPS_WITH_REPLIES);
        try_bytes(&mut peer, name, bytes, *then);
    }
}

/// Bytes that are no frame at all, as the first ones and later.
fn no_frames() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("length 0", b"\0\0\0\0".to_vec()),
        ("length 0 and a code", b"\0\0\0\0Q".to_vec()),
        ("4 GiB", b"\xFF\xFF\xFF\xFFB".to_vec()),
        ("2 GiB", b"\x80\0\0\x01Bxxxx".to_vec()),
        ("1 MiB and a little", b"\0\x10\0\x02B".to_vec()),
        ("http", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("smtp", b"EHLO client.example\r\n".to_vec()),
        ("tls", b"\x16\x03\x01\x02\0\x01\0\x01\xFC\x03\x03".to_vec()),
        ("unknown code", frame(b'?', b"")),
        ("code 0", frame(0, b"\0\0\0\0")),
        ("all ones", vec![0xFF; 4096]),
        ("all zeros", vec![0; 4096]),
    ]
}

#[test]
fn what_is_no_frame_closes_the_connection() {
    for row in [
        Row::new("no frames, tcp", 10, 2),
        Row::new("no frames, unix", 10, 2).unix(),
    ] {
        row.run(|target| {
            for (name, bytes) in no_frames() {
                try_bytes(&mut target.connect(), name, &bytes, Closes);
                in_session(target, &[(name, bytes, Closes)]);
            }
        });
    }
}

#[test]
fn payloads_without_their_end_close_the_connection() {
    Row::new("missing NULs", 10, 2).run(|target| {
        in_session(
            target,
            &[
                ("helo without NUL", frame(b'H', b"name"), Closes),
                ("helo, empty", frame(b'H', b""), Closes),
                ("mail without NUL", frame(b'M', b"<a@b>"), Closes),
                ("mail, empty", frame(b'M', b""), Closes),
                ("rcpt without NUL", frame(b'R', b"<a@b>"), Closes),
                ("unknown without NUL", frame(b'U', b"XYZ"), Closes),
                ("header without value", frame(b'L', b"Name\0"), Closes),
                (
                    "header without its end",
                    frame(b'L', b"Name\0value"),
                    Closes,
                ),
                ("header, empty", frame(b'L', b""), Closes),
                ("connect without NUL", frame(b'C', b"host"), Closes),
                ("macros, empty", frame(b'D', b""), Closes),
                ("offer, short", frame(b'O', b"\0\0\0\x06"), Closes),
            ],
        );
        for bytes in [frame(b'O', b""), frame(b'O', b"\0\0\0\x06\0\0\x01\xFF\0\0")] {
            try_bytes(&mut target.connect(), "short offer", &bytes, Closes);
        }
        for (version, steps) in [(0, 0), (1, 0x3F)] {
            let bytes = offer(version, ACTIONS, steps);
            try_bytes(&mut target.connect(), "old version", &bytes, Closes);
        }
    });
}

#[test]
fn odd_lists_are_read_as_far_as_they_go() {
    let mail = strings(b'M', &["<a@b>"]);
    let with_mail = |payload: &[u8]| [frame(b'D', payload), mail.clone()].concat();
    Row::new("odd macro lists", 10, 2).run(|target| {
        in_session(
            target,
            &[
                ("nothing but a code", with_mail(b"M"), Answers(1)),
                ("a name alone", with_mail(b"Mi\0"), Answers(1)),
                ("three strings", with_mail(b"Mi\0x\0j\0"), Answers(1)),
                ("empty names", with_mail(b"M\0\0\0\0"), Answers(1)),
                ("an empty name alone", with_mail(b"M\0"), Answers(1)),
                ("no NUL", with_mail(b"Mi"), Answers(1)),
                ("value without NUL", with_mail(b"Mi\0x"), Answers(1)),
                (
                    "braces",
                    with_mail(b"M{\0x\0}\0y\0{}\0z\0{{a}}\0w\0"),
                    Answers(1),
                ),
                (
                    "bytes",
                    with_mail(b"M\xFF\xFE\0\x80\0\x01\0\x02\0"),
                    Answers(1),
                ),
                ("of an unknown command", with_mail(b"?i\0x\0"), Answers(1)),
                ("of code 0", with_mail(b"\0i\0x\0"), Answers(1)),
                ("of macros", with_mail(b"Di\0x\0"), Answers(1)),
                ("of quit", with_mail(b"Qi\0x\0"), Answers(1)),
                (
                    "twice",
                    [with_mail(b"Mi\0x\0"), with_mail(b"Mi\0")].concat(),
                    Answers(2),
                ),
            ],
        );
    });
    Row::new("odd payloads", 10, 2).run(|target| {
        let mut rows = vec![
            ("data with payload", frame(b'T', b"payload"), Answers(1)),
            ("end of headers with payload", frame(b'N', b"x"), Answers(1)),
            ("abort with payload", frame(b'A', &[0; 100]), Answers(0)),
            ("empty body", frame(b'B', b""), Answers(1)),
            ("empty path", frame(b'M', b"\0"), Answers(1)),
            (
                "mail with bytes",
                frame(b'M', b"\xFF<\x01>\0\0\0=\0"),
                Answers(1),
            ),
            ("empty header name", frame(b'L', b"\0\0"), Answers(1)),
            (
                "header with bytes",
                frame(b'L', b"\xFF\r\n\0\x01\n\0"),
                Answers(1),
            ),
            (
                "mail, unterminated tail",
                frame(b'M', b"<a@b>\0SIZE"),
                Answers(1),
            ),
        ];
        // A family that is none, no address, a port cut short, an address that is none.
        for payload in [
            &b"h\0"[..],
            b"h\0U",
            b"h\0U4\0\x01x\0",
            b"h\x004\0\x01not an address\0",
            b"h\x006\0\x01IPv6:\0",
            b"h\0L\0\0/no/such/file\0",
            b"\x004\0\x010.0.0.0\0",
        ] {
            rows.push(("odd client", frame(b'C', payload), Answers(1)));
        }
        in_session(target, &rows);
    });
}

#[test]
fn the_largest_frame_is_read_and_one_more_byte_is_not() {
    Row::new("1 MiB frames", 10, 24).run(|target| {
        let most = vec![b'x'; 1 << 20];
        let more = vec![b'x'; (1 << 20) + 1];
        let name = [&most[..most.len() - 2], b"\0\0"].concat();
        in_session(
            target,
            &[
                ("body", frame(b'B', &most), Answers(1)),
                ("header", frame(b'L', &name), Answers(1)),
                ("body of one byte more", frame(b'B', &more), Closes),
            ],
        );
        // Before the negotiation so much is not read.
        let first = [frame(b'D', &most), offer(6, ACTIONS, 0), connect()].concat();
        try_bytes(&mut target.connect(), "before the offer", &first, Closes);
    });
}
