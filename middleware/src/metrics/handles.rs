//! What is counted, and the handles of it, each looked up once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};
use milter_tower::chain::Decided;
use milter_tower::{Modification, Stage, Verdict};

use crate::classify::{FailureClass, names};

pub(super) const CONNECTIONS: &str = "milter_connections_total";
pub(super) const CONNECTIONS_OPEN: &str = "milter_connections_open";
pub(super) const MESSAGES: &str = "milter_messages_total";
pub(super) const MESSAGES_OPEN: &str = "milter_messages_open";
pub(super) const MESSAGE_SECONDS: &str = "milter_message_seconds";
pub(super) const EVENTS: &str = "milter_events_total";
pub(super) const EVENT_SECONDS: &str = "milter_event_seconds";
pub(super) const VERDICTS: &str = "milter_verdicts_total";
pub(super) const EDITS: &str = "milter_edits_total";
pub(super) const FAILURES: &str = "milter_failures_total";
pub(super) const BODY_BYTES: &str = "milter_body_bytes_total";

/// How messages end.
const OUTCOMES: [&str; 7] = [
    "accept", "reject", "tempfail", "discard", "aborted", "lost", FAILED,
];

/// The service heard of no end: it broke before.
pub(super) const FAILED: &str = "failed";

const VERDICT_NAMES: [&str; 5] = ["accept", "reject", "tempfail", "discard", "skip"];

/// The class of a failure within a chain.
const MEMBER: FailureClass = FailureClass::new("member");

/// More members than this have one series together. Their names come from whoever made the chain,
/// but what is bounded is bounded here.
const MAX_OF_MEMBERS: usize = 1000;

/// What one filter counts.
pub(super) struct Handles {
    filter: Arc<str>,
    pub(super) connections: Counter,
    pub(super) connections_open: Gauge,
    pub(super) messages_open: Gauge,
    pub(super) message_seconds: Histogram,
    pub(super) body_bytes: Counter,
    outcomes: [Counter; OUTCOMES.len()],
    stages: [OfStage; Stage::ALL.len()],
    edits: [Counter; names::EDITS.len()],
    /// Verdicts by which members of a chain decided. Looked at where one did.
    members: Mutex<Vec<OfMember>>,
}

/// What is counted at one stage.
struct OfStage {
    events: Counter,
    seconds: Histogram,
    verdicts: [Counter; VERDICT_NAMES.len()],
}

struct OfMember {
    member: Arc<str>,
    stage: Stage,
    verdict: &'static str,
    counter: Counter,
}

impl Handles {
    pub(super) fn register(filter: &Arc<str>) -> Self {
        describe();
        let name = || Arc::clone(filter);
        Self {
            filter: name(),
            connections: counter!(CONNECTIONS, "filter" => name()),
            connections_open: gauge!(CONNECTIONS_OPEN, "filter" => name()),
            messages_open: gauge!(MESSAGES_OPEN, "filter" => name()),
            message_seconds: histogram!(MESSAGE_SECONDS, "filter" => name()),
            body_bytes: counter!(BODY_BYTES, "filter" => name()),
            outcomes: OUTCOMES
                .map(|outcome| counter!(MESSAGES, "filter" => name(), "outcome" => outcome)),
            stages: Stage::ALL.map(|stage| OfStage {
                events: counter!(EVENTS, "filter" => name(), "stage" => stage.name()),
                seconds: histogram!(EVENT_SECONDS, "filter" => name(), "stage" => stage.name()),
                verdicts: VERDICT_NAMES.map(|verdict| {
                    if is_possible(verdict, stage) {
                        counter!(VERDICTS, "filter" => name(), "stage" => stage.name(), "verdict" => verdict)
                    } else {
                        Counter::noop()
                    }
                }),
            }),
            edits: names::EDITS.map(|kind| counter!(EDITS, "filter" => name(), "kind" => kind)),
            members: Mutex::default(),
        }
    }

    pub(super) fn event(&self, stage: Stage) {
        self.stages[stage as usize].events.increment(1);
    }

