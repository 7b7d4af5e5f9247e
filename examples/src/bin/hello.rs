//! The smallest complete filter: adds a header to every mail.
//!
//! Run it, point an MTA at it (the program prints how), and send a mail.

use std::convert::Infallible;
use std::error::Error;

use clap::Parser;
use milter_examples::Listen;
use milter_tower::{Actions, Event, Needs, Request, Response, serve};
use tower::service_fn;

/// Adds the header `X-Hello` to every mail
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    listen: Listen,
}

async fn filter(request: Request) -> Result<Response, Infallible> {
    Ok(match request.event() {
        // Asked for nothing else, the MTA sends only the end of each message.
        Event::Negotiate(_) => Response::needs(Needs::none().action(Actions::ADD_HEADERS)),
        Event::EndOfMessage(_) => Response::accept().add_header("X-Hello", "from a tower service"),
        _ => Response::proceed(),
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    milter_examples::init_log();
    let listeners = Args::parse().listen.bind().await?;
    serve(listeners, service_fn(filter))
        .with_graceful_shutdown(milter_examples::stop_signal())
        .await?;
    Ok(())
}
