//! Each layer, in configurations that do nothing to the mails of this test and in some that do.

use std::time::Duration;

use milter_middleware::add_auth_results::AddAuthResultsLayer;
use milter_middleware::catch_panic::CatchPanicLayer;
use milter_middleware::concurrency_limit::{self, ConcurrencyLimitLayer};
use milter_middleware::dry_run::DryRunLayer;
use milter_middleware::failure_policy::FailurePolicyLayer;
use milter_middleware::header_limit::HeaderLimitLayer;
use milter_middleware::log::LogLayer;
use milter_middleware::metrics::MetricsLayer;
use milter_middleware::rate_limit::{Counts, Over, Quota, RateLimitLayer};
use milter_middleware::recipient_limit::RecipientLimitLayer;
use milter_middleware::set_header::SetHeaderLayer;
use milter_middleware::size_limit::SizeLimitLayer;
use milter_middleware::strip_auth_results::StripAuthResultsLayer;
use milter_middleware::timeout::TimeoutLayer;
use milter_middleware::trace::TraceLayer;
use milter_middleware::when::WhenLayer;
use milter_tower::{Condition, SmtpReply};
use tower::Layer;

use crate::client::Filter;

/// What a layer does to the mails of this test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// The same comes of it by other modifications.
    Replans,
    /// This header is added to what passes.
    Adds(&'static str),
    /// Messages are refused so, unless the filter does before.
    Refuses(&'static str),
    /// Recipients from the second on are refused so, unless the filter does before.
    RefusesSecond(&'static str),
    /// The filter has none.
    Silences,
    /// What fails so is a verdict, and nothing else changes.
    Heals(Failing),
    /// Errors pass as if there were no filter.
    Opens,
    /// The layer's own tests say what.
    Some,
}

/// How a filter fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failing {
    Errors,
    Hangs,
    Panics,
}

/// A layer.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) effect: Effect,
    pub(crate) wrap: fn(Filter) -> Filter,
}

impl Case {
    /// Whether it changes nothing but what goes wrong.
    pub(crate) const fn is_neutral(&self) -> bool {
        use Effect::{Adds, Heals, None, Replans};
        matches!(self.effect, None | Replans | Adds(_) | Heals(_))
    }
}

const HOUR: Duration = Duration::from_secs(3600);

fn put<L>(layer: L, filter: Filter) -> Filter
where
    L: Layer<Filter>,
    L::Service: tower::Service<
            milter_tower::Request,
            Response = milter_tower::Response,
            Error: Into<milter_tower::BoxError>,
            Future: Send,
        > + Clone
        + Send
        + 'static,
{
    use tower::ServiceExt;
    Filter::new(layer.layer(filter).map_err(Into::into))
}

fn words(text: &str) -> SmtpReply {
    SmtpReply::tempfail(text)
}

const fn case(name: &'static str, effect: Effect, wrap: fn(Filter) -> Filter) -> Case {
    Case { name, effect, wrap }
}

