use std::collections::{BTreeMap, BTreeSet};
use std::task::{Context, Poll};
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use milter_tower::testing::{Mail, MockMta, MtaProfile};
use milter_tower::{BoxError, Chain, Event, Request, Response, SmtpReply, Stage, Stats};
use tower::{Layer, service_fn};

use super::{BUCKETS, MetricsLayer, record_stats};
use crate::classify::Failures;

fn recorder() -> (PrometheusRecorder, PrometheusHandle) {
    let builder = PrometheusBuilder::new().set_buckets(&BUCKETS).unwrap();
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    (recorder, handle)
}

/// A filter that wants every event, and does this at one of them.
fn filter<F, A>(
    at: Stage,
    does: F,
) -> impl tower::Service<Request, Response = Response, Error = BoxError, Future: Send> + Clone + Send
where
    F: Fn() -> A + Clone + Send + 'static,
    A: Future<Output = Result<Response, BoxError>> + Send,
{
    service_fn(move |request: Request| {
        let is_here = request.event().stage() == Some(at);
        let does = is_here.then(&does);
        async move {
            match does {
                Some(does) => does.await,
                None => Ok(Response::proceed()),
            }
        }
    })
}

fn passes()
-> impl tower::Service<Request, Response = Response, Error = BoxError, Future: Send> + Clone + Send
{
    filter(Stage::Mail, async || Ok(Response::proceed()))
}

/// The value of a metric with these labels.
fn value(handle: &PrometheusHandle, name: &str, labels: &[(&str, &str)]) -> f64 {
    let shown = handle.render();
    let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{v}\"")).collect();
    let found = shown.lines().find(|line| {
        line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label))
    });
    found.map_or(-1.0, |line| {
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    })
}

#[track_caller]
fn assert_value(handle: &PrometheusHandle, name: &str, labels: &[(&str, &str)], wanted: f64) {
    let found = value(handle, name, labels);
    assert!(
        (found - wanted).abs() < 1e-9,
        "{name} {labels:?}: {found}, not {wanted}\n{}",
        handle.render()
    );
}

#[tokio::test(start_paused = true)]
async fn what_happens_is_counted_in_every_profile() {
    for profile in [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::stalwart(),
        MtaProfile::version_2(),
    ] {
        let (recorder, handle) = recorder();
        let _guard = ::metrics::set_default_local_recorder(&recorder);
        let edits = async || {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(Response::accept()
                .add_header("X-A", "1")
                .add_header("X-B", "2")
                .quarantine("v"))
        };
        let filter = MetricsLayer::new()
            .name("f")
            .layer(filter(Stage::EndOfMessage, edits));
        let mut session = MockMta::with_profile(profile, filter).open().await;
        session.deliver(Mail::new().body("four")).await;
        session.mail("a@example.org").await;
        assert_value(&handle, "milter_messages_open", &[], 1.0);
        assert_value(&handle, "milter_connections_open", &[], 1.0);
        session.abort().await;
        session.quit().await;
        for (name, labels, wanted) in [
            ("milter_connections_total", &[("filter", "f")][..], 1.0),
            ("milter_connections_open", &[], 0.0),
            ("milter_messages_open", &[], 0.0),
            ("milter_messages_total", &[("outcome", "accept")], 1.0),
            ("milter_messages_total", &[("outcome", "aborted")], 1.0),
            ("milter_messages_total", &[("outcome", "reject")], 0.0),
            ("milter_message_seconds_count", &[], 2.0),
            ("milter_events_total", &[("stage", "mail")], 2.0),
            ("milter_events_total", &[("stage", "end of message")], 1.0),
            (
                "milter_event_seconds_count",
                &[("stage", "end of message")],
                1.0,
            ),
            (
                "milter_event_seconds_sum",
                &[("stage", "end of message")],
                1.0,
            ),
            (
                "milter_event_seconds_bucket",
                &[("stage", "end of message"), ("le", "0.5")],
                0.0,
            ),
            (
                "milter_event_seconds_bucket",
                &[("stage", "end of message"), ("le", "1")],
                1.0,
            ),
            (
                "milter_verdicts_total",
                &[("stage", "end of message"), ("verdict", "accept")],
                1.0,
            ),
            (
                "milter_verdicts_total",
                &[("stage", "mail"), ("verdict", "reject")],
                0.0,
            ),
            ("milter_edits_total", &[("kind", "add_header")], 2.0),
            ("milter_edits_total", &[("kind", "quarantine")], 1.0),
            ("milter_edits_total", &[("kind", "replace_body")], 0.0),
            ("milter_body_bytes_total", &[], 6.0),
        ] {
            assert_value(&handle, name, labels, wanted);
        }
        assert_value(&handle, "milter_failures_total", &[], -1.0);
    }
}

