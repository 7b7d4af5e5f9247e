//! Clients: most of what they do is right, and the rest is wrong in every way that they know.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use milter_tests::address::Address;
use milter_tests::raw::{Message, Peer, STEPS, STEPS_WITH_REPLIES, frame, is_closed, strings};

use crate::filter::FILL;
use crate::rng::Rng;

/// How many wrong things are kept to be shown.
const SHOWN: usize = 20;

/// What all clients together have done.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) connections: AtomicU64,
    /// Well-formed messages, also those at which the filter was told to fail.
    pub(crate) messages: AtomicU64,
    pub(crate) faults: AtomicU64,
    wrong: AtomicU64,
    first: Mutex<Vec<String>>,
}

impl Tally {
    pub(crate) fn wrong(&self) -> u64 {
        self.wrong.load(Ordering::Relaxed)
    }

    /// The first wrong things.
    pub(crate) fn first(&self) -> Vec<String> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.clone()
    }

    fn add_wrong(&self, what: String) {
        self.wrong.fetch_add(1, Ordering::Relaxed);
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.len() < SHOWN {
            first.push(what);
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn wrong<T>(what: impl Into<String>) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidData, what.into()))
}

/// Connects again and again until told to stop.
pub(crate) fn work(mut rng: Rng, addresses: &[Address], tally: &Tally, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let seen = rng.clone();
        let mut client = Client {
            rng: &mut rng,
            tally,
            stop,
        };
        if let Err(error) = client.connection(addresses) {
            tally.add_wrong(format!("{error} (client at {seen:?})"));
        }
    }
}

struct Client<'a> {
    rng: &'a mut Rng,
    tally: &'a Tally,
    stop: &'a AtomicBool,
}

/// Whether the connection can be used on.
type Usable = bool;

