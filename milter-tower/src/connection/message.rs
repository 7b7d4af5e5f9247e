//! Messages: events to the service, verdicts and edits back.

use std::sync::Arc;

use bytes::Bytes;
use milter_core::{
    Command, Connect, MacroStage, Modification, ModificationKind, Recipient, Reply, Stage, Verdict,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;
use tracing::{Span, field};

use super::filter::Called;
use super::link::Lost;
use super::{Driver, End, Message};
use crate::error::{BoxError, ConnectionError, Failure};
use crate::guard::guard;
use crate::member::Scope;
use crate::progress::Progress;
use crate::request::{Event, Outcome, Request};
use crate::response::Response;
use crate::session::{Peer, Session, client_for_log, is_refused_recipient};

/// A verdict and the edits that go with it.
type Judgement = (Verdict, Vec<Modification>);

impl<IO, M, S> Driver<IO, M, S>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    M: Service<Peer, Response = S>,
    M::Error: Into<BoxError>,
    S: Service<Request, Response = Response>,
    S::Error: Into<BoxError>,
{
    pub(super) fn begin_message(&mut self) {
        self.view.end_message();
        self.message = Message::new(tracing::info_span!(
            parent: &self.span,
            "message",
            queue_id = field::Empty,
            client = self.session.client().map(client_for_log).map(field::display),
        ));
        self.message.busy = Some(self.link.control().begin_message());
    }

    /// Asks the service about a command and answers the MTA.
    pub(super) async fn deliver(&mut self, command: Command, stage: Stage) -> Result<(), End> {
        let command = match command {
            Command::EndOfMessage(rest) if !rest.is_empty() => {
                // C42: data in the last frame is a last piece of the body.
                let (verdict, _) = self.judge(Event::Body(rest), Stage::Body).await?;
                if verdict.ends_message_at(Stage::Body) {
                    return self.settle(stage, verdict, Vec::new()).await;
                }
                Command::EndOfMessage(Bytes::new())
            }
            other => other,
        };
        let (verdict, edits) = match self.write_down(command, stage) {
            Ok(event) => {
                self.record_queue_id(stage);
                if let Some(verdict) = self.view.foregone(stage) {
                    (verdict, Vec::new())
                } else {
                    let asked = self.ask(event, Some(stage)).await;
                    self.judged(stage, asked)?
                }
            }
            Err(verdict) => (verdict, Vec::new()),
        };
        if let Some(recipient) = self.message.recipient.take() {
            self.keep_recipient(recipient, &verdict);
        }
        if edits.is_empty() && !verdict.ends_message_at(stage) {
            self.answer(stage, &verdict)?;
            return Ok(());
        }
        self.settle(stage, verdict, edits).await
    }

    /// Keeps the facts of a command. What is kept is copied, so that it holds no buffer.
    ///
    /// What the service is asked; or the answer, if the command is beyond a limit.
    fn write_down(&mut self, command: Command, stage: Stage) -> Result<Event, Verdict> {
        let session = &mut self.session;
        let event = match command {
            Command::Header(header) => {
                return match self.header_limit(&header) {
                    None => Ok(Event::Header(header)),
                    Some(failure) => Err(self.refuse_headers(failure)),
                };
            }
            Command::Rcpt(recipient) => {
                session.enter(MacroStage::Rcpt);
                if let Some(failure) = self.recipient_limit(&recipient) {
                    return Err(self.refuse_recipient(failure));
                }
                let recipient = recipient.to_owned_copy();
                self.message.recipient = Some(recipient.clone());
                return Ok(Event::Rcpt(recipient));
            }
            Command::EndOfMessage(_) => {
                session.enter(MacroStage::EndOfMessage);
                return Ok(Event::EndOfMessage(Progress::default()));
            }
            // Of these nothing is kept.
            Command::Body(body) => return Ok(Event::Body(body)),
            Command::Unknown(line) => return Ok(Event::Unknown(line)),
            Command::Connect(connect) => {
                session.enter(MacroStage::Connect);
                let client = Arc::new(Connect::to_owned_copy(&connect));
                session.set_client(Arc::clone(&client));
                Event::Connect(client)
            }
            Command::Helo(helo) => {
                session.enter(MacroStage::Helo);
                let helo = helo.to_owned_copy();
                session.set_helo(helo.clone());
                Event::Helo(helo)
            }
            Command::Mail(sender) => {
                session.enter(MacroStage::Mail);
                let sender = sender.to_owned_copy();
                session.set_sender(sender.clone());
                Event::Mail(sender)
            }
            Command::Data => {
                session.enter(MacroStage::Data);
                Event::Data
            }
            Command::EndOfHeaders => {
                session.enter(MacroStage::EndOfHeaders);
                Event::EndOfHeaders
            }
            // The state machine delivers no other command.
            _ => Event::Close,
        };
        if self.holds_too_much() {
            let failure = Failure::TooMuchHeld(self.settings.max_held_bytes);
            return Err(self.fail(stage, failure));
        }
        Ok(event)
    }

    fn keep_recipient(&mut self, recipient: Recipient, verdict: &Verdict) {
        let shown = self.view.agreement().delivers(Stage::Rcpt);
        if shown && !verdict.is_refusal() && !is_refused_recipient(self.session.macros()) {
            self.session.add_recipient(recipient);
        }
        // It was counted before it was known whether it is kept.
        self.holds_too_much();
    }

    /// The verdict on an event, and the edits; failures are verdicts here.
    async fn judge(&mut self, event: Event, stage: Stage) -> Result<Judgement, End> {
        if let Some(verdict) = self.view.foregone(stage) {
            return Ok((verdict, Vec::new()));
        }
        let asked = self.ask(event, Some(stage)).await;
        self.judged(stage, asked)
    }

    /// What the service's answer means.
    fn judged(&mut self, stage: Stage, asked: Called<Response>) -> Result<Judgement, End> {
        if self.filter.was_reached() {
            self.view.reach(stage);
        }
        if matches!(asked, Err(Lost::Cut)) {
            // The call ends here, and the MTA waits for its answer.
            let verdict = self.settings.on_failure.verdict();
            self.reply(stage, &verdict)?;
        }
        let failure = match asked? {
            Ok(response) if response.is_refused() => return Err(ConnectionError::Refused.into()),
            Ok(response) => match self.check(stage, response) {
                Ok(checked) => return Ok(checked),
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        Ok((self.fail(stage, failure), Vec::new()))
    }

    /// What of a response may be sent.
    pub(super) fn check(&mut self, stage: Stage, response: Response) -> Result<Judgement, Failure> {
        let checked = self.view.check(stage, response)?;
        if let Some(lost) = checked.lost {
            self.log_failure(stage.name(), lost, None);
        }
        Ok((checked.verdict, checked.edits))
    }

    /// Logs a failure, and finds what the MTA is told: now, or where no reply is due at the next
    /// event that has one.
    pub(super) fn fail(&mut self, stage: Stage, failure: Failure) -> Verdict {
        let verdict = self.settings.on_failure.verdict();
        self.fail_with(stage, failure, verdict)
    }

    /// The same, with a verdict of its own.
    pub(super) fn fail_with(
        &mut self,
        stage: Stage,
        failure: Failure,
        verdict: Verdict,
    ) -> Verdict {
        self.log_failure(stage.name(), failure, Some(&verdict));
        self.view.fail(stage, verdict)
    }

    /// Answers the MTA, and tells the service if that ended the message.
    pub(super) async fn settle(
        &mut self,
        stage: Stage,
        verdict: Verdict,
        edits: Vec<Modification>,
    ) -> Result<(), End> {
        if !edits.is_empty() && matches!(verdict, Verdict::Continue | Verdict::Accept) {
            for edit in edits {
                self.send_edit(edit).await?;
            }
        }
        if self.answer(stage, &verdict)? {
            self.conclude(verdict).await;
        }
        Ok(())
    }

    /// Answers the MTA. Whether that ended the message.
    fn answer(&mut self, stage: Stage, verdict: &Verdict) -> Result<bool, Lost> {
        self.reply(stage, verdict)?;
        let over = self.state.settle(stage, verdict);
        if over || matches!(stage, Stage::Connect | Stage::Helo) {
            self.decided = verdict.clone();
        }
        Ok(over)
    }

    /// Tells the service that its verdict ended the message.
    async fn conclude(&mut self, verdict: Verdict) {
        self.in_envelope = false;
        // The MTA need not wait for what the service does at the end.
        self.link.start_flush().await;
        // To go on with a message at its end is to accept it.
        let accepted = verdict == Verdict::Continue;
        self.end_message(Outcome::Verdict(if accepted {
            Verdict::Accept
        } else {
            verdict
        }))
        .await;
    }

    async fn send_edit(&mut self, edit: Modification) -> Result<(), End> {
        if let ModificationKind::ReplaceBody { body } = edit.kind() {
            for chunk in Modification::body_chunks(body) {
                self.link
                    .send_large(&Reply::Modify(Modification::replace_body(chunk)))
                    .await?;
            }
        } else {
            self.link.send_large(&Reply::Modify(edit)).await?;
        }
        Ok(())
    }

    /// Answers a command, if a reply is due.
    pub(super) fn reply(&mut self, stage: Stage, verdict: &Verdict) -> Result<(), Lost> {
        if self.has_reply(stage) {
            self.since = None;
            let allowed = verdict.is_allowed_at(stage);
            let reply = if allowed {
                verdict.to_reply()
            } else {
                Reply::Continue
            };
            self.link.send(&reply)?;
        }
        Ok(())
    }

    /// Whether the MTA is told a verdict at this stage.
    pub(super) fn has_reply(&self, stage: Stage) -> bool {
        self.view.has_reply(stage)
    }

    /// Tells the service the end of a message that it saw begin, and forgets the message.
    pub(super) async fn end_message(&mut self, outcome: Outcome) {
        if self.view.end_message() {
            self.tell(Event::MessageEnd(outcome)).await;
        }
        self.view.forget_standing(Scope::Message);
        self.forget(Session::end_message);
        self.message = Message::new(Span::none());
    }

    /// Forgets facts, and with them the values that the service left with them.
    pub(super) fn forget(&mut self, forget: fn(&mut Session)) {
        if let Err(panic) = guard(|| forget(&mut self.session)) {
            self.log_failure("end", panic, None);
        }
        self.holds_too_much();
    }

    /// Postfix has a queue id from the first accepted recipient on, Sendmail from MAIL on (Q23).
    fn record_queue_id(&mut self, stage: Stage) {
        let may_be_new = !self.message.has_queue_id
            && matches!(
                stage,
                Stage::Mail | Stage::Rcpt | Stage::Data | Stage::EndOfHeaders | Stage::EndOfMessage
            );
        if self.message.span.is_disabled() || !may_be_new {
            return;
        }
        if let Some(id) = self.session.queue_id() {
            self.message.span.record("queue_id", field::display(id));
            self.message.has_queue_id = true;
        }
    }
}
