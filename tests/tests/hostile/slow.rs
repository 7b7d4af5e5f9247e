//! Clients that take their time.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use milter_tests::raw::{Message, Peer, STEPS, STEPS_WITH_REPLIES, frame, is_closed, strings};

use crate::target::{Row, Target, deliver};

/// Sends the bytes one at a time until the server has closed all connections; the time it took.
fn trickle(peers: &mut Vec<Peer>, bytes: &[u8]) -> Duration {
    let start = Instant::now();
    for byte in bytes {
        peers.retain_mut(|peer| peer.send(&[*byte]).is_ok());
        if peers.is_empty() {
            break;
        }
        // The pace of the attack.
        thread::sleep(Duration::from_millis(50));
    }
    start.elapsed()
}

#[test]
fn a_frame_that_comes_byte_by_byte_must_still_come_in_time() {
    let options = &["--frame-timeout", "500"];
    Row::new("a byte now and then", 10, 4)
        .options(options)
        .run(|target| {
            let mut peers: Vec<Peer> = (0..50).map(|_| target.session(STEPS)).collect();
            let time = trickle(&mut peers, &frame(b'L', &[b'x'; 200]));
            assert!(peers.is_empty(), "{} are still open", peers.len());
            assert!(time >= Duration::from_millis(500), "{time:?}");
        });
    // A frame that is announced takes no memory before it comes.
    Row::new("1 MiB announced, never sent", 10, 6)
        .options(options)
        .run(|target| {
            let mut peers: Vec<Peer> = (0..200)
                .filter_map(|n| target.try_connect(n).ok())
                .filter_map(|mut peer| peer.greet(6, STEPS).ok().map(|()| peer))
                .collect();
            for peer in &mut peers {
                peer.send(b"\0\x10\0\x01Bxxxx").expect("room");
            }
            for peer in &mut peers {
                assert_eq!(peer.receive_all().expect("the end"), []);
            }
        });
}

#[test]
fn the_negotiation_must_come_in_time() {
    Row::new("a byte now and then, from the first", 10, 4)
        .options(&["--handshake-timeout", "500"])
        .run(|target| {
            let mut peers: Vec<Peer> = (0..50).map(|_| target.connect()).collect();
            // Macros may come before the offer: they buy no time.
            let time = trickle(&mut peers, &frame(b'D', &[b'M'; 1]).repeat(40));
            assert!(peers.is_empty(), "{} are still open", peers.len());
            assert!(time >= Duration::from_millis(500), "{time:?}");
        });
}

#[test]
fn silence_has_an_end() {
    Row::new("silence within a message", 10, 4)
        .options(&["--idle-timeout", "800"])
        .run(|target| {
            let mut peers: Vec<Peer> = (0..50).map(|_| target.session(STEPS)).collect();
            for peer in &mut peers {
                peer.ask(&strings(b'M', &["<a@b>"])).expect("an answer");
            }
            for peer in &mut peers {
                assert_eq!(peer.receive_all().expect("the end"), []);
            }
        });
}

/// Sends the bytes again and again and reads nothing; until the server closes. How many bytes
/// it took.
fn send_until_closed(peer: &mut Peer, bytes: &[u8], limit: Duration) -> u64 {
    let start = Instant::now();
    peer.set_patience(Duration::from_millis(100))
        .expect("an option");
    let mut sent = 0;
    let mut at = 0;
    while start.elapsed() < limit {
        match peer.send_some(&bytes[at..]) {
            Ok(count) => {
                sent += count as u64;
                at = (at + count) % bytes.len();
            }
            Err(error) if is_closed(&error) => return sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("not closed within {limit:?}");
}

fn never_read(target: &Target) {
    let (mail, end) = (strings(b'M', &["<fill.eom@b>"]), frame(b'E', b""));
    let attacks = [
        // Small replies, and as many as there can be.
        strings(b'U', &[""]).repeat(10_000),
        // A megabyte each.
        [mail, end].concat().repeat(100),
    ];
    for bytes in attacks {
        let mut peer = target.session(STEPS_WITH_REPLIES);
        // Less to fill before the server notices.
        let _ = peer.socket().set_recv_buffer_size(4096);
        let sent = send_until_closed(&mut peer, &bytes, Duration::from_secs(15));
        println!("{sent} bytes were taken");
    }
}

#[test]
fn who_reads_no_replies_is_closed() {
    let options = &["--write-timeout", "500"];
    Row::new("replies never read, tcp", 30, 12)
        .options(options)
        .run(never_read);
    Row::new("replies never read, unix", 30, 12)
        .options(options)
        .unix()
        .run(never_read);
}

#[test]
fn fifty_who_read_nothing_take_no_more_than_their_share() {
    // The filter made a body of 1 MiB for each.
    Row::new("50 that read nothing", 20, 80)
        .options(&["--write-timeout", "1000"])
        .run(|target| {
            let bytes = [strings(b'M', &["<fill.eom@b>"]), frame(b'E', b"")].concat();
            let mut peers: Vec<Peer> = (0..50).map(|_| target.session(STEPS)).collect();
            for peer in &mut peers {
                let _ = peer.socket().set_recv_buffer_size(4096);
                peer.send(&bytes.repeat(20)).expect("room");
            }
            for mut peer in peers {
                send_until_closed(&mut peer, &bytes, Duration::from_secs(10));
            }
        });
}

#[test]
fn who_reads_slowly_gets_it_all() {
    Row::new("replies read slowly", 20, 12).run(|target| {
        let mut peer = target.session(STEPS);
        peer.send(&Message::small("fill.eom@b").commands(6).concat())
            .expect("room");
        let mut size = 0;
        loop {
            let (code, payload) = peer.receive().expect("a reply").expect("a reply");
            match code {
                b'b' => size += payload.len(),
                b'a' => break,
                _ => {}
            }
            // The pace of the attack.
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(size, 1 << 20);
        deliver(&mut peer, &Message::small("next@example.org"), |_| {}).expect("in step");
    });
}
