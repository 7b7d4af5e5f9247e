//! Replies on the wire: written together, in order, in pieces of the right size (D10, C3, C73).

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use milter_core::{Command, Reply};
use milter_tower::{Event, Modification, ModificationKind, Response, serve_connection};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use crate::common::{
    Mta, Run, Scripted, body, eom, header, mail, message, proceeding, rcpt, seconds, start,
};

/// Notes how many bytes each write took.
struct Writes(DuplexStream, Arc<Mutex<Vec<usize>>>);

impl AsyncRead for Writes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Writes {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write(cx, bytes);
        if let Poll::Ready(Ok(n)) = written {
            self.1.lock().unwrap().push(n);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

fn counted(service: Scripted) -> (Mta, Run, Arc<Mutex<Vec<usize>>>) {
    let (mta, io) = tokio::io::duplex(1 << 20);
    let writes = Arc::default();
    let io = Writes(io, Arc::clone(&writes));
    let run = tokio::spawn(serve_connection(io, service).into_future());
    (Mta::new(mta), run, writes)
}

fn answering_at_the_end(response: impl Fn() -> Response + Send + Sync + 'static) -> Scripted {
    let (service, _) = Scripted::new(move |request, _| match request.event() {
        Event::EndOfMessage(_) => response().into(),
        _ => Response::proceed().into(),
    });
    service
}

#[tokio::test(start_paused = true)]
async fn d10_edits_and_verdict_are_one_write() {
    let service = answering_at_the_end(|| {
        Response::accept()
            .add_header("X-A", "b")
            .add_recipient("c@example.net")
            .replace_body("new\r\n")
            .quarantine("why")
    });
    let (mut mta, run, writes) = counted(service);
    mta.greet().await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    writes.lock().unwrap().clear();
    let (edits, verdict) = mta.end().await;
    assert_eq!((edits.len(), verdict), (4, Reply::Accept));
    assert_eq!(writes.lock().unwrap().len(), 1);
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn d10_c3_pipelined_commands_are_answered_in_one_write() {
    let (mut mta, run, writes) = counted(proceeding().0);
    mta.greet().await;
    writes.lock().unwrap().clear();
    mta.send_all(message()).await;
    for _ in 0..8 {
        assert_eq!(mta.reply().await, Reply::Continue);
    }
    assert_eq!(*writes.lock().unwrap(), [8 * 5]);
    mta.quit(run).await;
}

/// What is due is not held back while the service is at work on the next event.
#[tokio::test(start_paused = true)]
async fn d10_replies_are_written_before_a_wait() {
    let (service, _) = Scripted::new(|request, _| match request.event() {
        Event::Rcpt(_) => crate::common::Act::After(seconds(3), Response::proceed()),
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = start(service);
    mta.greet().await;
    mta.send_all([mail(), rcpt("<b@x>")]).await;
    let start = tokio::time::Instant::now();
    assert_eq!(mta.reply().await, Reply::Continue);
    assert_eq!(start.elapsed(), seconds(0));
    assert_eq!(mta.reply().await, Reply::Continue);
    mta.quit(run).await;
}

fn pieces(edits: &[Reply]) -> Vec<usize> {
    let body = |reply: &Reply| match reply {
        Reply::Modify(edit) => match edit.kind() {
            ModificationKind::ReplaceBody { body } => Some(body.len()),
            _ => None,
        },
        _ => None,
    };
    edits.iter().filter_map(body).collect()
}

#[tokio::test(start_paused = true)]
async fn c73_a_body_goes_out_in_pieces_and_in_one_run() {
    for (size, expected) in [
        (0, vec![0]),
        (65_535, vec![65_535]),
        (65_536, vec![65_535, 1]),
        (200_000, vec![65_535, 65_535, 65_535, 3_395]),
    ] {
        let service = answering_at_the_end(move || {
            Response::accept()
                .add_header("X-A", "b")
                .replace_body(vec![b'x'; size])
                .add_header("X-B", "c")
        });
        let (mut mta, run) = start(service);
        mta.greet().await;
        assert_eq!(mta.ask(mail()).await, Reply::Continue);
        let (edits, verdict) = mta.end().await;
        assert_eq!(verdict, Reply::Accept);
        assert_eq!(pieces(&edits), expected);
        let is_body = |reply: &Reply| reply.code() == b'b';
        let first = edits.iter().position(is_body).unwrap();
        let run_len = edits[first..].iter().take_while(|e| is_body(e)).count();
        assert_eq!(run_len, expected.len(), "one run");
        assert_eq!(edits.len(), expected.len() + 2);
        mta.quit(run).await;
    }
}

/// However slowly the MTA reads: nothing is lost, and nothing is reordered.
#[tokio::test(start_paused = true)]
async fn c73_a_body_through_a_narrow_pipe() {
    let service = answering_at_the_end(|| Response::accept().replace_body(vec![b'x'; 200_000]));
    let (mta, io) = tokio::io::duplex(100);
    let run = tokio::spawn(serve_connection(io, service).into_future());
    let mut mta = Mta::new(mta);
    mta.greet().await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    let (edits, verdict) = mta.end().await;
    assert_eq!(verdict, Reply::Accept);
    assert_eq!(pieces(&edits), [65_535, 65_535, 65_535, 3_395]);
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn c71_deletes_go_from_the_highest_index() {
    let service = answering_at_the_end(|| {
        Response::accept()
            .delete_header("X-A", 1)
            .delete_header("X-A", 3)
            .delete_header("X-A", 2)
    });
    let (mut mta, run) = start(service);
    mta.greet().await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    let (edits, _) = mta.end().await;
    let delete = |n| Reply::Modify(Modification::delete_header("X-A", n).unwrap());
    assert_eq!(edits, [delete(3), delete(2), delete(1)]);
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn c42_data_in_the_last_frame_is_a_last_piece_of_the_body() {
    for (verdict, ends, letter) in [
        (Response::proceed(), "end: accept", 'c'),
        (Response::reject(), "end: reject", 'r'),
        (Response::accept(), "end: accept", 'a'),
    ] {
        let (service, log) = Scripted::new(move |request, _| match request.event() {
            Event::Body(piece) if &piece[..] == b"last" => verdict.clone().into(),
            _ => Response::proceed().into(),
        });
        let (mut mta, run) = start(service);
        mta.greet().await;
        assert_eq!(mta.ask(mail()).await, Reply::Continue);
        assert_eq!(mta.ask(body("first")).await, Reply::Continue);
        mta.send(Command::EndOfMessage("last".into())).await;
        assert_eq!(char::from(mta.reply().await.code()), letter);
        mta.silence(seconds(5)).await;
        assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc", "in step");
        mta.quit(run).await;
        assert_eq!(log.count("body"), 3);
        assert_eq!(
            log.all().iter().filter(|e| e.starts_with("end: ")).count(),
            2
        );
        assert_eq!(
            log.all().iter().find(|e| e.starts_with("end: ")).unwrap(),
            ends
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c9_c40_c43_contents_arrive_as_they_were_sent() {
    let kept = Arc::new(Mutex::new(Vec::<Vec<u8>>::new()));
    let keep = Arc::clone(&kept);
    let (service, _) = Scripted::new(move |request, _| {
        match request.event() {
            Event::Body(piece) => keep.lock().unwrap().push(piece.to_vec()),
            Event::Header(header) => keep
                .lock()
                .unwrap()
                .push(header.value().as_bytes().to_vec()),
            _ => {}
        }
        Response::proceed().into()
    });
    let (mut mta, run) = start(service);
    mta.greet().await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    let all: [&[u8]; 6] = [b"", b" a\n\tb", b"x", b"one\r", b"\n\0two\n\r\0", b"\xff"];
    for value in &all[..3] {
        let header = Command::Header(milter_tower::Header::new("X-A", *value));
        assert_eq!(mta.ask(header).await, Reply::Continue);
    }
    assert_eq!(mta.ask(Command::EndOfHeaders).await, Reply::Continue);
    for piece in &all[3..] {
        assert_eq!(mta.ask(body(*piece)).await, Reply::Continue);
    }
    assert_eq!(mta.ask(eom()).await, Reply::Continue);
    mta.quit(run).await;
    assert_eq!(*kept.lock().unwrap(), all);
}

#[tokio::test(start_paused = true)]
async fn c60_no_final_reply_to_commands_that_have_none() {
    let (mut mta, run) = start(proceeding().0);
    mta.greet().await;
    mta.send_all([Command::Abort, Command::QuitNewConnection, Command::Abort])
        .await;
    mta.silence(seconds(10)).await;
    assert_eq!(mta.ask(header()).await, Reply::Continue);
    mta.quit(run).await;
}
