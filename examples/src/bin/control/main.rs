#![doc = include_str!("README.md")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use milter_examples::Listen;
use milter_tower::{BoxError, serve};

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
    /// The file with the rules, read anew for each connection; a missing one is empty
    #[arg(long, value_name = "FILE")]
    control: PathBuf,
    /// The file to which a line is appended for each event
    #[arg(long, value_name = "FILE")]
    trace: PathBuf,
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
    milter_examples::exit_code(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<(), BoxError> {
    serve(
        args.listen.bind().await?,
        Control::new(args.control, args.trace),
    )
    .with_graceful_shutdown(milter_examples::stop_signal())
    .grace_period(GRACE)
    .await?;
    Ok(())
}