#[tokio::test(start_paused = true)]
async fn failures_are_counted_by_class() {
    let (recorder, handle) = recorder();
    let _guard = ::metrics::set_default_local_recorder(&recorder);
    let layer = || MetricsLayer::new().classify_with(Failures::new().tempfails());
    let mail = Mail::new;
    let at = Stage::Rcpt;
    MockMta::postfix(
        layer()
            .name("error")
            .layer(filter(at, async || Err("broken".into()))),
    )
    .deliver(mail())
    .await;
    MockMta::postfix(
        layer()
            .name("panic")
            .layer(filter(at, async || panic!("as told"))),
    )
    .deliver(mail())
    .await;
    let hangs = async || std::future::pending().await;
    MockMta::postfix(layer().name("deadline").layer(filter(at, hangs)))
        .deliver(mail())
        .await;
    let edit = async || Ok(Response::accept().add_header("no name", "x"));
    MockMta::postfix(layer().name("edit").layer(filter(at, edit)))
        .deliver(mail())
        .await;
    let tempfails = async || Ok(SmtpReply::tempfail("later").into());
    MockMta::postfix(layer().name("tempfail").layer(filter(at, tempfails)))
        .deliver(mail())
        .await;
    for class in ["error", "panic", "deadline", "edit", "tempfail"] {
        let labels = [("filter", class), ("class", class), ("stage", "rcpt")];
        assert_value(&handle, "milter_failures_total", &labels, 1.0);
        let events = value(&handle, "milter_event_seconds_count", &labels[..1]);
        assert!(events >= 0.0);
        for gauge in ["milter_messages_open", "milter_connections_open"] {
            assert_value(&handle, gauge, &labels[..1], 0.0);
        }
    }
    let broke = [("filter", "panic"), ("outcome", "failed")];
    assert_value(&handle, "milter_messages_total", &broke, 1.0);
    // Without that setting to be asked for patience is none.
    let plain = MetricsLayer::new().name("plain");
    MockMta::postfix(plain.layer(filter(at, tempfails)))
        .deliver(mail())
        .await;
    assert_value(
        &handle,
        "milter_failures_total",
        &[("filter", "plain")],
        -1.0,
    );
}

/// A filter that will never be ready.
#[derive(Clone)]
struct Broken;

impl tower::Service<Request> for Broken {
    type Response = Response;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Err("no".into()))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        std::future::ready(Ok(Response::proceed()))
    }
}

#[tokio::test]
async fn a_filter_that_is_never_ready_fails() {
    let (recorder, handle) = recorder();
    let _guard = ::metrics::set_default_local_recorder(&recorder);
    let filter = MetricsLayer::new().layer(Broken);
    MockMta::postfix(filter).deliver(Mail::new()).await;
    let labels = [("class", "error"), ("stage", "not ready")];
    assert_value(&handle, "milter_failures_total", &labels, 1.0);
    assert_value(&handle, "milter_connections_open", &[], 0.0);
}