    pub(super) fn took(&self, stage: Stage, time: Duration) {
        self.stages[stage as usize].seconds.record(time);
    }

    pub(super) fn outcome(&self, outcome: &str) {
        let at = OUTCOMES.iter().position(|one| *one == outcome);
        if let Some(counter) = at.and_then(|at| self.outcomes.get(at)) {
            counter.increment(1);
        }
    }

    /// A verdict other than to go on, and who in a chain decided it.
    pub(super) fn verdict(&self, stage: Stage, verdict: &Verdict, decided: Option<&Decided>) {
        let verdict = match verdict {
            Verdict::Continue => Verdict::Accept.name(),
            other => other.name(),
        };
        let Some(at) = VERDICT_NAMES.iter().position(|name| *name == verdict) else {
            return;
        };
        match decided {
            Some(decided) => self.of_member(decided.member(), stage, VERDICT_NAMES[at]),
            None => self.stages[stage as usize].verdicts[at].increment(1),
        }
    }

    fn of_member(&self, member: &str, stage: Stage, verdict: &'static str) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let known = members
            .iter()
            .find(|one| one.stage == stage && one.verdict == verdict && *one.member == *member);
        if let Some(known) = known {
            return known.counter.increment(1);
        }
        let is_full = members.len() >= MAX_OF_MEMBERS;
        let member: Arc<str> = if is_full { "other" } else { member }.into();
        let counter = counter!(
            VERDICTS,
            "filter" => Arc::clone(&self.filter),
            "stage" => stage.name(),
            "verdict" => verdict,
            "member" => Arc::clone(&member),
        );
        counter.increment(1);
        if !is_full {
            members.push(OfMember {
                member,
                stage,
                verdict,
                counter,
            });
        }
    }

    pub(super) fn edits(&self, edits: &[Modification]) {
        for edit in edits {
            if let Some(at) = names::edit(&edit.kind()) {
                self.edits[at].increment(1);
            }
        }
    }

    /// Failures are rare: their handles are looked up when one happens.
    pub(super) fn failure(&self, at: &'static str, class: FailureClass) {
        let filter = Arc::clone(&self.filter);
        counter!(FAILURES, "filter" => filter, "stage" => at, "class" => class.name()).increment(1);
    }

    /// A member of a chain failed, whatever its policy made of it.
    pub(super) fn member_failure(&self, decided: &Decided) {
        counter!(
            FAILURES,
            "filter" => Arc::clone(&self.filter),
            "stage" => decided.stage().name(),
            "class" => MEMBER.name(),
            "member" => decided.member().to_owned(),
        )
        .increment(1);
    }
}

/// Verdicts that no MTA takes at a stage have no series there.
fn is_possible(verdict: &str, stage: Stage) -> bool {
    let verdicts = [
        Verdict::Accept,
        Verdict::Reject,
        Verdict::TempFail,
        Verdict::Discard,
        Verdict::Skip,
    ];
    let mut verdicts = verdicts.into_iter();
    verdicts.any(|one| one.name() == verdict && one.is_allowed_at(stage))
}

fn describe() {
    use ::metrics::{describe_counter, describe_gauge, describe_histogram};

    describe_counter!(CONNECTIONS, "Connections that asked the filter");
    describe_gauge!(CONNECTIONS_OPEN, "Connections that are open");
    describe_counter!(MESSAGES, "Messages that the filter saw, by how they ended");
    describe_gauge!(MESSAGES_OPEN, "Messages in progress");
    describe_histogram!(
        MESSAGE_SECONDS,
        Unit::Seconds,
        "Time from a message's first event to its end"
    );
    describe_counter!(EVENTS, "Events that the filter was asked about");
    describe_histogram!(
        EVENT_SECONDS,
        Unit::Seconds,
        "Time that the filter took to answer an event"
    );
    describe_counter!(VERDICTS, "Verdicts of the filter other than to go on");
    describe_counter!(EDITS, "Modifications that the filter asked for");
    describe_counter!(FAILURES, "Failures of the filter");
    describe_counter!(BODY_BYTES, "Bytes of bodies that the filter was shown");
}
