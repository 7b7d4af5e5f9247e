//! What is in a line.

use std::time::SystemTime;

use milter_tower::{Outcome, Session, Stage, Verdict};

use super::line::Line;
use super::service::{Config, Seen};
use super::sink::timestamp;
use super::told::Answers;
use crate::classify::decided::decided;
use crate::classify::names;

/// The line of a message.
pub(super) fn message(
    config: &Config,
    connection: u64,
    seen: &Seen,
    outcome: Option<&Outcome>,
    session: Option<&Session>,
    answers: &Answers,
) -> String {
    let mut line = begin(config, "message", connection, session);
    if let Some(session) = session {
        envelope(&mut line, config, session, answers.refused);
    }
    if let Some(body) = seen.body {
        line.number("body", body);
    }
    line.text("outcome", outcome.map_or("failed", names::outcome));
    // A client that gave up may have done so for a refusal.
    let verdict = match outcome {
        Some(Outcome::Verdict(verdict)) => Some((seen.stage, verdict)),
        Some(_) => answers.verdict.as_ref().map(|(at, said)| (*at, said)),
        None => None,
    };
    line.text("stage", verdict.map_or(seen.stage, |(at, _)| at).name());
    reply(&mut line, verdict.map(|(_, verdict)| verdict));
    if let Some(session) = session {
        member(&mut line, verdict, session);
    }
    failure(&mut line, answers);
    if let Some(Outcome::Verdict(Verdict::Accept | Verdict::Continue)) = outcome {
        edits(&mut line, answers);
    }
    line.number(
        "time",
        format_args!("{:.6}", seen.began.elapsed().as_secs_f64()),
    );
    line.finish()
}

/// The line of an SMTP session without a message.
pub(super) fn connection(
    config: &Config,
    connection: u64,
    session: &Session,
    answers: &Answers,
) -> String {
    let mut line = begin(config, "connection", connection, Some(session));
    if let Some((stage, verdict)) = &answers.verdict {
        line.text("outcome", verdict.name());
        line.text("stage", stage.name());
        reply(&mut line, Some(verdict));
    } else {
        line.text("outcome", "none");
    }
    let verdict = answers.verdict.as_ref().map(|(at, said)| (*at, said));
    member(&mut line, verdict, session);
    failure(&mut line, answers);
    line.finish()
}

fn begin(config: &Config, event: &str, connection: u64, session: Option<&Session>) -> Line {
    let mut line = Line::new(config.format);
    if config.sink.needs_time() {
        line.text("ts", timestamp(SystemTime::now()));
    }
    line.text("event", event);
    line.number("connection", connection);
    let Some(session) = session else {
        return line;
    };
    line.optional("queue_id", session.queue_id());
    if let Some(client) = session.client() {
        line.optional("client", config.clients.show(client));
        if config.clients.shows_names() {
            line.text("client_name", client.host());
        }
    }
    if config.clients.shows_names() {
        line.optional("helo", session.helo());
    }
    line
}

fn envelope(line: &mut Line, config: &Config, session: &Session, refused: u32) {
    if let Some(user) = session.auth().and_then(|auth| auth.user) {
        line.optional("user", config.addresses.show(user.as_bytes()));
    }
    if let Some(sender) = session.sender() {
        if sender.is_null() {
            line.text("from", "<>");
        } else {
            line.optional("from", config.addresses.show(sender.mailbox().as_bytes()));
        }
    }
    let recipients = session.recipients();
    line.number("recipients", recipients.len());
    if refused > 0 {
        line.number("refused", refused);
    }
    if config.recipients > 0 {
        let listed = recipients.iter().take(config.recipients);
        let shown = listed.filter_map(|to| config.addresses.show(to.mailbox().as_bytes()));
        line.list("to", shown.collect::<Vec<_>>().into_iter());
    }
    if let Some(size) = session.sender().and_then(|sender| sender.args().size()) {
        line.number("size", size);
    }
}

fn reply(line: &mut Line, verdict: Option<&Verdict>) {
    if let Some(Verdict::Reply(reply)) = verdict {
        line.text("reply", reply.to_string());
    }
}

/// The member of a chain that decided so, or failed.
fn member(line: &mut Line, verdict: Option<(Stage, &Verdict)>, session: &Session) {
    let Some(decided) = decided(session) else {
        return;
    };
    let is_decision = verdict.is_some_and(|(at, verdict)| {
        at == decided.stage() && (verdict.is_refusal() || *verdict == Verdict::Discard)
    });
    if is_decision || decided.is_failure() {
        line.text("member", decided.member());
    }
    if decided.is_failure() {
        line.text("member_failed_at", decided.stage().name());
    }
}

fn failure(line: &mut Line, answers: &Answers) {
    if let Some((class, at)) = answers.failure {
        line.text("failure", class.name());
        line.text("failed_at", at);
    }
}

fn edits(line: &mut Line, answers: &Answers) {
    let kinds = names::EDITS.iter().copied().zip(answers.edits);
    let count: u32 = answers.edits.iter().sum();
    line.number("edits", count);
    if count > 0 {
        line.counts("kinds", kinds);
    }
    line.optional("quarantine", answers.quarantine.as_deref());
}
