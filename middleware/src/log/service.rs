use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};

use milter_tower::{Event, Outcome, Request, Response, Session, Stage};
use tokio::time::Instant;
use tower_service::Service;

use super::future::Noted;
use super::line::Format;
use super::privacy::{Addresses, Clients};
use super::sink::WriteLine;
use super::told::Told;
use super::{ResponseFuture, write};
use crate::classify::{Classify, FailureClass};

/// Writes a line for each message; see the [module](super).
pub struct Log<S, C> {
    inner: S,
    classify: Arc<C>,
    state: State,
}

/// What is written, how, and where.
#[derive(Clone)]
pub(super) struct Config {
    pub(super) format: Format,
    pub(super) addresses: Addresses,
    pub(super) clients: Clients,
    /// How many recipients are listed.
    pub(super) recipients: usize,
    pub(super) connections: bool,
    pub(super) sink: Arc<dyn WriteLine>,
}

/// What there is to remember of a connection.
struct State {
    config: Arc<Config>,
    told: Arc<Told>,
    /// The number of the connection.
    connection: u64,
    /// What came of the client that is there.
    client: Client,
    message: Option<Seen>,
}

/// What came of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Client {
    /// There is none.
    #[default]
    None,
    /// No message.
    Idle,
    /// A message, however often it says hello after that.
    Sends,
}

/// What was seen of the message at hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) began: Instant,
    /// The stage of the last event.
    pub(super) stage: Stage,
    /// Bytes of the body, if it was shown.
    pub(super) body: Option<u64>,
}

impl<S, C> Log<S, C> {
    pub(super) fn new(inner: S, config: Arc<Config>, classify: Arc<C>) -> Self {
        let state = State {
            config,
            told: Arc::default(),
            connection: 0,
            client: Client::None,
            message: None,
        };
        Self {
            inner,
            classify,
            state,
        }
    }

    inner_service!();
}

/// A clone serves another connection: it has seen nothing.
impl<S: Clone, C> Clone for Log<S, C> {
    fn clone(&self) -> Self {
        let (config, classify) = (Arc::clone(&self.state.config), Arc::clone(&self.classify));
        Self::new(self.inner.clone(), config, classify)
    }
}

impl<S: fmt::Debug, C> fmt::Debug for Log<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("inner", &self.inner)
            .field("config", &self.state.config)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("format", &self.format)
            .field("addresses", &self.addresses)
            .field("clients", &self.clients)
            .field("recipients", &self.recipients)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

impl<S, C> Service<Request> for Log<S, C>
where
    S: Service<Request, Response = Response>,
    C: Classify<S::Error>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let ready = self.inner.poll_ready(cx);
        if let Poll::Ready(Err(_)) = ready {
            // It gets nothing more.
            self.state.told.failure(FailureClass::ERROR, "not ready");
        }
        ready
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.state.see(&request);
        let mut noted = Noted::start(&self.state.told, &self.classify, &request);
        let call = self.inner.call(request);
        noted.called();
        ResponseFuture::new(call, noted)
    }
}

impl State {
    fn see(&mut self, request: &Request) {
        match request.event() {
            Event::Negotiate(_) => self.connection = request.session().peer().connection_id(),
            Event::Connect(_) | Event::Helo(_) if self.client == Client::None => {
                self.client = Client::Idle;
            }
            Event::MessageEnd(outcome) => self.end_message(Some(outcome), Some(request.session())),
            Event::SessionEnd | Event::Close => self.end_session(request.session()),
            event => {
                if matches!(event, Event::Mail(_)) {
                    // Some layers lose ends.
                    self.end_message(None, None);
                }
                if let Some(stage) = event.stage().filter(|stage| stage.is_of_message()) {
                    self.see_message(stage, event);
                }
            }
        }
    }

    fn see_message(&mut self, stage: Stage, event: &Event) {
        if self.message.is_none() {
            // What was said of the client is no part of it.
            let _ = self.told.take();
            self.client = Client::Sends;
        }
        let seen = self.message.get_or_insert_with(|| Seen {
            began: Instant::now(),
            stage,
            body: None,
        });
        seen.stage = stage;
        if let Event::Body(piece) = event {
            seen.body = Some(seen.body.unwrap_or(0) + piece.len() as u64);
        }
    }

    /// The message ended; without an outcome nobody told how.
    fn end_message(&mut self, outcome: Option<&Outcome>, session: Option<&Session>) {
        let Some(seen) = self.message.take() else {
            return;
        };
        let answers = self.told.take();
        if self.config.sink.is_enabled() {
            let session = session.or(answers.session.as_ref());
            let line = write::message(
                &self.config,
                self.connection,
                &seen,
                outcome,
                session,
                &answers,
            );
            self.config.sink.write_line(&line);
        }
    }

    fn end_session(&mut self, session: &Session) {
        let is_idle = std::mem::take(&mut self.client) == Client::Idle;
        let answers = self.told.take();
        if is_idle && self.config.connections && self.config.sink.is_enabled() {
            let line = write::connection(&self.config, self.connection, session, &answers);
            self.config.sink.write_line(&line);
        }
    }
}

/// One that broke hears of no end.
impl Drop for State {
    fn drop(&mut self) {
        // It may be dropped because something panics, and the sink is the user's.
        let end = AssertUnwindSafe(|| self.end_message(None, None));
        let _ = catch_unwind(end);
    }
}
