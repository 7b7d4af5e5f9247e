//! A mail server with `control` filters before it and a sink behind it.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::address::Address;
use crate::control::{self, Event, Trace};
use crate::mail::Mail;
use crate::mta::{Config, Kind, Mta, WorkDir};
use crate::process::Filter;
use crate::scripted::Scripted;
use crate::sink::{Delivered, Sink};
use crate::smtp::{self, Transcript};
use crate::wait::PATIENCE;

/// How a rig is set up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How many `control` filters stand before the server.
    pub filters: usize,
    /// Whether the `control` filters are one process, as a chain.
    pub chained: bool,
    /// How many [`Scripted`] filters stand before those.
    pub scripted: usize,
    /// Whether the `control` filters listen on unix sockets instead of TCP.
    pub unix: bool,
    /// Whether mail that does not come by SMTP is filtered too (see [`Config::non_smtp`]).
    pub non_smtp: bool,
    /// How long the server waits for a filter.
    pub timeout: Duration,
    /// Lines for the server's configuration.
    pub extra: Vec<String>,
}

impl Setup {
    /// That many [`Scripted`] filters and no others.
    pub fn scripted(filters: usize) -> Self {
        Self {
            filters: 0,
            scripted: filters,
            ..Self::default()
        }
    }
}

impl Default for Setup {
    fn default() -> Self {
        let Config {
            non_smtp,
            timeout,
            extra,
            ..
        } = Config::default();
        Self {
            filters: 1,
            chained: false,
            scripted: 0,
            unix: false,
            non_smtp,
            timeout,
            extra,
        }
    }
}

/// A `control` process and its two files.
#[derive(Debug)]
pub struct Controlled {
    /// None where another one's process does its work.
    filter: Option<Filter>,
    rules: PathBuf,
    trace: Trace,
}

impl Controlled {
    /// The process.
    ///
    /// # Panics
    ///
    /// When it has none of its own: see [`Setup::chained`].
    pub fn filter(&mut self) -> &mut Filter {
        self.filter.as_mut().expect("a process of its own")
    }

    /// What it saw.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Its orders from the next connection on.
    ///
    /// # Panics
    ///
    /// When the file cannot be written.
    pub fn orders(&self, rules: &[&[&str]]) {
        control::write(&self.rules, rules).expect("the control file");
    }
}

/// What came of a message.
#[derive(Debug)]
pub struct Outcome {
    /// What the client was told.
    pub smtp: Transcript,
    /// What was delivered.
    pub delivered: Vec<Delivered>,
    /// What the first filter saw.
    pub events: Vec<Event>,
}

impl Outcome {
    /// The one message that was delivered.
    ///
    /// # Panics
    ///
    /// When it was none or several.
    pub fn message(&self) -> &Delivered {
        assert_eq!(
            self.delivered.len(),
            1,
            "messages delivered; {:?}",
            self.smtp
        );
        &self.delivered[0]
    }

    /// The names of the events in order, without repetition (see [`control::summary`]).
    pub fn summary(&self) -> String {
        control::summary(&self.events)
    }

    /// The words after the name of all events of this name.
    pub fn all(&self, name: &str) -> Vec<Vec<String>> {
        let named = self.events.iter().filter(|event| event.name() == name);
        named.map(Event::args).collect()
    }

    /// How many events have this name.
    pub fn count(&self, name: &str) -> usize {
        control::count(&self.events, name)
    }
}

/// The rig. All of it is stopped when it is dropped.
#[derive(Debug)]
pub struct Rig {
    // In this order: the server first, then what it is connected to.
    mta: Mta,
    filters: Vec<Controlled>,
    scripted: Vec<Scripted>,
    sink: Sink,
    log_seen: usize,
    _dir: WorkDir,
}

impl Rig {
    /// Starts everything.
    ///
    /// # Panics
    ///
    /// When something does not start, with what it said.
    pub fn start(kind: Kind, setup: &Setup) -> Self {
        let dir = WorkDir::new().unwrap_or_else(|error| panic!("{error}"));
        let sink = Sink::start().expect("a sink");
        let scripted: Vec<Scripted> = (0..setup.scripted)
            .map(|n| Scripted::start(dir.path().join(format!("scripted{n}"))))
            .map(|one| one.expect("a scripted filter"))
            .collect();
        let mut filters: Vec<Controlled> = (0..setup.filters)
            .map(|n| {
                let file = |what: &str| dir.path().join(format!("{what}{n}"));
                Controlled {
                    filter: None,
                    rules: file("rules"),
                    trace: Trace::new(file("trace")),
                }
            })
            .collect();
        // As many processes as there are filters, or one for all.
        let of_one = if setup.chained {
            filters.len().max(1)
        } else {
            1
        };
        for (n, process) in filters.chunks_mut(of_one).enumerate() {
            let address = if setup.unix {
                Address::Unix(dir.path().join(format!("socket{n}")))
            } else {
                Address::free_tcp()
            };
            let args: Vec<&OsStr> = process
                .iter()
                .flat_map(|one| {
                    let trace = one.trace.path().as_os_str();
                    [
                        "--control".as_ref(),
                        one.rules.as_os_str(),
                        "--trace".as_ref(),
                        trace,
                    ]
                })
                .collect();
            let filter = Filter::start("control", &address, &args);
            process[0].filter = Some(filter);
        }
        let processes = filters.iter().filter_map(|one| one.filter.as_ref());
        let controlled: Vec<Address> = processes.map(|filter| filter.address().clone()).collect();
        let config = Config {
            milters: scripted
                .iter()
                .map(Scripted::address)
                .chain(controlled)
                .collect(),
            non_smtp: setup.non_smtp,
            timeout: setup.timeout,
            extra: setup.extra.clone(),
        };
        let mta = Mta::start(kind, sink.port(), &config).unwrap_or_else(|error| panic!("{error}"));
        Self {
            mta,
            filters,
            scripted,
            sink,
            log_seen: 0,
            _dir: dir,
        }
    }

