//! Fifty messages, one after the other, through a real mail server with a filter that adds a
//! header: what a user would notice of the filter's speed.

use std::time::{Duration, Instant};

use milter_tests::address::Address;
use milter_tests::mail::Mail;
use milter_tests::mta::{self, Config, Kind, Mta};
use milter_tests::process::Filter;
use milter_tests::sink::Sink;
use milter_tests::smtp;

use crate::report::Delivery;
use crate::servers::{Mode, Programs, Server};
use crate::stop;

const MESSAGES: usize = 50;
/// How long their delivery may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// On each mail server that this machine can run: each filter once a round.
pub(crate) fn all(programs: &Programs, rounds: u32) -> Result<Vec<Delivery>, String> {
    let mut all = Vec::new();
    for kind in [Kind::Postfix, Kind::Sendmail] {
        if let Err(reason) = mta::available(kind) {
            eprintln!("compare: left out: {reason}");
            continue;
        }
        let mut filters = vec![None];
        filters.extend(programs.servers().into_iter().map(Some));
        filters.retain(|server| *server != Some(Server::Floor));
        let mut deliveries: Vec<Delivery> = filters
            .into_iter()
            .map(|server| Delivery {
                mta: kind.to_string(),
                server,
                messages: MESSAGES,
                rounds: Vec::new(),
            })
            .collect();
        for round in 1..=rounds {
            for delivery in &mut deliveries {
                let time = deliver(programs, kind, delivery.server)?.as_secs_f64();
                eprintln!(
                    "compare: round {round} of {rounds}: {kind}, {}: {time:.3} s",
                    delivery.label()
                );
                delivery.rounds.push(time);
            }
        }
        all.extend(deliveries);
    }
    Ok(all)
}

fn deliver(programs: &Programs, kind: Kind, server: Option<Server>) -> Result<Duration, String> {
    stop::check()?;
    let sink = Sink::start().map_err(|error| error.to_string())?;
    let filter = server.map(|server| {
        let address = Address::free_tcp();
        let mut command = programs.command(server, &address, Mode::Addheader);
        Filter::start_command(&mut command, &address)
    });
    let config = Config {
        milters: filter
            .iter()
            .map(|filter| filter.address().clone())
            .collect(),
        ..Config::default()
    };
    let mta = Mta::start(kind, sink.port(), &config)?;
    let mut elapsed = Duration::ZERO;
    // The first shows that all is up, and is not counted.
    for n in 0..=MESSAGES {
        stop::check()?;
        let start = Instant::now();
        let transcript = smtp::send(mta.port(), &Mail::to_bob());
        if n > 0 {
            elapsed += start.elapsed();
        }
        if !transcript.accepted() {
            return Err(format!(
                "{kind} did not take message {n}: {transcript:?}\n{}",
                mta.log()
            ));
        }
    }
    let headers = usize::from(server.is_some());
    for message in sink.take(MESSAGES + 1, PATIENCE)? {
        if message.header("X-Bench").len() != headers {
            return Err(format!(
                "{kind} delivered without the header: {:?}",
                message.headers()
            ));
        }
    }
    Ok(elapsed)
}
