//! One end of a connection with an MTA: frames in, frames out, and the clock.
//!
//! Nothing here knows what the frames mean. Replies are collected and written when no whole
//! frame is left to read, directly before any wait.
//!
//! The buffers are lent: a connection that waits has none.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use futures::{Sink, Stream};
use milter_core::{CodecError, Command, FilterCodec, Reply};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::codec::Framed;

use super::buffer;
use crate::clock::{Clock, after};
use crate::listener::before_a_reply;
use crate::progress::Progress;
use crate::serve::{Control, Held};
use crate::settings::Settings;
use crate::stop::{Level, StopSignal};

/// The largest payload before the negotiation: an offer has twelve bytes.
const MAX_FIRST_PAYLOAD: usize = 4096;
/// What the write buffer begins with: most replies have no payload.
const SMALL_WRITE: usize = 64;
/// How much is collected before it is written without a wait.
const WRITE_BOUNDARY: usize = 64 * 1024;
/// What a connection may have in its buffers even when all together hold too much.
const SMALL_HELD: usize = 4096;
/// In how many steps silence is measured.
const IDLE_STEPS: u32 = 8;

/// Why nothing more comes from an MTA.
#[derive(Debug)]
pub(super) enum Lost {
    /// It closed the connection.
    Eof,
    /// What came were no frames, or reading or writing failed.
    Codec(CodecError),
    /// It took too long.
    Timeout(&'static str),
    /// All connections together hold too much, and this one would hold more.
    Full,
    /// The server stops, and this is a good moment.
    Drained,
    /// The server stops at once.
    Cut,
}

/// What came instead of the end of a call.
pub(super) enum Interrupt {
    /// The call's deadline passed.
    Deadline,
    /// The MTA is gone.
    Lost(Lost),
}

pub(super) struct Link<IO> {
    /// What it reads into has memory while frames are left to read, or a part of one; what it
    /// writes from has some until the end of a message.
    framed: Framed<IO, FilterCodec>,
    /// The frame that came while a call was pending. That is rare.
    ahead: Option<Box<Command>>,
    clock: Clock,
    stop: StopSignal,
    settings: Arc<Settings>,
    held: Held,
    /// How many of the bytes held are not in the buffers.
    kept: usize,
    /// Until when the MTA must have negotiated.
    handshake: Option<Instant>,
    /// Until when the frame that has begun must be whole.
    frame: Option<Instant>,
    /// Until when the replies must be written.
    written: Option<Instant>,
    idle: Idle,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Link<IO> {
    pub(super) fn new(io: IO, settings: Arc<Settings>, control: Arc<Control>) -> Self {
        let mut codec = FilterCodec::new();
        codec.set_max_read(MAX_FIRST_PAYLOAD.min(settings.max_payload));
        let mut framed = Framed::with_capacity(io, codec, 0);
        *framed.write_buffer_mut() = BytesMut::new();
        Self {
            framed,
            ahead: None,
            clock: Clock::default(),
            stop: control.stop.signal(),
            held: Held::new(control),
            kept: 0,
            handshake: Some(after(Instant::now(), settings.handshake_timeout)),
            frame: None,
            written: None,
            idle: Idle::default(),
            settings,
        }
    }

    /// What the connections of the server share.
    pub(super) fn control(&self) -> &Arc<Control> {
        self.held.control()
    }

    /// Takes note of how many bytes are held besides the buffers. Whether all connections together
    /// hold too much.
    pub(super) fn keep(&mut self, bytes: usize) -> bool {
        self.kept = bytes;
        self.hold()
    }

    /// Counts what is held: what is kept, frames that are not whole, replies that are not read.
    fn hold(&mut self) -> bool {
        let bytes = self.kept + self.buffered();
        self.held.set(bytes, self.settings.max_held_bytes)
    }

    /// Whether all connections hold too much, and this one has its part in that. What the
    /// negotiation takes is less.
    fn is_to_close(&mut self) -> bool {
        self.hold() && self.buffered() > SMALL_HELD
    }

    /// Whether the MTA has negotiated.
    const fn is_agreed(&self) -> bool {
        self.handshake.is_none()
    }

    fn buffered(&self) -> usize {
        self.framed.read_buffer().len() + self.queued()
    }

    /// Takes note that the MTA has negotiated, and how large replies may be.
    pub(super) fn negotiated(&mut self, max_write: usize) {
        self.handshake = None;
        let codec = self.framed.codec_mut();
        codec.set_max_read(self.settings.max_payload);
        codec.set_max_write(max_write);
    }

    /// The next command. Between messages the server's shutdown ends the wait.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        between_messages: bool,
    ) -> Poll<Result<Command, Lost>> {
        if let Some(command) = self.ahead.take() {
            return Poll::Ready(Ok(*command));
        }
        if self.queued() >= WRITE_BOUNDARY {
            ready!(self.poll_flushed(cx))?;
        }
        // While whole frames are left to read the replies can wait.
        if self.queued() > 0 && !self.framed.codec().has_frame(self.framed.read_buffer()) {
            if let Poll::Ready(Err(lost)) = self.poll_flush(cx) {
                return Poll::Ready(Err(lost));
            }
        }
        if let Poll::Ready(command) = self.poll_read(cx) {
            return Poll::Ready(command);
        }
        if between_messages && self.queued() == 0 {
            *self.framed.write_buffer_mut() = BytesMut::new();
        }
        match self.poll_stop(cx) {
            Level::Cut => return Poll::Ready(Err(Lost::Cut)),
            Level::Drain if between_messages => return Poll::Ready(Err(Lost::Drained)),
            _ => {}
        }
        loop {
            self.watch_partial_frame();
            let now_due = self.io_due();
            let due = now_due.unwrap_or_else(|| self.idle.due(self.settings.idle_timeout));
            ready!(self.clock.poll_until(cx, due));
            if let Some(lost) = self.overdue() {
                return Poll::Ready(Err(lost));
            }
            if now_due.is_none() && self.idle.step(self.settings.idle_timeout) {
                return Poll::Ready(Err(Lost::Timeout("the MTA was silent for too long")));
            }
        }
    }

