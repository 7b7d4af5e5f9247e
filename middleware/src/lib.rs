//! Reusable layers for milter filters: what tower-http is to HTTP services.
//!
//! Each layer stands behind a feature of its own; `full` turns all of them on.
//!
//! | layer | feature | what it does |
//! | --- | --- | --- |
#![cfg_attr(
    feature = "add-auth-results",
    doc = "| [`add_auth_results`] | `add-auth-results` | writes what filters found out about a mail's origin into a header |"
)]
#![cfg_attr(
    feature = "catch-panic",
    doc = "| [`catch_panic`] | `catch-panic` | makes a verdict of a panic; the next message gets a fresh filter |"
)]
#![cfg_attr(
    feature = "concurrency-limit",
    doc = "| [`concurrency_limit`] | `concurrency-limit` | bounds how many connections or messages there are at once |"
)]
#![cfg_attr(
    feature = "dry-run",
    doc = "| [`dry_run`] | `dry-run` | lets a filter run without effect, for all or a part of the messages |"
)]
#![cfg_attr(
    feature = "failure-policy",
    doc = "| [`failure_policy`] | `failure-policy` | says what becomes of mail when the filter fails |"
)]
#![cfg_attr(
    feature = "header-limit",
    doc = "| [`header_limit`] | `header-limit` | bounds how many headers a message has, and how large they are |"
)]
#![cfg_attr(
    feature = "log",
    doc = "| [`log`] | `log` | writes a line for each message, however it ended |"
)]
#![cfg_attr(
    feature = "metrics",
    doc = "| [`metrics`] | `metrics` | counts what the filter does, for Prometheus and the like |"
)]
#![cfg_attr(
    feature = "rate-limit",
    doc = "| [`rate_limit`] | `rate-limit` | bounds how many connections, messages, recipients or bytes come in which time |"
)]
#![cfg_attr(
    feature = "recipient-limit",
    doc = "| [`recipient_limit`] | `recipient-limit` | bounds how many recipients a message has |"
)]
#![cfg_attr(
    feature = "set-header",
    doc = "| [`set_header`] | `set-header` | sets or removes a header of every mail that the filter lets pass |"
)]
#![cfg_attr(
    feature = "size-limit",
    doc = "| [`size_limit`] | `size-limit` | bounds the size of messages, by what is announced and by what comes |"
)]
#![cfg_attr(
    feature = "strip-auth-results",
    doc = "| [`strip_auth_results`] | `strip-auth-results` | removes results of authentication that others wrote in our name |"
)]
#![cfg_attr(
    feature = "timeout",
    doc = "| [`timeout`] | `timeout` | bounds how long the filter may take, for an event, a stage and a message |"
)]
#![cfg_attr(
    feature = "trace",
    doc = "| [`trace`] | `trace` | puts what the filter does into `tracing` spans |"
)]
#![cfg_attr(
    feature = "when",
    doc = "| [`when`] | `when` | applies another layer to some messages only |"
)]
//!
//! A layer adds what it needs to the negotiation by itself, on the way back from the filter to
//! the MTA. What it answers in the place of the filter is what the MTA takes there, by
//! [`milter_tower::gate`].
#![cfg_attr(
    feature = "util",
    doc = "\nWith the feature `util` all of them are methods of [`ServiceBuilderExt`] and [`ServiceExt`]."
)]
//!
//! # A stack for production
//!
//! The outermost first: what answers for all that is within, what tells, what is too much, what all mail
//! gets, the filter. Why in this order, when to use which and what each costs says
//! [the guide](milter_tower::guide::layers).
#![cfg_attr(
    all(
        feature = "catch-panic",
        feature = "concurrency-limit",
        feature = "failure-policy",
        feature = "header-limit",
        feature = "log",
        feature = "metrics",
        feature = "rate-limit",
        feature = "recipient-limit",
        feature = "set-header",
        feature = "size-limit",
        feature = "strip-auth-results",
        feature = "timeout",
        feature = "trace",
        feature = "util"
    ),
    doc = r#"
