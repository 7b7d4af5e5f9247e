//! What a milter is told, and what comes back.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use milter_core::{Command, Needs, Reply, Steps};
use milter_tower::client::Client;
use milter_tower::{
    Actions, Address, DataSize, Event, Header, Offer, Response, Stage, Verdict, serve,
    serve_connection,
};
use tokio::io::{AsyncRead, ReadBuf};

use crate::common::{Log, Scripted};
use crate::peer::{Act, client, connected, go, host, recipient, sender, up_to_body};

/// A filter that wants everything and adds a header.
fn filter() -> (Scripted, Log) {
    Scripted::new(|request, _| {
        let response = match request.event() {
            Event::Negotiate(_) => {
                Response::needs(Needs::all().optional_action(Actions::ADD_HEADERS))
            }
            Event::EndOfMessage(_) => Response::accept().add_header("X-A", "b"),
            _ => Response::proceed(),
        };
        response.into()
    })
}

#[tokio::test]
async fn c23_c80_every_event_in_every_version() {
    for version in 2..=6 {
        let steps = match version {
            2 => Steps::from_bits_retain(0x7f),
            _ => Offer::V6.steps,
        };
        let offer = Offer {
            version,
            steps,
            ..Offer::V6
        };
        let (filter, log) = filter();
        let (io, other_end) = tokio::io::duplex(4096);
        let served = tokio::spawn(serve_connection(other_end, filter).into_future());
        let mut milter = client().offer(offer).over(io).await.unwrap();
        assert_eq!(milter.agreement().version(), version);
        assert_eq!(milter.offer_reply().unwrap().version, version);
        milter.connect(host()).await.unwrap();
        milter.helo("client.example").await.unwrap();
        milter.unknown("XYZZY").await.unwrap();
        milter.mail(sender()).await.unwrap();
        milter.rcpt(recipient()).await.unwrap();
        milter.data().await.unwrap();
        let subject = Header::new("Subject", " hello");
        milter.header(subject).await.unwrap();
        milter.end_of_headers().await.unwrap();
        let body = vec![b'x'; 100_000];
        assert_eq!(milter.body(body).await.unwrap().verdict, Verdict::Continue);
        let end = milter.end().await.unwrap();
        assert_eq!(end.verdict, Verdict::Accept);
        assert_eq!(end.edits.len(), 1);
        milter.quit().await.unwrap();
        served.await.unwrap().unwrap();
        let mut expected = vec!["negotiate", "connect", "helo"];
        expected.extend((version >= 3).then_some("unknown command"));
        expected.extend(["mail", "rcpt"]);
        expected.extend((version >= 4).then_some("data"));
        expected.extend(["header", "end of headers", "body", "body", "end of message"]);
        let log = log.all();
        let seen: Vec<&str> = log.iter().map(String::as_str).collect();
        assert_eq!(seen[..expected.len()], expected, "version {version}");
    }
}

#[tokio::test]
async fn c26_what_is_declined_is_not_sent() {
    let (mut milter, trace) = connected(client(), Needs::none(), go).await;
    assert!(!milter.agreement().delivers(Stage::Body));
    up_to_body(&mut milter).await;
    milter.body("text").await.unwrap();
    milter.body_from(Unread).await.unwrap();
    assert_eq!(milter.end().await.unwrap().verdict, Verdict::Continue);
    assert_eq!(trace.letters().replace('D', ""), "OE");
}

/// A body that nobody is to read.
struct Unread;

impl AsyncRead for Unread {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        panic!("read")
    }
}

/// A body that comes in dribs, and counts what was read.
struct Dribs {
    left: usize,
    fails: bool,
}

impl AsyncRead for Dribs {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = self.left.min(1000).min(buffer.remaining());
        if n == 0 && self.fails {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        self.left -= n;
        buffer.put_slice(&vec![b'x'; n]);
        Poll::Ready(Ok(()))
    }
}

fn lens(frames: &[Command]) -> Vec<usize> {
    let len = |frame: &Command| match frame {
        Command::Body(piece) => piece.len(),
        _ => panic!("no body: {frame:?}"),
    };
    frames.iter().map(len).collect()
}

