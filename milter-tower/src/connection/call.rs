//! Calls of the service: with which deadline, in which span, and what is logged.

use std::time::Duration;

use milter_core::{Stage, Verdict};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tower_service::Service;
use tracing::{field, warn};

use super::Driver;
use super::filter::Called;
use crate::clock::after;
use crate::error::{BoxError, Failure};
use crate::guard::guard;
use crate::request::{Deadline, Event, Request};
use crate::response::Response;
use crate::session::{Mta, Peer, client_for_log};

/// The most that a service may take to hear of an end: nobody waits for its answer, but the MTA
/// may wait for the answer to its next command.
const END_TIME: Duration = Duration::from_secs(5);

/// What part of the time a service has that may replace one that works.
const HURRY: u32 = 4;

impl<IO, M, S> Driver<IO, M, S>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    M: Service<Peer, Response = S>,
    M::Error: Into<BoxError>,
    S: Service<Request, Response = Response>,
    S::Error: Into<BoxError>,
{
    /// Makes a service for this connection.
    pub(super) async fn make(&mut self) -> Called<()> {
        self.generation = self.link.control().generation();
        let limit = self.limit(None, Mta::Unknown);
        let deadline = after(self.since.unwrap_or_else(Instant::now), limit);
        let call = self.link.call(deadline, None, false);
        let peer = self.session.peer().clone();
        self.filter
            .renew(&mut self.link, call, limit, peer, &self.span)
            .await
    }

    /// The time that a call may take.
    fn limit(&self, stage: Option<Stage>, mta: Mta) -> Duration {
        let limit = self.settings.time_for(stage, mta);
        if self.hurry { limit / HURRY } else { limit }
    }

    /// Asks the service, minding the MTA meanwhile.
    // No `async fn`: that would keep the event twice.
    pub(super) fn ask(
        &mut self,
        event: Event,
        stage: Option<Stage>,
    ) -> impl Future<Output = Called<Response>> {
        let mta = self.session.mta();
        let has_reply = stage.is_some_and(|stage| self.has_reply(stage));
        let mut limit = self.limit(stage, mta);
        let since = self.since.unwrap_or_else(Instant::now);
        let mut deadline = after(since, limit);
        if event.is_end() {
            limit = limit.min(END_TIME);
            deadline = deadline.min(after(Instant::now(), limit));
        } else if stage.is_some() && !has_reply {
            // The MTA goes on meanwhile, and may wait for the answer to its next command: events
            // that came in one go share the time of a call, and one reading of the clock.
            self.since = Some(since);
        }
        let progress = match &event {
            Event::EndOfMessage(progress) => Some(progress.clone()),
            _ => None,
        };
        // Sendmail takes progress at the end of the message only (Q10).
        let ticks = progress.is_some() || (mta == Mta::Postfix && has_reply);
        let mut call = self.link.call(deadline, progress, ticks).awaited(has_reply);
        if event.is_end() {
            call = call.unwatched();
        }
        let request = Request::with_deadline(event, self.session.clone(), Deadline::at(deadline));
        let span = self.message.span_or(&self.span);
        self.filter.ask(&mut self.link, call, limit, request, span)
    }

    /// Tells the service that something ended.
    pub(super) async fn tell(&mut self, event: Event) {
        if self.filter.is_broken() {
            return;
        }
        // The MTA goes on meanwhile, and may wait for the answer to its next command.
        self.since.get_or_insert_with(Instant::now);
        if let Ok(Err(failure)) = self.ask(event, None).await {
            self.log_failure("end", failure, None);
        }
        if !self.filter.was_reached() {
            // It was not ready in time, and would take what comes next for a part of the same.
            self.filter.discard();
        }
    }

    /// Logs a failure, and what the MTA is told.
    pub(super) fn log_failure(&self, at: &str, failure: Failure, answer: Option<&Verdict>) {
        if failure.was_logged() {
            return;
        }
        // The error is the user's: to show and to drop it may panic.
        let logged = guard(move || {
            #[cfg(feature = "testing")]
            if let Some(failures) = &self.settings.failures {
                failures.note(at, &failure);
            }
            let queue_id = self.session.queue_id().map(|id| id.to_string());
            warn!(
                parent: self.message.span_or(&self.span),
                connection = self.session.peer().connection_id(),
                queue_id = queue_id.as_deref().map(field::display),
                client = self.session.client().map(client_for_log).map(field::display),
                at,
                answer = answer.map(|verdict| field::display(verdict.name())),
                error = &failure as &dyn std::error::Error,
                "the filter failed"
            );
        });
        if logged.is_err() {
            let connection = self.session.peer().connection_id();
            warn!(
                connection,
                at, "the filter failed, and its error cannot be shown: it panics"
            );
        }
    }
}