```
use std::time::Duration;

use milter_middleware::ServiceBuilderExt;
use milter_middleware::catch_panic::CatchPanicLayer;
use milter_middleware::concurrency_limit::ConcurrencyLimitLayer;
use milter_middleware::failure_policy::FailurePolicyLayer;
use milter_middleware::header_limit::HeaderLimitLayer;
use milter_middleware::log::{Addresses, LogLayer};
use milter_middleware::metrics::MetricsLayer;
use milter_middleware::rate_limit::{Counts, Quota, RateLimitLayer};
use milter_middleware::recipient_limit::RecipientLimitLayer;
use milter_middleware::set_header::SetHeaderLayer;
use milter_middleware::size_limit::SizeLimitLayer;
use milter_middleware::strip_auth_results::StripAuthResultsLayer;
use milter_middleware::timeout::{TimedOut, TimeoutLayer};
use milter_middleware::trace::TraceLayer;
use milter_tower::{Recipient, Router, SmtpReply, Stage};
use tower::ServiceBuilder;

let filter = Router::new().on_rcpt(async |to: Recipient| {
    (!to.is_at("example.org")).then(|| SmtpReply::reject("We do not relay"))
});
let late = SmtpReply::tempfail("Checking takes too long, please come again");
let filter = ServiceBuilder::new()
    // What answers for all that is within.
    .failure_policy(FailurePolicyLayer::fail_closed().on::<TimedOut>(late))
    .catch_panic(CatchPanicLayer::new())
    .milter_timeout(
        TimeoutLayer::new(Duration::from_secs(10))
            .at(Stage::EndOfMessage, Duration::from_secs(60)),
    )
    // What tells.
    .trace(TraceLayer::new())
    .log(LogLayer::new().json().addresses(Addresses::Domain))
    .metrics(MetricsLayer::new().name("policy"))
    // What is too much.
    .layer(ConcurrencyLimitLayer::per_client_ip(20))
    .layer(RateLimitLayer::per_client_ip(Quota::per_minute(300)).counts(Counts::Messages))
    .size_limit(SizeLimitLayer::new(50 * 1024 * 1024))
    .recipient_limit(RecipientLimitLayer::new(500))
    .header_limit(HeaderLimitLayer::new(1000))
    // What all mail gets.
    .strip_auth_results(StripAuthResultsLayer::new("mx.example.org"))
    .set_header(SetHeaderLayer::overriding("X-Filtered-By", "mx.example.org")?)
    .service(filter);
# use milter_tower::testing::{Mail, MockMta};
# let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
# runtime.block_on(async {
#     let mail = Mail::new().to("bob@example.org").to("eve@example.net");
#     let done = MockMta::postfix(filter).deliver(mail).await;
#     milter_tower::assert_recipients!(done, ["bob@example.org"]);
#     milter_tower::assert_header!(done, "X-Filtered-By", "mx.example.org");
# });
# Ok::<(), milter_tower::BoxError>(())
```
"#
)]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[macro_use]
mod macros;

#[cfg(any(
    feature = "add-auth-results",
    feature = "concurrency-limit",
    feature = "dry-run",
    feature = "header-limit",
    feature = "recipient-limit",
    feature = "set-header",
    feature = "size-limit",
    feature = "strip-auth-results"
))]
mod asked;

#[cfg(any(
    feature = "concurrency-limit",
    feature = "header-limit",
    feature = "recipient-limit",
    feature = "size-limit"
))]
mod judged;
#[cfg(any(feature = "concurrency-limit", feature = "rate-limit"))]
mod key;
#[cfg(any(
    feature = "concurrency-limit",
    feature = "header-limit",
    feature = "rate-limit",
    feature = "recipient-limit",
    feature = "size-limit"
))]
mod reply;

#[cfg(any(
    feature = "add-auth-results",
    feature = "set-header",
    feature = "strip-auth-results"
))]
mod outgoing;

#[cfg(feature = "add-auth-results")]
#[cfg_attr(docsrs, doc(cfg(feature = "add-auth-results")))]
pub mod add_auth_results;

#[cfg(feature = "catch-panic")]
#[cfg_attr(docsrs, doc(cfg(feature = "catch-panic")))]
pub mod catch_panic;

#[cfg(any(feature = "log", feature = "metrics", feature = "trace"))]
#[cfg_attr(
    docsrs,
    doc(cfg(any(feature = "log", feature = "metrics", feature = "trace")))
)]
pub mod classify;

#[cfg(feature = "concurrency-limit")]
#[cfg_attr(docsrs, doc(cfg(feature = "concurrency-limit")))]
pub mod concurrency_limit;

#[cfg(feature = "dry-run")]
#[cfg_attr(docsrs, doc(cfg(feature = "dry-run")))]
pub mod dry_run;

#[cfg(feature = "failure-policy")]
#[cfg_attr(docsrs, doc(cfg(feature = "failure-policy")))]
pub mod failure_policy;

#[cfg(feature = "header-limit")]
#[cfg_attr(docsrs, doc(cfg(feature = "header-limit")))]
pub mod header_limit;

#[cfg(feature = "log")]
#[cfg_attr(docsrs, doc(cfg(feature = "log")))]
pub mod log;

#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub mod metrics;

#[cfg(feature = "rate-limit")]
#[cfg_attr(docsrs, doc(cfg(feature = "rate-limit")))]
pub mod rate_limit;

#[cfg(feature = "recipient-limit")]
#[cfg_attr(docsrs, doc(cfg(feature = "recipient-limit")))]
pub mod recipient_limit;

#[cfg(feature = "set-header")]
#[cfg_attr(docsrs, doc(cfg(feature = "set-header")))]
pub mod set_header;

#[cfg(feature = "size-limit")]
#[cfg_attr(docsrs, doc(cfg(feature = "size-limit")))]
pub mod size_limit;

#[cfg(feature = "strip-auth-results")]
#[cfg_attr(docsrs, doc(cfg(feature = "strip-auth-results")))]
pub mod strip_auth_results;

#[cfg(feature = "timeout")]
#[cfg_attr(docsrs, doc(cfg(feature = "timeout")))]
pub mod timeout;

#[cfg(feature = "trace")]
#[cfg_attr(docsrs, doc(cfg(feature = "trace")))]
pub mod trace;

#[cfg(feature = "when")]
#[cfg_attr(docsrs, doc(cfg(feature = "when")))]
pub mod when;

#[cfg(feature = "util")]
mod builder_ext;
#[cfg(feature = "util")]
mod service_ext;

#[cfg(feature = "util")]
#[cfg_attr(docsrs, doc(cfg(feature = "util")))]
pub use self::{builder_ext::ServiceBuilderExt, service_ext::ServiceExt};
