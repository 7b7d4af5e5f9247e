//! What is shown, and that what is passed on is what came.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use milter_tower::PeerAddr;
use milter_tower::testing::Recording;
use milter_tower::testing::recording::{Cutter, Recorder, Said, Side};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;

use super::*;
use crate::news::News;

fn transcript() -> Transcript {
    Transcript::new(Style::new(false), 16)
}

fn news(connection: u64, micros: u64, what: What) -> News {
    News {
        connection,
        time: Duration::from_micros(micros),
        what,
    }
}

/// The lines of frames that come one after the other, each half a millisecond later.
fn lines(said: &[(Side, Said)]) -> String {
    let mut transcript = transcript();
    let numbered = said.iter().zip(0..);
    let lines = numbered.map(|((side, said), n)| {
        transcript.line(&news(
            7,
            1_000_000 + n * 500,
            What::Said(*side, said.clone()),
        ))
    });
    lines.collect()
}

fn mta(code: u8, payload: &'static [u8]) -> (Side, Said) {
    (Side::Mta, Said::frame(code, payload))
}

fn milter(code: u8, payload: &'static [u8]) -> (Side, Said) {
    (Side::Milter, Said::frame(code, payload))
}

#[test]
fn a_session_in_words() {
    let shown = lines(&[
        mta(b'O', b"\0\0\0\x06\0\0\x01\x21\0\x08\x00\x12"),
        milter(
            b'O',
            b"\0\0\0\x06\0\0\x01\0\x40\0\0\x02\0\0\0\x02i {auth_type}\0",
        ),
        mta(b'D', b"Cj\0mx.example.org\0{daemon_name}\0a\"b\x1b[2J\0"),
        mta(b'C', b"client.example\x004\x12\x67192.0.2.1\0"),
        milter(b'c', b""),
        mta(b'H', b"client.example\0"),
        mta(b'M', b"<alice@example.org>\0SIZE=320\0"),
        milter(b'p', b""),
        milter(b'y', b"450 4.7.1 Later\0"),
        mta(b'R', b"<b\xff\x1b[31m@example.net>\0"),
        milter(b't', b""),
        mta(b'T', b""),
        mta(b'U', b"XYZZY now\0"),
        mta(b'D', b"L"),
        mta(b'L', b"Subject\0 hi\n\tthere\0"),
        mta(b'N', b""),
        mta(b'B', b"Hello Bob,\r\nhow are you?\r\n"),
        milter(b's', b""),
        mta(b'E', b""),
        milter(b'h', b"X-Seen\0yes\0"),
        milter(b'i', b"\0\0\0\x01X-A\0b\0"),
        milter(b'm', b"\0\0\0\x01Subject\0\0"),
        milter(b'b', b"x\r\n"),
        milter(b'e', b"<>\0"),
        milter(b'+', b"<c@d>\0"),
        milter(b'2', b"<c@d>\0NOTIFY=NEVER\0"),
        milter(b'-', b"<e@f>\0"),
        milter(b'q', b"spam\0"),
        milter(b'a', b""),
        mta(b'A', b""),
        mta(b'K', b""),
        mta(b'Q', b""),
        (Side::Mta, Said::End),
    ]);
    let expected = r#"    1.000 #7 -> OPTNEG version 6, actions ADD_HEADERS, QUARANTINE, REQUEST_MACROS, steps NO_HELO, NO_BODY, NR_BODY
    1.001 #7 <- OPTNEG version 6, actions REQUEST_MACROS, steps NO_HELO, 0x40000000, macros at mail: i {auth_type} (0.50 ms)
    1.001 #7 -> MACRO for CONNECT j="mx.example.org" {daemon_name}="a\"b\x1b[2J"
    1.002 #7 -> CONNECT client.example 192.0.2.1 port 4711
    1.002 #7 <- CONTINUE (0.50 ms)
    1.003 #7 -> HELO client.example
    1.003 #7 -> MAIL <alice@example.org> SIZE=320
    1.004 #7 <- PROGRESS (0.50 ms)
    1.004 #7 <- REPLYCODE 450 4.7.1 Later (1.00 ms)
    1.005 #7 -> RCPT <b\xff\x1b[31m@example.net>
    1.005 #7 <- TEMPFAIL (0.50 ms)
    1.005 #7 -> DATA
    1.006 #7 -> UNKNOWN "XYZZY now"
    1.006 #7 -> MACRO for HEADER
    1.007 #7 -> HEADER Subject: " hi\n\tthere"
    1.008 #7 -> EOH
    1.008 #7 -> BODY 26 bytes "Hello Bob,\r\nhow "…
    1.009 #7 <- SKIP (0.50 ms)
    1.009 #7 -> EOM
    1.010 #7 <- ADDHEADER X-Seen: "yes"
    1.010 #7 <- INSHEADER at 1 X-A: "b"
    1.011 #7 <- CHGHEADER [1] Subject: ""
    1.011 #7 <- REPLBODY 3 bytes "x\r\n"
    1.012 #7 <- CHGFROM <>
    1.012 #7 <- ADDRCPT <c@d>
    1.013 #7 <- ADDRCPT_PAR <c@d> NOTIFY=NEVER
    1.013 #7 <- DELRCPT <e@f>
    1.014 #7 <- QUARANTINE "spam"
    1.014 #7 <- ACCEPT (5.00 ms)
    1.014 #7 -> ABORT
    1.015 #7 -> QUIT_NC
    1.016 #7 -> QUIT
    1.016 #7 -> (end)
"#;
    let both = shown.lines().zip(expected.lines());
    for (shown, expected) in both {
        // A millisecond's rounding is nobody's business.
        assert_eq!(shown.get(9..), expected.get(9..));
    }
    assert_eq!(shown.lines().count(), expected.lines().count());
}

