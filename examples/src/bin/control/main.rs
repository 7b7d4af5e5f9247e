#![doc = include_str!("README.md")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use milter_examples::Listen;
use milter_tower::{BoxError, Chain, Listeners, Request, Response, serve};
use tower::Service;

use crate::filter::Control;

mod callback;
mod filter;
mod rules;
mod trace;
mod words;

/// Does what a file tells it to do, and writes down what it saw
#[derive(Parser)]
#[command(name = "control", version, after_help = HELP)]
struct Args {
    #[command(flatten)]
    listen: Listen,
    /// The file with the rules, read anew for each connection; a missing one is empty. With several
    /// files there are several filters, one after the other, as a chain
    #[arg(long, value_name = "FILE", required = true)]
    control: Vec<PathBuf>,
    /// The file to which a line is appended for each event, for each of the filters
    #[arg(long, value_name = "FILE", required = true)]
    trace: Vec<PathBuf>,
}

const HELP: &str = "\
Rules are lines such as
  rcpt:nobody@example.net reply 550 5.1.1 No%20such%20user
  eom addheader X-Seen by%20control
Everything that can stand there is in README.md beside this program's source.

For tests only: a mail may carry rules of its own, in headers X-Test.";

/// How long messages in progress may take when the filter is told to stop.
const GRACE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> ExitCode {
    milter_examples::init_log();
    milter_examples::exit_code(start(Args::parse()).await)
}

async fn start(args: Args) -> Result<(), BoxError> {
    if args.control.len() != args.trace.len() {
        return Err("as many --trace as --control are needed".into());
    }
    let listener = args.listen.bind().await?;
    let mut filters: Vec<Control> = args
        .control
        .into_iter()
        .zip(args.trace)
        .map(|(control, trace)| Control::new(control, trace))
        .collect();
    if filters.len() > 1 {
        let filters = filters.into_iter().enumerate();
        let chain = filters.fold(Chain::new(), |chain, (nth, filter)| {
            chain.with(format!("control {}", nth + 1), filter)
        });
        run(listener, chain).await
    } else if let Some(filter) = filters.pop() {
        run(listener, filter).await
    } else {
        Ok(())
    }
}

async fn run<S>(listener: Listeners, filter: S) -> Result<(), BoxError>
where
    S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
{
    serve(listener, filter)
        .with_graceful_shutdown(milter_examples::stop_signal())
        .grace_period(GRACE)
        .await?;
    Ok(())
}
