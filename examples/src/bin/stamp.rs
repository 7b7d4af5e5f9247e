//! A filter made of a layer alone: every mail leaves with one header that says who saw it.
//!
//! Whatever the sender wrote under that name is deleted, so that the header can be relied on.

use std::convert::Infallible;
use std::process::ExitCode;

use clap::Parser;
use milter_examples::Listen;
use milter_middleware::set_header::SetHeaderLayer;
use milter_tower::{BoxError, Needs, Request, Response, serve};
use tower::{ServiceBuilder, service_fn};

/// Marks every mail with a header that senders cannot forge
#[derive(Parser)]
#[command(name = "stamp", version)]
struct Args {
    #[command(flatten)]
    listen: Listen,
    /// The header's name
    #[arg(long, default_value = "X-Seen-By", value_parser = milter_examples::header_name)]
    name: String,
    /// The header's value
    #[arg(long, default_value = "milter-tower", value_parser = milter_examples::header_value)]
    value: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    milter_examples::init_log();
    milter_examples::exit_code(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<(), BoxError> {
    // The filter itself needs nothing; the layer asks for what it needs.
    let filter = service_fn(async |_: Request| Ok::<_, Infallible>(Response::needs(Needs::none())));
    let filter = ServiceBuilder::new()
        .layer(SetHeaderLayer::overriding(args.name, args.value)?)
        .service(filter);
    serve(args.listen.bind().await?, filter)
        .notify_systemd()
        .with_graceful_shutdown(milter_examples::stop_signal())
        .await?;
    Ok(())
}
