use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use milter_tower::{Response, Stage};
use tower_layer::Layer;
use tracing::{field, info};

use super::{Counts, DryRun};

/// The layer that makes [`DryRun`]; see the [module](super).
#[derive(Clone)]
pub struct DryRunLayer {
    config: Config,
}

type Hook = dyn Fn(&WouldBe<'_>) + Send + Sync;

/// Shared by all connections.
#[derive(Clone)]
pub(super) struct Config {
    /// Of a million.
    pub(super) share: u64,
    pub(super) hook: Arc<Hook>,
    pub(super) counts: Arc<Counts>,
    /// Decisions that were made: each kind has its own, for they may come in turn.
    pub(super) sessions: Arc<AtomicU64>,
    pub(super) messages: Arc<AtomicU64>,
}

/// Parts in one.
pub(super) const WHOLE: u64 = 1_000_000;

impl DryRunLayer {
    /// No message is touched.
    pub fn new() -> Self {
        let hook = |would: &WouldBe<'_>| {
            let reply = match would.response.verdict() {
                milter_tower::Verdict::Reply(reply) => Some(reply.to_string()),
                _ => None,
            };
            info!(
                at = would.stage.name(),
                verdict = would.response.verdict().name(),
                reply = reply.as_deref().map(field::display),
                edits = would.response.edits().len(),
                "dry run: this would have been the answer"
            );
        };
        Self {
            config: Config {
                share: WHOLE,
                hook: Arc::new(hook),
                counts: Arc::default(),
                sessions: Arc::default(),
                messages: Arc::default(),
            },
        }
    }

    /// For which part of the messages it is a dry run, from 0, for none, to 1, for all. The others are
    /// for real. They are spread evenly: of ten messages at 0.9 one is for real.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the number is within 0 and a million"
    )]
    pub fn share(mut self, share: f64) -> Self {
        self.config.share = (share.clamp(0.0, 1.0) * WHOLE as f64).round() as u64;
        self
    }

    /// What is told of each answer that had no effect, in the place of a line in the log. Answers that
    /// just go on are not told.
    #[must_use]
    pub fn on_answer(mut self, hook: impl Fn(&WouldBe<'_>) + Send + Sync + 'static) -> Self {
        self.config.hook = Arc::new(hook);
        self
    }

    /// What the filter would have done, over all connections that this layer and its clones serve.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.config.counts)
    }
}

impl Default for DryRunLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for DryRunLayer {
    type Service = DryRun<S>;

    fn layer(&self, inner: S) -> DryRun<S> {
        DryRun::new(inner, Arc::new(self.config.clone()))
    }
}

impl fmt::Debug for DryRunLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DryRunLayer").field(&self.config).finish()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("share", &self.share)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

/// An answer that had no effect.
#[derive(Debug)]
pub struct WouldBe<'a> {
    pub(super) stage: Stage,
    pub(super) response: &'a Response,
}

impl WouldBe<'_> {
    /// At which stage.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The answer: verdict and modifications.
    pub fn response(&self) -> &Response {
        self.response
    }
}
