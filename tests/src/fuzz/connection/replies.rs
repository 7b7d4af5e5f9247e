//! What comes back to the mail server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use milter_core::{Agreement, Modification, MtaCodec, Reply};
use tokio::io::{AsyncReadExt, DuplexStream, ReadHalf};
use tokio::sync::Notify;
use tokio_util::codec::Decoder;

use super::trace::{Entry, Trace};

/// What came back so far.
#[derive(Default)]
pub(super) struct Replies {
    got: Mutex<Vec<Reply>>,
    pub(super) closed: AtomicBool,
    /// The mail server does not read.
    pub(super) paused: AtomicBool,
    pub(super) changed: Notify,
}

impl Replies {
    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Reply>> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of them answer a command.
    pub(super) fn answers(&self) -> usize {
        self.lock().iter().filter(|reply| reply.is_final()).count()
    }
}

/// Reads replies to the end. Whether that was within a frame.
pub(super) async fn read(
    mut io: ReadHalf<DuplexStream>,
    replies: Arc<Replies>,
    trace: Trace,
) -> bool {
    let mut codec = MtaCodec::new();
    // More than was ever agreed on is never sent.
    codec.set_max_read(1_048_575);
    let mut input = BytesMut::new();
    loop {
        while replies.paused.load(Ordering::Relaxed) {
            replies.changed.notified().await;
        }
        let size = io.read_buf(&mut input).await.expect("memory can be read");
        while let Some(reply) = codec.decode(&mut input).expect("replies are whole frames") {
            trace.add(Entry::Got(reply.clone()));
            replies.lock().push(reply);
        }
        if size == 0 {
            replies.closed.store(true, Ordering::Relaxed);
        }
        replies.changed.notify_waiters();
        if size == 0 {
            return !input.is_empty();
        }
    }
}

/// Whether a final reply may follow a command, both by their letters.
// Skip in the body only, no discard before MAIL, no accept of an unknown command (C61).
fn allows(command: u8, reply: u8) -> bool {
    match reply {
        b'O' => command == b'O',
        b'c' | b'r' | b't' | b'y' => command != b'O',
        b's' => command == b'B',
        b'd' => !b"OCHU".contains(&command),
        b'a' => !b"OU".contains(&command),
        _ => false,
    }
}

/// Each reply is one that its command allows, and within the agreement.
pub(super) fn are_allowed(
    got: &[Reply],
    due: &[u8],
    agreement: Option<&Agreement>,
    may_be_postfix: bool,
) {
    let mut due = due.iter();
    let mut edits: Vec<&Modification> = Vec::new();
    let mut worked = false;
    for reply in got {
        match reply {
            Reply::Progress => worked = true,
            Reply::Modify(edit) => edits.push(edit),
            last => {
                let command = *due.next().unwrap_or_else(|| panic!("{last:?} is not due"));
                let letter = last.code();
                assert!(
                    allows(command, letter),
                    "{last:?} to {}",
                    char::from(command)
                );
                if let Reply::Negotiate(reply) = last {
                    let agreed = agreement.map(Agreement::to_reply);
                    assert_eq!(Some(reply), agreed.as_ref());
                }
                assert!(*last != Reply::Skip || agreement.is_some_and(Agreement::skip));
                let at_end = command == b'E';
                assert!(!worked || at_end || may_be_postfix && command != b'O');
                if !edits.is_empty() {
                    assert!(at_end, "edits before the end");
                    assert!(b"ca".contains(&letter), "edits and {last:?}");
                }
                for edit in edits.drain(..) {
                    let permits = agreement.expect("an agreement").permits(edit);
                    assert_eq!(permits, Ok(()), "{edit:?}");
                }
                worked = false;
            }
        }
    }
}
