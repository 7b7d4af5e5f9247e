use std::fmt;
use std::sync::Arc;

use tower_layer::Layer;

use super::Metrics;
use super::service::Shared;
use crate::classify::Failures;

/// The layer that makes [`Metrics`]; see the [module](super).
#[derive(Clone)]
pub struct MetricsLayer<C = Failures> {
    name: Arc<str>,
    classify: Arc<C>,
}

impl MetricsLayer {
    /// Counts what happens under the name `milter`.
    pub fn new() -> Self {
        Self {
            name: "milter".into(),
            classify: Arc::new(Failures::new()),
        }
    }
}

impl<C> MetricsLayer<C> {
    /// The name of the filter: the label `filter` of all its metrics. Several layers in one program
    /// must have names of their own.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// What counts as a failure: see [`classify`](crate::classify).
    pub fn classify_with<D>(self, classify: D) -> MetricsLayer<D> {
        MetricsLayer {
            name: self.name,
            classify: Arc::new(classify),
        }
    }
}

impl Default for MetricsLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> fmt::Debug for MetricsLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsLayer")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<S, C> Layer<S> for MetricsLayer<C> {
    type Service = Metrics<S, C>;

    fn layer(&self, inner: S) -> Metrics<S, C> {
        let shared = Shared::new(Arc::clone(&self.name), Arc::clone(&self.classify));
        Metrics::new(inner, Arc::new(shared))
    }
}
