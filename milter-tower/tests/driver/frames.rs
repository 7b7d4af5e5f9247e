//! Frames in pieces, broken, too large or too late (C2 to C8, D11).

use milter_core::{CodecError, Command, Reply};
use milter_tower::{ConnectionError, Offer, Response, Settings, serve_connection};

use crate::common::{
    Mta, body, bytes_of, connect, ended, helo, mail, message, proceeding, seconds, start,
    start_with,
};

#[tokio::test(start_paused = true)]
async fn c2_frames_split_at_every_byte() {
    let frames: Vec<u8> = [Command::Negotiate(Offer::V6), connect(), helo()]
        .into_iter()
        .chain(message())
        .flat_map(bytes_of)
        .collect();
    let (service, log) = proceeding();
    let (mut mta, run) = start(service);
    for byte in &frames {
        mta.send_raw(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    assert!(matches!(mta.reply().await, Reply::Negotiate(_)));
    for _ in 0..10 {
        assert_eq!(mta.reply().await, Reply::Continue);
    }
    mta.quit(run).await;
    assert_eq!(log.count("end: accept"), 1);

    for cut in 1..frames.len() {
        let (service, log) = proceeding();
        let (mut mta, run) = start(service);
        mta.send_raw(&frames[..cut]).await;
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        mta.send_raw(&frames[cut..]).await;
        for _ in 0..11 {
            assert!(matches!(
                mta.reply().await,
                Reply::Negotiate(_) | Reply::Continue
            ));
        }
        mta.quit(run).await;
        assert_eq!(log.all().len(), 13);
    }
}

#[tokio::test(start_paused = true)]
async fn c4_c8_c39_c41_broken_frames_close_that_connection_alone() {
    for (frame, what) in [
        (&b"\0\0\0\0"[..], "length 0"),
        (b"\0\0\0\x01?", "unknown code"),
        (b"\0\0\0\x03Rab", "malformed"),
        (b"\0\0\0\x03La\0", "malformed"),
        (b"\0\0\0\x05La\0bc", "malformed"),
        (b"\0\0\0\x01D", "malformed"),
        (b"\xff\xff\xff\xffB", "larger than the limit"),
        (b"\x80\0\0\x01B", "larger than the limit"),
        (b"\0\x10\0\x02B", "larger than the limit"),
    ] {
        let (service, log) = proceeding();
        let (mut other, other_run) = start(service.twin());
        let (mut mta, run) = start(service);
        other.greet().await;
        mta.greet().await;
        assert_eq!(mta.ask(mail()).await, Reply::Continue);
        mta.send_raw(frame).await;
        mta.closed().await;
        let error = ended(run).await.unwrap_err();
        assert!(matches!(error, ConnectionError::Codec(_)), "{error}");
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(log.of(2)[3..], ["mail", "end: lost", "close"]);
        assert_eq!(other.message().await, "McRcTcUcLcNcBcEc");
        other.quit(other_run).await;
    }
}

#[tokio::test(start_paused = true)]
async fn c5_frames_as_large_as_allowed() {
    let (mut mta, run) = start(proceeding().0);
    mta.greet().await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    assert_eq!(mta.ask(body(vec![0; 65_535])).await, Reply::Continue);
    mta.quit(run).await;

    let settings = Settings::new().max_payload(70_000);
    let (mut mta, run) = start_with(proceeding().0, settings);
    mta.greet().await;
    mta.framed.codec_mut().set_max_write(100_000);
    assert_eq!(mta.ask(body(vec![0; 70_000])).await, Reply::Continue);
    mta.send(body(vec![0; 70_001])).await;
    mta.closed().await;
    assert!(matches!(
        ended(run).await,
        Err(ConnectionError::Codec(CodecError::TooLarge { .. }))
    ));
}

#[tokio::test(start_paused = true)]
async fn d11_c5_before_the_negotiation_frames_are_small() {
    let (service, log) = proceeding();
    let (mut mta, run) = start(service);
    mta.send_raw(b"\0\0\x10\x02O").await;
    mta.closed().await;
    assert!(matches!(
        ended(run).await,
        Err(ConnectionError::Codec(CodecError::TooLarge {
            max: 4097,
            ..
        }))
    ));
    assert_eq!(log.clones(), 0);
    // 4,096 bytes are fine.
    let (mut mta, run) = start(proceeding().0);
    let mut offer = bytes_of(Command::Negotiate(Offer::V6));
    offer[2..4].copy_from_slice(&[0x10, 0x01]);
    offer.resize(4 + 4097, 0);
    mta.send_raw(&offer).await;
    assert!(matches!(mta.reply().await, Reply::Negotiate(_)));
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn d6_other_protocols_are_named() {
    for (bytes, name) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "HTTP"),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc", "TLS"),
        (b"EHLO mx.example\r\n", "SMTP"),
    ] {
        let (service, log) = proceeding();
        let (mut mta, run) = start(service);
        mta.send_raw(bytes).await;
        mta.closed().await;
        let error = ended(run).await.unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        assert_eq!(log.clones(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn c7_a_port_probe_is_no_error() {
    let (service, log) = proceeding();
    let (mta, run) = start(service.twin());
    drop(mta);
    ended(run).await.unwrap();
    let (mut mta, run) = start(service.twin());
    mta.send(Command::Quit).await;
    mta.closed().await;
    ended(run).await.unwrap();
    // One that dies in the first frame is.
    let (mut mta, run) = start(service);
    mta.send_raw(b"\0\0").await;
    drop(mta);
    assert!(ended(run).await.is_err());
    assert_eq!(log.clones(), 0);
}

#[tokio::test(start_paused = true)]
async fn c58_commands_before_the_negotiation_close() {
    let (mut mta, run) = start(proceeding().0);
    mta.send(connect()).await;
    mta.closed().await;
    assert!(matches!(
        ended(run).await,
        Err(ConnectionError::NotNegotiated(_))
    ));
}

/// When the connection is closed, counted from now, in seconds.
async fn closes_after(mut mta: Mta, run: crate::common::Run) -> (u64, String) {
    let start = tokio::time::Instant::now();
    let error = tokio::time::timeout(seconds(20_000), async {
        use futures::StreamExt;
        while mta.framed.next().await.is_some() {}
        run.await.unwrap().unwrap_err().to_string()
    });
    let error = error.await.expect("it is closed at all");
    (start.elapsed().as_secs(), error)
}

#[tokio::test(start_paused = true)]
async fn d11_who_does_not_negotiate_is_closed() {
    let (mta, run) = start(proceeding().0);
    let (time, error) = closes_after(mta, run).await;
    assert_eq!(time, 30);
    assert!(error.contains("negotiate"), "{error}");
    // Macros and pieces of frames do not buy time.
    let (mut mta, run) = start(proceeding().0);
    for _ in 0..29 {
        mta.send_raw(b"\0\0\0\x02DC").await;
        tokio::time::sleep(seconds(1)).await;
    }
    mta.send_raw(b"\0\0").await;
    let (time, _) = closes_after(mta, run).await;
    assert!(time <= 1, "{time}");
}

#[tokio::test(start_paused = true)]
async fn d11_who_is_silent_is_closed_late() {
    let (service, log) = proceeding();
    let (mut mta, run) = start(service);
    mta.greet().await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    let (time, error) = closes_after(mta, run).await;
    assert!((7_210..=7_210 * 5 / 4).contains(&time), "{time}");
    assert!(error.contains("silent"), "{error}");
    assert_eq!(log.all()[4..], ["end: lost", "close"]);

    // Whoever says something now and then is not silent.
    let settings = Settings::new().idle_timeout(seconds(80));
    let (mut mta, run) = start_with(proceeding().0, settings);
    mta.greet().await;
    for _ in 0..10 {
        tokio::time::sleep(seconds(70)).await;
        assert_eq!(mta.ask(mail()).await, Reply::Continue);
    }
    let (time, _) = closes_after(mta, run).await;
    assert!((80..=100).contains(&time), "{time}");
}

#[tokio::test(start_paused = true)]
async fn d11_half_a_frame_and_then_silence() {
    let (mut mta, run) = start(proceeding().0);
    mta.greet().await;
    mta.send_raw(b"\0\0\0\x09Bab").await;
    let (time, error) = closes_after(mta, run).await;
    assert_eq!(time, 60);
    assert!(error.contains("frame"), "{error}");

    // A byte now and then does not help.
    let settings = Settings::new().frame_timeout(seconds(10));
    let (mut mta, run) = start_with(proceeding().0, settings);
    mta.greet().await;
    mta.send_raw(b"\0\0\0\x40B").await;
    for _ in 0..9 {
        tokio::time::sleep(seconds(1)).await;
        mta.send_raw(b"x").await;
    }
    assert!(closes_after(mta, run).await.0 <= 1);
}

#[tokio::test(start_paused = true)]
async fn d11_who_does_not_read_replies_is_closed() {
    let (service, log) = crate::common::Scripted::new(|request, _| match request.event() {
        milter_tower::Event::EndOfMessage(_) => {
            Response::accept().replace_body(vec![b'x'; 500_000]).into()
        }
        _ => Response::proceed().into(),
    });
    let (io, server) = tokio::io::duplex(1000);
    let run = tokio::spawn(serve_connection(server, service).into_future());
    let mut mta = Mta::new(io);
    mta.greet().await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    mta.send(crate::common::eom()).await;
    let start = tokio::time::Instant::now();
    let error = ended(run).await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 30);
    assert!(error.to_string().contains("read"), "{error}");
    assert_eq!(log.all()[5..], ["end: lost", "close"]);
}
