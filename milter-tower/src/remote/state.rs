//! What there is on a connection with an MTA: the backend, and what it was told.

use std::sync::Arc;

use bytes::Bytes;
use milter_core::client::{Failure, SendError};
use milter_core::{Agreement, Command, Connect, Modification, Offer, ReplyMode, Stage};
use tracing::debug;

use super::Settings;
use super::connector::Connector;
use super::error::{RemoteError, RemoteErrorKind};
use super::failure::stand;
use super::macros::Told;
use crate::client::Connection;
use crate::client::link::Link;
use crate::leading_space::without_space;
use crate::request::{Event, Request};
use crate::response::Response;

pub(super) struct State<C: Connector> {
    pub(super) connector: C,
    pub(super) settings: Arc<Settings>,
    /// None while there is none; another one is opened where something begins.
    pub(super) backend: Option<Connection<C::Io>>,
    /// What the MTA offered.
    pub(super) offer: Offer,
    told: Told,
    /// Something of a message was to be asked.
    pub(super) in_message: bool,
    pub(super) down: Option<Down>,
}

/// For how long no backend is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Down {
    /// Until the message at hand ends.
    Message,
    /// Until a message begins.
    UntilMessage,
    /// Until the connection with the MTA ends.
    ForGood,
}

/// What is to be done about an event.
pub(super) enum Next {
    /// Nothing more.
    Answer(Result<Response, RemoteError>),
    /// The backend answers; of a large piece of a body this is still to be told.
    Hear(Bytes),
    /// Too much has piled up of what needs no reply.
    Write,
    /// A backend is to be opened first.
    Open,
}

/// Why a backend was not told something.
pub(super) enum NotTold {
    Failed(Failure),
    Misused(SendError),
}

impl From<Failure> for NotTold {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<SendError> for NotTold {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Failed(failure) => Self::Failed(failure),
            error => Self::Misused(error),
        }
    }
}

impl From<NotTold> for RemoteErrorKind {
    fn from(error: NotTold) -> Self {
        match error {
            NotTold::Failed(failure) => Self::Failed(failure),
            NotTold::Misused(error) => Self::Misused(error),
        }
    }
}

impl<C: Connector> State<C> {
    pub(super) fn new(connector: C, settings: Arc<Settings>) -> Self {
        Self {
            connector,
            settings,
            backend: None,
            offer: Offer::V6,
            told: Told::default(),
            in_message: false,
            down: None,
        }
    }

    /// Puts a backend in the place of what was there.
    pub(super) fn put(&mut self, backend: Connection<C::Io>) {
        self.told = Told::default();
        self.backend = Some(backend);
    }

    /// Begins to ask about an event. A backend that is lost may be replaced if it was told nothing
    /// of the message.
    pub(super) fn ask(&mut self, request: &Request, stage: Stage, may_replace: bool) -> Next {
        if self.down.is_some() {
            let error = RemoteError::new(None, RemoteErrorKind::Repeated);
            let on_failure = &self.settings.on_failure;
            return Next::Answer(on_failure.answer(error, request, Some(stage)));
        }
        match self.tell(request.event(), request, stage) {
            Ok(rest) => self.next(request, stage, rest),
            Err(NotTold::Failed(failure)) if may_replace => {
                if let Some(backend) = self.backend.take() {
                    debug!(backend = backend.name(), %failure, "the backend is replaced");
                }
                Next::Open
            }
            Err(error) => Next::Answer(self.fail(error.into(), request, Some(stage))),
        }
    }

    /// Takes note of an event. Whether nothing was asked of the message before.
    pub(super) fn enter(&mut self, stage: Stage) -> bool {
        if stage == Stage::Mail && self.in_message {
            // A layer lost word of the last one's end.
            self.end_message();
        }
        let begins = !self.in_message;
        if stage.is_of_message() {
            self.in_message = true;
            if begins && self.down == Some(Down::UntilMessage) {
                self.down = None;
            }
        }
        begins
    }

    /// Queues what tells the backend of an event; what is left of a large piece of a body.
    pub(super) fn tell(
        &mut self,
        event: &Event,
        request: &Request,
        stage: Stage,
    ) -> Result<Bytes, NotTold> {
        let backend = self.backend.as_mut().ok_or(Failure::ConnectionLost)?;
        let link = backend.link();
        let is_answered = link.agreement().reply_mode(stage) != ReplyMode::Silent;
        if is_answered || link.queued() == 0 {
            // One that says what it was not asked is out of step: that would be taken for the
            // answer to this.
            if let Some(failure) = link.surplus() {
                return Err(failure.into());
            }
        }
        self.told.tell(link, request.session().macros(), stage)?;
        let (mut command, mut rest) = command(event);
        if let (Command::Header(header), true) = (&command, hides_space(request, link)) {
            if let Some(header) = without_space(header) {
                command = Command::Header(header);
            }
        }
        link.tell(command, |_| None)?;
        while !rest.is_empty() && link.session().awaited().is_none() {
            link.tell(piece(&mut rest), |_| None)?;
        }
        Ok(rest)
    }

