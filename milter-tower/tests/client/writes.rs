//! How often is written.

use std::sync::atomic::Ordering;

use milter_core::{Command, Needs, Reply, Stage};
use milter_tower::{Header, Verdict};

use crate::peer::{Act, Counted, client, go, host, peer, recipient, sender};

/// A filter that answers nothing but the end of the message.
fn silent() -> Needs {
    let stages = Stage::ALL.into_iter();
    stages
        .filter(|stage| *stage != Stage::EndOfMessage)
        .fold(Needs::none(), Needs::record)
}

#[tokio::test]
async fn c26_what_needs_no_reply_is_written_with_what_comes_next() {
    let (io, trace) = peer(silent(), go);
    let (io, writes) = Counted::new(io);
    let mut milter = client().over(io).await.unwrap();
    assert_eq!(writes.swap(0, Ordering::Relaxed), 1, "the offer");
    milter.connect(host()).await.unwrap();
    milter.helo("client.example").await.unwrap();
    for _ in 0..2 {
        milter.mail(sender()).await.unwrap();
        for _ in 0..3 {
            milter.rcpt(recipient()).await.unwrap();
        }
        milter.data().await.unwrap();
        for n in 0..20 {
            let header = Header::new("X-Number", format!(" {n}"));
            milter.header(header).await.unwrap();
        }
        milter.end_of_headers().await.unwrap();
        milter.body("hello\r\n").await.unwrap();
        assert_eq!(writes.load(Ordering::Relaxed), 0, "nothing is due yet");
        let end = milter.end().await.unwrap();
        assert_eq!(end.verdict, Verdict::Continue);
        assert_eq!(writes.swap(0, Ordering::Relaxed), 1);
    }
    milter.quit().await.unwrap();
    assert_eq!(writes.load(Ordering::Relaxed), 1);
    let letters = trace.letters().replace('D', "");
    assert!(letters.starts_with("OCHMRRRTLLLL"), "{letters}");
    assert!(letters.contains("LNBEMRRRT"), "{letters}");
}

#[tokio::test]
async fn what_piles_up_is_written_before_it_is_much() {
    let (io, _) = peer(silent(), go);
    let (io, writes) = Counted::new(io);
    let mut milter = client().over(io).await.unwrap();
    milter.connect(host()).await.unwrap();
    milter.mail(sender()).await.unwrap();
    milter.rcpt(recipient()).await.unwrap();
    writes.store(0, Ordering::Relaxed);
    // A frame is 1 KiB: a write for eight of them.
    for _ in 0..80 {
        let header = Header::new("X-Large", vec![b'x'; 1010]);
        milter.header(header).await.unwrap();
    }
    let wrote = writes.load(Ordering::Relaxed);
    assert!((9..=11).contains(&wrote), "{wrote}");
}

#[tokio::test]
async fn a_step_with_its_macros_is_one_write() {
    let (io, trace) = peer(Needs::all(), go);
    let (io, writes) = Counted::new(io);
    let mut milter = client().over(io).await.unwrap();
    milter.set_macro("j", "mail.example.net");
    milter.connect(host()).await.unwrap();
    assert_eq!(writes.load(Ordering::Relaxed), 2);
    assert_eq!(trace.letters(), "ODC");
}

/// A reply to what needs none would be taken for the answer to something else.
#[tokio::test]
async fn c77_a_reply_where_none_is_due_is_found_at_the_next_step() {
    let (io, _) = peer(silent(), |frame| match frame {
        Command::Mail(_) => Act::Say(vec![Reply::Reject]),
        _ => Act::Go,
    });
    let mut milter = client().over(io).await.unwrap();
    milter.connect(host()).await.unwrap();
    milter.mail(sender()).await.unwrap();
    let body = vec![b'x'; 10_000];
    milter.rcpt(recipient()).await.unwrap();
    milter.end_of_headers().await.unwrap();
    milter.body(body).await.unwrap();
    // It has read MAIL by then.
    tokio::task::yield_now().await;
    let error = milter.end().await.unwrap_err();
    assert_eq!(error.stage(), Some(Stage::EndOfMessage));
    assert!(error.to_string().contains("no reply is due"), "{error}");
}
