//! An MTA's end of a connection: frames, the session that knows what they mean, and the clock.
//!
//! What is queued is written before a reply is waited for, or when it has piled up. Everything can
//! be polled again where it was left: nothing is lost when a future over it is dropped.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use futures::{Sink, Stream};
use milter_core::client::{Answer, Config, Failure, Heard, SendError, Session, Timeout};
use milter_core::{Agreement, Command, MtaCodec, OfferReply, Reply, Text};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::codec::Framed;

use super::Timeouts;
use crate::clock::{Clock, after};

/// How much is piled up of what needs no reply.
const PILE: usize = 8 * 1024;
/// The buffers that a link between messages keeps.
const SMALL_BUFFER: usize = 16 * 1024;

pub(crate) struct Link<IO> {
    /// None once it was closed, or if it was never open.
    framed: Option<Framed<IO, MtaCodec>>,
    session: Session,
    times: Timeouts,
    clock: Clock,
    /// What was queued last, and so how long writing it may take.
    writes: Timeout,
    /// Until when that must be written.
    write_due: Option<Instant>,
    /// The wait for a reply that is under way.
    wait: Option<Wait>,
    answer: Option<OfferReply>,
}

/// A wait for a reply.
#[derive(Clone, Copy)]
struct Wait {
    what: Timeout,
    /// For the next frame.
    frame: Instant,
    /// For all of it.
    total: Option<Instant>,
}

impl Wait {
    fn new(what: Timeout, times: &Timeouts) -> Self {
        let now = Instant::now();
        Self {
            what,
            frame: after(now, times.frame(what)),
            total: times.total(what).map(|total| after(now, total)),
        }
    }

    /// A frame has come, and another one follows: its time begins, that for all of it runs on
    /// (C76).
    fn go_on(&mut self, times: &Timeouts) -> Result<(), Failure> {
        let now = Instant::now();
        if self.total.is_some_and(|total| now >= total) {
            // Also of a milter that sends so fast that it is never waited for.
            return Err(Failure::Timeout(self.what));
        }
        self.frame = after(now, times.frame(self.what));
        Ok(())
    }
}

impl<IO> Link<IO> {
    /// A link over this connection, on which nothing was said yet.
    pub(crate) fn new(io: IO, config: Config, times: Timeouts) -> Self
    where
        IO: AsyncRead + AsyncWrite,
    {
        let framed = Framed::new(io, config.codec());
        Self {
            framed: Some(framed),
            ..Self::closed(config, times)
        }
    }

