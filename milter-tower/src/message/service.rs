//! The filter at work: events in, responses out.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use milter_core::{Agreement, ReplyMode, Stage};
use tower_service::Service;

use super::body::Body;
use super::config::Config;
use super::error::MessageError;
use super::filter::MessageFilter;
use super::future::{ResponseFuture, Run, Says, Turn};
use super::incoming::{Feed, Incoming, pipe};
use super::mail::Message;
use super::state::{Begun, Count, Draft, Kept, Later, State};
use crate::error::BoxError;
use crate::headers::Headers;
use crate::request::{Event, Request};
use crate::response::Response;
use crate::session::Session;

/// What makes the body for a handler, and where it comes from.
pub(super) type Open<B> = fn(Draft, &Config) -> Result<(B, Option<Feed>), MessageError>;

/// The whole body.
pub(super) fn whole(draft: Draft, config: &Config) -> Result<(Body, Option<Feed>), MessageError> {
    let body = draft.spool.finish(&config.place, draft.body.is_cut)?;
    Ok((body, None))
}

/// The body while it arrives.
#[allow(clippy::unnecessary_wraps, reason = "it is one of two")]
pub(super) fn arriving(
    _: Draft,
    config: &Config,
) -> Result<(Incoming, Option<Feed>), MessageError> {
    let (feed, incoming) = pipe(config.place.memory);
    Ok((incoming, Some(feed)))
}

impl<B> Service<Request> for MessageFilter<B> {
    type Response = Response;
    type Error = BoxError;
    type Future = ResponseFuture;

    /// Waits until what came last is in its file: so one piece is held, whatever comes how fast.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if let State::Draft(draft) = &mut self.state {
            ready!(draft.spool.poll_ready(cx));
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> ResponseFuture {
        match request.event() {
            Event::Negotiate(_) => {
                self.state = State::Empty;
                ResponseFuture::ready(Ok(self.config.needs().into()))
            }
            Event::Mail(_) => {
                self.state = State::Empty;
                self.at(Stage::Mail, request)
            }
            Event::Rcpt(recipient) => match &self.check {
                None => ResponseFuture::proceed(),
                Some(check) => {
                    ResponseFuture::check(check(recipient.clone(), request.session().clone()))
                }
            },
            Event::Data => self.at(Stage::Data, request),
            Event::Header(header) => {
                if self.config.starts_at() >= Stage::EndOfHeaders {
                    if let Some(draft) = self.state.draft() {
                        draft.add_header(header);
                    }
                }
                ResponseFuture::proceed()
            }
            Event::EndOfHeaders => self.at(Stage::EndOfHeaders, request),
            Event::Body(piece) if self.config.takes_body() => {
                let piece = piece.clone();
                self.body(&piece, &request)
            }
            Event::EndOfMessage(_) => self.end(request),
            Event::MessageEnd(_) | Event::SessionEnd | Event::Close => {
                self.state = State::Empty;
                ResponseFuture::proceed()
            }
            _ => ResponseFuture::proceed(),
        }
    }
}

impl<B> MessageFilter<B> {
    /// An event at which the handler may start.
    fn at(&mut self, stage: Stage, request: Request) -> ResponseFuture {
        if stage != self.config.starts_at() {
            return ResponseFuture::proceed();
        }
        // A client may give a refused DATA again, after other recipients.
        if stage == Stage::Data {
            self.state = State::Empty;
        }
        match self.state {
            State::Empty | State::Draft(_) => self.begin(stage, request),
            _ => ResponseFuture::proceed(),
        }
    }

    /// Starts the handler.
    fn begin(&mut self, stage: Stage, request: Request) -> ResponseFuture {
        match self.start(stage, request) {
            Ok(run) => ResponseFuture::run(run),
            Err(error) => ResponseFuture::ready(Err(error.into())),
        }
    }

    fn start(&mut self, stage: Stage, request: Request) -> Result<Run, MessageError> {
        let mut draft = match std::mem::take(&mut self.state) {
            State::Draft(draft) => *draft,
            _ => Draft::default(),
        };
        let parts = request.into_parts();
        let agreement = parts.session.agreement();
        let leading_space = agreement.is_some_and(Agreement::leading_space);
        let headers = std::mem::take(&mut draft.headers);
        let (body, feed) = (self.open)(draft, &self.config)?;
        let turn = if stage == Stage::EndOfMessage {
            // It all came, or will not.
            if let Some(feed) = &feed {
                feed.end(false);
            }
            None
        } else {
            let later = Arc::new(Later::new(feed));
            self.state = State::Begun(Box::new(Begun {
                later: Arc::clone(&later),
                body: Count::default(),
            }));
            Some(self.turn(later, stage, &parts.session))
        };
        let fate = Arc::default();
        let message = Message {
            session: parts.session,
            extensions: parts.extensions,
            deadline: parts.deadline,
            headers: Headers::from_shown(headers, leading_space),
            shown: None,
            body,
            edits: None,
            config: Arc::clone(&self.config),
            fate: Arc::clone(&fate),
        };
        Ok(Run {
            decision: (self.handler)(message),
            fate,
            turn,
        })
    }