#[test]
fn what_cannot_be_read_is_shown_as_it_is() {
    let broken = |bytes: &'static [u8]| (Side::Mta, Said::Broken(bytes.into()));
    for (said, expected) in [
        (
            broken(b"GET / HTTP/1.1\r\n"),
            r#"-> ?? no frame, 16 bytes "GET / HTTP/1.1\r\n" (the peer speaks HTTP, not the milter protocol"#,
        ),
        (
            broken(b"\0\0\0\0\x1b"),
            r#"-> ?? no frame, 5 bytes "\0\0\0\0\x1b" (a frame has the length 0"#,
        ),
        (
            broken(b"\0\0"),
            r#"-> ?? no frame, 2 bytes "\0\0" (cut off)"#,
        ),
        (
            mta(b'Z', b"a\xfe"),
            r#"-> ?? frame 'Z' 2 bytes "a\xfe" (a frame has the unknown code 'Z'"#,
        ),
        (
            mta(b'H', b"no end"),
            r#"-> ?? frame 'H' 6 bytes "no end" (a frame 'H' is malformed"#,
        ),
        (
            milter(b'c', b"more"),
            r#"<- ?? frame 'c' 4 bytes "more" (a frame 'c' is malformed"#,
        ),
        (
            milter(b'y', b"250 yes\0"),
            r#"<- REPLYCODE that no mail server takes: "250 yes\0""#,
        ),
    ] {
        let shown = lines(&[said]);
        assert!(shown.contains(expected), "{shown}{expected}");
        assert_eq!(shown.lines().count(), 1);
    }
}

#[test]
fn what_looks_like_a_frame_out_of_step_is_none() {
    let broken = |bytes: &'static [u8]| (Side::Mta, Said::Broken(bytes.into()));
    let shown = lines(&[
        broken(b"\0\0\0\0"),
        broken(b"\0\0\0\x01T"),
        milter(b'c', b""),
    ]);
    // Without the time.
    let lines = shown.lines().filter_map(|line| line.get(10..));
    let last: Vec<&str> = lines.skip(1).collect();
    assert_eq!(
        last,
        [
            r#"#7 -> ?? no frame, 5 bytes "\0\0\0\x01T" (out of step)"#,
            "#7 <- CONTINUE",
        ]
    );
}

