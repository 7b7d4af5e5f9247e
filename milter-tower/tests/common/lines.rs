//! What is logged, line by line.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
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

thread_local! {
    static LINES: RefCell<Option<Lines>> = const { RefCell::new(None) };
}

/// Writes down spans as they begin and end, and events, each for the thread that it is of.
///
/// There is one for the process: `tracing` keeps what subscribers think of a place in the code, and
/// with one a thread what a test hears would depend on which others run at the time.
#[derive(Default)]
struct Recorder {
    next: AtomicU64,
    names: Mutex<Vec<(u64, &'static str)>>,
}

impl Recorder {
    fn add(level: Level, line: String) {
        LINES.with_borrow(|lines| {
            if let Some(lines) = lines {
                lines.add(level, line);
            }
        });
    }
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl Subscriber for Recorder {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("milter") && LINES.with_borrow(Option::is_some)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.next.fetch_add(1, Ordering::SeqCst) + 1;
        let name = span.metadata().name();
        let mut fields = Fields(format!("new {name}"));
        span.record(&mut fields);
        Self::add(*span.metadata().level(), fields.0);
        self.names.lock().unwrap().push((id, name));
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let names = self.names.lock().unwrap();
        let name = names.iter().find(|(id, _)| *id == span.into_u64());
        let mut fields = Fields(format!("record {}", name.map_or("?", |(_, name)| name)));
        values.record(&mut fields);
        Self::add(Level::TRACE, fields.0);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields("event".into());
        event.record(&mut fields);
        Self::add(*event.metadata().level(), fields.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Writes down what this thread logs, until the guard is dropped.
pub(crate) fn listen() -> (Lines, Listening) {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        tracing::subscriber::set_global_default(Recorder::default()).expect("there is no other");
    });
    let lines = Lines::default();
    LINES.set(Some(lines.clone()));
    (lines, Listening)
}

pub(crate) struct Listening;

impl Drop for Listening {
    fn drop(&mut self) {
        LINES.set(None);
    }
}
