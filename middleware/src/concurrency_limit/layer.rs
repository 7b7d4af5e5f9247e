use std::sync::Arc;

use milter_tower::{Needs, Request, Session, Stage, Verdict};
use tower_layer::Layer;
use tracing::info;

use super::permit::{Count, Permit};
use super::{Key, ResponseFuture};
use crate::judged::{Judge, judged_service};
use crate::key::By;
use crate::reply::reply;

/// The layer that makes [`ConcurrencyLimit`]; see the [module](super).
///
/// Its clones, and all services that it makes, count together.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimitLayer {
    config: Config,
}

/// What a [concurrency limit](super) counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Counts {
    /// SMTP sessions, from connect to their end.
    #[default]
    Connections,
    /// Messages, from MAIL to their end.
    Messages,
}

#[derive(Clone, Debug)]
struct Config {
    /// None is the whole process.
    by: Option<By>,
    counts: Counts,
    verdict: Option<Verdict>,
    count: Arc<Count>,
    needs: Arc<Needs>,
}

impl ConcurrencyLimitLayer {
    /// At most so many in all, of everything that has this layer or a clone of it. With 0 none is let
    /// in.
    pub fn new(most: usize) -> Self {
        Self::keyed(None, most)
    }

    /// At most so many for each client by its address, as its MTA tells. Of IPv6 that is its network
    /// of 64 bits, for a host has one for itself; see [`per_network`](Self::per_network) for others.
    ///
    /// A client without an address is not limited: it came over a unix socket, or from the MTA's own
    /// host.
    pub fn per_client_ip(most: usize) -> Self {
        Self::keyed(Some(By::CLIENT), most)
    }

    /// At most so many for all clients of a network together: the first `v4` bits of an IPv4 address
    /// (at most 32), the first `v6` of an IPv6 address (at most 128).
    pub fn per_network(v4: u8, v6: u8, most: usize) -> Self {
        Self::keyed(Some(By::Network { v4, v6 }), most)
    }

    /// At most so many for what the function makes of the session: at connect, or of
    /// [messages](Counts::Messages) at MAIL. Nothing is what is not limited.
    ///
    /// ```
    /// use milter_middleware::concurrency_limit::{ConcurrencyLimitLayer, Counts, Key};
    ///
    /// let by_user = ConcurrencyLimitLayer::by(|session| session.auth()?.user.map(Key::from), 5);
    /// let layer = by_user.counts(Counts::Messages);
    /// # let _ = layer;
    /// ```
    pub fn by<F, K>(function: F, most: usize) -> Self
    where
        F: Fn(&Session) -> Option<K> + Send + Sync + 'static,
        K: Into<Key>,
    {
        Self::keyed(Some(By::function(function)), most)
    }

    fn keyed(by: Option<By>, most: usize) -> Self {
        let counts = Counts::default();
        let needs = Arc::new(needs(by.as_ref(), counts));
        Self {
            config: Config {
                by,
                counts,
                verdict: None,
                count: Arc::new(Count::new(most)),
                needs,
            },
        }
    }

    /// What is counted: connections unless told otherwise.
    #[must_use]
    pub fn counts(mut self, counts: Counts) -> Self {
        self.config.counts = counts;
        self.config.needs = Arc::new(needs(self.config.by.as_ref(), counts));
        self
    }

    /// What is answered to those beyond the limit. To go on or to skip is no answer here.
    #[must_use]
    pub fn verdict(mut self, verdict: impl Into<Verdict>) -> Self {
        self.config.verdict = Some(verdict.into());
        self
    }

    /// How many there are now, for all keys together.
    pub fn in_progress(&self) -> usize {
        self.config.count.in_progress()
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.config.count.keys()
    }
}

fn needs(by: Option<&By>, counts: Counts) -> Needs {
    let needs = by.map_or_else(Needs::none, By::needs);
    needs.event(match counts {
        Counts::Connections => Stage::Connect,
        Counts::Messages => Stage::Mail,
    })
}

impl<S> Layer<S> for ConcurrencyLimitLayer {
    type Service = ConcurrencyLimit<S>;

    fn layer(&self, inner: S) -> ConcurrencyLimit<S> {
        ConcurrencyLimit::new(inner, Presence::new(self.config.clone()))
    }
}

judged_service! {
    /// Bounds how many connections or messages there are at once; see the [module](super).
    ConcurrencyLimit, Presence
}

/// Whether the connection or the message at hand is in.
#[derive(Debug)]
pub(super) struct Presence {
    config: Config,
    standing: Standing,
}

#[derive(Debug)]
enum Standing {
    New,
    In {
        /// None where there is no limit.
        _permit: Option<Permit>,
    },
    Out,
}

impl Presence {
    const fn new(config: Config) -> Self {
        Self {
            config,
            standing: Standing::New,
        }
    }

    fn anew(&self) -> Self {
        Self::new(self.config.clone())
    }

    fn enter(&self, request: &Request) -> Standing {
        let key = self.config.by.as_ref().map(|by| by.key(request));
        let key = match key {
            Some(None) => return Standing::In { _permit: None },
            Some(key) => key,
            None => None,
        };
        let permit = self.config.count.enter(key.clone());
        if permit.is_some() {
            return Standing::In { _permit: permit };
        }
        let key = key.as_ref().map(tracing::field::display);
        info!(key, "over the concurrency limit");
        Standing::Out
    }

    fn refusal(&self) -> Verdict {
        self.config.verdict.clone().unwrap_or_else(|| {
            reply(match self.config.counts {
                Counts::Connections => "421 4.3.2 Too many connections, please try again later",
                Counts::Messages => "451 4.3.2 Too many messages at once, please try again later",
            })
            .into()
        })
    }
}

impl Judge for Presence {
    const SEES_ALL: bool = false;

    fn needs(&self) -> &Arc<Needs> {
        &self.config.needs
    }

    fn judge(&mut self, request: &Request) -> Option<Verdict> {
        if matches!(self.standing, Standing::New) {
            let is_of_message = request.event().stage().is_some_and(Stage::is_of_message);
            if self.config.counts == Counts::Messages && !is_of_message {
                return None;
            }
            self.standing = self.enter(request);
        }
        matches!(self.standing, Standing::Out).then(|| self.refusal())
    }

    fn end_message(&mut self) {
        if self.config.counts == Counts::Messages {
            self.standing = Standing::New;
        }
    }

    fn end_session(&mut self) {
        self.standing = Standing::New;
    }
}
