//! The smallest complete filter: adds a header to every mail.
//!
//! Run it, point an MTA at it (the program prints how), and send a mail.

use std::process::ExitCode;

use clap::Parser;
use milter_examples::Listen;
use milter_tower::{BoxError, Message, message, serve};

/// Adds the header `X-Hello` to every mail
#[derive(Parser)]
#[command(name = "hello", version)]
struct Args {
    #[command(flatten)]
    listen: Listen,
}

async fn filter(mut mail: Message) -> Message {
    mail.headers_mut().append("X-Hello", "from a tower service");
    mail
}

#[tokio::main]
async fn main() -> ExitCode {
    milter_examples::init_log();
    milter_examples::exit_code(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<(), BoxError> {
    serve(args.listen.bind().await?, message(filter).without_body())
        .with_graceful_shutdown(milter_examples::stop_signal())
        .await?;
    Ok(())
}