    /// To be called whenever a call is pending: writes what is to be written, tells the MTA that
    /// work goes on, reads one frame ahead, and watches the clock.
    pub(super) fn poll_interrupt(
        &mut self,
        cx: &mut Context<'_>,
        call: &mut Call,
    ) -> Poll<Interrupt> {
        loop {
            match self.poll_flush(cx) {
                Poll::Ready(Err(lost)) if call.watches => {
                    return Poll::Ready(Interrupt::Lost(lost));
                }
                _ => {}
            }
            // Nothing is piled up for an MTA that does not read.
            let reads = self.queued() == 0;
            if reads && call.progress.as_ref().is_some_and(|it| it.take(cx)) {
                self.send_progress();
                continue;
            }
            if call.watches {
                if self.ahead.is_none() {
                    let ahead = if call.has_reply {
                        before_a_reply(|| self.poll_read(cx))
                    } else {
                        self.poll_read(cx)
                    };
                    match ahead {
                        Poll::Ready(Ok(command)) => self.ahead = Some(Box::new(command)),
                        Poll::Ready(Err(lost)) => return Poll::Ready(Interrupt::Lost(lost)),
                        Poll::Pending => self.watch_partial_frame(),
                    }
                }
                if self.poll_stop(cx) == Level::Cut {
                    return Poll::Ready(Interrupt::Lost(Lost::Cut));
                }
            }
            let write = self.written.filter(|_| call.watches);
            let due = [call.tick, write]
                .into_iter()
                .flatten()
                .fold(call.deadline, Instant::min);
            ready!(self.clock.poll_until(cx, due));
            let now = Instant::now();
            if now >= call.deadline {
                return Poll::Ready(Interrupt::Deadline);
            }
            if write.is_some_and(|write| now >= write) {
                return Poll::Ready(Interrupt::Lost(TOO_SLOW_TO_READ));
            }
            if call.tick.is_some_and(|tick| now >= tick) {
                call.tick = Some(after(now, self.settings.progress_interval));
                if reads {
                    self.send_progress();
                }
            }
        }
    }

    /// Queues a reply. No command is read while too much is queued.
    pub(super) fn send(&mut self, reply: &Reply) -> Result<(), Lost> {
        if self.framed.write_buffer().capacity() == 0 {
            self.framed.write_buffer_mut().reserve(SMALL_WRITE);
        }
        let sent = Pin::new(&mut self.framed).start_send(reply);
        sent.map_err(Lost::Codec)
    }

    /// Queues a reply that may be large: it waits until the MTA has read what was queued before.
    pub(super) async fn send_large(&mut self, reply: &Reply) -> Result<(), Lost> {
        if self.queued() >= WRITE_BOUNDARY {
            self.flush().await?;
        }
        self.send(reply)
    }

    /// Writes what is queued.
    pub(super) async fn flush(&mut self) -> Result<(), Lost> {
        std::future::poll_fn(|cx| self.poll_flushed(cx)).await
    }

    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        if let Poll::Ready(done) = self.poll_flush(cx) {
            return Poll::Ready(done);
        }
        if self.poll_stop(cx) == Level::Cut {
            return Poll::Ready(Err(Lost::Cut));
        }
        if self.is_to_close() {
            return Poll::Ready(Err(Lost::Full));
        }
        let due = self.written.unwrap_or_else(Instant::now);
        ready!(self.clock.poll_until(cx, due));
        Poll::Ready(Err(TOO_SLOW_TO_READ))
    }

