//! What is done at each event.

use std::fmt;
use std::time::Duration;

use milter_tower::{Event, Request, Response, Stage};
use tracing::{Level, Span, field};

use super::level::is_heard;
use crate::classify::{Failed, names};

/// Makes the span in which an event is handled.
///
/// Functions from `&Request` to `Span` do, too. The current span is the server's: that of the
/// message, or of the connection outside of messages.
pub trait MakeSpan {
    /// The span of an event.
    fn make_span(&self, request: &Request) -> Span;

    /// Whether it does anything at the moment. Where no hook does the layer has no work. By
    /// default yes.
    fn is_enabled(&self) -> bool {
        true
    }
}

impl<F: Fn(&Request) -> Span> MakeSpan for F {
    fn make_span(&self, request: &Request) -> Span {
        self(request)
    }
}

/// The span `event{stage verdict edits}`, which gets the last two by [`DefaultOnResponse`].
#[derive(Clone, Copy, Debug)]
pub struct DefaultMakeSpan {
    level: Level,
}

with_level!(DefaultMakeSpan, DEBUG);

impl MakeSpan for DefaultMakeSpan {
    fn make_span(&self, request: &Request) -> Span {
        span_at!(
            self.level,
            "event",
            stage = names::event(request.event()),
            verdict = field::Empty,
            edits = field::Empty,
        )
    }

    fn is_enabled(&self) -> bool {
        is_heard(self.level)
    }
}

/// Is told of each event before the filter is asked.
///
/// Functions of `&Request` and `&Span` do, too; `()` does nothing.
pub trait OnRequest {
    /// An event came. The span is entered.
    fn on_request(&self, request: &Request, span: &Span);

    /// Whether it does anything at the moment; see [`MakeSpan::is_enabled`].
    fn is_enabled(&self) -> bool {
        true
    }
}

impl<F: Fn(&Request, &Span)> OnRequest for F {
    fn on_request(&self, request: &Request, span: &Span) {
        self(request, span);
    }
}

impl OnRequest for () {
    fn on_request(&self, _: &Request, _: &Span) {}

    fn is_enabled(&self) -> bool {
        false
    }
}

/// Logs that an event came, and how a message ended.
#[derive(Clone, Copy, Debug)]
pub struct DefaultOnRequest {
    level: Level,
}

with_level!(DefaultOnRequest, DEBUG);

impl OnRequest for DefaultOnRequest {
    fn on_request(&self, request: &Request, _: &Span) {
        let stage = names::event(request.event());
        let outcome = match request.event() {
            Event::MessageEnd(outcome) => Some(names::outcome(outcome)),
            _ => None,
        };
        event_at!(self.level, stage, outcome, "asking the filter");
    }

    fn is_enabled(&self) -> bool {
        is_heard(self.level)
    }
}

/// Is told of each answer of the filter that is no error.
///
/// Functions of `&Response`, the time that it took and `&Span` do, too; `()` does nothing.
pub trait OnResponse {
    /// The filter answered. The span is entered. Without a stage, at the negotiation and at ends,
    /// the verdict means nothing.
    fn on_response(&self, stage: Option<Stage>, response: &Response, time: Duration, span: &Span);

    /// Whether it does anything at the moment; see [`MakeSpan::is_enabled`].
    fn is_enabled(&self) -> bool {
        true
    }
}

impl<F: Fn(Option<Stage>, &Response, Duration, &Span)> OnResponse for F {
    fn on_response(&self, stage: Option<Stage>, response: &Response, time: Duration, span: &Span) {
        self(stage, response, time, span);
    }
}

impl OnResponse for () {
    fn on_response(&self, _: Option<Stage>, _: &Response, _: Duration, _: &Span) {}

    fn is_enabled(&self) -> bool {
        false
    }
}

/// Logs verdict, number of modifications and time, and notes the first two in the span.
#[derive(Clone, Copy, Debug)]
pub struct DefaultOnResponse {
    level: Level,
}

with_level!(DefaultOnResponse, DEBUG);

impl OnResponse for DefaultOnResponse {
    fn on_response(&self, stage: Option<Stage>, response: &Response, time: Duration, span: &Span) {
        if stage.is_none() {
            return event_at!(self.level, ?time, "the filter was told");
        }
        let (verdict, edits) = (response.verdict().name(), response.edits().len());
        let reply = match response.verdict() {
            milter_tower::Verdict::Reply(reply) => Some(field::display(reply)),
            _ => None,
        };
        span.record("verdict", verdict);
        if edits > 0 {
            span.record("edits", edits);
        }
        event_at!(
            self.level,
            verdict,
            reply,
            edits,
            ?time,
            "the filter answered"
        );
    }

    fn is_enabled(&self) -> bool {
        is_heard(self.level)
    }
}

/// Is told of each failure: what the [classifier](crate::classify) takes for one, a panic, and a
/// call that was dropped at its deadline.
///
/// Functions of [`&Failed`](Failed), the time that it took and `&Span` do, too; `()` does nothing.
pub trait OnFailure<E> {
    /// The filter failed. The span is entered.
    fn on_failure(&self, failed: &Failed<'_, E>, time: Duration, span: &Span);

    /// Whether it does anything at the moment; see [`MakeSpan::is_enabled`].
    fn is_enabled(&self) -> bool {
        true
    }
}

impl<F: Fn(&Failed<'_, E>, Duration, &Span), E> OnFailure<E> for F {
    fn on_failure(&self, failed: &Failed<'_, E>, time: Duration, span: &Span) {
        self(failed, time, span);
    }
}

impl<E> OnFailure<E> for () {
    fn on_failure(&self, _: &Failed<'_, E>, _: Duration, _: &Span) {}

    fn is_enabled(&self) -> bool {
        false
    }
}

/// Logs the failure, with connection, queue id and client as the server does. That logs those that
/// reach it, too.
#[derive(Clone, Copy, Debug)]
pub struct DefaultOnFailure {
    level: Level,
}

with_level!(DefaultOnFailure, WARN);

impl<E: fmt::Display> OnFailure<E> for DefaultOnFailure {
    fn on_failure(&self, failed: &Failed<'_, E>, time: Duration, _: &Span) {
        // The server's spans may be below the level that is listened to.
        let session = failed.session;
        event_at!(
            self.level,
            connection = session.peer().connection_id(),
            queue_id = session.queue_id().map(field::display),
            client = session.client_ip().map(field::display),
            class = failed.class.name(),
            at = failed.stage.map(Stage::name),
            error = failed.error.map(field::display),
            ?time,
            "the filter failed"
        );
    }

    fn is_enabled(&self) -> bool {
        is_heard(self.level)
    }
}
