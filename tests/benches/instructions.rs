//! How many instructions the server takes for a message and for each of its events, by scenario:
//! figures that hardly change from run to run, whatever else the machine does.
//!
//!     cargo bench -p milter-tests --bench instructions
//!
//! It runs itself under valgrind's callgrind, with few messages and with more, and takes the
//! difference. The column `alone` is the mail server's own share: reads, writes, the loop.
//!
//! The second table is what each layer of `milter-middleware` adds to that of the filter without it;
//! what it does once a message is spread over its events.

mod common;
#[path = "common/layers.rs"]
mod layers;

use std::path::Path;
use std::process::{Command, ExitCode};

use common::SCENARIOS;
use layers::LAYERS;

const FEW: u64 = 10;
const MORE: u64 = 110;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [what, scenario, messages] = &args[..] {
        run(what, scenario, messages.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    if !args.iter().any(|arg| arg == "--bench") {
        // `cargo test --benches` only wants to know whether it runs.
        for (name, _, _) in SCENARIOS {
            run("serve", name, 1);
            run("floor", name, 1);
        }
        for layer in LAYERS {
            run("layer", layer, 1);
        }
        return ExitCode::SUCCESS;
    }
    match scenarios().and_then(|()| with_layers()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn scenarios() -> Result<(), String> {
    println!("scenario       events  instructions a message     alone  an event, without that");
    for scenario in SCENARIOS {
        let name = scenario.0;
        let events = common::per(common::session(scenario).next.events as u64, 1);
        let (serve, floor) = (a_message("serve", name)?, a_message("floor", name)?);
        let own = (serve - floor) / events;
        println!("{name:12} {events:8} {serve:23.0} {floor:9.0} {own:23.0}");
    }
    Ok(())
}

fn with_layers() -> Result<(), String> {
    println!("\nlayer                    instructions an event");
    let events = common::per(layers::layer_session().next.events as u64, 1);
    let mut none = None;
    for layer in LAYERS {
        let all = a_message("layer", layer)?;
        let alone = *none.get_or_insert(all);
        println!("{layer:24} {:16.0}", (all - alone) / events);
    }
    Ok(())
}

/// Instructions for a message.
fn a_message(what: &str, name: &str) -> Result<f64, String> {
    let more = count(what, name, MORE)? - count(what, name, FEW)?;
    Ok(common::per(more, MORE - FEW))
}

fn run(what: &str, scenario: &str, messages: u64) {
    if what == "layer" {
        let session = &*Box::leak(Box::new(layers::layer_session()));
        common::runtime().block_on(layers::serve_layer(scenario, session, messages));
        return;
    }
    let scenario = SCENARIOS.into_iter().find(|one| one.0 == scenario);
    let scenario = scenario.expect("a scenario");
    let session = &*Box::leak(Box::new(common::session(scenario)));
    common::runtime().block_on(async {
        match what {
            "serve" => common::serve(scenario.1, session, messages).await,
            _ => common::floor(session, messages).await,
        }
    });
}

/// Instructions of a whole run.
fn count(what: &str, scenario: &str, messages: u64) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = valgrind(&program)
        .args([what, scenario, &messages.to_string()])
        .output();
    let output = output.map_err(|error| {
        format!("cannot start valgrind ({error}): apt-get install valgrind, or the like")
    })?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    match collected.map(|(_, number)| number.trim().parse()) {
        Some(Ok(number)) if output.status.success() => Ok(number),
        _ => Err(format!("valgrind: {}\n{said}", output.status)),
    }
}

fn valgrind(program: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program);
    command
}
