#![doc = include_str!("README.md")]

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use milter_middleware::log::Writer;
use milter_middleware::metrics::BUCKETS;
use milter_tower::{BoxError, Chain, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::interval;
use tracing::{error, info, warn};

use crate::args::{Args, StatusAt};
use crate::policy::{Policy, Rules};
use crate::status::Status;

mod args;
mod filter;
mod logging;
mod policy;
mod stack;
mod status;

/// How often measurements are put into their buckets, if nobody asks for them.
const UPKEEP: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    milter_examples::exit_code(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<(), BoxError> {
    logging::init(&args.told)?;
    let metrics = PrometheusBuilder::new()
        .set_buckets(&BUCKETS)?
        .install_recorder()?;

    let rules = Rules::default();
    if let Some(path) = &args.filter.recipients {
        rules.set(read(path.clone()).await?);
    }
    let chain = filter::chain(&args.filter, &args.failing, rules.clone());
    tokio::spawn(check(chain.clone()));
    let hostname = match &args.filter.hostname {
        Some(name) => name.clone(),
        None => system_name()?,
    };
    let stdout = Writer::new(io::stdout());
    let filter = stack::stack(&args, &hostname, stdout, chain)?;

    // What cannot be had is told before mail comes.
    let hangup = signal(SignalKind::hangup())?;
    let endpoint = bind_status(args.told.status).await?;
    let listeners = args.listen.listen().await?;
    for address in listeners.addresses() {
        info!(%address, "listening");
    }
    let is_ready = Arc::new(AtomicBool::new(false));
    let ready = Arc::clone(&is_ready);
    let server = serve(listeners, filter)
        .grace_period(args.failing.grace)
        .notify_systemd()
        .with_graceful_shutdown(async move {
            // Polled first when mail is taken.
            ready.store(true, Ordering::Relaxed);
            milter_examples::stop_signal().await;
            ready.store(false, Ordering::Relaxed);
            info!("stopping");
        });

    tokio::spawn(reload(hangup, args.filter.recipients, rules));
    tokio::spawn(keep_up(metrics.clone()));
    if let Some(listener) = endpoint {
        let handle = server.handle();
        let status = Status {
            metrics,
            is_ready,
            stats: Box::new(move || handle.stats()),
        };
        tokio::spawn(status.serve(listener));
    }
    let report = server.await?;
    info!(
        connections = report.accepted,
        refused = report.refused,
        cut = report.cut,
        "stopped"
    );
    Ok(())
}

/// Says what does not work yet: milters elsewhere may come up later.
async fn check(chain: Chain) {
    if let Err(error) = chain.check().await {
        warn!(%error, "not all of it works yet");
    }
}

/// Takes over what the file says now, each time the signal comes.
async fn reload(mut hangup: Signal, path: Option<PathBuf>, rules: Rules) {
    while hangup.recv().await.is_some() {
        let Some(path) = &path else {
            info!("there is no file to read again");
            continue;
        };
        match read(path.clone()).await {
            Ok(policy) => {
                info!(rules = policy.len(), "the new rules hold");
                rules.set(policy);
            }
            Err(error) => error!(%error, "the old rules stay"),
        }
    }
}

/// Reads the rules where that holds up nobody.
async fn read(path: PathBuf) -> Result<Policy, BoxError> {
    tokio::task::spawn_blocking(move || Policy::read(&path)).await?
}

async fn keep_up(metrics: PrometheusHandle) {
    let mut ticks = interval(UPKEEP);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}

async fn bind_status(at: StatusAt) -> Result<Option<TcpListener>, BoxError> {
    let Some(address) = at.0 else {
        return Ok(None);
    };
    let named = |error| format!("--status {address}: {error}");
    let listener = TcpListener::bind(address).await.map_err(named)?;
    let address = listener.local_addr()?;
    info!(%address, "the status is told");
    Ok(Some(listener))
}

/// What the system calls itself.
fn system_name() -> Result<String, BoxError> {
    let name = rustix::system::uname().nodename().to_str()?.to_owned();
    milter_examples::domain(&name).map_err(|error| format!("{error}: say --hostname").into())
}

#[cfg(test)]
mod tests;
