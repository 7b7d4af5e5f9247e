#[cfg(feature = "add-auth-results")]
use crate::add_auth_results::{AddAuthResults, AddAuthResultsLayer};
#[cfg(feature = "catch-panic")]
use crate::catch_panic::{CatchPanic, CatchPanicLayer};
#[cfg(feature = "concurrency-limit")]
use crate::concurrency_limit::{ConcurrencyLimit, ConcurrencyLimitLayer};
#[cfg(feature = "dry-run")]
use crate::dry_run::{DryRun, DryRunLayer};
#[cfg(feature = "failure-policy")]
use crate::failure_policy::{FailurePolicy, FailurePolicyLayer};
#[cfg(feature = "header-limit")]
use crate::header_limit::{HeaderLimit, HeaderLimitLayer};
#[cfg(feature = "log")]
use crate::log::{Log, LogLayer};
#[cfg(feature = "metrics")]
use crate::metrics::{Metrics, MetricsLayer};
#[cfg(feature = "rate-limit")]
use crate::rate_limit::{RateLimit, RateLimitLayer, Store};
#[cfg(feature = "recipient-limit")]
use crate::recipient_limit::{RecipientLimit, RecipientLimitLayer};
#[cfg(feature = "set-header")]
use crate::set_header::{SetHeader, SetHeaderLayer};
#[cfg(feature = "size-limit")]
use crate::size_limit::{SizeLimit, SizeLimitLayer};
#[cfg(feature = "strip-auth-results")]
use crate::strip_auth_results::{StripAuthResults, StripAuthResultsLayer};
#[cfg(feature = "timeout")]
use crate::timeout::{Timeout, TimeoutLayer};
#[cfg(feature = "trace")]
use crate::trace::{Trace, TraceLayer};
#[cfg(feature = "when")]
use crate::when::{When, WhenLayer};
use milter_tower::{Request, Response};
#[allow(
    unused_imports,
    reason = "without any layer there is nothing to put on"
)]
use tower_layer::Layer;
use tower_service::Service;

/// The layers of this crate as methods of services.
///
/// Needs the feature `util`, and each method that of its layer. The last one called is the
/// outermost.
#[cfg_attr(
    feature = "set-header",
    doc = r#"
```
use milter_middleware::ServiceExt;
use milter_middleware::set_header::SetHeaderLayer;
use milter_tower::Router;

let filter = Router::new().set_header(SetHeaderLayer::overriding("X-Scanned-By", "mx1")?);
# let _ = filter;
# Ok::<(), milter_tower::BoxError>(())
```
"#
)]
pub trait ServiceExt: sealed::Sealed + Sized {
    /// Writes a line for each message, however it ended; see [`log`](crate::log).
    #[cfg(feature = "log")]
    #[cfg_attr(docsrs, doc(cfg(feature = "log")))]
    fn log<C>(self, layer: LogLayer<C>) -> Log<Self, C>;

    /// Counts what this filter does; see [`metrics`](crate::metrics).
    #[cfg(feature = "metrics")]
    #[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
    fn metrics<C>(self, layer: MetricsLayer<C>) -> Metrics<Self, C>;

    /// Puts what this filter does into spans; see [`trace`](crate::trace).
    #[cfg(feature = "trace")]
    #[cfg_attr(docsrs, doc(cfg(feature = "trace")))]
    fn trace<M: Clone, Q: Clone, R: Clone, F: Clone, C: Clone>(
        self,
        layer: TraceLayer<M, Q, R, F, C>,
    ) -> Trace<Self, M, Q, R, F, C>;

    /// Writes what the filters found out about a mail's origin into a header; see
    /// [`add_auth_results`](crate::add_auth_results).
    #[cfg(feature = "add-auth-results")]
    #[cfg_attr(docsrs, doc(cfg(feature = "add-auth-results")))]
    fn add_auth_results(self, layer: AddAuthResultsLayer) -> AddAuthResults<Self>;

    /// Removes results of authentication that others wrote in our name; see
    /// [`strip_auth_results`](crate::strip_auth_results).
    #[cfg(feature = "strip-auth-results")]
    #[cfg_attr(docsrs, doc(cfg(feature = "strip-auth-results")))]
    fn strip_auth_results(self, layer: StripAuthResultsLayer) -> StripAuthResults<Self>;

    /// Lets the filter run without effect; see [`dry_run`](crate::dry_run).
    #[cfg(feature = "dry-run")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dry-run")))]
    fn dry_run(self, layer: DryRunLayer) -> DryRun<Self>;

    /// Bounds how much comes in which time; see [`rate_limit`](crate::rate_limit).
    #[cfg(feature = "rate-limit")]
    #[cfg_attr(docsrs, doc(cfg(feature = "rate-limit")))]
    fn milter_rate_limit<T: Store>(self, layer: RateLimitLayer<T>) -> RateLimit<Self, T>;

    /// Bounds how many connections or messages there are at once; see [`concurrency_limit`](crate::concurrency_limit).
    #[cfg(feature = "concurrency-limit")]
    #[cfg_attr(docsrs, doc(cfg(feature = "concurrency-limit")))]
    fn milter_concurrency_limit(self, layer: ConcurrencyLimitLayer) -> ConcurrencyLimit<Self>;

    /// Bounds the size of messages; see [`size_limit`](crate::size_limit).
    #[cfg(feature = "size-limit")]
    #[cfg_attr(docsrs, doc(cfg(feature = "size-limit")))]
    fn size_limit(self, layer: SizeLimitLayer) -> SizeLimit<Self>;