    /// Writes what can be written at once.
    pub(super) async fn start_flush(&mut self) {
        // What goes wrong now goes wrong at the next read, too.
        std::future::poll_fn(|cx| {
            let _ = self.poll_flush(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// A call that may take until `deadline`; with `ticks` the MTA is told meanwhile that work goes
    /// on.
    pub(super) fn call(&self, deadline: Instant, progress: Option<Progress>, ticks: bool) -> Call {
        Call {
            deadline,
            tick: ticks.then(|| after(Instant::now(), self.settings.progress_interval)),
            progress,
            watches: true,
            has_reply: false,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Command, Lost>> {
        if self.framed.read_buffer().is_empty() {
            buffer::borrow(self.framed.read_buffer_mut());
        }
        loop {
            let Poll::Ready(next) = Pin::new(&mut self.framed).poll_next(cx) else {
                if self.framed.read_buffer().is_empty() {
                    buffer::give_back(self.framed.read_buffer_mut());
                }
                if self.is_to_close() {
                    return Poll::Ready(Err(Lost::Full));
                }
                return Poll::Pending;
            };
            self.frame = None;
            self.idle.active = true;
            return Poll::Ready(match next {
                // Postfix sends one before each header and each piece of the body (C28).
                Some(Ok(Command::Macros(set))) if set.stage().is_none() && self.is_agreed() => {
                    continue;
                }
                Some(Ok(command)) => Ok(command),
                Some(Err(error)) => Err(Lost::Codec(error)),
                None => Err(Lost::Eof),
            });
        }
    }

    /// How many bytes of replies wait to be written.
    fn queued(&self) -> usize {
        self.framed.write_buffer().len()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        if self.queued() == 0 {
            return Poll::Ready(Ok(()));
        }
        match Sink::<&Reply>::poll_flush(Pin::new(&mut self.framed), cx) {
            Poll::Ready(flushed) => {
                self.written = None;
                Poll::Ready(flushed.map_err(Lost::Codec))
            }
            Poll::Pending => {
                let time = self.settings.write_timeout;
                self.written
                    .get_or_insert_with(|| after(Instant::now(), time));
                Poll::Pending
            }
        }
    }

    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Level {
        self.stop.poll(cx)
    }

    /// Starts the clock of a frame that has begun.
    fn watch_partial_frame(&mut self) {
        if self.frame.is_none() && !self.framed.read_buffer().is_empty() {
            self.frame = Some(after(Instant::now(), self.settings.frame_timeout));
        }
    }

    /// When the MTA must have done what it is about to do, if it is about to do anything.
    fn io_due(&self) -> Option<Instant> {
        [self.handshake, self.frame, self.written]
            .into_iter()
            .flatten()
            .min()
    }

    fn overdue(&self) -> Option<Lost> {
        let now = Instant::now();
        let passed = |due: Option<Instant>| due.is_some_and(|due| now >= due);
        if passed(self.handshake) {
            Some(Lost::Timeout("the MTA did not negotiate in time"))
        } else if passed(self.frame) {
            Some(Lost::Timeout("the MTA began a frame and did not end it"))
        } else if passed(self.written) {
            Some(TOO_SLOW_TO_READ)
        } else {
            None
        }
    }

    fn send_progress(&mut self) {
        // A frame without payload always fits.
        let _ = self.send(&Reply::Progress);
    }
}

const TOO_SLOW_TO_READ: Lost = Lost::Timeout("the MTA did not read the replies in time");

/// A call of the service that is under way.
pub(super) struct Call {
    deadline: Instant,
    /// When the MTA is next told that work goes on.
    tick: Option<Instant>,
    progress: Option<Progress>,
    /// Whether the MTA's going away ends the call.
    watches: bool,
    /// Whether the MTA waits for what comes of it.
    has_reply: bool,
}

impl Call {
    /// The same, but the call goes on when the MTA goes away: it only tells of an end.
    pub(super) fn unwatched(self) -> Self {
        Self {
            watches: false,
            ..self
        }
    }

    /// The same for one whose answer the MTA waits for.
    pub(super) fn awaited(self, has_reply: bool) -> Self {
        Self { has_reply, ..self }
    }
}

/// Silence, measured in steps so that no clock is read for each frame.
#[derive(Default)]
struct Idle {
    due: Option<Instant>,
    /// Something came since the last step.
    active: bool,
    silent_steps: u32,
}

impl Idle {
    fn due(&mut self, limit: Duration) -> Instant {
        *self
            .due
            .get_or_insert_with(|| after(Instant::now(), limit / IDLE_STEPS))
    }

    /// A step is over. Whether the silence was too long.
    fn step(&mut self, limit: Duration) -> bool {
        self.due = Some(after(Instant::now(), limit / IDLE_STEPS));
        self.silent_steps = if std::mem::take(&mut self.active) {
            0
        } else {
            self.silent_steps + 1
        };
        self.silent_steps >= IDLE_STEPS
    }
}
