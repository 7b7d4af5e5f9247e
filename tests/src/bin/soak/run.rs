//! A run: the server, its clients, and what is said of them.

use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use milter_tests::address::Address;
use milter_tests::process::Filter;
use milter_tests::raw::{Message, Peer, STEPS};
use milter_tests::usage;
use milter_tests::wait;

use crate::load::{self, Tally};
use crate::memory::Growth;
use crate::rng::Rng;

/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_millis(250);
/// Shorter runs say nothing about memory.
const JUDGED: Duration = Duration::from_secs(60);
/// How long descriptors may stay open after all clients are gone.
const CLOSED: Duration = Duration::from_secs(10);
/// Time-outs of the server, in milliseconds: clients that hang must not hold up the run.
const TIMEOUTS: [&str; 4] = ["--call-timeout", "300", "--write-timeout", "5000"];
/// Has glibc give freed memory back at once. Else it finds out by itself how much to keep, and what
/// is resident goes up and down by some MiB that nobody uses.
// mallopt(3): M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD, M_ARENA_MAX
const ALLOCATOR: [(&str, &str); 4] = [
    ("MALLOC_MMAP_THRESHOLD_", "65536"),
    ("MALLOC_TRIM_THRESHOLD_", "65536"),
    ("MALLOC_TOP_PAD_", "0"),
    ("MALLOC_ARENA_MAX", "2"),
];

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// How many minutes it lasts
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// How many seconds it lasts, instead of minutes
    #[arg(long, conflicts_with = "minutes")]
    seconds: Option<u64>,
    /// How many clients there are at once
    #[arg(long, default_value_t = 16)]
    clients: u64,
    /// What randomness begins with, to see the same again [default: the time]
    #[arg(long)]
    seed: Option<u64>,
    /// How many seconds there are between two lines of figures
    #[arg(long, default_value_t = 10)]
    every: u64,
}

impl Options {
    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(self.minutes * 60))
    }

    fn seed(&self) -> u64 {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH);
        self.seed
            .unwrap_or_else(|| now().map_or(0, |time| time.as_secs()))
    }
}

pub(crate) fn run(options: &Options) -> ExitCode {
    match soak(options) {
        Ok(faults) if faults.is_empty() => {
            println!("all was well");
            ExitCode::SUCCESS
        }
        Ok(faults) => {
            for fault in faults {
                println!("FAILED: {fault}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What was not as it should be.
fn soak(options: &Options) -> Result<Vec<String>, String> {
    let (time, seed) = (options.time(), options.seed());
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let addresses = [
        Address::free_tcp(),
        Address::Unix(dir.path().join("socket")),
    ];
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.arg("serve").args(TIMEOUTS).envs(ALLOCATOR);
    for address in &addresses {
        command.args(["--listen", &address.to_string()]);
    }
    // The last is bound last.
    let mut server = Filter::start_command(&mut command, &addresses[1]);
    println!("seed {seed}, {time:?}, {} clients", options.clients);
    let pid = server.id();
    let gone = || "the server is gone".to_owned();
    let before = usage::descriptors(pid).ok_or_else(gone)?;
    for address in &addresses {
        first_message(address).map_err(|error| format!("the first message: {error}"))?;
    }

    let (tally, stop) = (Tally::default(), AtomicBool::new(false));
    let samples = thread::scope(|scope| {
        for number in 0..options.clients {
            // Neighbouring seeds give unlike clients.
            let rng = Rng::new(Rng::new(seed.wrapping_add(number)).next());
            let (tally, stop, addresses) = (&tally, &stop, &addresses);
            scope.spawn(move || load::work(rng, addresses, tally, stop));
        }
        let samples = watch(options, time, &mut server, &tally);
        stop.store(true, Ordering::Relaxed);
        samples
    });

    let mut faults = Vec::new();
    if tally.wrong() > 0 {
        faults.push(format!("{} wrong answers, the first ones:", tally.wrong()));
        faults.extend(tally.first());
    }
    let samples = match samples {
        Ok(samples) => samples,
        Err(error) => {
            faults.push(error);
            return Ok(faults);
        }
    };
    match Growth::of(&samples).filter(|_| time >= JUDGED) {
        None => println!("memory: too short a run to judge"),
        Some(growth) => {
            let text = format!(
                "memory: {} KiB in the second tenth, {} KiB in the last quarter, at most {} KiB allowed",
                growth.early,
                growth.late,
                growth.most()
            );
            println!("{text}");
            if !growth.is_flat() {
                faults.push(text);
            }
        }
    }
    let closed = wait::until("descriptors to be closed", CLOSED, || {
        usage::descriptors(pid).filter(|open| *open <= before)
    });
    let after = usage::descriptors(pid).ok_or_else(gone)?;
    println!("descriptors: {before} at the beginning, {after} at the end");
    if closed.is_err() {
        faults.push(format!(
            "{} descriptors stay open",
            after.saturating_sub(before)
        ));
    }
    match server.stop() {
        Ok(status) if status.success() => {}
        Ok(status) => faults.push(format!("the server ended with {status}")),
        Err(error) => faults.push(error),
    }
    Ok(faults)
}

fn first_message(address: &Address) -> std::io::Result<()> {
    let mut peer = Peer::connect(address)?;
    peer.greet(6, STEPS)?;
    let message = Message::small("first@sender.example");
    let answer = peer.deliver(&message, |_| {})?;
    if answer.is_right_for(&message) {
        Ok(())
    } else {
        Err(std::io::Error::other(format!("{answer:?}")))
    }
}

/// Tells how it goes until the time is over; the memory at equal distances, in KiB.
fn watch(
    options: &Options,
    time: Duration,
    server: &mut Filter,
    tally: &Tally,
) -> Result<Vec<u64>, String> {
    let every = Duration::from_secs(options.every.max(1));
    let start = Instant::now();
    let (mut samples, mut next, mut last) = (Vec::new(), every, 0);
    while start.elapsed() < time {
        thread::sleep(SAMPLE);
        if let Some(status) = server.ended() {
            return Err(format!("the server ended: {status}\n{}", server.output()));
        }
        let memory = usage::resident(server.id()).unwrap_or(0);
        samples.push(memory);
        let elapsed = start.elapsed();
        if elapsed >= next || elapsed >= time {
            let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            let messages = get(&tally.messages);
            println!(
                "{:5} s: {messages} messages, {} a second, {} connections, {} faults, {} wrong; {memory} KiB, {} descriptors",
                elapsed.as_secs(),
                (messages - last) / every.as_secs(),
                get(&tally.connections),
                get(&tally.faults),
                tally.wrong(),
                usage::descriptors(server.id()).unwrap_or(0),
            );
            last = messages;
            next += every;
        }
    }
    Ok(samples)
}