    /// Bounds how many recipients a message has; see [`recipient_limit`](crate::recipient_limit).
    #[cfg(feature = "recipient-limit")]
    #[cfg_attr(docsrs, doc(cfg(feature = "recipient-limit")))]
    fn recipient_limit(self, layer: RecipientLimitLayer) -> RecipientLimit<Self>;

    /// Bounds how many headers a message has; see [`header_limit`](crate::header_limit).
    #[cfg(feature = "header-limit")]
    #[cfg_attr(docsrs, doc(cfg(feature = "header-limit")))]
    fn header_limit(self, layer: HeaderLimitLayer) -> HeaderLimit<Self>;

    /// Says what becomes of mail when the filter fails; see [`failure_policy`](crate::failure_policy).
    #[cfg(feature = "failure-policy")]
    #[cfg_attr(docsrs, doc(cfg(feature = "failure-policy")))]
    fn failure_policy(self, layer: FailurePolicyLayer) -> FailurePolicy<Self>;

    /// Makes a verdict of a panic; see [`catch_panic`](crate::catch_panic).
    #[cfg(feature = "catch-panic")]
    #[cfg_attr(docsrs, doc(cfg(feature = "catch-panic")))]
    fn catch_panic(self, layer: CatchPanicLayer) -> CatchPanic<Self>;

    /// Bounds how long the filter may take; see [`timeout`](crate::timeout).
    #[cfg(feature = "timeout")]
    #[cfg_attr(docsrs, doc(cfg(feature = "timeout")))]
    fn milter_timeout(self, layer: TimeoutLayer) -> Timeout<Self>;

    /// Applies another layer to some messages only; see [`when`](crate::when).
    #[cfg(feature = "when")]
    #[cfg_attr(docsrs, doc(cfg(feature = "when")))]
    fn when<L>(self, layer: WhenLayer<L>) -> When
    where
        WhenLayer<L>: Layer<Self, Service = When>;

    /// Sets or removes a header of every mail that this filter lets pass; see
    /// [`set_header`](crate::set_header).
    #[cfg(feature = "set-header")]
    #[cfg_attr(docsrs, doc(cfg(feature = "set-header")))]
    fn set_header(self, header: SetHeaderLayer) -> SetHeader<Self>;
}

impl<S> ServiceExt for S
where
    S: Service<Request, Response = Response>,
{
    #[cfg(feature = "log")]
    fn log<C>(self, layer: LogLayer<C>) -> Log<Self, C> {
        layer.layer(self)
    }

    #[cfg(feature = "metrics")]
    fn metrics<C>(self, layer: MetricsLayer<C>) -> Metrics<Self, C> {
        layer.layer(self)
    }

    #[cfg(feature = "trace")]
    fn trace<M: Clone, Q: Clone, R: Clone, F: Clone, C: Clone>(
        self,
        layer: TraceLayer<M, Q, R, F, C>,
    ) -> Trace<Self, M, Q, R, F, C> {
        layer.layer(self)
    }

    #[cfg(feature = "add-auth-results")]
    fn add_auth_results(self, layer: AddAuthResultsLayer) -> AddAuthResults<Self> {
        layer.layer(self)
    }

    #[cfg(feature = "strip-auth-results")]
    fn strip_auth_results(self, layer: StripAuthResultsLayer) -> StripAuthResults<Self> {
        layer.layer(self)
    }

    #[cfg(feature = "dry-run")]
    fn dry_run(self, layer: DryRunLayer) -> DryRun<Self> {
        layer.layer(self)
    }

    #[cfg(feature = "rate-limit")]
    fn milter_rate_limit<T: Store>(self, layer: RateLimitLayer<T>) -> RateLimit<Self, T> {
        layer.layer(self)
    }

    #[cfg(feature = "concurrency-limit")]
    fn milter_concurrency_limit(self, layer: ConcurrencyLimitLayer) -> ConcurrencyLimit<Self> {
        layer.layer(self)
    }

    #[cfg(feature = "size-limit")]
    fn size_limit(self, layer: SizeLimitLayer) -> SizeLimit<Self> {
        layer.layer(self)
    }

    #[cfg(feature = "recipient-limit")]
    fn recipient_limit(self, layer: RecipientLimitLayer) -> RecipientLimit<Self> {
        layer.layer(self)
    }

    #[cfg(feature = "header-limit")]
    fn header_limit(self, layer: HeaderLimitLayer) -> HeaderLimit<Self> {
        layer.layer(self)
    }

    #[cfg(feature = "failure-policy")]
    fn failure_policy(self, layer: FailurePolicyLayer) -> FailurePolicy<Self> {
        layer.layer(self)
    }

    #[cfg(feature = "catch-panic")]
    fn catch_panic(self, layer: CatchPanicLayer) -> CatchPanic<Self> {
        layer.layer(self)
    }

    #[cfg(feature = "timeout")]
    fn milter_timeout(self, layer: TimeoutLayer) -> Timeout<Self> {
        layer.layer(self)
    }

    #[cfg(feature = "when")]
    fn when<L>(self, layer: WhenLayer<L>) -> When
    where
        WhenLayer<L>: Layer<Self, Service = When>,
    {
        layer.layer(self)
    }

    #[cfg(feature = "set-header")]
    fn set_header(self, header: SetHeaderLayer) -> SetHeader<Self> {
        header.layer(self)
    }
}

mod sealed {
    #[allow(
        unreachable_pub,
        reason = "nobody else can name it: the trait is sealed"
    )]
    pub trait Sealed {}

    impl<S> Sealed for S where S: super::Service<super::Request, Response = super::Response> {}
}
