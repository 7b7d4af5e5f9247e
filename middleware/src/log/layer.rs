use std::fmt;
use std::sync::Arc;

use tower_layer::Layer;

use super::line::Format;
use super::privacy::{Addresses, Clients};
use super::sink::{Tracing, WriteLine};
use super::{Config, Log};
use crate::classify::Failures;

/// The layer that makes [`Log`]; see the [module](super).
#[derive(Clone)]
pub struct LogLayer<C = Failures> {
    config: Config,
    classify: Arc<C>,
}

impl LogLayer {
    /// Lines in logfmt, with all that is known, to [`Tracing`].
    pub fn new() -> Self {
        Self {
            config: Config {
                format: Format::Logfmt,
                addresses: Addresses::Full,
                clients: Clients::Full,
                recipients: 0,
                connections: false,
                sink: Arc::new(Tracing),
            },
            classify: Arc::new(Failures::new()),
        }
    }
}

impl<C> LogLayer<C> {
    /// Lines in logfmt: `queue_id=4ZAbC1 outcome=accept`. That is the default.
    #[must_use]
    pub fn logfmt(mut self) -> Self {
        self.config.format = Format::Logfmt;
        self
    }

    /// Lines in JSON, an object each.
    #[must_use]
    pub fn json(mut self) -> Self {
        self.config.format = Format::Json;
        self
    }

    /// What is shown of mail addresses. By default all.
    #[must_use]
    pub fn addresses(mut self, addresses: Addresses) -> Self {
        self.config.addresses = addresses;
        self
    }

    /// What is shown of clients. By default all.
    #[must_use]
    pub fn clients(mut self, clients: Clients) -> Self {
        self.config.clients = clients;
        self
    }

    /// Lists recipients too, so many at most. By default they are only counted.
    #[must_use]
    pub fn list_recipients(mut self, most: usize) -> Self {
        self.config.recipients = most;
        self
    }

    /// A line for each SMTP session without a message, too. By default there is none.
    #[must_use]
    pub fn connections(mut self, connections: bool) -> Self {
        self.config.connections = connections;
        self
    }

    /// Where lines go: [`Tracing`], a [`Writer`](super::Writer), or a function.
    ///
    /// ```
    /// use milter_middleware::log::{LogLayer, Writer};
    ///
    /// let to_stdout = LogLayer::new().json().to(Writer::new(std::io::stdout()));
    /// let to_somewhere = LogLayer::new().to(|line: &str| println!("mail: {line}"));
    /// # let _ = (to_stdout, to_somewhere);
    /// ```
    #[must_use]
    pub fn to(mut self, sink: impl WriteLine + 'static) -> Self {
        self.config.sink = Arc::new(sink);
        self
    }

    /// What counts as a failure: see [`classify`](crate::classify).
    pub fn classify_with<D>(self, classify: D) -> LogLayer<D> {
        LogLayer {
            config: self.config,
            classify: Arc::new(classify),
        }
    }
}

impl Default for LogLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> fmt::Debug for LogLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLayer")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl<S, C> Layer<S> for LogLayer<C> {
    type Service = Log<S, C>;

    fn layer(&self, inner: S) -> Log<S, C> {
        let config = Arc::new(self.config.clone());
        Log::new(inner, config, Arc::clone(&self.classify))
    }
}