    /// Which server this is.
    pub fn kind(&self) -> Kind {
        self.mta.kind()
    }

    /// `postfix` on Postfix, `sendmail` on Sendmail: for expectations that differ.
    pub fn by_kind<T>(&self, postfix: T, sendmail: T) -> T {
        match self.kind() {
            Kind::Postfix => postfix,
            Kind::Sendmail => sendmail,
        }
    }

    /// The server.
    pub fn mta(&self) -> &Mta {
        &self.mta
    }

    /// The n-th filter.
    pub fn filter(&mut self, n: usize) -> &mut Controlled {
        &mut self.filters[n]
    }

    /// The n-th scripted filter.
    pub fn scripted(&self, n: usize) -> &Scripted {
        &self.scripted[n]
    }

    /// Where the server delivers to.
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Waits until nothing goes on any more: each connection of a filter that negotiated has
    /// closed, and the server has nothing to deliver.
    ///
    /// # Errors
    ///
    /// Says what goes on.
    pub fn settle(&self) -> Result<(), String> {
        for (n, one) in self.filters.iter().enumerate() {
            let what = format!("each connection of filter {n} to close once");
            one.trace.wait(&what, PATIENCE, |events| {
                control::count(events, "negotiate") == control::count(events, "close")
            })?;
        }
        self.mta.idle()
    }

    /// Makes all as new for the next case: no orders, no traces, no mail left from before. What
    /// still goes on is waited for, so that it does not show up in the next case.
    ///
    /// # Panics
    ///
    /// When files cannot be written.
    pub fn reset(&mut self) {
        if let Err(error) = self.settle() {
            eprintln!("{error}");
        }
        self.log_seen = self.mta.log().len();
        self.sink.take_all();
        for one in &self.filters {
            one.orders(&[]);
            one.trace.clear().expect("an empty trace");
        }
    }

    /// Orders for the first filter.
    pub fn orders(&self, rules: &[&[&str]]) {
        self.filters[0].orders(rules);
    }

    /// Sends one message over a connection of its own and waits until it is delivered and the
    /// filter's connection closed.
    ///
    /// # Panics
    ///
    /// When that takes too long.
    pub fn send(&self, mail: &Mail) -> Outcome {
        let smtp = smtp::send(self.mta.port(), mail);
        self.outcome(smtp)
    }

    /// Waits as [`Rig::send`] does, after the test itself has talked to the server.
    ///
    /// # Panics
    ///
    /// When that takes too long.
    pub fn outcome(&self, smtp: Transcript) -> Outcome {
        let events = match self.filters.first() {
            Some(first) => first
                .trace
                .wait_closed(PATIENCE)
                .unwrap_or_else(|e| panic!("{e}")),
            None => Vec::new(),
        };
        self.mta.idle().unwrap_or_else(|error| panic!("{error}"));
        Outcome {
            smtp,
            delivered: self.sink.take_all(),
            events,
        }
    }

    /// Orders and one message, the most usual case.
    ///
    /// # Panics
    ///
    /// As [`Rig::send`].
    pub fn try_out(&self, rules: &[&[&str]], mail: &Mail) -> Outcome {
        self.orders(rules);
        self.send(mail)
    }

    /// What helps to understand a failure: the traces, what the filters said, and the server's log
    /// since the last [`Rig::reset`].
    pub fn report(&self) -> String {
        let mut text = String::new();
        for (n, one) in self.filters.iter().enumerate() {
            let trace = std::fs::read_to_string(one.trace.path()).unwrap_or_default();
            let _ = writeln!(
                text,
                "--- filter {n}: trace\n{trace}--- filter {n}: output\n{}",
                one.filter.as_ref().map(Filter::output).unwrap_or_default()
            );
        }
        let log = self.mta.log();
        let new = log.get(self.log_seen..).unwrap_or(&log);
        let _ = writeln!(text, "--- {}: log\n{new}", self.kind());
        text
    }
}
