//! The connection driver: one task, one call in flight, one frame read ahead.
//!
//! ```text
//! MTA ─ Link ─ StateMachine ─ Driver ─ Filter ─ the user's service
//! ```
//!
//! [`Link`](link::Link) moves frames and watches the clock, the core's state machine says what a
//! command means, the [`Driver`] keeps what is known of the session and answers, and
//! [`Filter`](filter::Filter) calls the service and survives whatever it does.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use milter_core::state::{Ends, StateMachine, Step, Transition};
use milter_core::{
    CodecError, Command, MacroStage, Needs, Offer, Recipient, Reply, Stage, Verdict, negotiate,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tower_service::Service;
use tracing::{Span, debug, warn};

use self::filter::Filter;
use self::link::{Link, Lost};
use crate::error::{BoxError, ConnectionError, Failure};
use crate::guard;
use crate::member::{Scope, View, needs_of};
use crate::request::{Event, Outcome, Request};
use crate::response::Response;
use crate::serve::{Busy, Control};
use crate::session::{Peer, Session};
use crate::settings::{OnNegotiateFailure, Settings};

mod buffer;
mod call;
mod filter;
mod limits;
mod link;
mod message;
mod renew;
mod turn_away;

pub(crate) use self::turn_away::turn_away;

/// A connection.
struct Driver<IO, M, S: Service<Request>> {
    link: Link<IO>,
    filter: Filter<M, S>,
    state: StateMachine,
    session: Session,
    settings: Arc<Settings>,
    offer: Offer,
    view: View,
    needs: Needs,
    /// How often services had been made anew when this one was made.
    generation: u64,
    /// A new service has only a part of the time: the old one can still answer.
    hurry: bool,
    /// The verdict that decided the message or the connection.
    decided: Verdict,
    /// The MTA told of an envelope, also one that the service declined to see: between that and
    /// its end is no good moment to stop.
    in_envelope: bool,
    /// Since when the MTA may have waited for the next answer, if longer than the service is
    /// asked for it.
    since: Option<Instant>,
    span: Span,
    message: Message,
}

/// What there is to remember of the message at hand.
struct Message {
    span: Span,
    /// The span knows the queue id.
    has_queue_id: bool,
    /// The recipient that the service is asked about.
    recipient: Option<Recipient>,
    /// How many recipients beyond the limit there were.
    surplus: usize,
    headers: usize,
    header_bytes: usize,
    /// Counts among the messages in progress.
    busy: Option<Busy>,
}

impl Message {
    /// The message's span, or the connection's where there is no message.
    fn span_or<'a>(&'a self, connection: &'a Span) -> &'a Span {
        if self.span.is_none() {
            connection
        } else {
            &self.span
        }
    }

    const fn new(span: Span) -> Self {
        Self {
            span,
            has_queue_id: false,
            recipient: None,
            surplus: 0,
            headers: 0,
            header_bytes: 0,
            busy: None,
        }
    }
}

/// Serves a connection to its end.
// No `async fn`: that would keep the arguments beside the driver that they are moved into, for
// as long as the connection lives.
pub(crate) fn run<IO, M, S>(
    io: IO,
    make: M,
    peer: Peer,
    settings: Arc<Settings>,
    control: Arc<Control>,
) -> impl Future<Output = Result<(), ConnectionError>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    M: Service<Peer, Response = S>,
    M::Error: Into<BoxError>,
    S: Service<Request, Response = Response>,
    S::Error: Into<BoxError>,
{
    let mut driver = Driver {
        link: Link::new(io, Arc::clone(&settings), control),
        filter: Filter::new(make),
        state: StateMachine::new(),
        session: Session::new(peer, settings.mta),
        settings,
        offer: Offer::V6,
        view: View::default(),
        needs: Needs::none(),
        generation: 0,
        hurry: false,
        decided: Verdict::Accept,
        in_envelope: false,
        since: None,
        span: Span::none(),
        message: Message::new(Span::none()),
    };
    async move {
        match AssertUnwindSafe(driver.run()).catch_unwind().await {
            Ok(ended) => ended,
            Err(payload) => {
                let message = guard::message(payload);
                // What was decided before must arrive.
                let _ = driver.link.flush().await;
                Err(ConnectionError::Panic(message))
            }
        }
    }
}

/// Whether no envelope is open after the command.
const fn ends_envelope(command: &Command) -> bool {
    matches!(
        command,
        Command::EndOfMessage(_)
            | Command::Abort
            | Command::Connect(_)
            | Command::Helo(_)
            | Command::QuitNewConnection
    )
}

/// Why a driver stops.
enum End {
    /// The MTA said goodbye.
    Quit,
    /// The connection is of no more use.
    Lost(Lost),
    /// The server closes it.
    Closed(ConnectionError),
}

impl From<Lost> for End {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl From<ConnectionError> for End {
    fn from(error: ConnectionError) -> Self {
        Self::Closed(error)
    }
}

impl<IO, M, S> Driver<IO, M, S>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    M: Service<Peer, Response = S>,
    M::Error: Into<BoxError>,
    S: Service<Request, Response = Response>,
    S::Error: Into<BoxError>,
{
    async fn run(&mut self) -> Result<(), ConnectionError> {
        if !self.wait_for_offer().await? {
            // A port probe, or an MTA that has nothing to say.
            return Ok(());
        }
        let peer = self.session.peer();
        self.span = tracing::info_span!("milter", connection = peer.connection_id(), peer = %peer.address());
        // What comes once and what comes with messages is in boxes of its own: an idle connection
        // is not to hold memory for it.
        let mut ended = Box::pin(self.negotiate()).await;
        if ended.is_ok() {
            ended = self.serve().await;
        }
        Box::pin(self.close(ended)).await
    }

    /// Waits for the MTA's offer. Whether one came.
    async fn wait_for_offer(&mut self) -> Result<bool, ConnectionError> {
        loop {
            let command = match std::future::poll_fn(|cx| self.link.poll_next(cx, true)).await {
                Ok(command) => command,
                Err(Lost::Eof | Lost::Drained | Lost::Cut) => return Ok(false),
                // Load balancers that look whether somebody listens end with a reset.
                Err(Lost::Codec(CodecError::Io(error)))
                    if error.kind() == io::ErrorKind::ConnectionReset =>
                {
                    return Ok(false);
                }
                Err(Lost::Codec(error)) => return Err(error.into()),
                Err(Lost::Timeout(what)) => return Err(ConnectionError::Timeout(what)),
                Err(Lost::Full) => return Err(self.too_much_held()),
            };
            match (self.state.step(&command)?.step, command) {
                (Step::Negotiate, Command::Negotiate(offer)) => {
                    self.offer = offer;
                    return Ok(true);
                }
                (Step::Close, _) => return Ok(false),
                _ => {}
            }
        }
    }

    /// Makes the service, asks what it needs, and answers the offer.
    async fn negotiate(&mut self) -> Result<(), End> {
        let asked = match self.make().await? {
            Ok(()) => self.ask(Event::Negotiate(self.offer), None).await?,
            Err(failure) => Err(failure),
        };
        self.filter.shrink();
        let needs = match asked {
            Ok(response) if response.is_refused() => return Err(ConnectionError::Refused.into()),
            Ok(response) => needs_of(response),
            Err(failure) => Err(failure),
        };
        match needs {
            Ok(needs) => self.needs = needs,
            Err(failure) if self.settings.on_negotiate_failure == OnNegotiateFailure::Close => {
                return Err(ConnectionError::NegotiateFailed(failure).into());
            }
            Err(failure) => {
                // Closing would let mail pass unfiltered where that is Sendmail's default.
                let verdict = self.settings.on_failure.verdict();
                self.log_failure("negotiate", failure, Some(&verdict));
                self.needs = Needs::all();
                self.view.stand(Scope::Connection, verdict);
            }
        }
        let agreement = negotiate(&self.offer, &self.needs).map_err(ConnectionError::from)?;
        debug!(parent: &self.span, offered = %self.offer, version = agreement.version(),
            actions = ?agreement.actions(), steps = ?agreement.steps(), "negotiated");
        self.link.negotiated(agreement.max_payload());
        let agreement = Arc::new(agreement);
        self.view.agree(Arc::clone(&agreement));
        self.session.set_agreement(Arc::clone(&agreement));
        self.link.send(&Reply::Negotiate(agreement.to_reply()))?;
        Ok(())
    }

    /// Serves commands until the end.
    async fn serve(&mut self) -> Result<(), End> {
        loop {
            self.filter.shrink();
            let command = self.next_command(true).await?;
            Box::pin(self.serve_message(command)).await?;
        }
    }

    /// Serves a command, and those that follow until the envelope and the message that it may have
    /// begun are over.
    // What happens at each event is in few `async fn`s: each level costs time and memory.
    async fn serve_message(&mut self, first: Command) -> Result<(), End> {
        let mut first = Some(first);
        loop {
            let command = match first.take() {
                Some(command) => command,
                None => self.next_command(false).await?,
            };
            // One read brings hundreds of commands, and a runtime counts only the reads.
            tokio::task::consume_budget().await;
            let Transition { ends, step, .. } =
                self.state.step(&command).map_err(ConnectionError::from)?;
            match ends {
                Some(Ends::Message) => self.end_message(Outcome::Aborted).await,
                Some(Ends::Session) if step != Step::Close => {
                    Box::pin(self.end_session()).await;
                }
                _ => {}
            }
            if ends_envelope(&command) {
                self.in_envelope = false;
            }
            match step {
                Step::Macros => self.take_macros(&command),
                Step::Deliver {
                    stage,
                    begins_message,
                } => {
                    if begins_message {
                        self.begin_message();
                    }
                    let begins = begins_message || matches!(stage, Stage::Connect | Stage::Helo);
                    if begins_message && self.is_stale() || begins && self.is_to_mend() {
                        // It is rare, and would make every message larger.
                        Box::pin(self.prepare(stage, begins_message)).await?;
                    }
                    self.deliver(command, stage).await?;
                    if self.filter.take_condemned() {
                        Box::pin(self.dismiss()).await;
                    }
                    if self.filter.has_retired() {
                        Box::pin(self.part()).await;
                    }
                }
                Step::Decided { stage } => {
                    let verdict = self.decided.clone();
                    self.reply(stage, &verdict)?;
                }
                Step::Misplaced { stage } => {
                    let verdict = self.fail(stage, Failure::Misplaced(stage));
                    self.settle(stage, verdict, Vec::new()).await?;
                }
                Step::Renegotiate => self.renegotiate(&command)?,
                Step::Close => return Err(End::Quit),
                _ => {}
            }
            if !self.state.has_message() && !self.in_envelope {
                return Ok(());
            }
        }
    }

    fn next_command(
        &mut self,
        between_messages: bool,
    ) -> impl Future<Output = Result<Command, Lost>> {
        let (link, since) = (&mut self.link, &mut self.since);
        std::future::poll_fn(move |cx| {
            let next = link.poll_next(cx, between_messages);
            if next.is_pending() {
                // Nobody waits for an answer.
                *since = None;
            }
            next
        })
    }

    fn take_macros(&mut self, command: &Command) {
        let Command::Macros(set) = command else {
            return;
        };
        if let Some(stage) = set.stage() {
            self.session.set_macros(stage, set.raw());
            let held = self.session.macros().held_bytes();
            if held > self.settings.max_macro_bytes || self.holds_too_much() {
                self.session.set_macros(stage, b"");
                self.holds_too_much();
                warn!(parent: &self.span, bytes = set.raw().len(), %stage, "too many macros: left out");
            }
            // Both MTAs send them for declined stages too (Q2).
            self.in_envelope |= !matches!(stage, MacroStage::Connect | MacroStage::Helo);
        }
    }

    /// The same offer gets the same answer; another one ends the connection.
    fn renegotiate(&mut self, command: &Command) -> Result<(), End> {
        match command {
            Command::Negotiate(offer)
                if negotiate(offer, &self.needs).as_ref() == Ok(&**self.view.agreement()) =>
            {
                self.link
                    .send(&Reply::Negotiate(self.view.agreement().to_reply()))?;
                Ok(())
            }
            _ => Err(ConnectionError::Renegotiated.into()),
        }
    }

    /// Tells the service the end of the SMTP session, and forgets it.
    async fn end_session(&mut self) {
        self.end_message(Outcome::Aborted).await;
        self.tell(Event::SessionEnd).await;
        self.view.forget_standing(Scope::Session);
        self.forget(Session::end_session);
    }

    /// Tells the service all that ends with the connection.
    async fn close(&mut self, ended: Result<(), End>) -> Result<(), ConnectionError> {
        let in_message = self.state.has_message() || self.in_envelope;
        // What was answered should arrive, also when the connection is closed for an error.
        let _ = self.link.flush().await;
        // Nobody waits for an answer any more.
        self.since = None;
        let outcome = if matches!(ended, Err(End::Quit)) {
            Outcome::Aborted
        } else {
            Outcome::ConnectionLost
        };
        self.end_message(outcome).await;
        self.filter.take_condemned();
        self.tell(Event::Close).await;
        self.filter.discard();
        self.part().await;
        self.forget(Session::end_connection);
        match ended {
            Err(End::Lost(Lost::Eof)) if in_message => Err(ConnectionError::Lost),
            Ok(()) | Err(End::Quit | End::Lost(Lost::Drained | Lost::Eof)) => Ok(()),
            Err(End::Lost(Lost::Cut)) if !in_message => Ok(()),
            Err(End::Lost(Lost::Codec(CodecError::Io(error))))
                if !in_message && error.kind() == io::ErrorKind::ConnectionReset =>
            {
                Ok(())
            }
            Err(End::Lost(Lost::Codec(error))) => Err(error.into()),
            Err(End::Lost(Lost::Timeout(what))) => Err(ConnectionError::Timeout(what)),
            Err(End::Lost(Lost::Full)) => Err(self.too_much_held()),
            Err(End::Lost(Lost::Cut)) => Err(ConnectionError::Cut),
            Err(End::Closed(error)) => Err(error),
        }
    }

    fn too_much_held(&self) -> ConnectionError {
        ConnectionError::TooMuchHeld(self.settings.max_held_bytes)
    }
}
