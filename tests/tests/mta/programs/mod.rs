//! The example programs that people would deploy, each behind a real mail server.

use milter_tests::address::Address;
use milter_tests::mail::Mail;
use milter_tests::mta::{self, Config, Kind, Mta};
use milter_tests::process::Filter;
use milter_tests::sink::{Delivered, Sink};
use milter_tests::smtp::{self, Transcript};
use milter_tests::wait::PATIENCE;

mod add_headers;
mod archive;
mod disclaimer;
mod milter_trace;
mod production;
mod reject_list;

/// A mail server with a program as its filter.
struct Rig {
    sink: Sink,
    filter: Filter,
    mta: Mta,
}

impl Rig {
    /// None where there is no such mail server.
    fn start(kind: Kind, start: impl FnOnce(&Address) -> Filter) -> Option<Self> {
        if !mta::require(kind) {
            return None;
        }
        let sink = Sink::start().unwrap();
        let filter = start(&Address::free_tcp());
        let config = Config {
            milters: vec![filter.address().clone()],
            ..Config::default()
        };
        let mta = Mta::start(kind, sink.port(), &config).unwrap_or_else(|error| panic!("{error}"));
        Some(Self { sink, filter, mta })
    }

    fn send(&self, mail: &Mail) -> Transcript {
        smtp::send(self.mta.port(), mail)
    }

    /// Sends a mail that must be accepted, and what is delivered of it.
    fn deliver(&self, mail: &Mail) -> Delivered {
        let smtp = self.send(mail);
        assert!(smtp.accepted(), "{smtp:?}\n{}", self.report());
        let mut delivered = self.sink.take(1, PATIENCE);
        let delivered = delivered.as_mut().unwrap_or_else(|error| {
            panic!("{error}\n{}", self.report());
        });
        delivered.remove(0)
    }

    fn report(&self) -> String {
        format!("{}\n{}", self.filter.output(), self.mta.log())
    }

    /// The filter ends well when it is told to.
    fn stop(mut self) {
        let status = self
            .filter
            .stop()
            .unwrap_or_else(|error| panic!("{error}\n{}", self.report()));
        assert!(status.success(), "{status}\n{}", self.filter.output());
    }
}
