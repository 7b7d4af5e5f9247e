//! The smallest complete filter: adds a header to every mail.
//!
//! Run it, point an MTA at it (the program prints how), and send a mail.

use std::error::Error;

use clap::Parser;
use milter_examples::Listen;
use milter_tower::{Message, message, serve};

/// Adds the header `X-Hello` to every mail
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    listen: Listen,
}

async fn filter(mut mail: Message) -> Message {
    mail.headers_mut().append("X-Hello", "from a tower service");
    mail
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    milter_examples::init_log();
    let listeners = Args::parse().listen.bind().await?;
    serve(listeners, message(filter).without_body())
        .with_graceful_shutdown(milter_examples::stop_signal())
        .await?;
    Ok(())
}
