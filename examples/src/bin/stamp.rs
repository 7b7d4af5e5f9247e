//! A filter made of a layer alone: every mail leaves with one header that says who saw it.
//!
//! Whatever the sender wrote under that name is deleted, so that the header can be relied on.

use std::convert::Infallible;
use std::error::Error;

use clap::Parser;
use milter_examples::Listen;
use milter_middleware::set_header::SetHeaderLayer;
use milter_tower::{Needs, Request, Response, serve};
use tower::{ServiceBuilder, service_fn};

/// Marks every mail with a header that senders cannot forge
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    listen: Listen,
    /// The header's name
    #[arg(long, default_value = "X-Seen-By")]
    name: String,
    /// The header's value
    #[arg(long, default_value = "milter-tower")]
    value: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    milter_examples::init_log();
    let args = Args::parse();
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
