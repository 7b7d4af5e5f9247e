//! Many connections, and connections that end in odd ways.

use std::time::Duration;

use milter_tests::raw::{
    ACTIONS, Message, STEPS, STEPS_WITH_REPLIES, connect, frame, is_closed, offer, strings,
};
use milter_tests::wait;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::target::{Row, Target, deliver};

const SILENT: usize = 10_000;

/// Raises the limit on open descriptors, which the server inherits. Whether that was possible.
fn allow_descriptors(count: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= count) {
        return true;
    }
    if limit.maximum.is_some_and(|maximum| maximum < count) {
        return false;
    }
    let raised = Rlimit {
        current: Some(count),
        ..limit
    };
    setrlimit(Resource::Nofile, raised).is_ok()
}

#[test]
fn ten_thousand_connections_that_say_nothing() {
    let most = if allow_descriptors(SILENT as u64 + 500) {
        SILENT
    } else {
        let may_skip =
            std::env::var_os("CI").is_none() && std::env::var_os("MILTER_TESTS_REQUIRE").is_none();
        assert!(
            may_skip,
            "the limit on descriptors is too low for {SILENT} connections"
        );
        println!(
            "skipped: the limit on descriptors is too low for {SILENT} connections, 500 instead"
        );
        500
    };
    Row::new("10,000 silent connections", 30, 96)
        .options(&["--handshake-timeout", "5000"])
        .run(|target| {
            let before = target.descriptors();
            let mut peers = Vec::new();
            for n in 0..most {
                // A server that is full may refuse, or close at once.
                if let Ok(peer) = target.try_connect(n) {
                    peers.push(peer);
                }
                if n % 250 == 0 {
                    // What overflows the listener's queue is tried again only a second later.
                    let _ = wait::until("all to be accepted", Duration::from_millis(100), || {
                        (target.descriptors() >= before + peers.len()).then_some(())
                    });
                }
            }
            let held = target.descriptors() - before;
            println!("{} connected, {held} of them held", peers.len());
            assert!(held >= 100, "{held}");
            for peer in &mut peers {
                assert_eq!(peer.receive_all().expect("the end"), []);
            }
        });
}

fn reconnect(target: &Target) {
    let offers = offer(6, ACTIONS, STEPS);
    for n in 0..3000 {
        // A server that is full may refuse.
        let Ok(mut peer) = target.try_connect(n) else {
            continue;
        };
        match n % 4 {
            0 => drop(peer),
            1 => drop(peer.send(&offers)),
            2 => {
                let _ = peer.greet(6, STEPS);
            }
            _ => {
                let _ = peer.send(&[offers.clone(), connect()].concat());
                peer.reset();
            }
        }
    }
}

#[test]
fn clients_that_come_and_go() {
    Row::new("reconnects, tcp", 15, 8).run(reconnect);
    Row::new("reconnects, unix", 15, 8).unix().run(reconnect);
}

#[test]
fn who_sends_no_more_still_hears_every_answer() {
    for row in [
        Row::new("half closed, tcp", 10, 8),
        Row::new("half closed, unix", 10, 8).unix(),
    ] {
        row.run(|target| {
            for n in 0..200 {
                let mut peer = target.try_connect(n).expect("a connection");
                let message = Message::small("half@example.org");
                let mut bytes = offer(6, ACTIONS, STEPS_WITH_REPLIES);
                bytes.extend(message.commands(6).concat());
                peer.send(&bytes).expect("room");
                peer.end_sending().expect("no more");
                let replies = peer.receive_all().expect("the end");
                let codes: Vec<u8> = replies.iter().map(|(code, _)| *code).collect();
                assert_eq!(codes, b"Occccccha", "{}", codes.escape_ascii());
            }
            // Within a message, and while the filter works.
            for sender in ["a@example.org", "slow.mail@example.org"] {
                let mut peer = target.session(STEPS);
                peer.send(&strings(b'M', &[&format!("<{sender}>")]))
                    .expect("room");
                peer.end_sending().expect("no more");
                peer.receive_all().expect("the end");
            }
        });
    }
}

#[test]
fn a_reset_ends_its_own_connection_alone() {
    Row::new("resets", 10, 8).run(|target| {
        for n in 0..500 {
            let Ok(mut peer) = target.try_connect(n) else {
                continue;
            };
            if peer.greet(6, STEPS_WITH_REPLIES).is_err() {
                continue;
            }
            let commands = Message::small("slow.eom@example.org").commands(6);
            // A reset with replies unread, with a call under way, within a frame.
            let mut bytes = commands[..n % (commands.len() + 1)].concat();
            if n % 2 == 0 {
                bytes.extend_from_slice(b"\0\0\x10\0B");
            }
            peer.send(&bytes).expect("room");
            peer.reset();
        }
    });
}

#[test]
fn a_client_that_reads_nothing_and_leaves_is_forgotten() {
    Row::new("left with replies unread", 10, 16).run(|target| {
        let fill = [strings(b'M', &["<fill.eom@b>"]), frame(b'E', b"")].concat();
        for n in 0..20 {
            let Ok(mut peer) = target.try_connect(n) else {
                continue;
            };
            if peer.greet(6, STEPS).is_err() {
                continue;
            }
            let _ = peer.socket().set_recv_buffer_size(4096);
            peer.send(&fill.repeat(5)).expect("room");
            let (code, _) = peer.receive().expect("a reply").expect("a reply");
            assert!(b"cbh".contains(&code));
            if n % 2 == 0 {
                peer.reset();
            } else {
                // Sends no more and reads no more, but does not close either.
                let _ = peer.end_sending();
                peer.set_patience(Duration::from_millis(5))
                    .expect("an option");
                let error = loop {
                    if let Err(error) = peer.send(b"\0") {
                        break error;
                    }
                };
                assert!(is_closed(&error), "{error}");
            }
        }
        let mut peer = target.session(STEPS);
        deliver(&mut peer, &Message::small("next@example.org"), |_| {}).expect("in step");
    });
}
