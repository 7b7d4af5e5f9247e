//! What a peer could make grow is bounded (D11).

use std::convert::Infallible;
use std::future::ready;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use milter_core::{Command, Reply};
use milter_tower::{
    Address, ConnectionError, Event, MacroStage, Needs, Offer, Request, Response, Sender, Settings,
    Stage, serve,
};
use tower::service_fn;

use super::serving::{dial, stopped};
use crate::common::{
    Scripted, answering, body, bytes_of, ended, eom, header, macros, mail, proceeding, rcpt,
    start_with,
};

#[tokio::test(start_paused = true)]
async fn d11_recipients_beyond_the_limit_are_refused_without_the_filter() {
    let (service, log) = proceeding();
    let (mut mta, run) = start_with(service, Settings::new().max_recipients(2));
    mta.greet().await;
    for _ in 0..2 {
        assert_eq!(mta.ask(mail()).await, Reply::Continue);
        for n in 0..5 {
            let reply = mta.ask(rcpt("<bob@example.net>")).await;
            if n < 2 {
                assert_eq!(reply, Reply::Continue);
            } else {
                let Reply::Smtp(reply) = reply else {
                    panic!("{reply:?}")
                };
                assert_eq!(reply.to_string(), "452 4.5.3 Too many recipients");
            }
        }
        // Those within the limit get the message.
        assert_eq!(mta.ask(eom()).await, Reply::Continue);
    }
    mta.quit(run).await;
    assert_eq!(log.count("rcpt"), 4);
    assert_eq!(log.count("end: accept"), 2);
}

