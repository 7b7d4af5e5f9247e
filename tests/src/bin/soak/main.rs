//! Full load with faults mixed in, for as long as one likes: does the server keep its memory and
//! its descriptors, and does every message get its right answer?
//!
//! The server is a process of its own (this program again, as `soak serve`), so that what is
//! measured is the server alone. The exit code is 0 when all was well, 1 when not, 2 when the
//! command line was wrong.

mod filter;
mod load;
mod memory;
mod rng;
mod run;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Drives a filter server at full load with faults mixed in, and judges it at the end
///
/// Judged are: the answer to every well-formed message; the server's memory (in a run of a minute
/// or more): the median of the last quarter must not exceed that of the second tenth by more than
/// a tenth, or 2 MiB if that is more; its descriptors, which must be as many as at the beginning
/// once all clients are gone; and that it stops when it is told to.
#[derive(Parser, Debug)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    run: run::Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Runs only the server
    #[command(hide = true)]
    Serve(serve::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        None => run::run(&cli.run),
        Some(Command::Serve(options)) => match serve::run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
    }
}
