//! Compares milter-tower with libmilter, and both with a floor, over loopback.
//!
//!     cargo run --release -p milter-tests --bin compare -- --help
//!
//! See `tests/README.md` for what it measures and how to read it.

mod chart;
mod delivery;
mod floor;
mod load;
mod machine;
mod measure;
mod report;
mod servers;
mod stop;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use milter_tests::address::Address;

use measure::{Plan, SCENARIOS};
use report::Report;
use servers::{Mode, Programs};

/// Compares milter-tower with a filter on libmilter and with a floor, over loopback
#[derive(Debug, Parser)]
#[allow(clippy::struct_excessive_bools, reason = "switches of a command")]
struct Args {
    #[command(subcommand)]
    command: Option<Hidden>,
    /// Rounds; in each, every server is measured once in every scenario
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long each measurement takes, in seconds
    #[arg(long, default_value_t = 2.0, value_name = "S", value_parser = seconds)]
    seconds: f64,
    /// Connections with a message under way
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
    connections: u32,
    /// Only these scenarios
    #[arg(long, value_delimiter = ',', value_parser = SCENARIOS.map(|scenario| scenario.name))]
    scenarios: Vec<String>,
    /// Unix sockets instead of TCP
    #[arg(long)]
    unix: bool,
    /// Leave the servers and the load on whatever processor they get, instead of the load on the
    /// first and the servers on all others
    #[arg(long)]
    no_pin: bool,
    /// Do not measure libmilter, which needs a C compiler and libmilter-dev
    #[arg(long)]
    without_libmilter: bool,
    /// Also time 50 messages, one after the other, through a real Postfix and a real Sendmail
    /// (what these need is in tests/README.md)
    #[arg(long)]
    mta: bool,
    /// Where the figures go; else compare.json beside the program
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure nothing, take the figures from a file that --json wrote
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Put the table into README.md and draw tests/benches/compare/chart.svg
    #[arg(long, conflicts_with = "scenarios")]
    save: bool,
}

#[derive(Debug, Subcommand)]
enum Hidden {
    /// Be the floor: cut frames, write replies that were made before
    #[command(hide = true)]
    Floor {
        /// As milter programs share it.
        address: String,
        /// What to do.
        mode: Mode,
    },
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.05..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number from 0.05 to 60 is needed".to_owned()),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    if let Some(Hidden::Floor { address, mode }) = &args.command {
        let address = parse_address(address).ok_or("not an address")?;
        return floor::run(&address, *mode).map_err(|error| error.to_string());
    }
    let report = match &args.from {
        Some(file) => {
            let text = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
            serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", file.display()))?
        }
        None => measure(args)?,
    };
    println!("{}", report.markdown());
    if args.save {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let readme = folder.join("../README.md");
        let text = fs::read_to_string(&readme).map_err(|error| error.to_string())?;
        write(&readme, &report::replaced(&text, &report.markdown())?)?;
        write(
            &folder.join("benches/compare/chart.svg"),
            &chart::draw(&report),
        )?;
    }
    Ok(())
}

fn measure(args: &Args) -> Result<Report, String> {
    // A debug build is for trying out whether it works.
    if cfg!(debug_assertions) {
        eprintln!("compare: this is a debug build, its figures mean nothing: add --release");
    }
    stop::listen();
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let programs = Programs::build(folder.path(), !args.without_libmilter)?;
    let plan = Plan {
        rounds: args.rounds,
        time: Duration::from_secs_f64(args.seconds),
        connections: args.connections,
        scenarios: args.scenarios.clone(),
        unix: args.unix,
        pin: !args.no_pin,
    };
    let mut report = measure::all(&plan, &programs, folder.path())?;
    if args.mta {
        report.deliveries = delivery::all(&programs, args.rounds)?;
    }
    let file = match &args.json {
        Some(file) => file.clone(),
        None => std::env::current_exe()
            .map_err(|error| error.to_string())?
            .with_file_name("compare.json"),
    };
    let json = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
    write(&file, &format!("{json}\n"))?;
    eprintln!("compare: the figures are in {}", file.display());
    Ok(report)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// What [`Address`] displays.
fn parse_address(text: &str) -> Option<Address> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Some(Address::Unix(path.into()));
    }
    let port = text.strip_prefix("inet:")?.strip_suffix("@127.0.0.1")?;
    port.parse().ok().map(Address::Tcp)
}