/// All of them, those that are neutral first.
pub(crate) const CASES: &[Case] = &[
    case("timeout, long", Effect::None, |filter| {
        put(TimeoutLayer::new(HOUR).per_message(HOUR), filter)
    }),
    case("catch_panic", Effect::Heals(Failing::Panics), |filter| {
        put(CatchPanicLayer::new(), filter)
    }),
    case(
        "failure_policy, closed",
        Effect::Heals(Failing::Errors),
        |filter| put(FailurePolicyLayer::fail_closed(), filter),
    ),
    case("dry_run of nothing", Effect::None, |filter| {
        put(DryRunLayer::new().share(0.0), filter)
    }),
    case("size_limit, large", Effect::None, |filter| {
        put(SizeLimitLayer::new(1 << 30), filter)
    }),
    case("recipient_limit, large", Effect::None, |filter| {
        put(RecipientLimitLayer::new(1000), filter)
    }),
    case("header_limit, large", Effect::None, |filter| {
        put(HeaderLimitLayer::new(1000), filter)
    }),
    case(
        "set_header, none of the name",
        Effect::Adds("X-Layer"),
        |filter| {
            let layer = SetHeaderLayer::overriding("X-Layer", "seen").unwrap();
            put(layer, filter)
        },
    ),
    case("set_header, on top", Effect::Adds("X-Layer"), |filter| {
        let layer = SetHeaderLayer::prepending("X-Layer", "seen").unwrap();
        put(layer, filter)
    }),
    case(
        "set_header, removing what is not there",
        Effect::None,
        |filter| put(SetHeaderLayer::removing("X-Layer").unwrap(), filter),
    ),
    case("strip_auth_results, none there", Effect::None, |filter| {
        put(StripAuthResultsLayer::new("mx.example.net"), filter)
    }),
    case("add_auth_results, none found", Effect::None, |filter| {
        put(
            AddAuthResultsLayer::new("mx.example.net").unwrap().strip(),
            filter,
        )
    }),
    case("trace", Effect::None, |filter| {
        put(TraceLayer::new(), filter)
    }),
    case("log", Effect::None, |filter| {
        put(LogLayer::new().to(|_: &str| ()), filter)
    }),
    case("metrics", Effect::None, |filter| {
        put(MetricsLayer::new(), filter)
    }),
    case("rate_limit of connections, high", Effect::None, |filter| {
        let layer = RateLimitLayer::per_client_ip(Quota::per_second(1000));
        put(layer.counts(Counts::Connections), filter)
    }),
    case("rate_limit of messages, high", Effect::None, |filter| {
        let layer = RateLimitLayer::per_sender(Quota::per_second(1000));
        put(layer.counts(Counts::Messages), filter)
    }),
    case("rate_limit of recipients, high", Effect::None, |filter| {
        let layer = RateLimitLayer::per_recipient(Quota::per_second(1000));
        put(layer.counts(Counts::Recipients), filter)
    }),
    case("rate_limit of bytes, high", Effect::None, |filter| {
        let layer = RateLimitLayer::per_client_ip(Quota::per_second(1 << 30));
        put(layer.counts(Counts::Bytes), filter)
    }),
    case(
        "concurrency_limit of connections, high",
        Effect::None,
        |filter| put(ConcurrencyLimitLayer::new(10), filter),
    ),
    case(
        "concurrency_limit of messages, of one",
        Effect::None,
        |filter| {
            let layer = ConcurrencyLimitLayer::new(1).counts(concurrency_limit::Counts::Messages);
            put(layer, filter)
        },
    ),
    case("when it holds", Effect::Replans, |filter| {
        let layer = TimeoutLayer::new(HOUR);
        put(WhenLayer::new(Condition::sender(|_| true), layer), filter)
    }),
    case("when it does not hold", Effect::Replans, |filter| {
        let layer = SizeLimitLayer::new(1);
        put(WhenLayer::new(Condition::sender(|_| false), layer), filter)
    }),
    // Those that do something.
    case("timeout, short", Effect::Heals(Failing::Hangs), |filter| {
        put(
            TimeoutLayer::new(Duration::from_secs(10)).verdict(words("too slow")),
            filter,
        )
    }),
    case(
        "catch_panic, in words",
        Effect::Heals(Failing::Panics),
        |filter| put(CatchPanicLayer::new().verdict(words("it broke")), filter),
    ),
    case("failure_policy, open", Effect::Opens, |filter| {
        put(FailurePolicyLayer::fail_open(), filter)
    }),
    case("failure_policy, close", Effect::Some, |filter| {
        put(FailurePolicyLayer::close(), filter)
    }),
    case(
        "add_auth_results, or none",
        Effect::Adds("Authentication-Results"),
        |filter| {
            let layer = AddAuthResultsLayer::new("mx.example.net").unwrap();
            put(layer.or_none(), filter)
        },
    ),
    case("rate_limit of messages, none", Effect::Some, |filter| {
        let layer = RateLimitLayer::per_sender(Quota::per_hour(1));
        put(layer.counts(Counts::Messages), filter)
    }),
    case("rate_limit of recipients, one", Effect::Some, |filter| {
        let layer = RateLimitLayer::per_client_ip(Quota::per_hour(1));
        put(layer.counts(Counts::Recipients), filter)
    }),
    case("rate_limit of connections, one", Effect::Some, |filter| {
        let layer = RateLimitLayer::per_client_ip(Quota::per_hour(1));
        put(layer.counts(Counts::Connections), filter)
    }),
    case("rate_limit of bytes, few", Effect::Some, |filter| {
        let layer = RateLimitLayer::per_client_ip(Quota::per_hour(1000));
        put(layer.counts(Counts::Bytes), filter)
    }),
    case("rate_limit of messages, logged", Effect::None, |filter| {
        let layer = RateLimitLayer::per_sender(Quota::per_hour(1)).over(Over::log());
        put(layer.counts(Counts::Messages), filter)
    }),
    case(
        "rate_limit of recipients, delayed",
        Effect::None,
        |filter| {
            let layer = RateLimitLayer::per_client_ip(Quota::per_second(1));
            let layer = layer.over(Over::delay(Duration::from_secs(100)));
            put(layer.counts(Counts::Recipients), filter)
        },
    ),
    case("concurrency_limit of none", Effect::Some, |filter| {
        put(ConcurrencyLimitLayer::new(0), filter)
    }),
    case("concurrency_limit of no messages", Effect::Some, |filter| {
        let layer = ConcurrencyLimitLayer::new(0).counts(concurrency_limit::Counts::Messages);
        put(layer, filter)
    }),
    case("dry_run", Effect::Silences, |filter| {
        put(DryRunLayer::new(), filter)
    }),
    case(
        "size_limit, small",
        Effect::Refuses("552 5.3.4"),
        |filter| put(SizeLimitLayer::new(100), filter),
    ),
    case(
        "recipient_limit, one",
        Effect::RefusesSecond("452 4.5.3"),
        |filter| put(RecipientLimitLayer::new(1), filter),
    ),
    case(
        "header_limit, one",
        Effect::Refuses("552 5.3.4"),
        |filter| put(HeaderLimitLayer::new(1), filter),
    ),
];
