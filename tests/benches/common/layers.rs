//! Filters with a layer.

use std::convert::Infallible;
use std::future::Ready;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::Either;
use milter_middleware::add_auth_results::AddAuthResultsLayer;
use milter_middleware::catch_panic::CatchPanicLayer;
use milter_middleware::concurrency_limit::{self, ConcurrencyLimitLayer};
use milter_middleware::dry_run::DryRunLayer;
use milter_middleware::failure_policy::FailurePolicyLayer;
use milter_middleware::header_limit::HeaderLimitLayer;
use milter_middleware::log::LogLayer;
use milter_middleware::metrics::MetricsLayer;
use milter_middleware::rate_limit::{Counts, Quota, RateLimitLayer};
use milter_middleware::recipient_limit::RecipientLimitLayer;
use milter_middleware::set_header::SetHeaderLayer;
use milter_middleware::size_limit::SizeLimitLayer;
use milter_middleware::strip_auth_results::StripAuthResultsLayer;
use milter_middleware::timeout::TimeoutLayer;
use milter_middleware::trace::TraceLayer;
use milter_middleware::when::WhenLayer;
use milter_tests::session::Session;
use milter_tower::gate::{Entry, Gate};
use milter_tower::{Condition, Request, Response, serve_connection};
use tower::{Layer, Service, ServiceBuilder, service_fn};

use crate::common::{Mode, Mta, answer};

/// The layers whose cost is measured, around a filter that answers every event; the first is that
/// filter alone.
pub(crate) const LAYERS: [&str; 21] = [
    "none",
    "timeout",
    "timeout, of the MTA",
    "timeout, messages",
    "catch_panic",
    "failure_policy",
    "trace",
    "log",
    "metrics",
    "rate_limit",
    "concurrency_limit",
    "size_limit",
    "recipient_limit",
    "header_limit",
    "set_header",
    "strip_auth_results",
    "add_auth_results",
    "dry_run",
    "when",
    "gate",
    "all that fails and tells",
];

/// The session in which layers are measured.
pub(crate) fn layer_session() -> Session {
    crate::common::session(("", Mode::Noop, 4096))
}

/// Serves one connection with so many messages by a filter with a layer.
#[allow(clippy::too_many_lines, reason = "there are so many layers")]
pub(crate) async fn serve_layer(layer: &str, session: &'static Session, messages: u64) {
    let mta = Mta::new(session, messages);
    let filter = service_fn(|request: Request| {
        let response = answer(Mode::Noop, &request);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let hour = Duration::from_secs(3600);
    let result = match layer {
        "none" => serve_connection(mta, filter).await,
        "timeout" => {
            let layer = TimeoutLayer::new(Duration::from_secs(10));
            serve_connection(mta, layer.layer(filter)).await
        }
        "timeout, of the MTA" => serve_connection(mta, TimeoutLayer::new(hour).layer(filter)).await,
        "timeout, messages" => {
            let layer = TimeoutLayer::new(hour).per_message(hour);
            serve_connection(mta, layer.layer(filter)).await
        }
        "catch_panic" => serve_connection(mta, CatchPanicLayer::new().layer(filter)).await,
        "failure_policy" => {
            serve_connection(mta, FailurePolicyLayer::fail_closed().layer(filter)).await
        }
        "trace" => serve_connection(mta, TraceLayer::new().layer(filter)).await,
        "log" => serve_connection(mta, LogLayer::new().to(|_: &str| ()).layer(filter)).await,
        "metrics" => serve_connection(mta, MetricsLayer::new().layer(filter)).await,
        "rate_limit" => {
            let quota = Quota::per_second(1_000_000_000);
            let layer = RateLimitLayer::per_client_ip(quota).counts(Counts::Messages);
            serve_connection(mta, layer.layer(filter)).await
        }
        "concurrency_limit" => {
            let layer = ConcurrencyLimitLayer::new(10);
            let layer = layer.counts(concurrency_limit::Counts::Messages);
            serve_connection(mta, layer.layer(filter)).await
        }
        "size_limit" => serve_connection(mta, SizeLimitLayer::new(1 << 30).layer(filter)).await,
        "recipient_limit" => {
            serve_connection(mta, RecipientLimitLayer::new(1000).layer(filter)).await
        }
        "header_limit" => serve_connection(mta, HeaderLimitLayer::new(1000).layer(filter)).await,
        "set_header" => {
            let layer = SetHeaderLayer::overriding("X-Layer", "seen").expect("a header");
            serve_connection(mta, layer.layer(filter)).await
        }
        "strip_auth_results" => {
            let layer = StripAuthResultsLayer::new("mx.example.org");
            serve_connection(mta, layer.layer(filter)).await
        }
        "add_auth_results" => {
            let layer = AddAuthResultsLayer::new("mx.example.org").expect("an id");
            serve_connection(mta, layer.layer(filter)).await
        }
        "dry_run" => {
            // For real, since the mail server in small is to hear an accept.
            let layer = DryRunLayer::new().share(0.0);
            serve_connection(mta, layer.layer(filter)).await
        }
        "when" => {
            let layer = WhenLayer::new(Condition::sender(|_| true), TimeoutLayer::new(hour));
            serve_connection(mta, layer.layer(filter)).await
        }
        "gate" => serve_connection(mta, Gated(filter, Gate::new())).await,
        _ => {
            let filter = ServiceBuilder::new()
                .layer(FailurePolicyLayer::fail_closed())
                .layer(CatchPanicLayer::new())
                .layer(TimeoutLayer::new(Duration::from_secs(10)))
                .layer(TraceLayer::new())
                .layer(LogLayer::new().to(|_: &str| ()))
                .layer(MetricsLayer::new())
                .service(filter);
            serve_connection(mta, filter).await
        }
    };
    result.expect("the session goes well");
}

/// A gate, and nothing else.
#[derive(Clone)]
struct Gated<S>(S, Gate);

impl<S> Service<Request> for Gated<S>
where
    S: Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.1.enter(request) {
            Entry::Ask(turn, request) => Either::Left(turn.call(&mut self.0, request)),
            Entry::Alone(..) => Either::Right(std::future::ready(Ok(Response::proceed()))),
            Entry::Answer(response) => Either::Right(std::future::ready(Ok(response))),
        }
    }
}