    fn turn(&self, later: Arc<Later>, stage: Stage, session: &Session) -> Turn {
        let says = match self.may_answer(stage, session) {
            false => Says::Nothing,
            true if stage == Stage::Mail && self.check.is_some() => Says::Refusals,
            true => Says::All,
        };
        Turn {
            later,
            says,
            may_skip: stage == Stage::Body && self.may_skip(session),
            is_cut: false,
        }
    }

    /// Whether a verdict can be given at this stage.
    fn may_answer(&self, stage: Stage, session: &Session) -> bool {
        let agreement = session.agreement();
        self.config.answers(stage)
            && agreement.is_none_or(|agreement| agreement.reply_mode(stage) == ReplyMode::Verdict)
    }

    fn may_skip(&self, session: &Session) -> bool {
        let agreement = session.agreement();
        self.may_answer(Stage::Body, session) && agreement.is_some_and(Agreement::skip)
    }

    fn body(&mut self, piece: &Bytes, request: &Request) -> ResponseFuture {
        let session = request.session();
        if self.config.streams() && matches!(self.state, State::Empty | State::Draft(_)) {
            // The MTA told no end of the headers.
            match self.start(Stage::EndOfHeaders, request.clone()) {
                Ok(run) => drop(run.put_off()),
                Err(error) => return ResponseFuture::ready(Err(error.into())),
            }
        }
        if matches!(self.state, State::Begun(_)) {
            return self.go_on(Some(piece), session);
        }
        let Some(draft) = self.state.draft() else {
            return ResponseFuture::proceed();
        };
        match draft.add_body(piece, &self.config) {
            Err(error) => ResponseFuture::ready(Err(error.into())),
            Ok(Some(refusal)) => self.refuse(refusal, session),
            Ok(None) if draft.body.is_cut && self.may_skip(session) => {
                ResponseFuture::ready(Ok(Response::skip()))
            }
            Ok(None) => ResponseFuture::proceed(),
        }
    }

    fn end(&mut self, request: Request) -> ResponseFuture {
        match &self.state {
            State::Empty | State::Draft(_) => self.begin(Stage::EndOfMessage, request),
            State::Begun(_) => self.go_on(None, request.session()),
            State::Settled(response) => {
                let response = response.clone();
                self.state = State::Over;
                ResponseFuture::ready(Ok(response))
            }
            State::Over => ResponseFuture::proceed(),
        }
    }

    /// Goes on with a handler that has started, or with what it decided: at a piece of the body,
    /// or at the end.
    fn go_on(&mut self, piece: Option<&Bytes>, session: &Session) -> ResponseFuture {
        let State::Begun(begun) = &mut self.state else {
            return ResponseFuture::proceed();
        };
        let later = Arc::clone(&begun.later);
        let (decision, fate) = match (later.take(), piece) {
            (Kept::Running(decision, fate), _) => (decision, fate),
            (Kept::Decided(response), None) => return ResponseFuture::ready(Ok(response)),
            (Kept::Nothing, None) => {
                return ResponseFuture::ready(Err(MessageError::Stopped.into()));
            }
            (Kept::Over, None) => return ResponseFuture::proceed(),
            (kept, Some(_)) => {
                later.put(kept);
                let meanwhile = self.turn(later, Stage::Body, session).meanwhile();
                return ResponseFuture::ready(Ok(meanwhile));
            }
        };
        let is_cut = match (piece, &later.feed) {
            (Some(piece), Some(feed)) => {
                let (taken, is_too_much) = begun.body.take(piece.len(), self.config.body_limit);
                if is_too_much {
                    if let Some(refusal) = self.config.on_large.refusal() {
                        return self.refuse(refusal, session);
                    }
                }
                feed.push(piece.get(..taken).unwrap_or(piece));
                if is_too_much {
                    feed.end(true);
                }
                begun.body.is_cut
            }
            (_, Some(feed)) => {
                feed.end(false);
                false
            }
            _ => false,
        };
        let turn = piece.map(|_| Turn {
            is_cut,
            ..self.turn(later, Stage::Body, session)
        });
        if turn.is_none() {
            self.state = State::Over;
        }
        ResponseFuture::run(Run {
            decision,
            fate,
            turn,
        })
    }

    /// Refuses the message without its handler.
    fn refuse(&mut self, refusal: Response, session: &Session) -> ResponseFuture {
        if self.may_answer(Stage::Body, session) {
            self.state = State::Over;
            ResponseFuture::ready(Ok(refusal))
        } else {
            self.state = State::Settled(refusal);
            ResponseFuture::proceed()
        }
    }
}
