use std::sync::Arc;
use std::time::Duration;

use milter_tower::{Stage, Verdict};
use tower_layer::Layer;

use super::Timeout;

/// The layer that makes [`Timeout`]; see the [module](super).
#[derive(Clone, Debug)]
pub struct TimeoutLayer {
    config: Arc<Config>,
}

#[derive(Clone, Debug)]
pub(super) struct Config {
    event: Duration,
    stages: Vec<(Stage, Duration)>,
    pub(super) message: Option<Duration>,
    pub(super) verdict: Option<Verdict>,
}

impl TimeoutLayer {
    /// The filter may take that long for an event, negotiation and ends included.
    pub fn new(event: Duration) -> Self {
        Self {
            config: Arc::new(Config {
                event,
                stages: Vec::new(),
                message: None,
                verdict: None,
            }),
        }
    }

    /// It may take that long for an event of this stage.
    #[must_use]
    pub fn at(self, stage: Stage, limit: Duration) -> Self {
        self.with(|config| {
            config.stages.retain(|(of, _)| *of != stage);
            config.stages.push((stage, limit));
        })
    }

    /// It may take that long for all events of a message together, MAIL to the end.
    #[must_use]
    pub fn per_message(self, limit: Duration) -> Self {
        self.with(|config| config.message = Some(limit))
    }

    /// What is answered when the time is up, in the place of an error.
    #[must_use]
    pub fn verdict(self, verdict: impl Into<Verdict>) -> Self {
        self.with(|config| config.verdict = Some(verdict.into()))
    }

    fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout::new(inner, Arc::clone(&self.config))
    }
}

impl Config {
    /// The limit for an event.
    pub(super) fn limit(&self, stage: Option<Stage>) -> Duration {
        let of_stage = self.stages.iter().find(|(of, _)| Some(*of) == stage);
        of_stage.map_or(self.event, |(_, limit)| *limit)
    }
}
