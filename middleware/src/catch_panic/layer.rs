use std::any::Any;
use std::fmt;
use std::sync::Arc;

use milter_tower::{Stage, Verdict};
use tower_layer::Layer;
use tracing::error;

use super::CatchPanic;

/// The layer that makes [`CatchPanic`]; see the [module](super).
#[derive(Clone)]
pub struct CatchPanicLayer {
    config: Arc<Config>,
}

type Hook = dyn Fn(&Panicked<'_>) + Send + Sync;

#[derive(Clone)]
pub(super) struct Config {
    pub(super) verdict: Verdict,
    pub(super) hook: Arc<Hook>,
}

impl CatchPanicLayer {
    /// A panic becomes a tempfail, and is logged.
    pub fn new() -> Self {
        let hook = |panic: &Panicked<'_>| {
            let at = panic.stage.map_or("no stage", Stage::name);
            error!(at, message = panic.message(), "the filter panicked");
        };
        Self {
            config: Arc::new(Config {
                verdict: Verdict::TempFail,
                hook: Arc::new(hook),
            }),
        }
    }

    /// What is answered after a panic. By default tempfail. With the verdict to go on mail passes that
    /// the filter could not look at.
    #[must_use]
    pub fn verdict(mut self, verdict: impl Into<Verdict>) -> Self {
        Arc::make_mut(&mut self.config).verdict = verdict.into();
        self
    }

    /// What is told of a panic, in the place of a line in the log. When this panics itself nothing
    /// more comes of it.
    #[must_use]
    pub fn on_panic(mut self, hook: impl Fn(&Panicked<'_>) + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.config).hook = Arc::new(hook);
        self
    }
}

impl Default for CatchPanicLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;

    fn layer(&self, inner: S) -> CatchPanic<S> {
        CatchPanic::new(inner, Arc::clone(&self.config))
    }
}

impl fmt::Debug for CatchPanicLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CatchPanicLayer")
            .field(&self.config)
            .finish()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("verdict", &self.verdict)
            .finish_non_exhaustive()
    }
}

/// A panic that was caught.
#[derive(Debug)]
pub struct Panicked<'a> {
    pub(super) stage: Option<Stage>,
    pub(super) payload: &'a (dyn Any + Send),
}

impl Panicked<'_> {
    /// At which stage; none in the negotiation, at ends, and in `poll_ready`, where the event is not
    /// known yet.
    pub fn stage(&self) -> Option<Stage> {
        self.stage
    }

    /// What it said, if that was text.
    pub fn message(&self) -> &str {
        let text = self.payload.downcast_ref::<&str>().copied();
        text.or_else(|| self.payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a value that is no text")
    }

    /// What was thrown.
    pub fn payload(&self) -> &(dyn Any + Send) {
        self.payload
    }
}
