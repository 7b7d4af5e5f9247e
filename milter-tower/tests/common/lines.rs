//! What is logged, line by line.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata, Subscriber};

/// What was logged.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

impl Lines {
    fn add(&self, level: Level, line: String) {
        self.0.lock().unwrap().push((level, line));
    }

    pub(crate) fn above_debug(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        let above = lines.iter().filter(|(level, _)| *level < Level::DEBUG);
        above.map(|(_, line)| line.clone()).collect()
    }

    pub(crate) fn count(&self, what: &str) -> usize {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|(_, line)| line.contains(what)).count()
    }
}

/// Writes down spans as they begin and end, and events.
#[derive(Default)]
struct Recorder {
    lines: Lines,
    next: AtomicU64,
    names: Mutex<Vec<(u64, &'static str)>>,
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("milter")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.next.fetch_add(1, Ordering::SeqCst) + 1;
        let name = span.metadata().name();
        let mut fields = Fields(format!("new {name}"));
        span.record(&mut fields);
        self.lines.add(*span.metadata().level(), fields.0);
        self.names.lock().unwrap().push((id, name));
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let names = self.names.lock().unwrap();
        let name = names.iter().find(|(id, _)| *id == span.into_u64());
        let mut fields = Fields(format!("record {}", name.map_or("?", |(_, name)| name)));
        values.record(&mut fields);
        self.lines.add(Level::TRACE, fields.0);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields("event".into());
        event.record(&mut fields);
        self.lines.add(*event.metadata().level(), fields.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Writes down what this thread logs, until the guard is dropped.
pub(crate) fn listen() -> (Lines, tracing::subscriber::DefaultGuard) {
    let recorder = Recorder::default();
    let lines = recorder.lines.clone();
    (lines, tracing::subscriber::set_default(recorder))
}
