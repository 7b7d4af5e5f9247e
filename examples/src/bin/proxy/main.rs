#![doc = include_str!("README.md")]

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use milter_examples::Listen;
use milter_tower::client::Timeouts;
use milter_tower::{
    Address, BoxError, Listeners, Mta, OnFailure, OnRemoteFailure, Remote, RemotePool, Request,
    Response, Settings, serve,
};
use tokio::runtime::Builder;
use tower::Service;

/// Passes on what an MTA asks to a milter elsewhere
#[derive(Parser)]
#[command(name = "proxy", version)]
struct Args {
    #[command(flatten)]
    listen: Listen,
    /// Where the milter is: inet:PORT@HOST, HOST:PORT or unix:PATH; given several times, each
    /// session goes to one of them
    #[arg(long, value_name = "ADDRESS", required = true)]
    to: Vec<Address>,
    /// What becomes of mail while no milter can be reached, or when one fails
    #[arg(long, value_name = "WHAT", value_enum, default_value = "tempfail")]
    on_failure: Failing,
    /// How long a milter may take to be reached and to agree, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    connect_timeout: Duration,
    /// How long a milter may take for an answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    timeout: Duration,
    /// Which mail server connects; by default it tells, unless the milter asks for other macros at
    /// connect, and is taken for the less patient one until then
    #[arg(long, value_name = "WHICH", value_enum)]
    mta: Option<Which>,
    /// Serve on so many threads, each with a runtime and connections of its own, instead of one
    /// runtime for all
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

/// What becomes of mail without a milter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Failing {
    /// Refuse for now
    Tempfail,
    /// Refuse for good
    Reject,
    /// Let it pass
    Accept,
}

/// A mail server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    Postfix,
    Sendmail,
}

impl From<Which> for Mta {
    fn from(which: Which) -> Self {
        match which {
            Which::Postfix => Self::Postfix,
            Which::Sendmail => Self::Sendmail,
        }
    }
}

impl From<Failing> for OnRemoteFailure {
    fn from(failing: Failing) -> Self {
        match failing {
            Failing::Tempfail => Self::Fail,
            Failing::Reject => OnFailure::Reject.into(),
            Failing::Accept => Self::LeaveOut,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err("a number of seconds, at least 1".into()),
    }
}

fn main() -> ExitCode {
    milter_examples::init_log();
    milter_examples::exit_code(start(Args::parse()))
}

fn start(args: Args) -> Result<(), BoxError> {
    let runtime = match args.threads {
        None => Builder::new_multi_thread().enable_all().build()?,
        Some(_) => Builder::new_current_thread().enable_all().build()?,
    };
    runtime.block_on(run(args))
}

async fn run(args: Args) -> Result<(), BoxError> {
    let times = Timeouts::postfix()
        .command(args.timeout)
        .content(args.timeout);
    let (connect, failing) = (args.connect_timeout, args.on_failure);
    let settings = match args.mta {
        Some(which) => Settings::new().mta(which.into()),
        None => Settings::new(),
    };
    let listeners = args.listen.bind().await?;
    for to in &args.to {
        milter_examples::not_to_itself(&listeners, to)?;
    }
    match <[Address; 1]>::try_from(args.to) {
        Ok([address]) => {
            let remote = Remote::new(address)
                .connect_timeout(connect)
                .timeouts(times)
                .on_failure(failing);
            pass_on(listeners, remote, settings, args.threads).await
        }
        Err(addresses) => {
            let pool = RemotePool::new(addresses)
                .connect_timeout(connect)
                .timeouts(times)
                .on_failure(failing);
            pass_on(listeners, pool, settings, args.threads).await
        }
    }
}

async fn pass_on<S>(
    listeners: Listeners,
    filter: S,
    settings: Settings,
    threads: Option<NonZeroUsize>,
) -> Result<(), BoxError>
where
    S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
{
    let server = serve(listeners, filter)
        .settings(settings)
        .notify_systemd()
        .with_graceful_shutdown(milter_examples::stop_signal());
    match threads {
        Some(threads) if threads.get() > 1 => server.threads(threads).await?,
        _ => server.await?,
    };
    Ok(())
}

#[cfg(test)]
mod tests;
