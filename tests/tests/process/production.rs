//! The program `production` as an operator meets it: options, health, metrics, logs, its end.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use milter_middleware::failure_policy::FailurePolicyLayer;
use milter_tests::address::Address;
use milter_tests::process::{Filter, Guard, program};
use milter_tests::wait::{self, PATIENCE};
use milter_tower::testing::{Mail, MockMta, MtaProfile};
use milter_tower::{
    Event, Request, Response, assert_accepted, assert_header, assert_refused, serve,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tower::{Layer, service_fn};

use crate::systemd::Manager;

/// The program, and where its status is asked for.
struct Production {
    filter: Filter,
    status: SocketAddr,
}

impl Production {
    fn start(args: &[&str]) -> Self {
        let usual = ["--status", "127.0.0.1:0", "--hostname", "mx.example.org"];
        let args = [&usual[..], args].concat();
        let filter = Filter::start("production", &Address::free_tcp(), &args);
        // It listens there before it takes mail.
        let told = lines(&filter)
            .into_iter()
            .find(|line| line["message"] == "the status is told");
        let told = told.unwrap_or_else(|| panic!("{}", filter.output()));
        let status = told["address"].as_str().unwrap().parse().unwrap();
        Self { filter, status }
    }

    fn mta(&self) -> MockMta {
        let address = self.filter.address().to_string().parse().unwrap();
        MockMta::connect(MtaProfile::postfix(), address)
    }

    fn get(&self, path: &str) -> (u16, String) {
        ask(
            self.status,
            format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(),
        )
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.filter.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.unwrap(), signal).unwrap();
    }

    /// Waits for a line that is so.
    fn wait_for(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let line = || lines(&self.filter).into_iter().find(|line| is(line));
        let line = wait::until(what, PATIENCE, line);
        line.unwrap_or_else(|error| panic!("{error}\n{}", self.filter.output()))
    }
}

/// All that it wrote, each line of which is an object of JSON. What it writes now may be cut.
fn lines(filter: &Filter) -> Vec<Value> {
    let output = filter.output();
    let whole = output.rfind('\n').map_or("", |end| &output[..end]);
    let parse =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let lines: Vec<Value> = whole.lines().map(parse).collect();
    assert!(lines.iter().all(Value::is_object), "{output}");
    lines
}

/// The answer to these bytes: its code, and the body, which is as long as is said.
fn ask(address: SocketAddr, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{answer:?}"));
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    if !request.starts_with(b"HEAD") {
        assert_eq!(length, Some(body.len().to_string().as_str()), "{head}");
    }
    (code, body.to_owned())
}

