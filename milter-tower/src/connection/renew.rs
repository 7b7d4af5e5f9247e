//! Services in the place of others: of those that broke, and of those that were replaced.

use milter_core::{Stage, Verdict};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tower_service::Service;
use tracing::debug;

use super::link::Lost;
use super::{Driver, End};
use crate::error::{BoxError, ConnectionError, Failure};
use crate::member::{Scope, needs_of};
use crate::request::{Event, Request};
use crate::response::Response;
use crate::session::Peer;

impl<IO, M, S> Driver<IO, M, S>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    M: Service<Peer, Response = S>,
    M::Error: Into<BoxError>,
    S: Service<Request, Response = Response>,
    S::Error: Into<BoxError>,
{
    /// Whether the server's services were to be made anew since this one was made.
    pub(super) fn is_stale(&self) -> bool {
        self.link.control().generation() != self.generation
    }

    /// Has the right service ready for what begins: a new one if services were to be made anew, or
    /// in the place of one that broke.
    pub(super) async fn prepare(&mut self, stage: Stage, begins_message: bool) -> Result<(), End> {
        let mut prepared = Ok(());
        if begins_message && self.is_stale() {
            prepared = self.refresh().await;
        }
        if prepared.is_ok() && self.is_to_mend() {
            prepared = self.mend(stage).await;
        }
        if let Err(End::Lost(Lost::Cut)) = prepared {
            // The MTA waits for the answer to its command.
            let verdict = self.settings.on_failure.verdict();
            self.reply(stage, &verdict)?;
        }
        prepared
    }

    /// Makes the service anew, where a message begins. The old one stays if that fails.
    async fn refresh(&mut self) -> Result<(), End> {
        self.generation = self.link.control().generation();
        if self.is_to_mend() {
            return Ok(());
        }
        // The MTA waits for the answer to this command only.
        self.since.get_or_insert_with(Instant::now);
        // What the old one made of the client, or of the negotiation, is not the new one's.
        let (old, standing) = (self.filter.take(), self.view.take_standing());
        self.hurry = true;
        let introduced = self.introduce(Stage::Mail).await;
        self.hurry = false;
        if let Ok(Ok(())) = introduced {
            debug!(parent: &self.span, "the service was replaced");
            self.filter.retire(old);
            return Ok(());
        }
        let new = self.filter.take();
        self.filter.retire(new);
        self.filter.put(old);
        self.view.put_standing(standing);
        let failure = match introduced {
            Ok(failed) => failed.err(),
            Err(End::Closed(ConnectionError::Refused)) => Some(Failure::NotNeeds("refuse")),
            Err(end) => return Err(end),
        };
        if let Some(failure) = failure {
            self.log_failure("renew: the old service stays", failure, None);
        }
        Ok(())
    }

    /// Tells a service that was replaced that this is its end.
    pub(super) async fn part(&mut self) {
        let Some(retired) = self.filter.take_retired() else {
            return;
        };
        self.link.start_flush().await;
        let stays = self.filter.take();
        self.filter.put(Some(retired));
        self.tell(Event::Close).await;
        self.filter.discard();
        self.filter.put(stays);
    }

    /// Whether a service that broke is to be replaced, where something new begins: what is left of
    /// the message at which it broke fails.
    pub(super) const fn is_to_mend(&self) -> bool {
        self.filter.is_broken() && !self.view.is_standing()
    }

    /// Replaces a service that broke.
    async fn mend(&mut self, before: Stage) -> Result<(), End> {
        // The MTA waits for the answer to this command only.
        self.since.get_or_insert_with(Instant::now);
        if let Err(failure) = self.introduce(before).await? {
            self.filter.condemn();
            let verdict = self.settings.on_failure.verdict();
            if matches!(failure, Failure::Unfit) {
                self.view.stand(Scope::Connection, verdict.clone());
            }
            self.log_failure("replace", failure, Some(&verdict));
        }
        Ok(())
    }

    /// Tells a service that could not replace another one that it is not needed.
    pub(super) async fn dismiss(&mut self) {
        self.link.start_flush().await;
        self.tell(Event::Close).await;
        self.filter.discard();
    }

    /// Makes a service in the place of one that broke, and shows it what it has to know.
    async fn introduce(&mut self, before: Stage) -> Result<Result<(), Failure>, End> {
        if let Err(failure) = self.make().await? {
            return Ok(Err(failure));
        }
        let needs = match self.ask(Event::Negotiate(self.offer), None).await? {
            Ok(response) if response.is_refused() => return Err(ConnectionError::Refused.into()),
            Ok(response) => needs_of(response),
            Err(failure) => Err(failure),
        };
        match needs {
            Ok(needs) if self.view.agreement().serves(&needs) => {}
            Ok(_) => return Ok(Err(Failure::Unfit)),
            Err(failure) => return Ok(Err(failure)),
        }
        let connect = self
            .session
            .connect()
            .map(|client| (Event::Connect(client), Stage::Connect));
        let greeting = self
            .session
            .greeting()
            .filter(|_| before != Stage::Helo)
            .map(|helo| (Event::Helo(helo), Stage::Helo));
        for (event, stage) in connect.into_iter().chain(greeting) {
            if !self.view.agreement().delivers(stage) {
                continue;
            }
            // No stage: the MTA waits for another answer, and is told nothing meanwhile.
            let checked = match self.ask(event, None).await? {
                Ok(response) => self.check(stage, response),
                Err(failure) => Err(failure),
            };
            match checked {
                // The MTA has its answer; what the service thinks of the client now holds for
                // the messages that are left.
                Ok((verdict, _)) if verdict != Verdict::Continue => {
                    self.view.stand(Scope::Session, verdict);
                    break;
                }
                Ok(_) => {}
                Err(failure) => return Ok(Err(failure)),
            }
        }
        Ok(Ok(()))
    }
}
