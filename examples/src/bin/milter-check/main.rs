#![doc = include_str!("README.md")]

use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;
use crate::output::Output;

mod args;
mod bench;
mod ending;
mod json;
mod letters;
mod link;
mod output;
mod run;
mod show;
mod trouble;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let mut output = Output::new(&args.output);
    let ended = match args.load.bench {
        Some(_) => bench::run(&args, &mut output).await,
        None => run::run(&args, &mut output).await,
    };
    match ended {
        Ok(code) => code,
        Err(trouble) => {
            output.complain(&trouble);
            trouble.exit_code()
        }
    }
}
