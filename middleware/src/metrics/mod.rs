//! A layer that counts what a filter does, for Prometheus and the like.
//!
//! Needs the feature `metrics`. What is counted goes to the recorder of the crate
//! [`metrics`](https://docs.rs/metrics) that the program has installed, such as
//! `metrics-exporter-prometheus`; without one nothing is kept.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use milter_middleware::metrics::MetricsLayer;
//! use milter_tower::testing::{Mail, MockMta};
//! use milter_tower::{Recipient, Router, SmtpReply};
//! use tower::Layer;
//!
//! # let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
//! # let handle = recorder.handle();
//! # let _guard = metrics::set_default_local_recorder(&recorder);
//! let filter = Router::new().on_rcpt(async |to: Recipient| {
//!     to.is("bob@example.org").then(|| SmtpReply::reject("Bob has left"))
//! });
//! let filter = MetricsLayer::new().name("recipients").layer(filter);
//! MockMta::postfix(filter).deliver(Mail::new().to("bob@example.org")).await;
//! # let shown = handle.render();
//! # let line = r#"milter_verdicts_total{filter="recipients",stage="rcpt",verdict="reject"} 1"#;
//! # assert!(shown.contains(line), "{shown}");
//! # }
//! ```
//!
//! That shows, among other lines:
//!
//! ```text
//! milter_messages_total{filter="recipients",outcome="aborted"} 1
//! milter_verdicts_total{filter="recipients",stage="rcpt",verdict="reject"} 1
//! ```
//!
//! # What is counted
//!
//! Durations are in seconds, sizes in bytes.
//!
//! | metric | kind | labels | what |
//! | --- | --- | --- | --- |
//! | `milter_connections_total` | counter | `filter` | connections that negotiated; one whose filter was made anew counts again |
//! | `milter_connections_open` | gauge | `filter` | those that are open |
//! | `milter_messages_total` | counter | `filter`, `outcome` | messages of which the filter saw something, by how they ended |
//! | `milter_messages_open` | gauge | `filter` | those in progress |
//! | `milter_message_seconds` | histogram | `filter` | from a message's first event to its end |
//! | `milter_events_total` | counter | `filter`, `stage` | events that the filter was asked about |
//! | `milter_event_seconds` | histogram | `filter`, `stage` | how long an answer took |
//! | `milter_verdicts_total` | counter | `filter`, `stage`, `verdict`, `member` | verdicts other than to go on |
//! | `milter_edits_total` | counter | `filter`, `kind` | modifications asked for |
//! | `milter_failures_total` | counter | `filter`, `stage`, `class`, `member` | failures |
//! | `milter_body_bytes_total` | counter | `filter` | bytes of bodies that the filter was shown |
//! | `milter_server_connections_total` | counter | | connections that the server accepted |
//! | `milter_server_connections_refused_total` | counter | | those of them that it turned away at a limit |
//! | `milter_server_connections_open` | gauge | | those that are open |
//! | `milter_server_messages_total` | counter | | messages that began, also those that no filter saw |
//! | `milter_server_messages_open` | gauge | | those in progress |
//! | `milter_server_held_bytes` | gauge | | bytes held for all connections; bodies that filters keep are not among them |
//!
//! Those of the server come from [`record_stats`], which the program calls; the others from the
//! layer.
//!
//! | label | values |
//! | --- | --- |
//! | `filter` | the layer's [name](MetricsLayer::name) |
//! | `stage` | the name of the [`Stage`](milter_tower::Stage): `connect` to `end of message`; for failures also `negotiate`, `message end`, `session end`, `close`, and `not ready` for an error of `poll_ready` |
//! | `outcome` | `accept`, `reject`, `tempfail`, `discard`: the verdict that the MTA was given for this filter; `aborted`: by the client, the MTA or another filter; `lost`: the connection; `failed`: the filter broke, or a layer lost the end |
//! | `verdict` | `accept`, `reject`, `tempfail`, `discard`, `skip` |
//! | `kind` | `add_header`, `insert_header`, `change_header`, `delete_header`, `replace_body`, `change_sender`, `add_recipient`, `delete_recipient`, `quarantine` |
//! | `class` | that of the [classifier](crate::classify): `error`, `panic`, `deadline`, `edit`, `tempfail` or a constant of yours; `member` for a failure within a chain, at most one for each message |
//! | `member` | the member of a [`Chain`](milter_tower::Chain) that [decided](milter_tower::chain::Decided) or failed; not there without one |
//!
//! No label has a value that a mail brings, so what is kept is bounded by how the program is
//! configured.
//!
//! For Prometheus give the histograms buckets ([`BUCKETS`] are good ones), or they are shown as
//! summaries. The names are in its style and the same with `with_recommended_naming`.
//! `examples/src/bin/production/grafana.json` is a dashboard of these metrics.
//!
//! # Where to put it
//!
//! Around all that is to be counted. Outside of layers that answer in the place of the filter it
//! counts what the MTA hears, inside what the filter says. Verdicts that the server gives, for a
//! filter that failed say, show in the outcomes and in the failures, and not among the verdicts.
//! Chains with a layer around each member count what each does.
//!
//! # What it needs, and costs
//!
//! Of the negotiation nothing: it counts what the filter is shown, and passes everything on as it
//! is. Handles are looked up once, when the first event comes, failures and decisions of members
//! excepted; an event takes two readings of the clock, two counts, and no allocation:
//! some 390 instructions, counted by `cargo bench -p milter-tests --bench instructions`, and what the
//! recorder takes.

mod future;
mod handles;
mod layer;
mod server;
mod service;

pub use self::future::ResponseFuture;
pub use self::layer::MetricsLayer;
pub use self::server::record_stats;
pub use self::service::Metrics;

/// Buckets for the histograms, in seconds: from what a filter in memory takes to what an MTA bears.
pub const BUCKETS: [f64; 16] = [
    0.000_01, 0.000_1, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    300.0,
];

#[cfg(test)]
mod tests;