#[tokio::test]
async fn it_tells_how_it_does_and_stops_when_mail_is_through() {
    let mut production = Production::start(&[]);
    let is_ready = || (production.get("/readyz?verbose").0 == 200).then_some(());
    wait::until("readiness", PATIENCE, is_ready).unwrap();
    assert_eq!(production.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(production.get("/else").0, 404);
    let status = production.status;
    assert_eq!(ask(status, b"POST /healthz HTTP/1.1\r\n\r\n").0, 405);
    assert_eq!(
        ask(status, b"HEAD /healthz HTTP/1.0\r\n\r\n"),
        (200, String::new())
    );
    assert_eq!(ask(status, b"\x16\x03\x01\r\n\r\n").0, 400);

    // A message in progress when it is told to stop.
    let mut mta = production.mta();
    let mail = Mail::new();
    let mut client = mta.open().await;
    client.connect(mail.connection()).await;
    client.helo("client.example").await;
    client.mail("alice@example.org").await;
    client.rcpt("bob@example.net").await;
    let (_, metrics) = production.get("/metrics");
    assert!(
        metrics.contains("\nmilter_server_messages_open 1\n"),
        "{metrics}"
    );
    production.signal(Signal::TERM);
    production.wait_for("the end to begin", |line| line["message"] == "stopping");
    assert_eq!(production.get("/readyz"), (503, "not ready\n".to_owned()));
    assert_eq!(production.get("/healthz").0, 200);
    client.data().await;
    client.header("From", "alice@example.org").await;
    client.end_of_headers().await;
    client.body("Hello Bob!\r\n").await;
    assert_accepted!(client.end().await);
    let ended = wait::until("its end", PATIENCE, || production.filter.ended());
    let ended = ended.unwrap_or_else(|error| panic!("{error}\n{}", production.filter.output()));
    assert!(ended.success(), "{ended}\n{}", production.filter.output());
    let stopped = production.wait_for("the last line", |line| line["message"] == "stopped");
    assert_eq!(
        (&stopped["connections"], &stopped["cut"]),
        (&1.into(), &0.into())
    );
    let message = production.wait_for("its message", |line| line["event"] == "message");
    assert_eq!(message["outcome"], "accept");
}

#[tokio::test]
async fn each_message_has_a_line() {
    let mail = Mail::new()
        .from("\"a \\\" b\"@example.org")
        .to("bob@example.net");
    let production = Production::start(&["--log-addresses", "domain", "--max-size", "1000"]);
    let mut mta = production.mta();
    let accepted = mta.deliver(&mail).await;
    assert_accepted!(accepted);
    assert_header!(accepted, "X-Filtered-By", "mx.example.org");
    assert_refused!(mta.deliver(mail.body("x".repeat(2000))).await, 552);
    drop(mta);
    production.wait_for("the second", |line| line["outcome"] == "reject");
    let messages: Vec<Value> = lines(&production.filter);
    let messages = messages.iter().filter(|line| line["event"] == "message");
    let messages: Vec<&Value> = messages.collect();
    let [accepted, refused] = messages[..] else {
        panic!("{}", production.filter.output());
    };
    for (key, wanted) in [
        ("client", Value::from("192.0.2.1")),
        ("from", "*@example.org".into()),
        ("recipients", 1.into()),
        ("outcome", "accept".into()),
        ("edits", 1.into()),
    ] {
        assert_eq!(accepted[key], wanted, "{key}: {accepted}");
    }
    assert_eq!(refused["reply"], "552 5.3.4 Message size exceeds limit");
    assert!(refused["time"].as_f64().is_some(), "{refused}");
}

/// A milter that leaves at MAIL: its address.
async fn leaving() -> String {
    let listener = "inet:0@127.0.0.1".parse::<milter_tower::Address>().unwrap();
    let listener = listener.bind().await.unwrap();
    let address = listener.address().to_string();
    let filter = service_fn(async |request: Request| match request.event() {
        Event::Mail(_) => Err("broken"),
        _ => Ok(Response::proceed()),
    });
    let filter = FailurePolicyLayer::close().layer(filter);
    tokio::spawn(async move { serve(listener, filter).await });
    address
}

/// Each metric of the dashboard is there after some mail, with the labels that it asks for.
#[tokio::test]
async fn the_dashboard_shows_what_there_is() {
    let remote = format!("leaving={}", leaving().await);
    let production = Production::start(&["--remote", &remote]);
    let mut mta = production.mta();
    for _ in 0..2 {
        assert_refused!(mta.deliver(Mail::new()).await, 451);
    }
    production.wait_for("who failed", |line| line["member"] == "leaving");
    let (_, metrics) = production.get("/metrics");
    let samples: Vec<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();

    let dashboard = include_str!("../../../examples/src/bin/production/grafana.json");
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();
    let mut queries = Vec::new();
    queries_in(&dashboard, &mut queries);
    let mut seen = BTreeSet::new();
    for query in &queries {
        for (at, _) in query.match_indices("milter_") {
            let name: String = query[at..]
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            let of_name = |line: &&&str| {
                line.strip_prefix(&name)
                    .is_some_and(|rest| rest.starts_with([' ', '{']))
            };
            let own: Vec<&&str> = samples.iter().filter(of_name).collect();
            assert!(!own.is_empty(), "{name} of {query}\n{metrics}");
            for label in labels_of(query) {
                let has = own.iter().any(|line| line.contains(&format!("{label}=\"")));
                assert!(has, "{label} of {query}\n{metrics}");
            }
            seen.insert(name);
        }
    }
    assert!(seen.len() > 15, "{seen:?}");
    for line in [
        "milter_messages_total{filter=\"production\",outcome=\"tempfail\"} 2",
        "milter_server_messages_total 2",
    ] {
        assert!(samples.contains(&line), "{line}\n{metrics}");
    }
}

/// The queries in it, of panels and variables.
fn queries_in(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value.as_str() {
                    Some(text) if ["expr", "definition"].contains(&key.as_str()) => {
                        found.push(text.to_owned());
                    }
                    _ => queries_in(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| queries_in(value, found)),
        _ => {}
    }
}

/// The labels that a query of one metric sums by.
fn labels_of(query: &str) -> impl Iterator<Item = &str> {
    let by = query
        .split("by (")
        .nth(1)
        .and_then(|rest| rest.split(')').next());
    by.into_iter()
        .flat_map(|labels| labels.split(',').map(str::trim))
}

#[tokio::test]
async fn rules_change_at_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules");
    fs::write(&rules, "old@example.net 550 5.1.1 Bob has left\n").unwrap();
    let production = Production::start(&["--recipients", rules.to_str().unwrap()]);
    let mut mta = production.mta();
    let mail = |to: &str| Mail::new().to(to);
    assert_refused!(
        mta.deliver(mail("old@example.net")).await,
        550,
        "Bob has left"
    );
    assert_accepted!(mta.deliver(mail("new@example.net")).await);
    fs::write(&rules, "nonsense\n").unwrap();
    production.signal(Signal::HUP);
    let told = production.wait_for("its words", |line| line["message"] == "the old rules stay");
    assert!(
        told["error"]
            .as_str()
            .unwrap()
            .contains("line 1: \"nonsense\""),
        "{told}"
    );
    assert_refused!(mta.deliver(mail("old@example.net")).await, 550);
    fs::write(&rules, "new@example.net 550 5.1.1 Nobody yet\n").unwrap();
    production.signal(Signal::HUP);
    production.wait_for("its words", |line| line["message"] == "the new rules hold");
    assert_accepted!(mta.deliver(mail("old@example.net")).await);
    assert_refused!(
        mta.deliver(mail("new@example.net")).await,
        550,
        "Nobody yet"
    );
}

