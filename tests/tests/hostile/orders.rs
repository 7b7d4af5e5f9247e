//! Every two and every three commands in every order.

use milter_tests::raw::{ACTIONS, STEPS_WITH_REPLIES, connect, frame, offer, strings};

use crate::target::{Row, Target};

/// Every command with a payload that it could have, and some that are none.
fn commands() -> Vec<Vec<u8>> {
    vec![
        offer(6, ACTIONS, STEPS_WITH_REPLIES),
        strings(b'D', &["Mi", "queue-id"]),
        connect(),
        strings(b'H', &["client.example"]),
        strings(b'M', &["<a@example.org>", "SIZE=1"]),
        strings(b'R', &["<b@example.net>"]),
        frame(b'T', b""),
        strings(b'U', &["XYZZY"]),
        strings(b'L', &["Subject", "x"]),
        frame(b'N', b""),
        frame(b'B', b"text\r\n"),
        frame(b'E', b""),
        frame(b'A', b""),
        frame(b'Q', b""),
        frame(b'K', b""),
        // SMFIC_* that never were, and a reply.
        frame(b'X', b""),
        frame(b'l', b""),
        frame(0, b""),
        frame(0xFF, b"\xFF"),
    ]
}

/// How many answers are due to these commands: one to each that asks, until one ends the
/// connection.
fn answers(commands: &[&[u8]], mut negotiated: bool) -> usize {
    let mut count = 0;
    for command in commands {
        match command[4] {
            b'O' => {
                negotiated = true;
                count += 1;
            }
            b'C' | b'H' | b'M' | b'R' | b'T' | b'U' | b'L' | b'N' | b'B' | b'E' if negotiated => {
                count += 1;
            }
            b'D' | b'A' | b'K' => {}
            _ => break,
        }
    }
    count
}

/// Sends commands, then no more, and counts the answers until the server closes.
fn try_order(target: &Target, number: usize, order: &[&[u8]], negotiated: bool) {
    let mut peer = target.try_connect(number).expect("a connection");
    let mut bytes = order.concat();
    if negotiated {
        bytes.splice(..0, offer(6, ACTIONS, STEPS_WITH_REPLIES));
    }
    // The server may close on the first bytes, before all were sent.
    let _ = peer.send(&bytes);
    let _ = peer.end_sending();
    let codes = || {
        let codes: Vec<u8> = order.iter().map(|command| command[4]).collect();
        codes.escape_ascii().to_string()
    };
    let replies = peer
        .receive_all()
        .unwrap_or_else(|error| panic!("{} {negotiated}: {error}", codes()));
    let is_answer = |code: &u8| b"Oacdrtys".contains(code);
    let found: Vec<u8> = replies.iter().map(|(code, _)| *code).collect();
    let count = found.iter().filter(|code| is_answer(code)).count();
    assert!(
        found.iter().all(|code| is_answer(code) || *code == b'h'),
        "{}: {}",
        codes(),
        found.escape_ascii()
    );
    let due = answers(order, negotiated) + usize::from(negotiated);
    assert_eq!(
        count,
        due,
        "{}, negotiated: {negotiated}: {}",
        codes(),
        found.escape_ascii()
    );
}

fn all_orders(target: &Target, negotiated: bool) {
    let commands = commands();
    let mut number = 0;
    let mut attempt = |order: &[&[u8]]| {
        number += 1;
        try_order(target, number, order, negotiated);
    };
    for first in &commands {
        attempt(&[first]);
        for second in &commands {
            attempt(&[first, second]);
            for third in &commands {
                attempt(&[first, second, third]);
            }
        }
    }
}

#[test]
fn commands_in_every_order_of_three_are_answered_or_end_the_connection() {
    Row::new("orders before the negotiation", 15, 4)
        .unix()
        .run(|target| all_orders(target, false));
    Row::new("orders after the negotiation", 20, 4).run(|target| all_orders(target, true));
}
