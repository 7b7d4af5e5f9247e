//! Connections that end early: by the server's shutdown, and by a reset.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use milter_core::Reply;
use milter_tower::{Address, ConnectionError, MacroStage, Response, serve_connection};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::time::Instant;

use super::serving::{dial, serving, stopped};
use crate::common::{
    Act, Mta, Run, answering, ended, eom, macros, mail, message, proceeding, rcpt, seconds,
};

/// Sendmail sends no abort after a message that is decided; macros of its envelope came.
#[tokio::test]
async fn shutdown_closes_at_once_when_a_message_is_decided_and_not_aborted() {
    for (at, answer, letters) in [
        ("mail", Response::reject(), "Mr"),
        ("rcpt", Response::accept(), "Ra"),
        ("end of headers", Response::reject(), "Nr"),
        ("body", Response::discard(), "Bd"),
    ] {
        let (service, log) = answering(at, move || answer.clone().into());
        let grace = seconds(3);
        let (address, server, stop) = serving(Address::inet("127.0.0.1", 0), service, grace).await;
        let mut mta = dial(&address).await;
        mta.greet().await;
        mta.send(macros(MacroStage::Mail, [("i", "4XyZ")])).await;
        let mut last = String::new();
        for command in message() {
            let decides = command.stage().unwrap().name() == at;
            let code = command.code();
            last = [code, mta.ask(command).await.code()]
                .map(char::from)
                .iter()
                .collect();
            if decides {
                break;
            }
        }
        assert_eq!(last, letters);
        stop.send(()).unwrap();
        let start = Instant::now();
        let report = stopped(server).await;
        assert_eq!((report.accepted, report.cut), (1, 0), "{at}");
        assert!(start.elapsed() < grace, "{at}: {:?}", start.elapsed());
        mta.closed().await;
        assert_eq!(log.all().last().unwrap(), "close", "{at}");
    }
}

/// A recipient that is refused leaves the message open.
#[tokio::test]
async fn shutdown_waits_for_a_message_one_of_whose_recipients_was_refused() {
    let (service, log) = answering("rcpt", || Response::reject().into());
    let grace = seconds(20);
    let (address, server, stop) = serving(Address::inet("127.0.0.1", 0), service, grace).await;
    let mut mta = dial(&address).await;
    mta.greet().await;
    mta.send(macros(MacroStage::Mail, [("i", "4XyZ")])).await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    assert_eq!(mta.ask(rcpt("<b@example.net>")).await, Reply::Reject);
    stop.send(()).unwrap();
    mta.silence(Duration::from_millis(300)).await;
    assert_eq!(mta.ask(eom()).await, Reply::Continue);
    mta.closed().await;
    assert_eq!(stopped(server).await.cut, 0);
    assert_eq!(log.count("end: accept"), 1);
}

/// What the MTA does without an answer may be to let the mail pass.
#[tokio::test]
async fn a_message_that_is_cut_at_its_end_is_not_left_without_an_answer() {
    let (service, log) = answering("end of message", || Act::Hang);
    let grace = Duration::from_millis(200);
    let (address, server, stop) = serving(Address::inet("127.0.0.1", 0), service, grace).await;
    let mut mta = dial(&address).await;
    mta.greet().await;
    mta.message_but_its_end().await;
    mta.send(eom()).await;
    stop.send(()).unwrap();
    let mut replies = Vec::new();
    while let Some(reply) = mta.next().await {
        if reply != Reply::Progress {
            replies.push(reply);
        }
    }
    assert_eq!(replies, [Reply::TempFail]);
    assert_eq!(stopped(server).await.cut, 1);
    assert_eq!(log.all().last().unwrap(), "close");
}

/// A transport that is reset where the other end closes it.
struct Resets(DuplexStream);

impl AsyncRead for Resets {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(cx, buf))?;
        Poll::Ready(if buf.filled().len() == before {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            Ok(())
        })
    }
}

impl AsyncWrite for Resets {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The end of a connection that is reset after so many messages, and maybe in another.
async fn reset(messages: usize, in_message: bool) -> Result<(), ConnectionError> {
    let (service, log) = proceeding();
    let (mta, io) = tokio::io::duplex(4096);
    let run: Run = tokio::spawn(serve_connection(Resets(io), service).into_future());
    let mut mta = Mta::new(mta);
    mta.greet().await;
    for _ in 0..messages {
        assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    }
    if in_message {
        assert_eq!(mta.ask(mail()).await, Reply::Continue);
    }
    drop(mta);
    let ended = ended(run).await;
    assert_eq!(log.all().last().unwrap(), "close");
    ended
}

#[tokio::test(start_paused = true)]
async fn a_reset_between_messages_is_an_end_like_others() {
    for messages in 0..3 {
        reset(messages, false).await.expect("a good end");
        reset(messages, true).await.expect_err("a message is lost");
    }
}
