//! A filter that does next to nothing, to measure the server by.
//!
//! ```text
//! bench-filter --listen tcp:127.0.0.1:10025 --mode noop --threads 1
//! ```
//!
//! It asks for every event, goes on at each, and accepts at the end of the message. Nothing is
//! logged, and as many connections may be open as the system allows.

use std::convert::Infallible;
use std::num::NonZeroUsize;

use clap::{Parser, ValueEnum};
use milter_tower::{Actions, Address, BoxError, Event, Needs, Request, Response, Stage, serve};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tower::service_fn;

/// Does next to nothing, to measure the server by
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where to listen: tcp:HOST:PORT, inet:PORT@HOST or unix:PATH
    #[arg(long, default_value = "inet:10025@127.0.0.1")]
    listen: Address,
    /// What to do
    #[arg(long, value_enum, default_value = "noop")]
    mode: Mode,
    /// Serve on so many threads, each with a runtime and connections of its own, instead of one
    /// runtime for all
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Answer every event, change nothing
    Noop,
    /// Answer every event, add a header
    Addheader,
    /// Ask for every event without a reply, change nothing
    Nr,
}

impl Mode {
    fn needs(self) -> Needs {
        let needs = Needs::none();
        match self {
            Self::Noop => needs.events(Stage::ALL),
            Self::Addheader => needs.events(Stage::ALL).action(Actions::ADD_HEADERS),
            Self::Nr => Stage::ALL.into_iter().fold(needs, Needs::record),
        }
    }
}

fn answer(mode: Mode, request: &Request) -> Response {
    match request.event() {
        Event::Negotiate(_) => Response::needs(mode.needs()),
        Event::EndOfMessage(_) if mode == Mode::Addheader => {
            Response::accept().add_header("X-Bench", "seen")
        }
        Event::EndOfMessage(_) => Response::accept(),
        _ => Response::proceed(),
    }
}

fn main() -> Result<(), BoxError> {
    let args = Args::parse();
    allow_many_files()?;
    let runtime = match args.threads {
        None => Builder::new_multi_thread().enable_all().build()?,
        Some(_) => Builder::new_current_thread().enable_all().build()?,
    };
    runtime.block_on(async {
        let listener = args.listen.bind().await?;
        println!("Listening at {}.", listener.address());
        let service =
            service_fn(
                move |request| async move { Ok::<_, Infallible>(answer(args.mode, &request)) },
            );
        let server =
            serve(listener, service).with_graceful_shutdown(milter_examples::stop_signal());
        match args.threads {
            Some(threads) if threads.get() > 1 => server.threads(threads).await?,
            _ => server.await?,
        };
        Ok(())
    })
}

/// Raises the limit of open files as far as it goes.
fn allow_many_files() -> Result<(), BoxError> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current, maximum })?)
}
