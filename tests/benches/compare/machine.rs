//! What the figures were measured on, in words; which processors there are; what a process used.

use std::fs;
use std::process::Command;
use std::time::Duration;

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Processors, system and kernel.
pub(crate) fn describe() -> String {
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |key: &str| {
        let row = system.lines().find_map(|row| row.strip_prefix(key));
        row.map(|value| value.trim_matches('"').to_owned())
    };
    let system = field("PRETTY_NAME=").unwrap_or_else(|| "Linux".to_owned());
    let number = std::thread::available_parallelism().map_or(1, usize::from);
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    // What follows the numbers is a name that the builder gave.
    let kernel = release
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .next();
    let cores = if number == 1 { "core" } else { "cores" };
    format!(
        "{number} {cores} ({}), {system}, kernel {}",
        std::env::consts::ARCH,
        kernel.unwrap_or_default()
    )
}

/// The version of the package that libmilter is from, where dpkg knows it.
pub(crate) fn libmilter_package() -> Option<String> {
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${Version}", "libmilter-dev"])
        .output()
        .ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    let upstream = version.split('-').next().unwrap_or_default();
    (output.status.success() && !upstream.is_empty()).then(|| upstream.to_owned())
}

/// Which processors the load and the servers run on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Processors {
    load: CpuSet,
    servers: CpuSet,
}

impl Processors {
    /// The first for the load and all others for the servers; none with less than two.
    pub(crate) fn split() -> Option<Self> {
        let all = sched_getaffinity(None).ok()?;
        let first = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu))?;
        let (mut load, mut servers) = (CpuSet::new(), all);
        load.set(first);
        servers.unset(first);
        (servers.count() > 0).then_some(Self { load, servers })
    }

    /// This thread, and processes that it starts, run where servers do.
    pub(crate) fn be_a_server(&self) -> Result<(), String> {
        sched_setaffinity(None, &self.servers).map_err(|error| error.to_string())
    }

    /// This thread runs where the load does.
    pub(crate) fn be_the_load(&self) -> Result<(), String> {
        sched_setaffinity(None, &self.load).map_err(|error| error.to_string())
    }
}

/// The processor time that a process has used, user and system, of all its threads, those that
/// have ended too.
pub(crate) fn processor_time(pid: u32) -> Result<Duration, String> {
    let pid = i32::try_from(pid).map_err(|error| error.to_string())?;
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).map_err(|error| error.to_string())?;
    let time = clock.now().map_err(|error| error.to_string())?;
    Ok(time.into())
}

/// The memory of a process that is present, in bytes.
pub(crate) fn memory(pid: u32) -> Result<u64, String> {
    // Exact, other than /proc/PID/status.
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    let row = text.lines().find_map(|row| row.strip_prefix("Rss:"));
    let number = row.and_then(|row| row.split_ascii_whitespace().next()?.parse::<u64>().ok());
    number
        .map(|kib| kib * 1024)
        .ok_or_else(|| format!("{file} has no Rss"))
}