#[test]
fn nothing_turns_the_text_around() {
    // Right-to-left override, a zero-width space, C1's CSI.
    let shown = style::Escaped("ä\u{202e}\u{200b}\u{9b}2J'\"".as_bytes()).to_string();
    assert_eq!(shown, r#"ä\u{202e}\u{200b}\u{9b}2J'\""#);
}

#[test]
fn connections_come_and_go() {
    let mut transcript = transcript();
    let peer = PeerAddr::Inet(([127, 0, 0, 1], 4711).into());
    let opened = transcript.line(&news(1, 0, What::Opened(peer)));
    assert_eq!(opened, "    0.000 #1 == connection from 127.0.0.1:4711\n");
    let trouble = What::Trouble("it is\x07 broken".to_owned());
    let trouble = transcript.line(&news(12, 61_234_567, trouble));
    assert_eq!(trouble, "   61.235 #12 !! it is\\x07 broken\n");
    let closed = transcript.line(&news(1, 1000, What::Closed));
    assert_eq!(closed, "    0.001 #1 == closed\n");
}

#[test]
fn colours_only_where_they_are_wanted() {
    let line = |style| {
        let mut transcript = Transcript::new(style, 0);
        transcript.line(&news(1, 0, What::Said(Side::Milter, Said::frame(b'r', ""))))
    };
    assert_eq!(line(Style::new(false)), "    0.000 #1 <- REJECT\n");
    assert_eq!(
        line(Style::new(true)),
        "\x1b[2m    0.000\x1b[0m #1 <- \x1b[31mREJECT\x1b[0m\n"
    );
}

proptest! {
    #[test]
    fn nothing_that_comes_panics_or_harms_a_terminal(
        pieces in vec((any::<bool>(), prop_oneof![
            vec(any::<u8>(), 0..60),
            (proptest::sample::select(&b"ODCHMRTULNBEAQKcartdsp4fyhimbe+2-q"[..]), vec(any::<u8>(), 0..60))
                .prop_map(|(code, payload)| Said::frame(code, payload).wire().to_vec()),
        ]), 0..20),
        max_bytes in 0..80_usize,
    ) {
        let mut transcript = Transcript::new(Style::new(false), max_bytes);
        let mut cutters = [Cutter::new(), Cutter::new()];
        for (is_mta, piece) in pieces {
            let cutter = &mut cutters[usize::from(is_mta)];
            let side = if is_mta { Side::Mta } else { Side::Milter };
            cutter.push(&piece);
            while let Some(said) = cutter.next() {
                let line = transcript.line(&news(1, 0, What::Said(side, said)));
                let text = line.strip_suffix('\n').unwrap();
                prop_assert!(!text.chars().any(char::is_control), "{text:?}");
            }
        }
    }
}

/// A file that its writer and its reader share.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A tap between two ends, and what is shown and recorded when it has ended.
struct Tapped {
    mta: DuplexStream,
    milter: DuplexStream,
    out: Shared,
    file: Shared,
    ended: tokio::task::JoinHandle<()>,
    reporting: tokio::task::JoinHandle<Result<(), BoxError>>,
}

fn tapped() -> Tapped {
    // Small, so that one side has to wait for the other.
    let (mta, near) = duplex(100);
    let (milter, far) = duplex(100);
    let (out, file) = (Shared::default(), Shared::default());
    let recorder = Recorder::new(Box::new(file.clone()) as Box<dyn Write + Send>).unwrap();
    let report = Report::new(out.clone(), transcript(), Some(recorder));
    let (news, incoming) = mpsc::channel(2);
    let reporting = spawn_blocking(move || report.run(incoming));
    let ended = tokio::spawn(async move {
        let tell = Teller::new(1, Instant::now(), news);
        tap::pass(near, far, &tell).await;
        tell.tell(What::Closed).await;
    });
    Tapped {
        mta,
        milter,
        out,
        file,
        ended,
        reporting,
    }
}

/// Bytes that are frames, and then are not.
fn garbage(seed: u8) -> Vec<u8> {
    let mut bytes = [
        &b"\0\0\0\x01T\0\0\0\x03Hx\0\0\0\0\x04Z123"[..],
        b"\xff\xff\xff\xff",
    ]
    .concat();
    let pattern = (0..=255_u8).cycle().take(50_000);
    bytes.extend(pattern.map(|n| n.wrapping_mul(7) ^ seed));
    bytes
}

#[tokio::test]
async fn what_goes_in_comes_out() {
    let tapped = tapped();
    let (mut mta_read, mut mta_write) = tokio::io::split(tapped.mta);
    let (mut milter_read, mut milter_write) = tokio::io::split(tapped.milter);
    let talk = async {
        mta_write.write_all(&garbage(0)).await.unwrap();
        mta_write.shutdown().await.unwrap();
    };
    let answer = async {
        let mut heard = Vec::new();
        milter_read.read_to_end(&mut heard).await.unwrap();
        assert!(heard == garbage(0), "the bytes are others");
        // The mail server has ended, and the milter still answers.
        milter_write.write_all(&garbage(1)).await.unwrap();
        milter_write.shutdown().await.unwrap();
    };
    let listen = async {
        let mut heard = Vec::new();
        mta_read.read_to_end(&mut heard).await.unwrap();
        assert!(heard == garbage(1), "the bytes are others");
    };
    timeout(Duration::from_secs(20), async {
        tokio::join!(talk, answer, listen);
        tapped.ended.await.unwrap();
        tapped.reporting.await.unwrap().unwrap();
    })
    .await
    .expect("it ends");

    let shown = tapped.out.text();
    assert!(shown.contains("-> DATA\n"), "{shown}");
    assert!(shown.contains("-> ?? frame 'Z' 3 bytes \"123\""), "{shown}");
    assert!(shown.ends_with("#1 == closed\n"), "{shown}");
    let recording: Recording = tapped.file.text().parse().unwrap();
    let [connection] = recording.connections() else {
        panic!("one connection");
    };
    for (side, sent) in [(Side::Mta, garbage(0)), (Side::Milter, garbage(1))] {
        let entries = connection
            .entries()
            .iter()
            .filter(|entry| entry.from == side);
        let bytes: Vec<u8> = entries.flat_map(|entry| entry.said.wire()).collect();
        assert!(bytes == sent, "the recording is not exact");
    }
    // Shown from the file, it is the same.
    let mut transcript = transcript();
    let entries = connection.entries().iter();
    let again: String = entries
        .map(|entry| transcript.line(&entry.clone().into()))
        .collect();
    let shown = shown.strip_suffix("#1 == closed\n").unwrap();
    assert!(
        shown.starts_with(&again),
        "it is shown otherwise from the file"
    );
}

#[tokio::test]
async fn a_milter_that_goes_away_takes_its_last_words_along() {
    let tapped = tapped();
    let (mut mta, mut milter) = (tapped.mta, tapped.milter);
    milter.write_all(b"\0\0\0\x01t\0\0").await.unwrap();
    drop(milter);
    let mut heard = Vec::new();
    timeout(Duration::from_secs(20), mta.read_to_end(&mut heard))
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(heard, b"\0\0\0\x01t\0\0");
    // What is said to nobody ends the other direction, too.
    let _ = mta.write_all(&[b'x'; 1000]).await;
    drop(mta);
    timeout(Duration::from_secs(20), tapped.ended)
        .await
        .expect("it ends")
        .unwrap();
    tapped.reporting.await.unwrap().unwrap();
    let shown = tapped.out.text();
    let untimed = |text: &str| {
        let lines = text.lines().map(|line| line.get(10..).unwrap_or(line));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert!(
        untimed(&shown)
            .contains("#1 <- TEMPFAIL\n#1 <- ?? no frame, 2 bytes \"\\0\\0\" (cut off)\n"),
        "{shown}"
    );
    assert!(
        shown.contains("!! the milter takes nothing more: "),
        "{shown}"
    );
}

/// A disk that is full.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn neither_a_full_disk_nor_a_closed_terminal_keeps_the_mail() {
    let full: Box<dyn Write + Send> = Box::new(BufWriter::new(Full));
    let recorder = Recorder::new(full).unwrap();
    let report = Report::new(Full, transcript(), Some(recorder));
    let (news, incoming) = mpsc::channel(1);
    let reporting = spawn_blocking(move || report.run(incoming));
    let tell = Teller::new(1, Instant::now(), news);
    for _ in 0..3 {
        let said = What::Said(Side::Mta, Said::frame(b'T', ""));
        timeout(Duration::from_secs(20), tell.tell(said))
            .await
            .expect("it is taken");
    }
    drop(tell);
    let error = reporting.await.unwrap().unwrap_err().to_string();
    assert!(
        error.starts_with("the recording is not complete: "),
        "{error}"
    );
}
