//! What only the server knows.

use ::metrics::{counter, describe_counter, describe_gauge, gauge};
use milter_tower::Stats;

pub(super) const ACCEPTED: &str = "milter_server_connections_total";
pub(super) const REFUSED: &str = "milter_server_connections_refused_total";
pub(super) const OPEN: &str = "milter_server_connections_open";
pub(super) const MESSAGES: &str = "milter_server_messages_total";
pub(super) const IN_PROGRESS: &str = "milter_server_messages_open";
pub(super) const HELD_BYTES: &str = "milter_server_held_bytes";

/// Sets the metrics of a server to what it counted: the bytes that it holds, and the connections
/// and messages of all its filters. To be called every few seconds, or before metrics are read.
///
/// ```
/// use milter_middleware::metrics::record_stats;
/// # use milter_tower::{Router, Stream};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), milter_tower::BoxError> {
/// # let listener = "inet:0@127.0.0.1".parse::<milter_tower::Address>()?.bind().await?;
/// # let filter = Router::new();
/// let server = milter_tower::serve(listener, filter);
/// let handle = server.handle();
/// let stats = async move {
///     loop {
///         record_stats(handle.stats());
///         tokio::time::sleep(std::time::Duration::from_secs(5)).await;
///     }
/// };
/// # let _ = (server, stats);
/// # Ok(())
/// # }
/// ```
#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
pub fn record_stats(stats: Stats) {
    describe_counter!(ACCEPTED, "Connections accepted, also those turned away");
    describe_counter!(REFUSED, "Connections turned away at a limit");
    describe_gauge!(OPEN, "Connections that are open");
    describe_counter!(MESSAGES, "Messages that began");
    describe_gauge!(IN_PROGRESS, "Messages in progress");
    describe_gauge!(HELD_BYTES, "Bytes held for all connections");
    counter!(ACCEPTED).absolute(stats.accepted);
    counter!(REFUSED).absolute(stats.refused);
    gauge!(OPEN).set(stats.open as f64);
    counter!(MESSAGES).absolute(stats.messages);
    gauge!(IN_PROGRESS).set(stats.in_progress as f64);
    gauge!(HELD_BYTES).set(stats.held_bytes as f64);
}
