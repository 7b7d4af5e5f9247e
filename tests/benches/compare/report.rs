//! The figures: kept as JSON, shown as Markdown.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::servers::Server;

const BEGIN: &str = "<!-- compare: begin -->";
const END: &str = "<!-- compare: end -->";

/// All of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// What it was measured on, in words.
    pub(crate) machine: String,
    /// The version of libmilter, if it was measured.
    pub(crate) libmilter: Option<String>,
    /// Whether load and servers had processors of their own.
    pub(crate) pinned: bool,
    /// Whether over unix sockets instead of TCP.
    pub(crate) unix: bool,
    /// Connections with a message under way.
    pub(crate) connections: u32,
    /// How long each measurement took.
    pub(crate) seconds: f64,
    /// The comparison.
    pub(crate) scenarios: Vec<ScenarioReport>,
    /// Over how many idle connections memory was measured.
    pub(crate) idle: usize,
    /// Memory by server.
    pub(crate) memory: Vec<Memory>,
    /// Through real mail servers, if that was asked for.
    pub(crate) deliveries: Vec<Delivery>,
}

/// One scenario.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ScenarioReport {
    /// Its name.
    pub(crate) name: String,
    /// What it is.
    pub(crate) about: String,
    /// The servers, the floor first.
    pub(crate) rows: Vec<Row>,
}

/// One server in one scenario.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Which.
    pub(crate) server: Server,
    /// Figures by round.
    pub(crate) rounds: Vec<Figures>,
}

/// One measurement.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// The server's processor time for a message, in microseconds.
    pub(crate) processor: f64,
    /// Messages a second.
    pub(crate) rate: f64,
    /// The median time of a message, in microseconds.
    pub(crate) median: f64,
    /// The time that one message in a hundred exceeds, in microseconds.
    pub(crate) p99: f64,
}

/// What an idle connection takes, in bytes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Which server.
    pub(crate) server: Server,
    /// Just negotiated.
    pub(crate) fresh: f64,
    /// After a message with 4 KiB of body.
    pub(crate) after_small: f64,
    /// After a message with 1 MiB of body.
    pub(crate) after_large: f64,
}

/// Messages through a real mail server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Delivery {
    /// Which mail server.
    pub(crate) mta: String,
    /// The filter's server; none without a filter.
    pub(crate) server: Option<Server>,
    /// How many messages.
    pub(crate) messages: usize,
    /// How long all took, in seconds, by round.
    pub(crate) rounds: Vec<f64>,
}

impl Delivery {
    /// What its filter is called.
    pub(crate) fn label(&self) -> &'static str {
        self.server.map_or("no filter", Server::label)
    }
}

impl Row {
    /// The median of a figure over the rounds.
    pub(crate) fn median(&self, figure: impl Fn(&Figures) -> f64) -> f64 {
        median(self.rounds.iter().map(figure))
    }
}

impl ScenarioReport {
    /// Processor time as a multiple of the floor's in the same round: median, least and most.
    pub(crate) fn ratio(&self, row: &Row) -> (f64, f64, f64) {
        let floor = self.rows.iter().find(|row| row.server == Server::Floor);
        let floor = floor.map_or(&[][..], |row| &row.rounds[..]);
        let ratios = row.rounds.iter().zip(floor);
        let ratios: Vec<f64> = ratios
            .map(|(own, floor)| own.processor / floor.processor)
            .collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        (median(ratios), least, most)
    }
}

