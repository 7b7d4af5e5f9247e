//! How many instructions the server takes for a message and for each of its events, by scenario:
//! figures that hardly change from run to run, whatever else the machine does.
//!
//!     cargo bench -p milter-tests --bench instructions
//!
//! It runs itself under valgrind's callgrind, with few messages and with more, and takes the
//! difference. The column `alone` is the mail server's own share: reads, writes, the loop.

mod common;

use std::path::Path;
use std::process::{Command, ExitCode};

use common::SCENARIOS;

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
        return ExitCode::SUCCESS;
    }
    println!("scenario       events  instructions a message     alone  an event, without that");
    for scenario in SCENARIOS {
        let name = scenario.0;
        let counted = ["serve", "floor"].map(|what| {
            let run = |messages| count(what, name, messages);
            Ok::<_, String>(common::per(run(MORE)? - run(FEW)?, MORE - FEW))
        });
        let [serve, floor] = match counted {
            [Ok(serve), Ok(floor)] => [serve, floor],
            [Err(error), _] | [_, Err(error)] => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        };
        let events = common::per(common::session(scenario).next.events as u64, 1);
        let own = (serve - floor) / events;
        println!("{name:12} {events:8} {serve:23.0} {floor:9.0} {own:23.0}");
    }
    ExitCode::SUCCESS
}

fn run(what: &str, scenario: &str, messages: u64) {
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