    /// Queues the next piece of what is left.
    pub(super) fn tell_rest(&mut self, rest: &mut Bytes) -> Result<(), NotTold> {
        let backend = self.backend.as_mut().ok_or(Failure::ConnectionLost)?;
        backend.link().tell(piece(rest), |_| None)?;
        Ok(())
    }

    /// What comes after an event was told.
    fn next(&mut self, request: &Request, stage: Stage, rest: Bytes) -> Next {
        match self.backend.as_mut().map(Connection::link) {
            Some(link) if link.session().awaited().is_some() => Next::Hear(rest),
            Some(link) if link.is_piled_up() => Next::Write,
            _ => Next::Answer(Ok(self.unasked(request, stage))),
        }
    }

    /// What is said for a backend that is not asked, or does not reply.
    pub(super) fn unasked(&mut self, request: &Request, stage: Stage) -> Response {
        let link = self.backend.as_mut().map(Connection::link);
        match link.and_then(|link| link.session().decided()) {
            Some(verdict) => stand(verdict, stage, request),
            None => Response::proceed(),
        }
    }

    /// The backend is of no more use. What is said for it.
    pub(super) fn fail(
        &mut self,
        kind: RemoteErrorKind,
        request: &Request,
        stage: Option<Stage>,
    ) -> Result<Response, RemoteError> {
        let backend = self.backend.take();
        if self.in_message {
            self.down.get_or_insert(Down::Message);
        }
        let name = backend.map(|backend| backend.name().into());
        let error = RemoteError::new(name, kind);
        self.settings.on_failure.answer(error, request, stage)
    }

    /// A call was dropped in its middle: nobody knows what of it the backend was told, and what it
    /// still answers.
    pub(super) fn interrupted(&mut self) {
        self.backend = None;
        if self.in_message {
            self.down.get_or_insert(Down::Message);
        }
    }

    /// The message ends. Whether there is something to be written.
    pub(super) fn end_message(&mut self) -> bool {
        self.in_message = false;
        if self.down == Some(Down::Message) {
            self.down = None;
        }
        let Some(link) = self.backend.as_mut().map(Connection::link) else {
            return false;
        };
        // C79: told only if the backend saw something of it and did not decide it.
        if link.abort().is_err() {
            self.backend = None;
            return false;
        }
        link.shrink();
        link.queued() > 0
    }

    /// The SMTP session ends. Whether there is something to be written, and whether the connection
    /// with the backend ends with that.
    pub(super) fn end_session(&mut self, is_last: bool) -> (bool, bool) {
        let keeps = self.settings.quit_new_connection && !is_last;
        self.in_message = false;
        self.down = self.down.filter(|down| *down == Down::ForGood && !is_last);
        let Some(link) = self.backend.as_mut().map(Connection::link) else {
            return (false, false);
        };
        // Before version 6 nobody knows that goodbye.
        let keeps = keeps && link.agreement().version() >= 6;
        let said = if keeps {
            self.told = Told::default();
            link.quit_new_connection()
        } else {
            link.quit()
        };
        if said.is_err() {
            self.backend = None;
            return (false, false);
        }
        (true, !keeps)
    }
}

/// Whether header values come with a space that the backend did not ask for: a layer around did.
pub(super) fn hides_space<IO>(request: &Request, link: &Link<IO>) -> bool {
    let agreed = request.session().agreement();
    !link.agreement().leading_space() && agreed.is_some_and(Agreement::leading_space)
}

/// The command that tells of an event, and what is left of a large piece of a body.
fn command(event: &Event) -> (Command, Bytes) {
    let command = match event {
        Event::Connect(client) => Command::Connect(Connect::clone(client)),
        Event::Helo(helo) => Command::Helo(helo.clone()),
        Event::Mail(sender) => Command::Mail(sender.clone()),
        Event::Rcpt(recipient) => Command::Rcpt(recipient.clone()),
        Event::Data => Command::Data,
        Event::Unknown(line) => Command::Unknown(line.clone()),
        Event::Header(header) => Command::Header(header.clone()),
        Event::EndOfHeaders => Command::EndOfHeaders,
        Event::Body(body) => {
            let mut rest = body.clone();
            return (piece(&mut rest), rest);
        }
        _ => Command::EndOfMessage(Bytes::new()),
    };
    (command, Bytes::new())
}

/// The next piece of a body, as large as may be sent.
// include/libmilter/mfdef.h MILTER_CHUNK_SIZE
fn piece(rest: &mut Bytes) -> Command {
    let length = rest.len().min(Modification::MAX_BODY_CHUNK);
    Command::Body(rest.split_to(length))
}
