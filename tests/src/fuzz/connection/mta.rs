//! The mail server's end: sends what it is told to, and knows which replies are due.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use milter_core::{
    Agreement, Command, FilterCodec, MacroStage, MtaCodec, Needs, Offer, ReplyMode, Verdict,
    negotiate,
};
use milter_tower::ConnectionError;
use tokio::io::{AsyncWriteExt, DuplexStream, WriteHalf, split};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::codec::{Decoder, Encoder};

use super::plan::Plan;
use super::replies::{Replies, are_allowed, read};
use super::trace::{Effect, Entry, Trace};
use super::{Ended, PATIENCE};

/// The largest payload before the negotiation, `milter_tower::connection::link`.
const MAX_FIRST_PAYLOAD: usize = 4096;

/// What may be the cause of an error.
#[derive(Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a cause of its own, and any set of them may be true"
)]
pub(super) struct Causes {
    /// Something other than whole, known frames was sent, or one too large.
    pub(super) garbage: bool,
    /// A large frame was sent before the offer was answered.
    pub(super) hasty: bool,
    /// The mail server left without goodbye.
    pub(super) left: bool,
    /// It was silent for long.
    pub(super) silent: bool,
    /// It did not read for a while.
    pub(super) deaf: bool,
}

impl Causes {
    /// Whether there may be replies that nobody waited for.
    pub(super) const fn is_any(&self) -> bool {
        self.garbage || self.hasty || self.left || self.deaf
    }
}

/// The mail server.
pub(super) struct Mta<'p> {
    plan: &'p Plan,
    trace: Trace,
    writer: Option<WriteHalf<DuplexStream>>,
    reader: JoinHandle<bool>,
    replies: Arc<Replies>,
    /// What was sent and is not a whole frame yet.
    input: BytesMut,
    codec: FilterCodec,
    sent: Vec<Command>,
    /// The letters of those to which a reply is due, as far as they were counted.
    due: Vec<u8>,
    counted: usize,
    /// Nothing more is due.
    is_counted: bool,
    agreement: Option<Agreement>,
    pub(super) causes: Causes,
    slept: Duration,
    /// Larger pieces are cut into pieces of that many bytes.
    pub(super) piece: usize,
}

impl<'p> Mta<'p> {
    pub(super) fn new(io: DuplexStream, plan: &'p Plan, trace: Trace) -> Self {
        let (reader, writer) = split(io);
        let replies = Arc::new(Replies::default());
        let mut codec = FilterCodec::new();
        codec.set_max_read(MAX_FIRST_PAYLOAD.min(plan.max_payload));
        Self {
            plan,
            trace: trace.clone(),
            writer: Some(writer),
            reader: tokio::spawn(read(reader, Arc::clone(&replies), trace)),
            replies,
            input: BytesMut::new(),
            codec,
            sent: Vec::new(),
            due: Vec::new(),
            counted: 0,
            is_counted: false,
            agreement: None,
            causes: Causes::default(),
            slept: Duration::ZERO,
            piece: usize::MAX,
        }
    }