#[tokio::test(start_paused = true)]
async fn d11_too_many_recipients_without_a_reply_fail_the_message() {
    let (service, log) = Scripted::new(|request, _| match request.event() {
        Event::Negotiate(_) => Response::needs(Needs::none().record(Stage::Rcpt)).into(),
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = start_with(service, Settings::new().max_recipients(2));
    mta.negotiate().await;
    for _ in 0..5 {
        mta.send(rcpt("<bob@example.net>")).await;
    }
    assert_eq!(mta.ask(eom()).await, Reply::TempFail);
    mta.send_all([rcpt("<bob@example.net>")]).await;
    assert_eq!(
        mta.ask(eom()).await,
        Reply::Continue,
        "the next one is filtered"
    );
    mta.quit(run).await;
    assert_eq!((log.count("rcpt"), log.count("end: tempfail")), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn d11_macros_beyond_the_limit_are_left_out() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let (service, _) = Scripted::new(move |request, _| {
        let macros = request.session().macros();
        if let Event::Mail(_) = request.event() {
            keep.lock()
                .unwrap()
                .push((macros.held_bytes(), macros.get("i").is_some()));
        }
        Response::proceed().into()
    });
    let (mut mta, run) = start_with(service, Settings::new().max_macro_bytes(64));
    mta.negotiate().await;
    mta.send(macros(MacroStage::Mail, [("i", "1")])).await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    let large = "one value that is longer than all that is kept of a connection here";
    mta.send(macros(MacroStage::Mail, [("i", "2"), ("x", large)]))
        .await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    mta.quit(run).await;
    assert_eq!(*kept.lock().unwrap(), [(4, true), (0, false)]);
}

#[tokio::test(start_paused = true)]
async fn d11_headers_beyond_the_limit_refuse_the_message() {
    let few = Settings::new().max_headers(3);
    let small = Settings::new().max_header_bytes(4 * "Subjecthello".len() - 1);
    for settings in [few, small] {
        let (service, log) = proceeding();
        let (mut mta, run) = start_with(service, settings);
        mta.greet().await;
        for _ in 0..2 {
            assert_eq!(mta.ask(mail()).await, Reply::Continue);
            for _ in 0..3 {
                assert_eq!(mta.ask(header()).await, Reply::Continue);
            }
            let Reply::Smtp(reply) = mta.ask(header()).await else {
                panic!("no reply of its own")
            };
            assert_eq!(reply.to_string(), "552 5.3.4 Message headers too large");
        }
        mta.quit(run).await;
        assert_eq!((log.count("header"), log.count("end: reject")), (6, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn d11_too_many_headers_without_a_reply_refuse_the_message_later() {
    let (service, log) = Scripted::new(|request, _| match request.event() {
        Event::Negotiate(_) => Response::needs(Needs::none().record(Stage::Header)).into(),
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = start_with(service, Settings::new().max_headers(2));
    mta.negotiate().await;
    for _ in 0..1000 {
        mta.send(header()).await;
    }
    let Reply::Smtp(reply) = mta.ask(eom()).await else {
        panic!("no reply of its own")
    };
    assert_eq!(reply.code(), 552);
    mta.send(header()).await;
    assert_eq!(
        mta.ask(eom()).await,
        Reply::Continue,
        "the next one is filtered"
    );
    mta.quit(run).await;
    assert_eq!(log.count("header"), 3);
}

#[tokio::test(start_paused = true)]
async fn d11_what_all_connections_hold_together_is_bounded() {
    let (service, log) = proceeding();
    let (mut mta, run) = start_with(service, Settings::new().max_held_bytes(1000));
    mta.greet().await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    let mut kept = 0;
    let refused = loop {
        match mta.ask(rcpt("<somebody@example.net>")).await {
            Reply::Continue => kept += 1,
            Reply::Smtp(reply) => break reply.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused, "452 4.3.1 Insufficient system storage");
    assert!((3..30).contains(&kept), "{kept}");
    // The rest of the message goes on.
    assert_eq!(mta.ask(eom()).await, Reply::Continue);
    assert_eq!(
        mta.ask(mail()).await,
        Reply::Continue,
        "what a message held is free again"
    );
    assert_eq!(mta.ask(rcpt("<b@c>")).await, Reply::Continue);
    mta.quit(run).await;
    assert_eq!(log.count("rcpt"), kept + 1);
}

#[tokio::test(start_paused = true)]
async fn d11_an_envelope_that_is_too_large_fails() {
    let (service, log) = proceeding();
    let (mut mta, run) = start_with(service, Settings::new().max_held_bytes(1000));
    mta.greet().await;
    let oversized = Command::Mail(Sender::new("x".repeat(2000), [""; 0]));
    assert_eq!(mta.ask(oversized).await, Reply::TempFail);
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    let value: &str = "x".repeat(2000).leak();
    mta.send(macros(MacroStage::Rcpt, [("i", value)])).await;
    assert_eq!(
        mta.ask(rcpt("<b@c>")).await,
        Reply::Continue,
        "without its macros"
    );
    mta.quit(run).await;
    assert_eq!((log.count("mail"), log.count("rcpt")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn d11_a_frame_that_would_hold_too_much_closes_its_connection() {
    let (service, log) = proceeding();
    let (mut mta, run) = start_with(service, Settings::new().max_held_bytes(1000));
    mta.greet().await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    let frame = bytes_of(body(vec![b'x'; 9000]));
    mta.send_raw(&frame[..8000]).await;
    mta.closed().await;
    let error = ended(run).await.unwrap_err();
    assert!(
        matches!(error, ConnectionError::TooMuchHeld(1000)),
        "{error}"
    );
    assert_eq!(log.count("end: lost"), 1);
}

#[tokio::test(start_paused = true)]
async fn d11_replies_that_nobody_reads_are_held_too() {
    let (service, log) = Scripted::new(|request, _| match request.event() {
        // More than the pipe takes, by some kilobytes.
        Event::EndOfMessage(_) => Response::accept()
            .add_header("X-Long", "x".repeat(5000))
            .replace_body(vec![b'x'; 4 << 20])
            .into(),
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = start_with(service, Settings::new().max_held_bytes(1000));
    mta.greet().await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    mta.send(eom()).await;
    let error = ended(run).await.unwrap_err();
    assert!(matches!(error, ConnectionError::TooMuchHeld(_)), "{error}");
    assert_eq!(log.count("end: lost"), 1);
}

/// Thousands of commands may have come with one read.
#[tokio::test]
async fn a_flood_of_commands_leaves_their_turn_to_others() {
    const COMMANDS: usize = 20_000;
    let since_turn = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&since_turn);
    let service = service_fn(move |request: Request| {
        if let Event::Header(_) = request.event() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let needs = Needs::none().record(Stage::Header);
        ready(Ok::<_, Infallible>(match request.event() {
            Event::Negotiate(_) => Response::needs(needs),
            _ => Response::proceed(),
        }))
    });
    let (mut mta, server) = start_with(service, Settings::new().max_headers(COMMANDS));
    mta.negotiate().await;
    let mut flood = bytes_of(header()).repeat(COMMANDS);
    flood.extend(bytes_of(Command::Quit));
    mta.send_raw(&flood).await;
    let (mut most, mut all) = (0, 0);
    while !server.is_finished() {
        let count = since_turn.swap(0, Ordering::Relaxed);
        most = most.max(count);
        all += count;
        tokio::task::yield_now().await;
    }
    server.await.unwrap().unwrap();
    let rest = since_turn.load(Ordering::Relaxed);
    most = most.max(rest);
    all += rest;
    assert_eq!(all, COMMANDS);
    assert!(most <= 1000, "{most} commands without a turn for others");
}

#[tokio::test(start_paused = true)]
async fn d11_what_is_refused_is_not_held() {
    let (service, _) = answering("rcpt", || Response::reject().into());
    let (mut mta, run) = start_with(service, Settings::new().max_held_bytes(12_000));
    mta.greet().await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    let large: &str = "x".repeat(9000).leak();
    for _ in 0..5 {
        assert_eq!(mta.ask(rcpt(large)).await, Reply::Reject);
    }
    mta.quit(run).await;
}

/// Two connections of one server.
#[tokio::test]
async fn d11_a_server_that_holds_too_much_still_negotiates() {
    let listener = Address::inet("127.0.0.1", 0).bind().await.unwrap();
    let address = listener.address();
    let server = serve(listener, proceeding().0).settings(Settings::new().max_held_bytes(2000));
    let handle = server.handle();
    let server = tokio::spawn(server.into_future());
    let mut greedy = dial(&address).await;
    greedy.greet().await;
    assert_eq!(greedy.ask(mail()).await, Reply::Continue);
    greedy
        .send_raw(&bytes_of(body(vec![b'x'; 3000]))[..2500])
        .await;
    while handle.stats().held_bytes < 2000 {
        tokio::task::yield_now().await;
    }
    let mut other = dial(&address).await;
    let offer = bytes_of(Command::Negotiate(Offer::V6));
    other.send_raw(&offer[..7]).await;
    tokio::task::yield_now().await;
    other.send_raw(&offer[7..]).await;
    assert!(matches!(other.reply().await, Reply::Negotiate(_)));
    handle.shutdown_now();
    stopped(server).await;
}

#[tokio::test]
async fn d11_what_the_filter_refused_is_free_for_others_at_once() {
    let listener = Address::inet("127.0.0.1", 0).bind().await.unwrap();
    let address = listener.address();
    let server = serve(listener, answering("rcpt", || Response::reject().into()).0);
    let handle = server.handle();
    let server = tokio::spawn(server.into_future());
    let mut mta = dial(&address).await;
    mta.greet().await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    let before = handle.stats().held_bytes;
    let large: &str = "x".repeat(9000).leak();
    assert_eq!(mta.ask(rcpt(large)).await, Reply::Reject);
    assert_eq!(handle.stats().held_bytes, before);
    handle.shutdown_now();
    stopped(server).await;
}
