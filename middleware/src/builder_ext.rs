#[cfg(feature = "add-auth-results")]
use crate::add_auth_results::AddAuthResultsLayer;
#[cfg(feature = "catch-panic")]
use crate::catch_panic::CatchPanicLayer;
#[cfg(feature = "concurrency-limit")]
use crate::concurrency_limit::ConcurrencyLimitLayer;
#[cfg(feature = "dry-run")]
use crate::dry_run::DryRunLayer;
#[cfg(feature = "failure-policy")]
use crate::failure_policy::FailurePolicyLayer;
#[cfg(feature = "header-limit")]
use crate::header_limit::HeaderLimitLayer;
#[cfg(feature = "log")]
use crate::log::LogLayer;
#[cfg(feature = "metrics")]
use crate::metrics::MetricsLayer;
#[cfg(feature = "rate-limit")]
use crate::rate_limit::{RateLimitLayer, Store};
#[cfg(feature = "recipient-limit")]
use crate::recipient_limit::RecipientLimitLayer;
#[cfg(feature = "set-header")]
use crate::set_header::SetHeaderLayer;
#[cfg(feature = "size-limit")]
use crate::size_limit::SizeLimitLayer;
#[cfg(feature = "strip-auth-results")]
use crate::strip_auth_results::StripAuthResultsLayer;
#[cfg(feature = "timeout")]
use crate::timeout::TimeoutLayer;
#[cfg(feature = "trace")]
use crate::trace::TraceLayer;
#[cfg(feature = "when")]
use crate::when::WhenLayer;
use tower::ServiceBuilder;
#[allow(
    unused_imports,
    reason = "without any layer there is nothing to put on"
)]
use tower::layer::util::Stack;

/// The layers of this crate as methods of tower's [`ServiceBuilder`]. Where that has a method of the
/// same name, the one here begins with `milter_`.
///
/// Needs the feature `util`, and each method that of its layer.
#[cfg_attr(
    feature = "set-header",
    doc = r#"
```
use std::convert::Infallible;

use milter_middleware::ServiceBuilderExt;
use milter_middleware::set_header::SetHeaderLayer;
use milter_tower::{Request, Response};
use tower::{ServiceBuilder, service_fn};

let filter = ServiceBuilder::new()
    .set_header(SetHeaderLayer::overriding("X-Scanned-By", "mx1.example.org")?)
    .service(service_fn(async |_: Request| Ok::<_, Infallible>(Response::proceed())));
# let _ = filter;
# Ok::<(), milter_tower::BoxError>(())
```
"#
)]
pub trait ServiceBuilderExt<L>: sealed::Sealed<L> + Sized {
    /// Writes a line for each message, however it ended; see [`log`](crate::log).
    #[cfg(feature = "log")]
    #[cfg_attr(docsrs, doc(cfg(feature = "log")))]
    fn log<C>(self, layer: LogLayer<C>) -> ServiceBuilder<Stack<LogLayer<C>, L>>;

    /// Counts what the filter does; see [`metrics`](crate::metrics).
    #[cfg(feature = "metrics")]
    #[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
    fn metrics<C>(self, layer: MetricsLayer<C>) -> ServiceBuilder<Stack<MetricsLayer<C>, L>>;

    /// Puts what the filter does into spans; see [`trace`](crate::trace).
    #[cfg(feature = "trace")]
    #[cfg_attr(docsrs, doc(cfg(feature = "trace")))]
    #[allow(clippy::type_complexity, reason = "the layer has five hooks")]
    fn trace<M, Q, R, F, C>(
        self,
        layer: TraceLayer<M, Q, R, F, C>,
    ) -> ServiceBuilder<Stack<TraceLayer<M, Q, R, F, C>, L>>;

    /// Writes what the filters found out about a mail's origin into a header; see
    /// [`add_auth_results`](crate::add_auth_results).
    #[cfg(feature = "add-auth-results")]
    #[cfg_attr(docsrs, doc(cfg(feature = "add-auth-results")))]
    fn add_auth_results(
        self,
        layer: AddAuthResultsLayer,
    ) -> ServiceBuilder<Stack<AddAuthResultsLayer, L>>;

    /// Removes results of authentication that others wrote in our name; see
    /// [`strip_auth_results`](crate::strip_auth_results).
    #[cfg(feature = "strip-auth-results")]
    #[cfg_attr(docsrs, doc(cfg(feature = "strip-auth-results")))]
    fn strip_auth_results(
        self,
        layer: StripAuthResultsLayer,
    ) -> ServiceBuilder<Stack<StripAuthResultsLayer, L>>;

    /// Lets the filter run without effect; see [`dry_run`](crate::dry_run).
    #[cfg(feature = "dry-run")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dry-run")))]
    fn dry_run(self, layer: DryRunLayer) -> ServiceBuilder<Stack<DryRunLayer, L>>;

    /// Bounds how much comes in which time; see [`rate_limit`](crate::rate_limit).
    #[cfg(feature = "rate-limit")]
    #[cfg_attr(docsrs, doc(cfg(feature = "rate-limit")))]
    fn milter_rate_limit<T: Store>(
        self,
        layer: RateLimitLayer<T>,
    ) -> ServiceBuilder<Stack<RateLimitLayer<T>, L>>;

    /// Bounds how many connections or messages there are at once; see [`concurrency_limit`](crate::concurrency_limit).
    #[cfg(feature = "concurrency-limit")]
    #[cfg_attr(docsrs, doc(cfg(feature = "concurrency-limit")))]
    fn milter_concurrency_limit(
        self,
        layer: ConcurrencyLimitLayer,
    ) -> ServiceBuilder<Stack<ConcurrencyLimitLayer, L>>;