    pub(super) fn plan(&self) -> &'p Plan {
        self.plan
    }

    /// How many commands were sent.
    pub(super) fn commands(&self) -> usize {
        self.sent.len()
    }

    /// Whether nothing more can be sent.
    pub(super) fn is_over(&self) -> bool {
        self.writer.is_none() || self.replies.closed.load(Ordering::Relaxed)
    }

    pub(super) async fn send(&mut self, command: Command) {
        let mut frame = BytesMut::new();
        let mut codec = MtaCodec::new();
        codec.set_max_write(1 << 20);
        codec.encode(command, &mut frame).expect("fits");
        self.send_raw(&frame).await;
    }

    pub(super) async fn send_raw(&mut self, bytes: &[u8]) {
        self.write(bytes).await;
        if self.plan.in_turn {
            let start = Instant::now();
            self.wait().await;
            self.was_in_time(start.elapsed());
        }
    }

    /// The server answers before the mail server gives up: Sendmail after 10 s, and at the end of
    /// a message after 300 s; Postfix after 30 s in which it hears nothing.
    fn was_in_time(&self, time: Duration) {
        let at_end = matches!(self.sent.last(), Some(Command::EndOfMessage(_)));
        let limit = match (at_end, self.may_be_postfix()) {
            (true, false) => 300,
            (true, true) => 330,
            (false, false) => 10,
            (false, true) => 30,
        };
        // To close the connection may take longer.
        let answered = self.replies.answers() == self.due.len() && !self.causes.deaf;
        let in_time = time < Duration::from_secs(limit);
        assert!(in_time || !answered, "{time:?} for {:?}", self.sent.last());
    }

    async fn write(&mut self, bytes: &[u8]) {
        // Not so many that large frames take long.
        for piece in bytes.chunks(self.piece.max(bytes.len() / 100).max(1)) {
            let Some(writer) = &mut self.writer else {
                return;
            };
            self.input.extend_from_slice(piece);
            let declared = self.input.first_chunk().copied().map(u32::from_be_bytes);
            let is_large = declared.is_some_and(|length| length as usize > MAX_FIRST_PAYLOAD);
            self.causes.hasty |= is_large && self.replies.lock().is_empty();
            while !self.causes.garbage {
                match self.codec.decode(&mut self.input) {
                    Ok(None) => break,
                    Ok(Some(command)) => {
                        if matches!(command, Command::Negotiate(_)) {
                            self.codec.set_max_read(self.plan.max_payload);
                        }
                        self.trace.add(Entry::Sent(command.clone()));
                        self.sent.push(command);
                    }
                    Err(_) => self.causes.garbage = true,
                }
            }
            let patience = PATIENCE * u32::try_from(self.sent.len() + 2).expect("not so many");
            let written = timeout(patience, writer.write_all(piece)).await;
            // A server that has closed reads no more.
            if written.expect("the server reads").is_err() {
                return;
            }
            if self.piece < usize::MAX {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits until all that is due has come.
    pub(super) async fn wait(&mut self) {
        while !self.replies.paused.load(Ordering::Relaxed) {
            self.count_due();
            let changed = self.replies.changed.notified();
            let got = self.replies.answers();
            if got >= self.due.len() || self.replies.closed.load(Ordering::Relaxed) {
                break;
            }
            let patience = PATIENCE * u32::try_from(self.sent.len() + 2).expect("not so many");
            let waited = timeout(patience, changed).await;
            assert!(
                waited.is_ok() || !self.input.is_empty(),
                "{got} replies, {:?} are due",
                self.due
            );
        }
    }

    /// Lets that time pass.
    pub(super) async fn sleep(&mut self, time: Duration) {
        self.slept += time;
        self.causes.silent |= self.slept >= Duration::from_secs(10);
        tokio::time::sleep(time).await;
    }

    /// Stops reading replies, or reads on.
    pub(super) fn pause(&mut self, paused: bool) {
        self.causes.deaf |= paused;
        self.replies.paused.store(paused, Ordering::Relaxed);
        self.replies.changed.notify_waiters();
    }

    /// Goes away without a word, and without reading what is on its way.
    pub(super) fn vanish(&mut self) {
        self.causes.left = true;
        self.reader.abort();
        self.writer = None;
    }

    /// Sends nothing more.
    pub(super) async fn half_close(&mut self) {
        self.causes.left = true;
        if let Some(mut writer) = self.writer.take() {
            let _ = writer.shutdown().await;
        }
    }

    /// Ends the connection as mail servers do, unless it is over.
    pub(super) async fn leave(mut self) -> Self {
        self.pause(false);
        if !self.is_over() {
            self.wait().await;
            self.send(Command::EndOfMessage(bytes::Bytes::new())).await;
            self.wait().await;
            self.send(Command::Quit).await;
            if !self.input.is_empty() {
                // Not even that was read as a command.
                self.half_close().await;
            }
        }
        self
    }

    /// The offer that the connection began with.
    fn offer(&self) -> Option<Offer> {
        self.sent.iter().find_map(|command| match command {
            Command::Negotiate(offer) => Some(*offer),
            _ => None,
        })
    }

    /// What the server takes the filter's needs for, and whether the filter failed to tell.
    fn needs(&self) -> (Needs, bool) {
        match self.trace.introduction() {
            Some(Effect::Says(response))
                if matches!(response.verdict(), Verdict::Continue | Verdict::Accept)
                    && response.edits().is_empty() =>
            {
                (response.needs_asked().cloned().unwrap_or_default(), false)
            }
            _ => (Needs::all(), true),
        }
    }

    /// What the two must agree on; none if they cannot.
    fn agree(&self) -> Option<Agreement> {
        let (needs, failed) = self.needs();
        if failed && self.plan.closes {
            return None;
        }
        negotiate(&self.offer()?, &needs).ok()
    }

    /// Counts the replies that are due to what was sent.
    fn count_due(&mut self) {
        while let Some(command) = self.sent.get(self.counted).filter(|_| !self.is_counted) {
            match (command, &self.agreement) {
                (Command::Negotiate(_), None) => {
                    if self.due.is_empty() {
                        self.due.push(b'O');
                    }
                    if self.replies.lock().is_empty() {
                        // What will be agreed on is not known yet.
                        return;
                    }
                    self.agreement = self.agree();
                    self.is_counted = self.agreement.is_none();
                }
                (Command::Negotiate(again), Some(before)) => {
                    if negotiate(again, &self.needs().0).as_ref() == Ok(before) {
                        self.due.push(b'O');
                    } else {
                        self.is_counted = true;
                    }
                }
                (Command::Quit, _) => self.is_counted = true,
                (command, agreement) => {
                    let mode = command
                        .stage()
                        .map(|stage| agreement.as_ref().map(|agreed| agreed.reply_mode(stage)));
                    match mode {
                        // Before the negotiation that is an error.
                        Some(None) => self.is_counted = true,
                        Some(Some(ReplyMode::Silent)) | None => {}
                        Some(Some(_)) => self.due.push(command.code()),
                    }
                }
            }
            self.counted += 1;
        }
    }

    /// Looks at how the connection ended.
    pub(super) async fn finish(mut self, ended: &Ended) -> Option<Agreement> {
        self.writer = None;
        let closed = timeout(PATIENCE, &mut self.reader).await;
        let torn = closed.expect("the server closes");
        self.count_due();
        let got = std::mem::take(&mut *self.replies.lock());
        self.explains(ended);
        if let Ok(torn) = torn {
            // The server waits for a while only until it is read.
            assert!(!torn || self.causes.deaf, "a reply ends in its middle");
        } else {
            // Who vanished has not seen all replies, nor whether there are too many.
            assert!(self.causes.left);
        }
        let agreement = self.agreement.take();
        are_allowed(&got, &self.due, agreement.as_ref(), self.may_be_postfix());
        let answers = got.iter().filter(|reply| reply.is_final()).count();
        let reads_all = !self.causes.left && !self.causes.deaf;
        if ended.is_ok() && reads_all {
            assert!(self.sent.contains(&Command::Quit), "closed too early");
            assert_eq!(answers, self.due.len(), "{got:?} for {:?}", self.due);
        }
        agreement
    }

    /// Whether the server may take this for Postfix, to which progress can be told anywhere.
    fn may_be_postfix(&self) -> bool {
        let says_so = self.sent.iter().any(|command| match command {
            Command::Macros(set) => set.stage() == Some(MacroStage::Connect),
            _ => false,
        });
        self.plan
            .mta
            .map_or(says_so, |mta| mta == milter_tower::Mta::Postfix)
    }

    /// Each error has a cause that it names.
    fn explains(&self, ended: &Ended) {
        let Err(error) = ended else { return };
        let Causes {
            garbage,
            hasty,
            left,
            silent,
            deaf,
        } = self.causes;
        let explained = match error {
            // A mail server that vanished cannot be written to.
            ConnectionError::Codec(_) => garbage || hasty || left,
            ConnectionError::NotNegotiated(_) => !matches!(
                self.sent.iter().find(|command| command.stage().is_some()
                    || matches!(command, Command::Negotiate(_) | Command::Quit)),
                None | Some(Command::Negotiate(_) | Command::Quit)
            ),
            ConnectionError::Negotiation(_) => self
                .offer()
                .is_some_and(|offer| negotiate(&offer, &self.needs().0).is_err()),
            ConnectionError::Renegotiated => {
                let offers = |command: &&Command| matches!(command, Command::Negotiate(_));
                self.sent.iter().filter(offers).count() > 1
            }
            ConnectionError::NegotiateFailed(_) => self.plan.closes && self.needs().1,
            ConnectionError::Refused => self.trace.is_refused(),
            ConnectionError::Timeout(_) => silent || deaf || !self.input.is_empty(),
            ConnectionError::Lost => left,
            _ => false,
        };
        assert!(explained, "{error}");
    }
}
