#![doc = include_str!("README.md")]

use std::fs::OpenOptions;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use milter_examples::color::Color;
use milter_examples::text::count;
use milter_examples::{Listen, not_to_itself, tell};
use milter_tower::testing::Recording;
use milter_tower::testing::recording::Recorder;
use milter_tower::{Address, BoxError, Listener, Listeners};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::news::{Teller, What};
use crate::report::Report;
use crate::style::Style;
use crate::transcript::Transcript;

mod news;
mod report;
mod say;
mod style;
mod tap;
mod transcript;

/// How many connections are passed on at a time; more wait for one of them to end.
const MAX_CONNECTIONS: usize = 1000;
/// How long connections may go on after a signal to stop.
const GRACE: Duration = Duration::from_secs(5);
/// News that may wait to be shown; each holds a frame at most. Then connections wait.
const WAITING: usize = 64;

/// Shows what a mail server and a milter say to each other, and passes it on unchanged
#[derive(Parser)]
#[command(name = "milter-trace", version, override_usage = USAGE, after_help = EXAMPLES)]
struct Args {
    #[command(flatten)]
    listen: Listen,
    /// Where the milter listens: inet:PORT@HOST, HOST:PORT or unix:PATH
    #[arg(long, value_name = "ADDRESS", required_unless_present = "show")]
    to: Option<Address>,
    /// Also record all of it in this file, which must not exist; for a test to replay
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Show this recording instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["to", "record"])]
    show: Option<PathBuf>,
    /// How many bytes of each piece of a body to show
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_bytes: usize,
    /// Whether to write in colours. auto: on a terminal, unless the variable `NO_COLOR` is set
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    color: Color,
}

const USAGE: &str = "\
milter-trace [OPTIONS] --to <ADDRESS>
       milter-trace [OPTIONS] --show <FILE>";
const EXAMPLES: &str = "\
Examples:
  milter-trace --listen inet:10099@127.0.0.1 --to inet:8891@127.0.0.1
  milter-trace --to unix:/run/opendkim/opendkim.sock --record opendkim.rec
  milter-trace --show opendkim.rec | less";

#[tokio::main]
async fn main() -> ExitCode {
    milter_examples::exit_code(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<(), BoxError> {
    let style = Style::new(args.color.is_on(&io::stdout()));
    let transcript = Transcript::new(style, args.max_bytes);
    if let Some(file) = &args.show {
        return show(file, transcript);
    }
    // The command line is refused without it.
    let to = args.to.ok_or("--to is missing")?;
    let listeners = args.listen.listen().await?;
    not_to_itself(&listeners, &to)?;
    // Made only when nothing else is in the way: what is there is not written over.
    let recorder = args.record.as_deref().map(create).transpose()?;
    for address in listeners.addresses() {
        tell(format_args!(
            "listening at {address}, passing on to {to}; Ctrl-C ends it"
        ));
    }
    let report = Report::new(io::stdout(), transcript, recorder);
    let (news, incoming) = mpsc::channel(WAITING);
    let reporting = spawn_blocking(move || report.run(incoming));
    serve(listeners, to, &news).await;
    drop(news);
    reporting.await?
}

/// Begins a recording that only its owner can read.
fn create(file: &Path) -> Result<Recorder<Box<dyn Write + Send>>, BoxError> {
    let open = || {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(file)?;
        let mut recorder = Recorder::new(Box::new(BufWriter::new(file)) as Box<_>)?;
        recorder.flush()?;
        Ok(recorder)
    };
    open().map_err(|error: io::Error| {
        let hint = match error.kind() {
            ErrorKind::AlreadyExists => "; a recording is not written over, name another file",
            _ => "",
        };
        format!("{}: {error}{hint}", file.display()).into()
    })
}

fn show(file: &Path, mut transcript: Transcript) -> Result<(), BoxError> {
    let recording = Recording::read(file);
    let recording = recording.map_err(|error| format!("{}: {error}", file.display()))?;
    let mut out = BufWriter::new(io::stdout().lock());
    for connection in recording.connections() {
        for entry in connection.entries() {
            let line = transcript.line(&entry.clone().into());
            match out.write_all(line.as_bytes()) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            }
        }
    }
    Ok(out.flush()?)
}

/// Passes connections on until it is told to stop, and those that are open then have ended.
async fn serve(mut listeners: Listeners, to: Address, news: &mpsc::Sender<news::News>) {
    let (start, to) = (Instant::now(), Arc::new(to));
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let stop = milter_examples::stop_signal();
    tokio::pin!(stop);
    for number in 1.. {
        let accepted = async {
            let permit = Arc::clone(&free).acquire_owned().await;
            loop {
                match listeners.accept().await {
                    Ok(accepted) => return (accepted, permit),
                    Err(error) => {
                        tell(format_args!("cannot accept a connection: {error}"));
                        // No descriptor is left, most likely.
                        sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        };
        let (accepted, permit) = tokio::select! {
            () = &mut stop => break,
            accepted = accepted => accepted,
        };
        while connections.try_join_next().is_some() {}
        let (tell, to) = (Teller::new(number, start, news.clone()), Arc::clone(&to));
        connections.spawn(async move {
            tell.tell(What::Opened(accepted.peer)).await;
            tap::connection(accepted.io, &to, &tell).await;
            tell.tell(What::Closed).await;
            drop(permit);
        });
    }
    drop(listeners);
    let all_end = async { while connections.join_next().await.is_some() {} };
    if timeout(GRACE, all_end).await.is_err() {
        tell(format_args!(
            "closing what is still open: {}",
            count(connections.len(), "connection")
        ));
        connections.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
