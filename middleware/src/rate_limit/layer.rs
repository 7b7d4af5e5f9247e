use std::fmt;
use std::sync::Arc;

use milter_tower::{Actions, Needs, Session, Stage};
use tower_layer::Layer;

use super::memory::MAX_KEYS;
use super::over::Action;
use super::{Key, Memory, Over, OverLimit, Quota, RateLimit, Store};
use crate::key::By;

/// The layer that makes [`RateLimit`]; see the [module](super).
///
/// Its clones, and all services that it makes, have the same buckets.
#[derive(Debug)]
pub struct RateLimitLayer<T = Memory> {
    config: Arc<Config>,
    store: Arc<T>,
}

/// What a rate limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Counts {
    /// SMTP sessions, when the client connects. By what is not known then, a sender or a user, at
    /// the first MAIL of the session.
    Connections,
    /// Messages, at MAIL.
    #[default]
    Messages,
    /// Recipients, each at its RCPT, but for those that the MTA refuses.
    Recipients,
    /// Bytes of headers and body: what the client announces (`SIZE`, RFC 1870) at MAIL, and what
    /// came beyond that at the end of the message.
    Bytes,
}

type Hook = dyn Fn(&OverLimit<'_>) + Send + Sync;

#[derive(Clone)]
pub(super) struct Config {
    pub(super) by: By,
    counts: Counts,
    pub(super) quota: Quota,
    pub(super) over: Over,
    pub(super) is_closed: bool,
    pub(super) hook: Option<Arc<Hook>>,
}

impl RateLimitLayer {
    /// For each client by its address, as its MTA tells. Of IPv6 that is its network of 64 bits, for
    /// a host has one for itself; see [`per_network`](Self::per_network) for others.
    pub fn per_client_ip(quota: Quota) -> Self {
        Self::keyed(By::CLIENT, quota)
    }

    /// For all clients of a network together: the first `v4` bits of an IPv4 address (at most 32), the
    /// first `v6` of an IPv6 address (at most 128).
    pub fn per_network(v4: u8, v6: u8, quota: Quota) -> Self {
        Self::keyed(By::Network { v4, v6 }, quota)
    }

    /// For each sender of the envelope, as [`mailbox_key`](milter_tower::mailbox_key) tells them
    /// apart. The null sender, which all bounces have, is not limited.
    pub fn per_sender(quota: Quota) -> Self {
        Self::keyed(By::Sender, quota)
    }

    /// For each domain that senders have, as [`domain_key`](milter_tower::domain_key) tells them
    /// apart. The null sender and addresses without a domain are not limited.
    pub fn per_sender_domain(quota: Quota) -> Self {
        Self::keyed(By::SenderDomain, quota)
    }

    /// For each user who authenticated (`{auth_authen}`), in whatever case the name is written. Who did
    /// not is not limited.
    pub fn per_user(quota: Quota) -> Self {
        Self::keyed(By::User, quota)
    }

    /// For each recipient, as [`mailbox_key`](milter_tower::mailbox_key) tells them apart. It counts
    /// how often there is a RCPT for one, whatever is [set](Self::counts).
    pub fn per_recipient(quota: Quota) -> Self {
        Self::keyed(By::Recipient, quota)
    }

    /// For what the function makes of the session. Nothing is what is not limited.
    ///
    /// It is asked where something is [counted](Self::counts). Client, greeting and sender are then
    /// known, if they have come.
    ///
    /// ```
    /// use milter_middleware::rate_limit::{Counts, Quota, RateLimitLayer};
    /// use milter_tower::domain_key;
    ///
    /// // All that a domain's servers send, whatever they call themselves in it.
    /// let by_host = RateLimitLayer::by(
    ///     |session| {
    ///         let host = domain_key(session.client()?.host());
    ///         host.split_once('.').map(|(_, domain)| domain.to_owned())
    ///     },
    ///     Quota::per_hour(1000),
    /// );
    /// let layer = by_host.counts(Counts::Recipients);
    /// # let _ = layer;
    /// ```
    pub fn by<F, K>(function: F, quota: Quota) -> Self
    where
        F: Fn(&Session) -> Option<K> + Send + Sync + 'static,
        K: Into<Key>,
    {
        Self::keyed(By::function(function), quota)
    }

    fn keyed(by: By, quota: Quota) -> Self {
        let config = Config {
            by,
            counts: Counts::default(),
            quota,
            over: Over::default(),
            is_closed: false,
            hook: None,
        };
        Self {
            config: Arc::new(config),
            store: Arc::new(Memory::new(quota, MAX_KEYS)),
        }
    }

    /// How many keys are kept in memory at the most: 100,000 unless told otherwise, at least one. A
    /// key takes some hundred bytes, 500 at the most.
    ///
    /// The buckets of a layer that was cloned before are others from then on.
    #[must_use]
    pub fn max_keys(mut self, most: usize) -> Self {
        self.store = Arc::new(Memory::new(self.config.quota, most));
        self
    }
}

impl<T: Store> RateLimitLayer<T> {
    /// What is counted: messages unless told otherwise.
    #[must_use]
    pub fn counts(self, counts: Counts) -> Self {
        self.with(|config| config.counts = counts)
    }

    /// What becomes of what is over the limit.
    #[must_use]
    pub fn over(self, over: Over) -> Self {
        self.with(|config| config.over = over)
    }

    /// Refuses what the store does not know whether it is over the limit: the store failed, or the one
    /// in memory is full. Otherwise that passes, for a limit is not to stop mail by itself.
    #[must_use]
    pub fn fail_closed(self) -> Self {
        self.with(|config| config.is_closed = true)
    }

    /// Calls this for everything that is over the limit, to count it say. It runs within the event,
    /// and has to be quick.
    #[must_use]
    pub fn on_over(self, hook: impl Fn(&OverLimit<'_>) + Send + Sync + 'static) -> Self {
        self.with(|config| config.hook = Some(Arc::new(hook)))
    }

    /// Has the buckets elsewhere than in memory.
    #[must_use]
    pub fn store<U: Store>(self, store: U) -> RateLimitLayer<U> {
        RateLimitLayer {
            config: self.config,
            store: Arc::new(store),
        }
    }

    /// Where the buckets are.
    pub fn get_store(&self) -> &T {
        &self.store
    }

    fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }
}

impl<T> Clone for RateLimitLayer<T> {
    fn clone(&self) -> Self {
        Self {
            config: Arc::clone(&self.config),
            store: Arc::clone(&self.store),
        }
    }
}

impl<S, T: Store> Layer<S> for RateLimitLayer<T> {
    type Service = RateLimit<S, T>;

    fn layer(&self, inner: S) -> RateLimit<S, T> {
        let needs = Arc::new(self.config.needs());
        RateLimit::new(
            inner,
            Arc::clone(&self.config),
            Arc::clone(&self.store),
            needs,
        )
    }
}

impl Config {
    pub(super) fn counts(&self) -> Counts {
        match self.by {
            By::Recipient => Counts::Recipients,
            _ => self.counts,
        }
    }

    /// Whether connections are counted when the client connects.
    pub(super) fn is_known_at_connect(&self) -> bool {
        matches!(self.by, By::Network { .. } | By::Function(_))
    }

    fn needs(&self) -> Needs {
        let answers = self.over.action.answers() || self.is_closed;
        let ask = |needs: Needs, stage| {
            if answers {
                needs.event(stage)
            } else {
                needs.record(stage)
            }
        };
        let needs = self.by.needs();
        let needs = match self.counts() {
            Counts::Connections if self.is_known_at_connect() => ask(needs, Stage::Connect),
            Counts::Connections | Counts::Messages => ask(needs, Stage::Mail),
            // D6: a recipient can only be refused where replies are on.
            Counts::Recipients => ask(needs, Stage::Rcpt),
            Counts::Bytes => ask(needs, Stage::Mail)
                .record(Stage::Header)
                .record(Stage::EndOfHeaders)
                .record(Stage::Body),
        };
        match self.over.action {
            Action::Header(_) => needs.action(Actions::ADD_HEADERS),
            _ => needs,
        }
    }

    /// Whether something may come after this stage that the layer has to see, though the service
    /// within wants no more.
    pub(super) fn goes_on(&self, stage: Stage) -> bool {
        if matches!(self.over.action, Action::Header(_)) {
            return true;
        }
        let is_of_message = stage.is_of_message();
        match self.counts() {
            Counts::Connections => !self.is_known_at_connect() && !is_of_message,
            Counts::Messages => !is_of_message,
            Counts::Recipients => !is_of_message || matches!(stage, Stage::Mail | Stage::Rcpt),
            Counts::Bytes => true,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("by", &self.by)
            .field("counts", &self.counts)
            .field("quota", &self.quota)
            .field("over", &self.over)
            .field("is_closed", &self.is_closed)
            .finish_non_exhaustive()
    }
}