#[tokio::test]
async fn a_body_is_cut_into_pieces() {
    let (mut milter, trace) = connected(client(), Needs::all(), go).await;
    up_to_body(&mut milter).await;
    milter.body(vec![b'x'; 65_535 * 2 + 1]).await.unwrap();
    milter.body("").await.unwrap();
    let mut dribs = Dribs {
        left: 70_000,
        fails: false,
    };
    milter.body_from(&mut dribs).await.unwrap();
    milter.body_from(tokio::io::empty()).await.unwrap();
    assert_eq!(lens(&trace.of(b'B')), [65_535, 65_535, 1, 65_535, 4465]);

    let mut broken = Dribs {
        left: 10,
        fails: true,
    };
    let error = milter.body_from(&mut broken).await.unwrap_err();
    assert!(!error.is_fatal(), "{error}");
    assert!(
        error.to_string().contains("cannot read the body"),
        "{error}"
    );
    milter.abort().await.unwrap();
    milter.mail(sender()).await.unwrap();
}

#[tokio::test]
async fn nothing_is_read_after_a_skip_or_a_verdict() {
    for (reply, verdict) in [
        (Reply::Skip, Verdict::Skip),
        (Reply::Accept, Verdict::Accept),
        (Reply::TempFail, Verdict::TempFail),
    ] {
        let mut pieces = 0;
        let answer = reply.clone();
        let second = move |frame: &Command| {
            pieces += usize::from(frame.code() == b'B');
            if frame.code() == b'B' && pieces == 2 {
                Act::Say(vec![answer.clone()])
            } else {
                Act::Go
            }
        };
        let (mut milter, trace) = connected(client(), Needs::all().skip(), second).await;
        up_to_body(&mut milter).await;
        let mut body = Dribs {
            left: 1_000_000,
            fails: false,
        };
        assert_eq!(milter.body_from(&mut body).await.unwrap().verdict, verdict);
        assert_eq!(body.left, 1_000_000 - 2 * 65_535);
        assert_eq!(trace.of(b'B').len(), 2);
        milter.end().await.unwrap();
        let is_asked = trace.letters().ends_with('E');
        assert_eq!(is_asked, reply == Reply::Skip, "{reply:?}");
    }
}

/// What is larger than usual goes only to a milter that reads it.
#[tokio::test]
async fn data_sizes() {
    let offer = Offer {
        steps: Offer::V6.steps | Steps::DATA_256K | Steps::DATA_1M,
        ..Offer::V6
    };
    let large = || Header::new("X-Large", vec![b'x'; 200_000]);
    for (size, fits) in [(DataSize::Kib64, false), (DataSize::Kib256, true)] {
        let needs = Needs::all().data_size(size);
        let (mut milter, trace) = connected(client().offer(offer), needs, go).await;
        milter.connect(host()).await.unwrap();
        milter.mail(sender()).await.unwrap();
        milter.rcpt(recipient()).await.unwrap();
        assert_eq!(milter.header(large()).await.is_ok(), fits);
        assert_eq!(trace.of(b'L').len(), usize::from(fits));
    }
}

#[tokio::test]
async fn a_space_is_shown_to_those_who_want_it() {
    for (needs, value) in [
        (Needs::all(), " two"),
        (Needs::all().leading_space(), "  two"),
    ] {
        let (mut milter, trace) = connected(client(), needs, go).await;
        milter.connect(host()).await.unwrap();
        milter.mail(sender()).await.unwrap();
        milter.rcpt(recipient()).await.unwrap();
        milter.header(Header::new("X", "  two")).await.unwrap();
        let shown = Header::new("X", value);
        assert_eq!(trace.of(b'L'), [Command::Header(shown)]);
    }
}

#[tokio::test]
async fn over_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let unix = Address::unix(dir.path().join("filter.sock"));
    for address in [unix, Address::inet("127.0.0.1", 0)] {
        let (filter, log) = filter();
        let listener = address.bind().await.unwrap();
        let at = listener.address();
        let server = tokio::spawn(serve(listener, filter).into_future());
        let client = Client::new(at.clone());
        for _ in 0..2 {
            let mut milter = client.connect().await.unwrap();
            assert_eq!(milter.name(), at.to_string());
            up_to_body(&mut milter).await;
            assert_eq!(milter.end().await.unwrap().edits.len(), 1);
            assert!(!milter.is_gone());
            milter.quit().await.unwrap();
        }
        assert_eq!(log.count("connect"), 2);
        server.abort();
    }
}
