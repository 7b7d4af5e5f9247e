//! Valid sessions, cut everywhere.

use milter_tests::raw::{
    ACTIONS, Message, STEPS, STEPS_WITH_REPLIES, connect, frame, offer, strings,
};

use crate::target::{Row, Target};

/// All bytes of a session with one message, and how many answers are due to it.
fn session(version: u32, steps: u32) -> (Message, Vec<u8>, usize) {
    let mut message = Message::small("cut@example.org");
    message.recipients.push("carol@example.net".to_owned());
    let mut commands = vec![
        offer(version, ACTIONS, steps),
        strings(b'D', &["Cj", "mail.example.net", "v", "Postfix 3.7.11"]),
        connect(),
        strings(b'H', &["client.example"]),
        strings(b'D', &["Mi", "queue-id"]),
    ];
    commands.extend(message.commands(version));
    let silent = |code: u8| code == b'D' || steps == STEPS && b"LB".contains(&code);
    let due = commands
        .iter()
        .filter(|command| !silent(command[4]))
        .count();
    commands.push(frame(b'Q', b""));
    (message, commands.concat(), due)
}

const KINDS: [(u32, u32); 3] = [(2, 0x7F), (6, STEPS_WITH_REPLIES), (6, STEPS)];

/// Sends a part of the session and goes away, in three ways by turns.
fn cut_everywhere(target: &Target) {
    for (version, steps) in KINDS {
        let (_, bytes, _) = session(version, steps);
        for end in 0..bytes.len() {
            let mut peer = target.try_connect(end).expect("a connection");
            peer.send(&bytes[..end]).expect("room for a session");
            match end % 3 {
                0 => drop(peer),
                1 => peer.reset(),
                _ => {
                    peer.end_sending().expect("no more");
                    // The server answers what was whole and closes.
                    peer.receive_all().expect("the end");
                }
            }
        }
    }
}

#[test]
fn a_session_may_end_after_every_byte() {
    Row::new("cut at every byte, tcp", 10, 4).run(cut_everywhere);
    Row::new("cut at every byte, unix", 10, 4)
        .unix()
        .run(cut_everywhere);
}

#[test]
fn a_session_may_come_byte_by_byte() {
    for row in [
        Row::new("a write a byte, tcp", 10, 2),
        Row::new("a write a byte, unix", 10, 2).unix(),
    ] {
        row.run(|target| {
            for (version, steps) in KINDS {
                let (message, bytes, due) = session(version, steps);
                let mut peer = target.connect();
                for byte in &bytes {
                    peer.send(&[*byte]).expect("room");
                }
                let replies = peer.receive_all().expect("the end");
                let codes: Vec<u8> = replies.iter().map(|(code, _)| *code).collect();
                let (edits, answers): (Vec<_>, Vec<_>) =
                    replies.into_iter().partition(|(code, _)| *code == b'h');
                assert_eq!(answers.len(), due, "{}", codes.escape_ascii());
                let sum = format!("X-Sum\0{}\0", message.sum().text()).into_bytes();
                assert_eq!(edits, [(b'h', sum)]);
            }
        });
    }
}