impl Client<'_> {
    fn connection(&mut self, addresses: &[Address]) -> io::Result<()> {
        let mut peer = Peer::connect(self.rng.pick(addresses))?;
        count(&self.tally.connections);
        if self.rng.one_in(20) {
            return self.no_greeting(peer);
        }
        let offers = [
            (2, 0x7F),
            (4, 0x37F),
            (6, STEPS_WITH_REPLIES),
            (6, STEPS),
            (6, STEPS),
        ];
        let (version, steps) = *self.rng.pick(&offers);
        peer.greet(version, steps)?;
        for _ in 0..=self.rng.below(40) {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            if !self.something(&mut peer, version)? {
                return Ok(());
            }
        }
        match self.rng.below(3) {
            0 => drop(peer),
            1 => peer.reset(),
            _ => {
                peer.send(&frame(b'Q', b""))?;
                let rest = peer.receive_all()?;
                if !rest.is_empty() {
                    return wrong(format!("after quit came {rest:?}"));
                }
            }
        }
        Ok(())
    }

    /// One message, or one fault.
    fn something(&mut self, peer: &mut Peer, version: u32) -> io::Result<Usable> {
        let dice = self.rng.below(32);
        if dice < 8 {
            count(&self.tally.faults);
        }
        match dice {
            0 => self.cut(peer, version),
            1 => self.abort(peer, version),
            2 => self.garbage(peer),
            3 => self.slow_reader(peer, version),
            4 | 5 => self.fault(peer, version, &["error", "refuse", "slow"]),
            6 => self.fault(peer, version, &["error", "panic", "refuse"]),
            7 if self.rng.one_in(16) => self.fault(peer, version, &["hang"]),
            8 | 9 => self.in_one_go(peer, version),
            _ => self.message(peer),
        }
    }

    /// Leaves without a word, or with others than were expected.
    fn no_greeting(&mut self, mut peer: Peer) -> io::Result<()> {
        count(&self.tally.faults);
        match self.rng.below(3) {
            0 => drop(peer),
            1 => peer.reset(),
            _ => {
                let size = self.rng.below(6000);
                let _ = peer.send(&self.rng.bytes(size));
                let _ = peer.end_sending();
                let rest = peer.receive_all()?;
                // Eight random bytes are no offer.
                if !rest.is_empty() {
                    return wrong(format!("after garbage came {rest:?}"));
                }
            }
        }
        Ok(())
    }

    fn random_message(&mut self) -> Message {
        let rng = &mut *self.rng;
        let sizes = [0, 1, 100, 5000, 65_535];
        Message {
            sender: format!("{:x}@sender.example", rng.next()),
            recipients: (0..=rng.below(4))
                .map(|n| format!("{n}-{:x}@example.net", rng.next()))
                .collect(),
            headers: (0..rng.below(20))
                .map(|n| (format!("X-{n}"), "v".repeat(rng.below(200))))
                .collect(),
            body: (0..rng.below(4))
                .map(|_| {
                    let most = *rng.pick(&sizes);
                    vec![rng.next().to_be_bytes()[0]; rng.below(most + 1)]
                })
                .collect(),
        }
    }

    /// A message, command by command.
    fn message(&mut self, peer: &mut Peer) -> io::Result<Usable> {
        let message = self.random_message();
        let answer = peer.deliver(&message, |_| {})?;
        count(&self.tally.messages);
        if !answer.is_right_for(&message) {
            return wrong(format!("{answer:?} to {}", message.sender));
        }
        Ok(true)
    }

    /// A message that is sent without waiting for answers, in odd pieces.
    fn in_one_go(&mut self, peer: &mut Peer, version: u32) -> io::Result<Usable> {
        let message = self.random_message();
        let commands = message.commands(version);
        let bytes = commands.concat();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + self.rng.below(rest.len()));
            peer.send(piece)?;
            rest = after;
        }
        let due = commands.iter().filter(|of| peer.expects_reply(of[4]));
        let due = due.count();
        for n in 1..=due {
            let answer = peer.answer()?;
            let is_right = if n == due {
                answer.is_right_for(&message)
            } else {
                answer.verdict == b'c' && answer.edits.is_empty()
            };
            if !is_right {
                return wrong(format!("{answer:?} as {n} of {due} to {}", message.sender));
            }
        }
        count(&self.tally.messages);
        Ok(true)
    }

    /// A message at which the filter does what it is told, and what the library makes of that.
    fn fault(&mut self, peer: &mut Peer, version: u32, of: &[&str]) -> io::Result<Usable> {
        let fault = *self.rng.pick(of);
        // Where no reply is due a refusal is a mistake that means nothing.
        let stages: &[_] = if fault == "refuse" {
            &[("mail", b'M'), ("rcpt", b'R'), ("eom", b'E')]
        } else {
            &[
                ("mail", b'M'),
                ("rcpt", b'R'),
                ("header", b'L'),
                ("body", b'B'),
                ("eom", b'E'),
            ]
        };
        let (stage, code) = *self.rng.pick(stages);
        let mut message = self.random_message();
        message.sender = format!("{fault}.{stage}@sender.example");
        message.headers.push(("X".to_owned(), String::new()));
        message.body.push(b"x".to_vec());
        let commands = message.commands(version);
        let at = commands.iter().position(|command| command[4] == code);
        // A failure where no reply is due is told at the next command that has one.
        let mut after = commands.iter().enumerate().skip(at.unwrap_or(0));
        let due = after.find(|(_, command)| peer.expects_reply(command[4]));
        let due = due.map_or(0, |(n, _)| n + 1);
        let mut sent = 0;
        let answer = peer.deliver(&message, |_| sent += 1)?;
        count(&self.tally.messages);
        let is_right = if fault == "slow" {
            answer.is_right_for(&message)
        } else {
            let verdict = if fault == "refuse" { b'r' } else { b't' };
            answer.verdict == verdict && answer.edits.is_empty() && sent == due
        };
        if !is_right {
            return wrong(format!(
                "{answer:?} after {sent} commands (due: {due}) to {}",
                message.sender
            ));
        }
        peer.send(&frame(b'A', b""))?;
        Ok(true)
    }

    /// A connection that ends somewhere in a message.
    fn cut(&mut self, peer: &mut Peer, version: u32) -> io::Result<Usable> {
        let bytes = self.random_message().commands(version).concat();
        let end = self.rng.below(bytes.len());
        peer.send(&bytes[..end])?;
        match self.rng.below(3) {
            0 => {}
            1 => {
                let _ = peer.socket().set_linger(Some(Duration::ZERO));
            }
            _ => {
                peer.end_sending()?;
                peer.receive_all()?;
            }
        }
        Ok(false)
    }

    /// A message that is given up.
    fn abort(&mut self, peer: &mut Peer, version: u32) -> io::Result<Usable> {
        let commands = self.random_message().commands(version);
        let end = self.rng.below(commands.len());
        for command in &commands[..end] {
            let answer = peer.ask(command)?;
            if answer.verdict != b'c' {
                return wrong(format!("{answer:?} to a message that was given up"));
            }
        }
        peer.send(&frame(b'A', b""))?;
        Ok(true)
    }

    /// What is no frame, or one that is too large.
    fn garbage(&mut self, peer: &mut Peer) -> io::Result<Usable> {
        let bytes = match self.rng.below(4) {
            0 => vec![0; 8],
            1 => b"\x7F\xFF\xFF\xFFBxxxx".to_vec(),
            2 => b"\0\x10\0\x02B".to_vec(),
            _ => frame(b'?', &self.rng.bytes(100)),
        };
        // The server may close before it was all sent.
        let _ = peer.send(&bytes);
        let rest = peer.receive_all()?;
        if !rest.is_empty() {
            return wrong(format!("after garbage came {rest:?}"));
        }
        Ok(false)
    }

    /// A message with a large answer, read slowly or not to its end.
    fn slow_reader(&mut self, peer: &mut Peer, version: u32) -> io::Result<Usable> {
        peer.send(
            &Message::small("fill.eom@sender.example")
                .commands(version)
                .concat(),
        )?;
        let stays = self.rng.one_in(2);
        let mut size = 0;
        loop {
            match peer.receive() {
                Ok(Some((b'b', piece))) => size += piece.len(),
                Ok(Some((b'a', _))) => break,
                Ok(Some((b'c' | b'h', _))) => {}
                Err(error) if is_closed(&error) => return wrong("closed while it was read"),
                other => return wrong(format!("{other:?} in a large answer")),
            }
            if !stays && size > FILL / 2 {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(2));
        }
        if size != FILL {
            return wrong(format!("{size} bytes of a body of {FILL}"));
        }
        count(&self.tally.messages);
        // Whatever was wanted of the session goes on.
        peer.ask(&strings(b'H', &["client.example"])).map(|_| true)
    }
}