impl Report {
    /// The tables, with the words that belong to them.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        let rounds = self.scenarios.first().and_then(|one| one.rows.first());
        let rounds = rounds.map_or(0, |row| row.rounds.len());
        let _ = writeln!(
            text,
            "Measured on {}, {}{}, {} connections; medians of {rounds} rounds of {} s.\n",
            self.machine,
            if self.unix { "unix sockets" } else { "TCP" },
            self.libmilter
                .as_ref()
                .map(|v| format!(", libmilter {v}"))
                .unwrap_or_default(),
            self.connections,
            self.seconds,
        );
        text.push_str(
            "| scenario | server | CPU µs/message | × floor (range) | messages/s | p50 µs | p99 µs |\n\
             | --- | --- | ---: | ---: | ---: | ---: | ---: |\n",
        );
        for scenario in &self.scenarios {
            for (n, row) in scenario.rows.iter().enumerate() {
                let (ratio, least, most) = scenario.ratio(row);
                let ratio = if n == 0 {
                    "1".to_owned()
                } else {
                    format!("{ratio:.2} ({least:.2} to {most:.2})")
                };
                let name = if n == 0 {
                    format!("**{}**: {}", scenario.name, scenario.about)
                } else {
                    String::new()
                };
                let _ = writeln!(
                    text,
                    "| {name} | {} | {:.1} | {ratio} | {:.0} | {:.0} | {:.0} |",
                    row.server.label(),
                    row.median(|f| f.processor),
                    row.median(|f| f.rate),
                    row.median(|f| f.median),
                    row.median(|f| f.p99),
                );
            }
        }
        let _ = write!(
            text,
            "\nMemory of an idle connection in KiB, the mean of {}:\n\n\
             | server | fresh | after a message of 4 KiB | after one of 1 MiB |\n\
             | --- | ---: | ---: | ---: |\n",
            self.idle
        );
        for memory in &self.memory {
            let kib = |bytes: f64| bytes / 1024.0;
            let _ = writeln!(
                text,
                "| {} | {:.1} | {:.1} | {:.1} |",
                memory.server.label(),
                kib(memory.fresh),
                kib(memory.after_small),
                kib(memory.after_large),
            );
        }
        self.write_deliveries(&mut text);
        text
    }

    fn write_deliveries(&self, text: &mut String) {
        let Some(first) = self.deliveries.first() else {
            return;
        };
        let _ = write!(
            text,
            "\n{} messages by SMTP, one after the other, each over a connection of its own, through \
             a mail server whose filter adds a header:\n\n\
             | mail server | filter | seconds (range) |\n| --- | --- | ---: |\n",
            first.messages
        );
        for delivery in &self.deliveries {
            let least = delivery
                .rounds
                .iter()
                .copied()
                .fold(f64::INFINITY, f64::min);
            let most = delivery.rounds.iter().copied().fold(0.0, f64::max);
            let middle = median(delivery.rounds.iter().copied());
            let (mta, label) = (&delivery.mta, delivery.label());
            let _ = writeln!(
                text,
                "| {mta} | {label} | {middle:.2} ({least:.2} to {most:.2}) |"
            );
        }
    }
}

/// The text with this between its marks instead of what is there.
pub(crate) fn replaced(text: &str, new: &str) -> Result<String, String> {
    let missing = || format!("README.md has no lines {BEGIN} and {END}");
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", new.trim()))
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let new = replaced(&text, "new\n").unwrap();
        assert_eq!(new, format!("a\n{BEGIN}\n\nnew\n\n{END}\nb\n"));
        assert_eq!(replaced(&new, "new").unwrap(), new);
        assert!(replaced("no marks", "new").is_err());
    }

    #[test]
    fn a_ratio_is_to_the_floor_of_the_same_round() {
        let row = |server, times: [f64; 3]| Row {
            server,
            rounds: times
                .map(|processor| Figures {
                    processor,
                    rate: 1.0,
                    median: 1.0,
                    p99: 1.0,
                })
                .to_vec(),
        };
        let scenario = ScenarioReport {
            name: String::new(),
            about: String::new(),
            rows: vec![
                row(Server::Floor, [10.0, 20.0, 40.0]),
                row(Server::OneThread, [20.0, 60.0, 40.0]),
            ],
        };
        let (ratio, least, most) = scenario.ratio(&scenario.rows[1]);
        assert!(
            (ratio - 2.0).abs() < 1e-9 && (least - 1.0).abs() < 1e-9 && (most - 3.0).abs() < 1e-9
        );
    }
}