    /// A link to nowhere.
    pub(crate) fn closed(config: Config, times: Timeouts) -> Self {
        Self {
            framed: None,
            session: Session::new(config),
            times,
            clock: Clock::default(),
            writes: Timeout::Command,
            write_due: None,
            wait: None,
            answer: None,
        }
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// For who says in what order things are said; see [`queue`](Self::queue).
    #[cfg(feature = "testing")]
    pub(crate) fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    pub(crate) fn agreement(&self) -> &Agreement {
        self.session.agreement()
    }

    /// What the milter answered to the offer, as it came; none before it has.
    pub(crate) fn offer_reply(&self) -> Option<&OfferReply> {
        self.answer.as_ref()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.framed.is_some()
    }

    /// Closes the connection. The session stays as it is.
    pub(crate) fn close(&mut self) {
        self.framed = None;
        self.wait = None;
        self.write_due = None;
    }

    /// Gives the milter up, and closes the connection. Returns the first failure.
    pub(crate) fn fail(&mut self, failure: Failure) -> Failure {
        self.close();
        self.session.fail(failure)
    }

    /// How many bytes wait to be written.
    pub(crate) fn queued(&self) -> usize {
        let framed = self.framed.as_ref();
        framed.map_or(0, |framed| framed.write_buffer().len())
    }

    /// Whether enough has piled up to be written though no reply is due.
    pub(crate) fn is_piled_up(&self) -> bool {
        self.queued() >= PILE
    }

    /// Gives back the memory that a large frame took.
    pub(crate) fn shrink(&mut self) {
        let Some(framed) = &mut self.framed else {
            return;
        };
        let shrink = |buffer: &mut BytesMut| {
            if buffer.is_empty() && buffer.capacity() > SMALL_BUFFER {
                *buffer = BytesMut::new();
            }
        };
        shrink(framed.write_buffer_mut());
        shrink(framed.read_buffer_mut());
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Link<IO> {
    /// Queues a frame, whatever the session says.
    pub(crate) fn queue(&mut self, command: &Command) -> Result<(), Failure> {
        if let Some(stage) = command.stage() {
            self.writes = milter_core::client::Awaited::Verdict(stage).timeout();
        }
        let framed = self.framed.as_mut().ok_or(Failure::ConnectionLost)?;
        Pin::new(framed)
            .start_send(command)
            .map_err(|error| Failure::from(&error))
    }

    /// Queues the offer; its answer is then awaited.
    pub(crate) fn offer(&mut self) -> Result<(), SendError> {
        let offer = self.session.offer()?;
        self.queue_all([offer])
    }

    /// Queues what tells the milter this command, with its macros, as [`Session::send`] has it.
    /// A reply may then be awaited.
    pub(crate) fn tell(
        &mut self,
        command: Command,
        values: impl FnMut(Text<'_>) -> Option<Bytes>,
    ) -> Result<(), SendError> {
        let frames = self.session.send(command, values)?;
        self.queue_all(frames)
    }

    /// Queues the end of a message that was given up, if the milter has to be told.
    pub(crate) fn abort(&mut self) -> Result<(), SendError> {
        let abort = self.session.abort()?;
        self.queue_all(abort)
    }

    /// Queues the goodbye.
    pub(crate) fn quit(&mut self) -> Result<(), SendError> {
        let frames = self.session.quit()?;
        self.queue_all(frames)
    }

    /// Queues the goodbye after which another SMTP session may come.
    pub(crate) fn quit_new_connection(&mut self) -> Result<(), SendError> {
        let frames = self.session.quit_new_connection()?;
        self.queue_all(frames)
    }

    fn queue_all(&mut self, commands: impl IntoIterator<Item = Command>) -> Result<(), SendError> {
        for command in commands {
            if let Err(failure) = self.queue(&command) {
                return Err(self.fail(failure).into());
            }
        }
        Ok(())
    }

    /// Writes what is queued.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let Some(framed) = &mut self.framed else {
            return Poll::Ready(Err(self.fail(Failure::ConnectionLost)));
        };
        if framed.write_buffer().is_empty() {
            return Poll::Ready(Ok(()));
        }
        match Sink::<&Command>::poll_flush(Pin::new(framed), cx) {
            Poll::Ready(Ok(())) => {
                self.write_due = None;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.fail(Failure::from(&error)))),
            Poll::Pending => {
                let time = self.times.frame(self.writes);
                let due = *self
                    .write_due
                    .get_or_insert_with(|| after(Instant::now(), time));
                ready!(self.clock.poll_until(cx, due));
                Poll::Ready(Err(self.fail(Failure::Timeout(self.writes))))
            }
        }
    }

    /// Writes what is queued.
    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// What the milter says next: its agreement, its verdict, or what comes before that. None if
    /// nothing is awaited.
    ///
    /// Writes what is queued first.
    pub(crate) fn poll_hear(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Heard, Failure>>> {
        let Some(awaited) = self.session.awaited() else {
            return Poll::Ready(None);
        };
        if let Err(failure) = ready!(self.poll_flush(cx)) {
            return Poll::Ready(Some(Err(failure)));
        }
        let heard = match ready!(self.poll_reply(cx, awaited.timeout())) {
            Ok(reply) => self.take(reply),
            Err(failure) => Err(failure),
        };
        Poll::Ready(Some(heard.map_err(|failure| self.fail(failure))))
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>, what: Timeout) -> Poll<Result<Reply, Failure>> {
        let Some(framed) = &mut self.framed else {
            return Poll::Ready(Err(Failure::ConnectionLost));
        };
        let times = &self.times;
        let wait = self.wait.get_or_insert_with(|| Wait::new(what, times));
        if let Poll::Ready(next) = Pin::new(framed).poll_next(cx) {
            return Poll::Ready(match next {
                Some(reply) => reply.map_err(|error| Failure::from(&error)),
                None => Err(Failure::ConnectionLost),
            });
        }
        let due = wait.total.map_or(wait.frame, |total| total.min(wait.frame));
        ready!(self.clock.poll_until(cx, due));
        Poll::Ready(Err(Failure::Timeout(what)))
    }

    fn take(&mut self, reply: Reply) -> Result<Heard, Failure> {
        let offer_reply = match &reply {
            Reply::Negotiate(reply) => Some(reply.clone()),
            _ => None,
        };
        let heard = self.session.receive(reply)?;
        match &heard {
            Heard::Agreed => {
                let most = self.session.agreement().max_payload();
                if let Some(framed) = &mut self.framed {
                    framed.codec_mut().set_max_write(most);
                }
                self.answer = offer_reply;
                self.wait = None;
            }
            Heard::Answer(_) => self.wait = None,
            _ => {
                if let Some(wait) = &mut self.wait {
                    wait.go_on(&self.times)?;
                }
            }
        }
        Ok(heard)
    }

    /// The milter's answer; none if none is awaited, or once it agreed. `meanwhile` is told what
    /// comes before it: progress, and that there is an edit.
    pub(crate) async fn hear(
        &mut self,
        mut meanwhile: impl FnMut(Heard),
    ) -> Result<Option<Answer>, Failure> {
        loop {
            match std::future::poll_fn(|cx| self.poll_hear(cx)).await {
                None | Some(Ok(Heard::Agreed)) => return Ok(None),
                Some(Ok(Heard::Answer(answer))) => return Ok(Some(answer)),
                Some(Ok(other)) => meanwhile(other),
                Some(Err(failure)) => return Err(failure),
            }
        }
    }

    /// Ready once something comes though nothing is awaited: the milter is out of step, or the
    /// connection ended. For between two questions.
    pub(crate) fn poll_surplus(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        if self.session.awaited().is_some() {
            return Poll::Pending;
        }
        let Some(framed) = &mut self.framed else {
            return Poll::Ready(Failure::ConnectionLost);
        };
        Poll::Ready(match ready!(Pin::new(framed).poll_next(cx)) {
            Some(Ok(reply)) => Failure::NothingDue { code: reply.code() },
            Some(Err(error)) => Failure::from(&error),
            None => Failure::ConnectionLost,
        })
    }

    /// The same at once: what has come already though nothing is awaited, if anything has.
    pub(crate) fn surplus(&mut self) -> Option<Failure> {
        match self.poll_surplus(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(failure) => Some(failure),
            Poll::Pending => None,
        }
    }
}

impl<IO> fmt::Debug for Link<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("session", &self.session)
            .field("queued", &self.queued())
            .field("is_open", &self.is_open())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Also if no reply had to be waited for, so that no timer was looked at.
    #[tokio::test(start_paused = true)]
    async fn c76_what_is_not_final_restarts_the_time_for_a_frame_alone() {
        let times = Timeouts::postfix().end_of_message(Duration::from_secs(500));
        let start = Instant::now();
        let mut wait = Wait::new(Timeout::EndOfMessage, &times);
        tokio::time::advance(Duration::from_secs(200)).await;
        wait.go_on(&times).unwrap();
        assert_eq!(wait.frame, start + Duration::from_secs(500));
        assert_eq!(wait.total, Some(start + Duration::from_secs(500)));
        tokio::time::advance(Duration::from_secs(300)).await;
        let failure = Failure::Timeout(Timeout::EndOfMessage);
        assert_eq!(wait.go_on(&times), Err(failure));
    }
}
