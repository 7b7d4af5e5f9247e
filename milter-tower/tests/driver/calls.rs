//! One call at a time (D3).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use milter_core::{Command, Reply};
use milter_tower::{ConnectionError, Event, Needs, Response, Settings, Stage, serve_connection};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use crate::common::{
    Act, Mta, Ready, Scripted, body, bytes_of, connect, ended, eom, header, helo, mail, message,
    seconds, start,
};

/// What a call takes: all of a session without replies together less than one may.
const A_WHILE: Duration = Duration::from_millis(500);

/// A service whose calls take a while, and which notes if two run at once.
fn slow(needs: Needs) -> (Scripted, Arc<AtomicBool>) {
    let running = Arc::new(AtomicUsize::new(0));
    let overlap = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&overlap);
    let last: std::sync::Mutex<Option<tokio::time::Instant>> = std::sync::Mutex::default();
    let (service, _) = Scripted::new(move |request, _| {
        let now = tokio::time::Instant::now();
        let mut last = last.lock().unwrap();
        if last.is_some_and(|last| now < last + A_WHILE) {
            seen.store(true, Ordering::SeqCst);
        }
        *last = Some(now);
        running.fetch_add(1, Ordering::SeqCst);
        let response = match request.event() {
            Event::Negotiate(_) => Response::needs(needs.clone()),
            _ => Response::proceed(),
        };
        Act::After(A_WHILE, response)
    });
    (service, overlap)
}

#[tokio::test(start_paused = true)]
async fn d3_pipelined_frames_are_served_one_by_one() {
    let silent = Stage::ALL.into_iter().fold(Needs::none(), Needs::record);
    for (needs, replies) in [(Needs::all(), 10), (silent, 1)] {
        let (service, overlap) = slow(needs);
        let (mut mta, run) = start(service);
        mta.negotiate().await;
        mta.send_all([connect(), helo()].into_iter().chain(message()))
            .await;
        for _ in 1..replies {
            assert_eq!(mta.reply().await, Reply::Continue);
        }
        while mta.reply().await == Reply::Progress {}
        mta.send(Command::Quit).await;
        mta.closed().await;
        ended(run).await.unwrap();
        assert!(!overlap.load(Ordering::SeqCst));
    }
}

#[tokio::test(start_paused = true)]
async fn d3_readiness_is_asked_after_the_event_came() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let (service, log) = Scripted::new(|_, _| Response::proceed().into());
    let service = service.ready(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Ready::Yes
    });
    let (mut mta, run) = start(service);
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    mta.greet().await;
    for _ in 0..3 {
        tokio::time::sleep(seconds(5)).await;
        let calls = log.all().len();
        assert_eq!(asked.load(Ordering::SeqCst), calls, "none in advance");
        assert_eq!(mta.ask(mail()).await, Reply::Continue);
    }
    mta.quit(run).await;
    assert_eq!(asked.load(Ordering::SeqCst), log.all().len());
}

/// How much of the bytes the server takes before it stops reading.
async fn push(io: &mut DuplexStream, bytes: &[u8]) -> usize {
    let mut pushed = 0;
    while pushed < bytes.len() {
        match timeout(seconds(1), io.write(&bytes[pushed..])).await {
            Ok(n) => pushed += n.unwrap(),
            Err(_) => break,
        }
    }
    pushed
}

#[tokio::test(start_paused = true)]
async fn d3_one_frame_is_read_ahead_and_no_more() {
    const PIPE: usize = 100;
    const FRAME: usize = 60_000;
    let (service, log) = Scripted::new(|request, _| match request.event() {
        Event::Mail(_) => Act::Hang,
        _ => Response::proceed().into(),
    });
    let (mta, io) = tokio::io::duplex(PIPE);
    let run = tokio::spawn(serve_connection(io, service).into_future());
    let mut mta = Mta::new(mta);
    mta.greet().await;
    mta.send(mail()).await;
    let frames = bytes_of(body(vec![b'x'; FRAME])).repeat(10);
    let taken = push(mta.framed.get_mut(), &frames).await;
    // The frame, what a read of the buffer's size brings with it, and what is in the pipe.
    assert!(
        taken >= FRAME,
        "{taken}: it looks whether the MTA is still there"
    );
    assert!(taken <= FRAME + 17 * 1024 + PIPE, "{taken}");
    assert_eq!(log.count("body"), 0);
    drop(mta);
    assert!(ended(run).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn d3_the_mta_goes_away_while_a_call_pends() {
    for stage in ["mail", "end of message"] {
        let (service, log) = Scripted::new(move |request, _| {
            if crate::common::name(request.event()) == stage {
                Act::Hang
            } else {
                Response::proceed().into()
            }
        });
        let (mut mta, run) = start(service);
        mta.greet().await;
        if stage == "mail" {
            mta.send(mail()).await;
        } else {
            assert_eq!(mta.ask(mail()).await, Reply::Continue);
            mta.send(eom()).await;
        }
        mta.silence(Duration::from_millis(500)).await;
        assert_eq!(log.all().last().unwrap(), stage);
        let start = tokio::time::Instant::now();
        drop(mta);
        assert!(matches!(ended(run).await, Err(ConnectionError::Lost)));
        assert_eq!(start.elapsed(), seconds(0), "at once");
        let seen = log.all();
        assert_eq!(seen[seen.len() - 3..], ["dropped", "end: lost", "close"]);
    }
}

#[tokio::test(start_paused = true)]
async fn d3_the_mta_goes_away_while_the_service_is_not_ready() {
    let (service, log) = Scripted::new(|_, _| Response::proceed().into());
    let service = service.ready(|_, calls| if calls == 3 { Ready::Never } else { Ready::Yes });
    let settings = Settings::new().call_timeout(seconds(3));
    let (mut mta, run) = crate::common::start_with(service, settings);
    mta.greet().await;
    mta.send(mail()).await;
    mta.silence(seconds(1)).await;
    drop(mta);
    assert!(ended(run).await.is_err());
    assert_eq!(log.count("mail"), 0);
}

#[tokio::test(start_paused = true)]
async fn d3_quit_behind_a_pending_call_waits_for_it() {
    let (service, log) = Scripted::new(|request, _| match request.event() {
        Event::Header(_) => Act::After(seconds(3), Response::proceed()),
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = start(service);
    mta.greet().await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    mta.send_all([header(), Command::Quit]).await;
    assert_eq!(mta.reply().await, Reply::Continue);
    mta.closed().await;
    ended(run).await.unwrap();
    assert_eq!(log.all()[4..], ["header", "end: aborted", "close"]);
}

/// What only tells of an end runs to its end, though nobody is there any more.
#[tokio::test(start_paused = true)]
async fn d5_ends_are_told_in_full_when_the_mta_is_gone() {
    let ends = Arc::new(AtomicUsize::new(0));
    let (service, log) = {
        let ends = Arc::clone(&ends);
        Scripted::new(move |request, _| {
            if request.event().is_end() {
                ends.fetch_add(1, Ordering::SeqCst);
                Act::After(seconds(2), Response::proceed())
            } else {
                Response::proceed().into()
            }
        })
    };
    let (mut mta, run) = start(service);
    mta.greet().await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    let start = tokio::time::Instant::now();
    drop(mta);
    assert!(ended(run).await.is_err());
    assert!(start.elapsed() >= seconds(4));
    assert_eq!(ends.load(Ordering::SeqCst), 2);
    assert_eq!(log.all()[4..], ["end: lost", "close"]);
}