    /// Bounds the size of messages; see [`size_limit`](crate::size_limit).
    #[cfg(feature = "size-limit")]
    #[cfg_attr(docsrs, doc(cfg(feature = "size-limit")))]
    fn size_limit(self, layer: SizeLimitLayer) -> ServiceBuilder<Stack<SizeLimitLayer, L>>;

    /// Bounds how many recipients a message has; see [`recipient_limit`](crate::recipient_limit).
    #[cfg(feature = "recipient-limit")]
    #[cfg_attr(docsrs, doc(cfg(feature = "recipient-limit")))]
    fn recipient_limit(
        self,
        layer: RecipientLimitLayer,
    ) -> ServiceBuilder<Stack<RecipientLimitLayer, L>>;

    /// Bounds how many headers a message has; see [`header_limit`](crate::header_limit).
    #[cfg(feature = "header-limit")]
    #[cfg_attr(docsrs, doc(cfg(feature = "header-limit")))]
    fn header_limit(self, layer: HeaderLimitLayer) -> ServiceBuilder<Stack<HeaderLimitLayer, L>>;

    /// Says what becomes of mail when the filter fails; see [`failure_policy`](crate::failure_policy).
    #[cfg(feature = "failure-policy")]
    #[cfg_attr(docsrs, doc(cfg(feature = "failure-policy")))]
    fn failure_policy(
        self,
        layer: FailurePolicyLayer,
    ) -> ServiceBuilder<Stack<FailurePolicyLayer, L>>;

    /// Makes a verdict of a panic; see [`catch_panic`](crate::catch_panic).
    #[cfg(feature = "catch-panic")]
    #[cfg_attr(docsrs, doc(cfg(feature = "catch-panic")))]
    fn catch_panic(self, layer: CatchPanicLayer) -> ServiceBuilder<Stack<CatchPanicLayer, L>>;

    /// Bounds how long the filter may take; see [`timeout`](crate::timeout).
    #[cfg(feature = "timeout")]
    #[cfg_attr(docsrs, doc(cfg(feature = "timeout")))]
    fn milter_timeout(self, layer: TimeoutLayer) -> ServiceBuilder<Stack<TimeoutLayer, L>>;

    /// Applies another layer to some messages only; see [`when`](crate::when).
    #[cfg(feature = "when")]
    #[cfg_attr(docsrs, doc(cfg(feature = "when")))]
    fn when<T>(self, layer: WhenLayer<T>) -> ServiceBuilder<Stack<WhenLayer<T>, L>>;

    /// Sets or removes a header of every mail that the filter lets pass; see
    /// [`set_header`](crate::set_header).
    #[cfg(feature = "set-header")]
    #[cfg_attr(docsrs, doc(cfg(feature = "set-header")))]
    fn set_header(self, header: SetHeaderLayer) -> ServiceBuilder<Stack<SetHeaderLayer, L>>;
}

impl<L> ServiceBuilderExt<L> for ServiceBuilder<L> {
    #[cfg(feature = "log")]
    fn log<C>(self, layer: LogLayer<C>) -> ServiceBuilder<Stack<LogLayer<C>, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "metrics")]
    fn metrics<C>(self, layer: MetricsLayer<C>) -> ServiceBuilder<Stack<MetricsLayer<C>, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "trace")]
    fn trace<M, Q, R, F, C>(
        self,
        layer: TraceLayer<M, Q, R, F, C>,
    ) -> ServiceBuilder<Stack<TraceLayer<M, Q, R, F, C>, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "add-auth-results")]
    fn add_auth_results(
        self,
        layer: AddAuthResultsLayer,
    ) -> ServiceBuilder<Stack<AddAuthResultsLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "strip-auth-results")]
    fn strip_auth_results(
        self,
        layer: StripAuthResultsLayer,
    ) -> ServiceBuilder<Stack<StripAuthResultsLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "dry-run")]
    fn dry_run(self, layer: DryRunLayer) -> ServiceBuilder<Stack<DryRunLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "rate-limit")]
    fn milter_rate_limit<T: Store>(
        self,
        layer: RateLimitLayer<T>,
    ) -> ServiceBuilder<Stack<RateLimitLayer<T>, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "concurrency-limit")]
    fn milter_concurrency_limit(
        self,
        layer: ConcurrencyLimitLayer,
    ) -> ServiceBuilder<Stack<ConcurrencyLimitLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "size-limit")]
    fn size_limit(self, layer: SizeLimitLayer) -> ServiceBuilder<Stack<SizeLimitLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "recipient-limit")]
    fn recipient_limit(
        self,
        layer: RecipientLimitLayer,
    ) -> ServiceBuilder<Stack<RecipientLimitLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "header-limit")]
    fn header_limit(self, layer: HeaderLimitLayer) -> ServiceBuilder<Stack<HeaderLimitLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "failure-policy")]
    fn failure_policy(
        self,
        layer: FailurePolicyLayer,
    ) -> ServiceBuilder<Stack<FailurePolicyLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "catch-panic")]
    fn catch_panic(self, layer: CatchPanicLayer) -> ServiceBuilder<Stack<CatchPanicLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "timeout")]
    fn milter_timeout(self, layer: TimeoutLayer) -> ServiceBuilder<Stack<TimeoutLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "when")]
    fn when<T>(self, layer: WhenLayer<T>) -> ServiceBuilder<Stack<WhenLayer<T>, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "set-header")]
    fn set_header(self, header: SetHeaderLayer) -> ServiceBuilder<Stack<SetHeaderLayer, L>> {
        self.layer(header)
    }
}

mod sealed {
    #[allow(
        unreachable_pub,
        reason = "nobody else can name it: the trait is sealed"
    )]
    pub trait Sealed<L> {}

    impl<L> Sealed<L> for super::ServiceBuilder<L> {}
}
