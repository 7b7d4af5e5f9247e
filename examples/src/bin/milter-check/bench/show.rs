//! What a load test measured, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write;

use milter_examples::color::{BOLD, DIM, GREEN, RED};
use milter_examples::text::{Shown, count, float, time};
use serde::Serialize;

use super::Measured;
use super::histogram::Histogram;
use crate::ending::Ending;
use crate::json::ms;

/// The most rows of the drawing.
const ROWS: u32 = 14;
/// Its longest bar, in characters.
const BAR: u64 = 40;

impl Measured {
    fn per_second(&self) -> f64 {
        let (done, failed) = self.tally.counts();
        float(done - failed) / self.took.as_secs_f64().max(1e-9)
    }
}

/// For people.
pub(super) fn text(measured: &Measured) -> String {
    let Measured { tally, total, .. } = measured;
    let mut out = String::new();
    let (done, failed) = tally.counts();
    let messages = count(usize::try_from(done).unwrap_or(usize::MAX), "message");
    let connections = count(measured.connections as usize, "connection");
    let _ = writeln!(
        out,
        "{BOLD}{messages} over {connections} in {}: {:.0} a second{BOLD:#}",
        time(measured.took),
        measured.per_second()
    );
    if done < *total {
        let _ = writeln!(out, "  stopped before the other {}", total - done);
    }
    for (ending, count) in &tally.endings {
        let style = if ending.is_verdict() { GREEN } else { RED };
        let _ = writeln!(out, "  {style}{count:>8} {ending}{style:#}");
    }
    out.push_str(&errors(measured));
    if tally.messages.count() == 0 {
        return out;
    }
    if failed > 0 {
        let _ = writeln!(out, "  The times below are those of the others.");
    }
    let _ = writeln!(out, "\n{BOLD}Time for a message{BOLD:#}");
    percentiles(&mut out, &tally.messages);
    out.push('\n');
    bars(&mut out, &tally.messages);
    let _ = writeln!(
        out,
        "\n{BOLD}{:<24}{:>10}{:>10}{:>10}{:>10}{BOLD:#}",
        "Time for an answer", "count", "p50", "p99", "max"
    );
    let opening = ("connection, negotiation", &tally.opening);
    let stages = tally.stages().map(|(stage, times)| (stage.name(), times));
    for (what, times) in [opening].into_iter().chain(stages) {
        let _ = writeln!(
            out,
            "{what:<24}{:>10}{:>10}{:>10}{:>10}",
            times.count(),
            time(times.per_mille(500)),
            time(times.per_mille(990)),
            time(times.max())
        );
    }
    out
}

/// Why messages got no verdict.
pub(super) fn errors(measured: &Measured) -> String {
    let mut out = String::new();
    for (why, count) in &measured.tally.errors {
        let why = Shown(why.as_bytes());
        let _ = writeln!(out, "  {RED}{count:>8} times: {why}{RED:#}");
    }
    out
}

fn percentiles(out: &mut String, times: &Histogram) {
    let row: [(&str, _); 7] = [
        ("min", times.min()),
        ("p50", times.per_mille(500)),
        ("p90", times.per_mille(900)),
        ("p95", times.per_mille(950)),
        ("p99", times.per_mille(990)),
        ("p99.9", times.per_mille(999)),
        ("max", times.max()),
    ];
    for (name, _) in row {
        let _ = write!(out, "{name:>10}");
    }
    out.push('\n');
    for (_, value) in row {
        let _ = write!(out, "{:>10}", time(value));
    }
    out.push('\n');
}

fn bars(out: &mut String, times: &Histogram) {
    let rows = times.rows(ROWS);
    let longest = rows.iter().map(|row| row.count).max().unwrap_or(1).max(1);
    for row in &rows {
        // What there is at all is seen.
        let len = (row.count * BAR).div_ceil(longest);
        let bar = "█".repeat(usize::try_from(len).unwrap_or_default());
        let count = if row.count == 0 {
            String::new()
        } else {
            format!(" {}", row.count)
        };
        let _ = writeln!(
            out,
            "{:>10} {DIM}|{DIM:#}{GREEN}{bar}{GREEN:#}{count}",
            time(row.up_to)
        );
    }
}

/// For programs.
#[derive(Debug, Serialize)]
pub(super) struct Object {
    messages: u64,
    failed: u64,
    connections: u32,
    seconds: f64,
    per_second: f64,
    outcomes: BTreeMap<Ending, u64>,
    errors: BTreeMap<String, u64>,
    /// From the first byte of a message to its verdict.
    message: Times,
    opening: Times,
    stages: BTreeMap<&'static str, Times>,
}

/// In milliseconds.
#[derive(Debug, Serialize)]
struct Times {
    count: u64,
    min: f64,
    mean: f64,
    p50: f64,
    p90: f64,
    p95: f64,
    p99: f64,
    #[serde(rename = "p99.9")]
    p999: f64,
    max: f64,
}

impl From<&Histogram> for Times {
    fn from(times: &Histogram) -> Self {
        Self {
            count: times.count(),
            min: ms(times.min()),
            mean: ms(times.mean()),
            p50: ms(times.per_mille(500)),
            p90: ms(times.per_mille(900)),
            p95: ms(times.per_mille(950)),
            p99: ms(times.per_mille(990)),
            p999: ms(times.per_mille(999)),
            max: ms(times.max()),
        }
    }
}

impl From<&Measured> for Object {
    fn from(measured: &Measured) -> Self {
        let tally = &measured.tally;
        let (messages, failed) = tally.counts();
        let stages = tally.stages();
        Self {
            messages,
            failed,
            connections: measured.connections,
            seconds: measured.took.as_secs_f64(),
            per_second: measured.per_second(),
            outcomes: tally.endings.clone(),
            errors: tally.errors.clone(),
            message: Times::from(&tally.messages),
            opening: Times::from(&tally.opening),
            stages: stages
                .map(|(stage, times)| (stage.name(), times.into()))
                .collect(),
        }
    }
}