#[test]
fn systemd_hears_when_it_is_ready_and_when_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let notify = dir.path().join("notify");
    let manager = Manager::new(&notify);
    let address = Address::free_tcp();
    let mut command = Command::new(program("production"));
    command
        .args(["--status", "off"])
        .env("MILTER_LISTEN", address.to_string())
        .env("NOTIFY_SOCKET", &notify);
    let mut filter = Filter::start_command(&mut command, &address);
    manager.wait_for("READY=1");
    let status = filter.stop().unwrap();
    assert!(status.success(), "{status}\n{}", filter.output());
    manager.wait_for("STOPPING=1");
}

/// The exit code of a program that ends by itself, and what it said.
fn run(args: &[&str], variable: (&str, &str)) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("output");
    let output = fs::File::create(&path).unwrap();
    let mut command = Command::new(program("production"));
    command
        .args(["--listen", "inet:0@127.0.0.1"])
        .args(args)
        .env(variable.0, variable.1)
        .stdout(output.try_clone().unwrap())
        .stderr(output);
    let mut guard = Guard::spawn(&mut command).unwrap();
    let status = wait::until("its end", PATIENCE, || guard.ended());
    let said = fs::read_to_string(&path).unwrap();
    let status = status.unwrap_or_else(|error| panic!("{error}: {args:?} {variable:?}\n{said}"));
    (status.code(), said)
}

#[test]
fn what_is_wrong_is_told_at_once() {
    let none = ("MILTER_NOTHING", "");
    for (args, variable, said) in [
        (&["--max-size", "0"][..], none, "--max-size"),
        (&["--dry-run", "1.5"], none, "from 0 to 1"),
        (&[], ("MILTER_MAX_RECIPIENTS", "many"), "--max-recipients"),
        (
            &[],
            ("MILTER_REMOTES", "a=unix:/a,b"),
            "a name and an address",
        ),
        (
            &[],
            ("MILTER_ON_FAILURE", "panic"),
            "tempfail, reject, accept, close",
        ),
    ] {
        let (code, told) = run(args, variable);
        assert_eq!(code, Some(2), "{args:?} {variable:?}: {told}");
        assert!(told.starts_with("error: ") && told.contains(said), "{told}");
    }
    let (code, told) = run(&[], ("MILTER_RECIPIENTS", "/nowhere/rules"));
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("/nowhere/rules: No such file"), "{told}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    // Of a variable and an option the option counts.
    let (code, told) = run(&["--status", &address], ("MILTER_STATUS", "off"));
    assert_eq!(code, Some(1), "{told}");
    let said = format!("--status {address}: Address already in use");
    assert!(told.contains(&said), "{told}");
}
