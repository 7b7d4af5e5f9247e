//! Stacks of layers around a filter of this process, behind a real mail server: what the client is
//! told, what is delivered, whether the next mail of the session goes on as if nothing had been, and
//! what the log says.

use std::sync::{Arc, Mutex};

use milter_middleware::log::LogLayer;
use milter_tests::address::Address;
use milter_tests::mail::Mail;
use milter_tests::mta::{self, Config, Kind, Mta};
use milter_tests::sink::Sink;
use milter_tests::smtp::{Client, Reply, Transcript};
use milter_tests::wait::{self, PATIENCE};
use milter_tower::{BoxError, Request, Response, serve};
use serde_json::Value;
use tokio::runtime::Runtime;
use tower::Service;

mod failures;
mod limits;

/// The lines of messages so far.
type Lines = Arc<Mutex<Vec<Value>>>;

/// A mail server with a filter of this process.
struct Rig {
    // In this order: the server first, then what it is connected to.
    mta: Mta,
    sink: Sink,
    lines: Lines,
    _runtime: Runtime,
}

impl Rig {
    /// None where there is no such mail server. The filter is made around, or within, a log.
    fn start<S>(kind: Kind, make: impl FnOnce(LogLayer) -> S) -> Option<Self>
    where
        S: Service<Request, Response = Response, Future: Send> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
    {
        if !mta::require(kind) {
            return None;
        }
        let lines = Lines::default();
        let log = {
            let lines = Arc::clone(&lines);
            let log = LogLayer::new().json().connections(true);
            log.to(move |line: &str| {
                let line = serde_json::from_str(line);
                let line = line.unwrap_or_else(|error| format!("{error}").into());
                lines.lock().unwrap().push(line);
            })
        };
        let filter = make(log);
        let runtime = Runtime::new().unwrap();
        let address = "inet:0@127.0.0.1".parse::<milter_tower::Address>().unwrap();
        let listener = runtime.block_on(address.bind()).unwrap();
        let milter_tower::Address::Inet { port, .. } = listener.address() else {
            panic!("{} is another kind of address", listener.address());
        };
        runtime.spawn(async move { serve(listener, filter).await });
        let sink = Sink::start().unwrap();
        let config = Config {
            milters: vec![Address::Tcp(port)],
            ..Config::default()
        };
        let mta = Mta::start(kind, sink.port(), &config).unwrap_or_else(|error| panic!("{error}"));
        Some(Self {
            mta,
            sink,
            lines,
            _runtime: runtime,
        })
    }

    /// A client that was greeted and has greeted.
    fn client(&self) -> Client {
        let (mut client, greeting) = Client::connect(self.mta.port()).unwrap();
        assert_eq!(greeting.code, 220, "{greeting}");
        let reply = client.command("EHLO client.example.org").unwrap();
        assert_eq!(reply.code, 250, "{reply}");
        client
    }

    /// The mail is accepted, and this is whom it is delivered to.
    #[track_caller]
    fn accepted(&self, client: &mut Client, mail: &Mail) -> Vec<String> {
        let smtp = client.deliver(mail);
        assert!(smtp.accepted(), "{smtp:?}\n{}", self.report());
        let delivered = self.sink.take(1, PATIENCE);
        let delivered = delivered.unwrap_or_else(|error| panic!("{error}\n{}", self.report()));
        delivered[0]
            .recipient_addresses()
            .into_iter()
            .map(ToString::to_string)
            .collect()
    }

    /// The mail is refused so, in its last reply, and nothing is delivered.
    #[track_caller]
    fn refused(&self, client: &mut Client, mail: &Mail, wanted: &str) -> Transcript {
        let smtp = client.deliver(mail);
        let said = smtp.last().map(says);
        assert!(
            said.as_deref().is_some_and(|said| is(said, wanted)),
            "{wanted}: {smtp:?}\n{}",
            self.report()
        );
        let _ = client.command("RSET").unwrap();
        assert!(self.sink.take_all().is_empty(), "{smtp:?}");
        smtp
    }

    /// Waits for a line that has all of these values.
    #[track_caller]
    fn line(&self, values: &[(&str, &str)]) -> Value {
        let is = |line: &&Value| values.iter().all(|(key, value)| line[*key] == *value);
        let find = || self.lines.lock().unwrap().iter().find(is).cloned();
        let line = wait::until(&format!("a line with {values:?}"), PATIENCE, find);
        line.unwrap_or_else(|error| panic!("{error}\n{}", self.report()))
    }

    fn report(&self) -> String {
        let lines = self.lines.lock().unwrap();
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        format!("{}\n{}", lines.join("\n"), self.mta.log())
    }
}

fn says(reply: &Reply) -> String {
    format!("{} {}", reply.code, reply.text())
}

/// Whether the codes are those, and the text ends so: Sendmail puts an address before it.
fn is(said: &str, wanted: &str) -> bool {
    let (codes, text) = wanted.split_at(wanted.len().min(10));
    said.starts_with(codes) && said.ends_with(text)
}
