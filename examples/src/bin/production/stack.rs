//! What is around the filter.

use std::fs;

use milter_middleware::add_auth_results::AddAuthResultsLayer;
use milter_middleware::catch_panic::CatchPanicLayer;
use milter_middleware::concurrency_limit::{self, ConcurrencyLimitLayer};
use milter_middleware::failure_policy::{FailurePolicyLayer, OnError};
use milter_middleware::header_limit::HeaderLimitLayer;
use milter_middleware::log::{Addresses, HashKey, LogLayer, WriteLine};
use milter_middleware::metrics::MetricsLayer;
use milter_middleware::rate_limit::{self, Key, Over, Quota, RateLimitLayer};
use milter_middleware::recipient_limit::RecipientLimitLayer;
use milter_middleware::set_header::SetHeaderLayer;
use milter_middleware::size_limit::SizeLimitLayer;
use milter_middleware::timeout::{TimedOut, TimeoutLayer};
use milter_middleware::trace::TraceLayer;
use milter_tower::{BoxError, Request, Response, SmtpReply, Stage, Verdict};
use tower::{Service, ServiceBuilder};

use crate::args::{Args, Limits, LogFormat, OnFailure, Shown, Told};

/// The filter with its layers, the outermost first. The lines of messages go to the sink.
pub(crate) fn stack<S, W>(
    args: &Args,
    hostname: &str,
    sink: W,
    filter: S,
) -> Result<
    impl Service<Request, Response = Response, Error = BoxError, Future: Send>
    + Clone
    + Send
    + use<S, W>,
    BoxError,
>
where
    S: Service<Request, Response = Response, Error = BoxError, Future: Send>,
    S: Clone + Send + 'static,
    W: WriteLine + 'static,
{
    let limits = &args.limits;
    Ok(ServiceBuilder::new()
        // What fails: these three answer in the place of all that is within, so they are outside.
        .layer(failure_policy(args.failing.on_failure))
        .layer(catch_panic(args.failing.on_failure))
        .layer(
            TimeoutLayer::new(args.failing.timeout)
                .at(Stage::EndOfMessage, args.failing.end_timeout),
        )
        // What is told: these see every failure within, and what the limits answer.
        .layer(TraceLayer::new())
        .layer(log(&args.told, sink)?)
        .layer(MetricsLayer::new().name("production"))
        // What is too much: the cheapest first, and before anything is done with a mail.
        .layer(ConcurrencyLimitLayer::per_client_ip(size(
            limits.max_sessions_per_client,
        )))
        .layer(
            ConcurrencyLimitLayer::new(size(limits.max_messages))
                .counts(concurrency_limit::Counts::Messages),
        )
        .option_layer(client_rate(limits))
        .option_layer(user_rate(limits))
        .layer(SizeLimitLayer::new(limits.max_size))
        .layer(RecipientLimitLayer::new(size(limits.max_recipients)))
        .layer(HeaderLimitLayer::new(size(limits.max_headers)).bytes(size(limits.max_header_bytes)))
        // What all mail gets.
        .layer(AddAuthResultsLayer::new(hostname)?.strip())
        .layer(SetHeaderLayer::overriding("X-Filtered-By", hostname)?)
        .service(filter))
}

fn failure_policy(on_failure: OnFailure) -> FailurePolicyLayer {
    let late = SmtpReply::tempfail("Checking takes too long, please come again");
    match on_failure {
        OnFailure::Tempfail => FailurePolicyLayer::fail_closed().on::<TimedOut>(late),
        OnFailure::Reject => FailurePolicyLayer::new(OnError::Reject),
        OnFailure::Accept => FailurePolicyLayer::fail_open(),
        OnFailure::Close => FailurePolicyLayer::close(),
    }
}

/// Panics are logged by the process's hook, which knows where they were.
fn catch_panic(on_failure: OnFailure) -> CatchPanicLayer {
    let verdict = match on_failure {
        // After a panic there is a verdict in any case.
        OnFailure::Tempfail | OnFailure::Close => Verdict::TempFail,
        OnFailure::Reject => Verdict::Reject,
        OnFailure::Accept => Verdict::Accept,
    };
    CatchPanicLayer::new().verdict(verdict).on_panic(|_| ())
}

/// A line for each message, and for each session without one.
fn log(args: &Told, sink: impl WriteLine + 'static) -> Result<LogLayer, BoxError> {
    let layer = LogLayer::new().connections(true).to(sink);
    let layer = layer.addresses(match args.log_addresses {
        Shown::Full => Addresses::Full,
        Shown::Domain => Addresses::Domain,
        Shown::Hash => Addresses::Hash(hash_key(args)?),
        Shown::Hidden => Addresses::Hidden,
    });
    Ok(match args.log_format {
        LogFormat::Json => layer.json(),
        LogFormat::Text => layer.logfmt(),
    })
}

fn hash_key(args: &Told) -> Result<HashKey, BoxError> {
    let path = args
        .log_key
        .as_ref()
        .ok_or("hashed addresses need --log-key")?;
    let key = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if key.len() < 16 {
        return Err(format!("{}: a key has 16 bytes at least", path.display()).into());
    }
    Ok(HashKey::new(key))
}

/// For clients that did not authenticate: users are limited as users.
fn client_rate(limits: &Limits) -> Option<RateLimitLayer> {
    let quota = Quota::per_minute(limits.client_rate.into());
    let others = RateLimitLayer::by(
        |session| match session.auth() {
            Some(_) => None,
            None => Some(Key::network(session.client_ip()?, 32, 64)),
        },
        quota,
    );
    let over = Over::temp_fail("Too many messages, please slow down");
    (limits.client_rate > 0).then(|| others.over(over))
}

/// A user whose password was stolen does not send to the whole world.
fn user_rate(limits: &Limits) -> Option<RateLimitLayer> {
    let users = RateLimitLayer::per_user(Quota::per_hour(limits.user_rate.into()))
        .counts(rate_limit::Counts::Recipients)
        .over(Over::temp_fail(
            "Too many recipients, please write to more of them later",
        ));
    (limits.user_rate > 0).then_some(users)
}

/// A number of the command line. Where it does not fit it is as good as no limit.
fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
