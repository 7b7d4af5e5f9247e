//! What is logged, for tests.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, Once};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::OptionalWriter;

thread_local! {
    static HEARD: RefCell<Option<(Level, Heard)>> = const { RefCell::new(None) };
}

/// What is logged by this thread, as a program that writes its log to a file would have it.
///
/// There is one subscriber for the process: `tracing` keeps what subscribers think of a place in
/// the code, and with one a thread what a test hears would depend on which others run at the time.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    /// Begins to listen to events of this level.
    pub(crate) fn to(level: Level) -> Self {
        static INSTALL: Once = Once::new();
        INSTALL.call_once(|| {
            let subscriber = tracing_subscriber::fmt().with_max_level(Level::TRACE);
            let subscriber = subscriber.without_time().with_ansi(false);
            let subscriber = subscriber.with_writer(OfThread).finish();
            tracing::subscriber::set_global_default(subscriber).expect("there is no other");
        });
        let heard = Self::default();
        HEARD.set(Some((level, heard.clone())));
        heard
    }

    /// The lines since the last time.
    pub(crate) fn lines(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

/// Writes to what listens in this thread, if it listens to the level.
struct OfThread;

impl MakeWriter<'_> for OfThread {
    type Writer = OptionalWriter<Heard>;

    fn make_writer(&self) -> Self::Writer {
        OptionalWriter::none()
    }

    fn make_writer_for(&self, metadata: &Metadata<'_>) -> Self::Writer {
        HEARD.with_borrow(|heard| match heard {
            Some((level, heard)) if metadata.level() <= level => {
                OptionalWriter::some(heard.clone())
            }
            _ => OptionalWriter::none(),
        })
    }
}

impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