/// A call that ends because the mail server went away is no failure.
#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_no_failure() {
    let (recorder, handle) = recorder();
    let _guard = ::metrics::set_default_local_recorder(&recorder);
    let hangs = async || std::future::pending().await;
    let mut session = MockMta::postfix(MetricsLayer::new().layer(filter(Stage::Mail, hangs)))
        .open()
        .await;
    session.connect(Mail::new().connection()).await;
    let waited = tokio::time::timeout(Duration::from_secs(1), session.mail("a@b.example")).await;
    assert!(waited.is_err());
    session.lose().await;
    assert_value(&handle, "milter_failures_total", &[], -1.0);
    assert_value(&handle, "milter_connections_open", &[], 0.0);
    assert_value(
        &handle,
        "milter_messages_total",
        &[("outcome", "lost")],
        1.0,
    );
}

#[tokio::test]
async fn members_of_a_chain_are_named() {
    let (recorder, handle) = recorder();
    let _guard = ::metrics::set_default_local_recorder(&recorder);
    let refuses = filter(Stage::Rcpt, async || Ok(Response::reject()));
    let chain = Chain::new().with("a", passes()).with("b", refuses);
    let mut mta = MockMta::postfix(MetricsLayer::new().layer(chain));
    for _ in 0..2 {
        mta.deliver(Mail::new()).await;
    }
    let by = [("stage", "rcpt"), ("verdict", "reject"), ("member", "b")];
    assert_value(&handle, "milter_verdicts_total", &by, 2.0);
    let nobodys = r#"milter_verdicts_total{filter="milter",stage="rcpt",verdict="reject"} 0"#;
    assert!(handle.render().contains(nobodys));

    let fails = filter(Stage::Mail, async || Err("broken".into()));
    let chain = Chain::new().with("a", passes()).with("c", fails);
    MockMta::postfix(MetricsLayer::new().layer(chain))
        .deliver(Mail::new())
        .await;
    let by = [("stage", "mail"), ("member", "c")];
    assert_value(&handle, "milter_verdicts_total", &by, 1.0);
    assert_value(&handle, "milter_failures_total", &by, 1.0);

    // One that fails in the negotiation does so at connect, where there is no message.
    let fails = service_fn(async |_: Request| Err::<Response, BoxError>("broken".into()));
    let chain = Chain::new().with("a", passes()).with("d", fails);
    MockMta::postfix(MetricsLayer::new().layer(chain))
        .deliver(Mail::new())
        .await;
    let by = [("stage", "connect"), ("member", "d")];
    assert_value(&handle, "milter_failures_total", &by, 1.0);
}

/// A layer around a member of a chain does not take the decisions of those before for its own.
#[tokio::test]
async fn a_member_is_not_named_for_another() {
    let (recorder, handle) = recorder();
    let _guard = ::metrics::set_default_local_recorder(&recorder);
    let first = service_fn(async |request: Request| {
        Ok::<_, BoxError>(match request.event() {
            Event::Rcpt(to) if to.is("a@b.example") => Response::reject(),
            _ => Response::proceed(),
        })
    });
    let second = filter(Stage::Rcpt, async || Ok(Response::reject()));
    let chain = Chain::new().with("first", first);
    let chain = chain.with("second", MetricsLayer::new().layer(second));
    let mail = Mail::new().to("a@b.example").to("c@d.example");
    MockMta::postfix(chain).deliver(mail).await;
    let verdict = [("stage", "rcpt"), ("verdict", "reject")];
    assert_value(&handle, "milter_verdicts_total", &verdict, 1.0);
    assert!(!handle.render().contains("member="), "{}", handle.render());
}

/// What the documentation says there is: name, kind, labels.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let rows = include_str!("mod.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `milter_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = format!("milter_{}", cells[0].trim_matches('`'));
        let labels = cells[2]
            .split(", ")
            .map(|label| label.trim_matches('`').to_owned());
        (
            name,
            (
                cells[1].to_owned(),
                labels.filter(|label| !label.is_empty()).collect(),
            ),
        )
    })
    .collect()
}

