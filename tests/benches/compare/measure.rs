//! The rounds, and what is measured in each.

use std::path::Path;
use std::time::Duration;

use milter_tests::address::Address;
use milter_tests::process::Filter;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::load::{Load, Play};
use crate::machine::{self, Processors};
use crate::report::{Figures, Memory, Report, Row, ScenarioReport};
use crate::servers::{Mode, Programs, Server};
use crate::stop;

/// What is done to each server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it is, in a few words.
    pub(crate) about: &'static str,
    mode: Mode,
    body: usize,
}

const KIB: usize = 1024;

/// All of them.
pub(crate) const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "noop",
        about: "each event answered",
        mode: Mode::Noop,
        body: 4 * KIB,
    },
    Scenario {
        name: "addheader",
        about: "the same, a header added",
        mode: Mode::Addheader,
        body: 4 * KIB,
    },
    Scenario {
        name: "nr",
        about: "no replies but the verdict",
        mode: Mode::Nr,
        body: 4 * KIB,
    },
    Scenario {
        name: "body",
        about: "noop with 1 MiB of body",
        mode: Mode::Noop,
        body: 1024 * KIB,
    },
];

/// Connections that lie idle while memory is measured.
const IDLE: usize = 200;
/// How many of those have a message at a time.
const AT_A_TIME: usize = 8;

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    pub(crate) time: Duration,
    pub(crate) connections: u32,
    /// Names; none for all.
    pub(crate) scenarios: Vec<String>,
    pub(crate) unix: bool,
    pub(crate) pin: bool,
}

/// Measures everything.
pub(crate) fn all(plan: &Plan, programs: &Programs, folder: &Path) -> Result<Report, String> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
    let processors = if plan.pin { Processors::split() } else { None };
    let rig = Rig {
        programs,
        processors,
        socket: plan.unix.then(|| folder.join("socket")),
    };
    let machine = machine::describe();
    let mut scenarios: Vec<(Scenario, ScenarioReport)> = SCENARIOS
        .into_iter()
        .filter(|one| plan.scenarios.is_empty() || plan.scenarios.iter().any(|n| n == one.name))
        .map(|one| {
            let rows = programs.servers().into_iter();
            let rows = rows.map(|server| Row {
                server,
                rounds: Vec::new(),
            });
            let report = ScenarioReport {
                name: one.name.to_owned(),
                about: one.about.to_owned(),
                rows: rows.collect(),
            };
            (one, report)
        })
        .collect();
    for round in 1..=plan.rounds {
        for (scenario, report) in &mut scenarios {
            for row in &mut report.rows {
                let what = format!("{}, {}", scenario.name, row.server.label());
                let figures = rig.round(plan, *scenario, row.server);
                let figures = figures.map_err(|error| format!("{what}: {error}"))?;
                eprintln!(
                    "compare: round {round} of {}: {what}: {:.1} µs a message",
                    plan.rounds, figures.processor
                );
                row.rounds.push(figures);
            }
        }
    }
    let memory = programs.servers().into_iter().map(|server| {
        rig.memory(server)
            .map_err(|error| format!("memory, {}: {error}", server.label()))
    });
    let memory = memory.collect::<Result<_, _>>()?;
    Ok(Report {
        machine,
        libmilter: machine::libmilter_package().or_else(|| programs.libmilter_version()),
        pinned: processors.is_some(),
        unix: plan.unix,
        connections: plan.connections,
        seconds: plan.time.as_secs_f64(),
        scenarios: scenarios.into_iter().map(|(_, report)| report).collect(),
        idle: IDLE,
        memory,
        deliveries: Vec::new(),
    })
}

/// What every measurement needs.
struct Rig<'a> {
    programs: &'a Programs,
    processors: Option<Processors>,
    socket: Option<std::path::PathBuf>,
}

impl Rig<'_> {
    fn start(&self, server: Server, mode: Mode) -> Result<Filter, String> {
        stop::check()?;
        let address = match &self.socket {
            Some(path) => Address::Unix(path.clone()),
            None => Address::free_tcp(),
        };
        let mut command = self.programs.command(server, &address, mode);
        // A process inherits where its parent runs at that moment.
        if let Some(processors) = &self.processors {
            processors.be_a_server()?;
        }
        let filter = Filter::start_command(&mut command, &address);
        if let Some(processors) = &self.processors {
            processors.be_the_load()?;
        }
        Ok(filter)
    }

    fn round(&self, asked: &Plan, scenario: Scenario, server: Server) -> Result<Figures, String> {
        let filter = self.start(server, scenario.mode)?;
        let play = Play::new(scenario.mode, scenario.body);
        let mut load = Load::connect(filter.address(), &play, asked.connections as usize)?;
        load.run(&play, asked.time / 5)?;
        let before = machine::processor_time(filter.id())?;
        let mut played = load.run(&play, asked.time)?;
        let used = machine::processor_time(filter.id())?.saturating_sub(before);
        played.latencies.sort_unstable();
        let messages = played.latencies.len();
        let share = |part: f64| {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "an index"
            )]
            #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
            let at = (messages as f64 * part) as usize;
            played
                .latencies
                .get(at)
                .map_or(0.0, |nanos| micros(Duration::from_nanos(*nanos)))
        };
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let number = messages as f64;
        Ok(Figures {
            processor: micros(used) / number,
            rate: number / played.elapsed.as_secs_f64(),
            median: share(0.5),
            p99: share(0.99),
        })
    }

    /// What idle connections take: fresh ones, after a small message each, after a large one.
    fn memory(&self, server: Server) -> Result<Memory, String> {
        let filter = self.start(server, Mode::Noop)?;
        let small = Play::new(Mode::Noop, 4 * KIB);
        let large = Play::new(Mode::Noop, 1024 * KIB);
        // What is set up once, and not for each connection.
        Load::connect(filter.address(), &small, AT_A_TIME)?.once(&small, AT_A_TIME)?;
        let before = machine::memory(filter.id())?;
        let mut load = Load::connect(filter.address(), &small, IDLE)?;
        let each = || -> Result<f64, String> {
            let more = machine::memory(filter.id())?.saturating_sub(before);
            #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
            Ok(more as f64 / IDLE as f64)
        };
        let fresh = each()?;
        load.once(&small, AT_A_TIME)?;
        let after_small = each()?;
        load.once(&large, AT_A_TIME)?;
        let after_large = each()?;
        Ok(Memory {
            server,
            fresh,
            after_small,
            after_large,
        })
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
