//! A filter that does next to nothing, to measure the server by.
//!
//! ```text
//! bench-filter --listen tcp:127.0.0.1:10025 --mode noop --threads 1
//! ```
//!
//! It asks for every event, goes on at each, and accepts at the end of the message. Nothing is
//! logged, and as many connections may be open as the system allows. `--built` says in which of the
//! library's ways it is written.

use std::convert::Infallible;
use std::future::ready;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use milter_tower::{
    Actions, Address, BoundListener, BoxError, Chain, Event, Filter, IntoResponse, Needs, Progress,
    Request, Response, Router, Stage, at, filter, serve,
};
use milter_tower::{Message, message};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tower::{Service, service_fn};

/// Does next to nothing, to measure the server by
#[derive(Parser)]
#[command(name = "bench-filter", version)]
struct Args {
    /// Where to listen: tcp:HOST:PORT, inet:PORT@HOST or unix:PATH
    #[arg(long, default_value = "inet:10025@127.0.0.1")]
    listen: Address,
    /// What to do
    #[arg(long, value_enum, default_value = "noop")]
    mode: Mode,
    /// How the filter is written
    #[arg(long, value_enum, default_value = "service")]
    built: Built,
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
    fn actions(self) -> Actions {
        match self {
            Self::Addheader => Actions::ADD_HEADERS,
            Self::Noop | Self::Nr => Actions::empty(),
        }
    }

    fn needs(self) -> Needs {
        let needs = Needs::none().action(self.actions());
        match self {
            Self::Noop | Self::Addheader => needs.events(Stage::ALL),
            Self::Nr => Stage::ALL.into_iter().fold(needs, Needs::record),
        }
    }
}

/// How the filter is written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Built {
    /// By hand, as a service
    Service,
    /// As handlers of events
    Router,
    /// As a type with methods
    Filter,
    /// As a chain of three services
    Chain,
    /// As a handler of whole messages: what is only written down gets no reply in any mode
    Message,
}

fn answer(mode: Mode, request: &Request) -> Response {
    match request.event() {
        Event::Negotiate(_) => Response::needs(mode.needs()),
        Event::EndOfMessage(_) => end(mode),
        _ => Response::proceed(),
    }
}

fn end(mode: Mode) -> Response {
    if mode == Mode::Addheader {
        Response::accept().add_header("X-Bench", "seen")
    } else {
        Response::accept()
    }
}

fn main() -> ExitCode {
    milter_examples::exit_code(start(&Args::parse()))
}

fn start(args: &Args) -> Result<(), BoxError> {
    allow_many_files()?;
    let runtime = match args.threads {
        None => Builder::new_multi_thread().enable_all().build()?,
        Some(_) => Builder::new_current_thread().enable_all().build()?,
    };
    runtime.block_on(async {
        let listener = args.listen.bind().await?;
        println!("Listening at {}.", listener.address());
        let (mode, threads) = (args.mode, args.threads);
        match (args.built, mode) {
            (Built::Service, _) => {
                let plain = service_fn(move |request| async move {
                    Ok::<_, Infallible>(answer(mode, &request))
                });
                run(listener, threads, plain).await
            }
            (Built::Chain, _) => {
                let chain = ["a", "b", "c"]
                    .into_iter()
                    .fold(Chain::new(), |chain, name| {
                        let plain = move |request: Request| {
                            ready(Ok::<_, Infallible>(answer(mode, &request)))
                        };
                        chain.with(name, service_fn(plain))
                    });
                run(listener, threads, chain).await
            }
            (Built::Router, Mode::Nr) => {
                let silent = router(mode.actions(), || (), Response::accept);
                run(listener, threads, silent).await
            }
            (Built::Router, _) => {
                run(
                    listener,
                    threads,
                    router(mode.actions(), Response::proceed, move || end(mode)),
                )
                .await
            }
            (Built::Filter, _) => run(listener, threads, filter(move || Methods(mode))).await,
            (Built::Message, Mode::Addheader) => {
                let adds = message(|mut mail: Message| async move {
                    mail.headers_mut().append("X-Bench", "seen");
                    mail.accept()
                });
                run(listener, threads, adds).await
            }
            (Built::Message, _) => {
                let accepts = message(|mail: Message| async move { mail.accept() }).read_only();
                run(listener, threads, accepts).await
            }
        }
    })
}

async fn run<S>(
    listener: BoundListener,
    threads: Option<NonZeroUsize>,
    service: S,
) -> Result<(), BoxError>
where
    S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
{
    let server = serve(listener, service).with_graceful_shutdown(milter_examples::stop_signal());
    match threads {
        Some(threads) if threads.get() > 1 => server.threads(threads).await?,
        _ => server.await?,
    };
    Ok(())
}

/// A router with a handler for every event.
fn router<A>(
    actions: Actions,
    go_on: impl Fn() -> A + Copy + Send + Sync + 'static,
    end: impl Fn() -> Response + Copy + Send + Sync + 'static,
) -> Router
where
    A: Send + 'static,
    A: IntoResponse<at::Connect> + IntoResponse<at::Helo> + IntoResponse<at::Unknown>,
    A: IntoResponse<at::Mail> + IntoResponse<at::Rcpt> + IntoResponse<at::Data>,
    A: IntoResponse<at::Header> + IntoResponse<at::EndOfHeaders> + IntoResponse<at::Body>,
{
    Router::new()
        .actions(actions)
        .on_connect(move || async move { go_on() })
        .on_helo(move || async move { go_on() })
        .on_mail(move || async move { go_on() })
        .on_rcpt(move || async move { go_on() })
        .on_data(move || async move { go_on() })
        .on_header(move || async move { go_on() })
        .on_end_of_headers(move || async move { go_on() })
        .on_body(move || async move { go_on() })
        .on_unknown(move || async move { go_on() })
        .on_end_of_message(move || async move { end() })
}

/// A filter whose methods go on.
struct Methods(Mode);

impl Filter for Methods {
    type Message = ();

    fn needs(&self) -> Needs {
        self.0.needs()
    }

    async fn end_of_message(
        &mut self,
        (): &mut (),
        _: &Progress,
        _: &Request,
    ) -> Result<Response, BoxError> {
        Ok(end(self.0))
    }
}

/// Raises the limit of open files as far as it goes.
fn allow_many_files() -> Result<(), BoxError> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current, maximum })?)
}