/// What there is, by Prometheus' exporter.
fn shown(shown: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut metrics = BTreeMap::new();
    for line in shown.lines() {
        if let Some(of) = line.strip_prefix("# TYPE ") {
            let (name, kind) = of.split_once(' ').unwrap();
            metrics.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((name, rest)) = line.split_once('{') {
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(name);
            let labels = rest
                .split("\",")
                .filter_map(|label| label.split_once("=\""));
            let labels = labels
                .map(|(key, _)| key.to_owned())
                .filter(|key| key != "le");
            metrics.get_mut(base).unwrap().1.extend(labels);
        }
    }
    metrics
}

/// The table is true, whichever way of naming the exporter is told to use.
#[tokio::test]
async fn the_documentation_lists_what_there_is() {
    for recommended in [false, true] {
        let builder = PrometheusBuilder::new().set_buckets(&BUCKETS).unwrap();
        let recorder = builder
            .with_recommended_naming(recommended)
            .build_recorder();
        let _guard = ::metrics::set_default_local_recorder(&recorder);
        let fails = filter(Stage::Rcpt, async || Err("broken".into()));
        let chain = Chain::new().with("a", passes()).with("b", fails);
        MockMta::postfix(MetricsLayer::new().layer(chain))
            .deliver(Mail::new())
            .await;
        record_stats(Stats::default());
        let shown = shown(&recorder.handle().render());
        assert_eq!(shown, documented());
    }
}

/// Each query of the dashboard asks for metrics and labels that exist.
#[test]
fn the_dashboard_asks_for_what_there_is() {
    let text = include_str!("../../../examples/src/bin/production/grafana.json");
    let dashboard: serde_json::Value = serde_json::from_str(text).unwrap();
    let mut expressions = Vec::new();
    expressions_in(&dashboard, &mut expressions);
    let documented = documented();
    let mut used = BTreeSet::new();
    for expression in &expressions {
        for (at, _) in expression.match_indices("milter_") {
            let name: &str = &expression[at..];
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let (name, rest) = name.split_at(end.unwrap_or(name.len()));
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end));
            let base = base
                .filter(|base| documented.contains_key(*base))
                .unwrap_or(name);
            let (kind, labels) = documented
                .get(base)
                .unwrap_or_else(|| panic!("{name}: {expression}"));
            assert_eq!(base != name, kind == "histogram", "{expression}");
            used.insert(base.to_owned());
            let matchers = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            let matchers = matchers.map_or("", |(matchers, _)| matchers);
            for matcher in matchers.split(',').filter(|matcher| !matcher.is_empty()) {
                let key = matcher.split(['=', '!']).next().unwrap().trim();
                let known = labels.contains(key) || ["instance", "job"].contains(&key);
                assert!(known, "{key} in {expression}");
            }
        }
        for by in expression.split("by (").skip(1) {
            let keys = by.split(')').next().unwrap().split(',').map(str::trim);
            for key in keys {
                let known = documented.values().any(|(_, labels)| labels.contains(key));
                assert!(
                    known || ["le", "instance", "job"].contains(&key),
                    "{key} in {expression}"
                );
            }
        }
    }
    let unused: Vec<_> = documented
        .keys()
        .filter(|name| !used.contains(*name))
        .collect();
    assert!(unused.is_empty(), "not on the dashboard: {unused:?}");
}

/// The queries in it, of panels, variables and annotations.
fn expressions_in(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (key, value) in object {
                match value.as_str() {
                    Some(text) if ["expr", "query", "definition"].contains(&key.as_str()) => {
                        found.push(text.to_owned());
                    }
                    _ => expressions_in(value, found),
                }
            }
        }
        serde_json::Value::Array(values) => {
            for value in values {
                expressions_in(value, found);
            }
        }
        _ => {}
    }
}
