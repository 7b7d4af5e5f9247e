use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use milter_tower::testing::{Mail, MockMta, MtaProfile};
use milter_tower::{BoxError, Chain, Request, Response, SmtpReply, Stage};
use tower::{Layer, service_fn};

use super::{Level, Span, TraceLayer};
use crate::classify::heard::Heard;
use crate::classify::{Failed, Failures};

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
                Some(does) => {
                    tracing::info!("at work");
                    does.await
                }
                None => Ok(Response::proceed()),
            }
        }
    })
}

#[tokio::test]
async fn the_filter_runs_in_spans_of_connection_message_and_event() {
    for profile in [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::stalwart(),
        MtaProfile::version_2(),
    ] {
        let logged = Heard::to(Level::DEBUG);
        let refuses = async || {
            tokio::task::yield_now().await;
            Ok(SmtpReply::reject("no spam").into())
        };
        let name = profile.name();
        let filter = TraceLayer::new().layer(filter(Stage::EndOfMessage, refuses));
        MockMta::with_profile(profile, filter)
            .deliver(Mail::new())
            .await;
        let lines = logged.lines();
        let of_layer: Vec<_> = lines
            .iter()
            .filter(|line| line.contains("trace::hooks"))
            .collect();
        let asked = of_layer
            .iter()
            .filter(|line| line.contains("asking the filter"))
            .count();
        let answered = of_layer
            .iter()
            .filter(|line| line.contains("the filter answered"))
            .count();
        let told = of_layer
            .iter()
            .filter(|line| line.contains("the filter was told"))
            .count();
        assert!(asked > 5 && asked == answered + told, "{name}: {lines:#?}");
        // What the filter logs itself.
        let work = lines.iter().find(|line| line.contains("at work")).unwrap();
        let around = [
            "milter{connection=",
            "message{",
            "client=192.0.2.1",
            "event{stage=\"end of message\"",
        ];
        let places: Vec<_> = around.iter().map(|part| work.find(part)).collect();
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{work}"
        );
        // Stalwart gives none.
        assert!(work.contains("queue_id=") || name == "Stalwart", "{work}");
        let answer = of_layer
            .iter()
            .rfind(|line| line.contains("the filter answered"))
            .unwrap();
        for part in [
            "verdict=\"reject\"",
            "reply=550 5.7.1 no spam",
            "edits=0",
            "time=",
        ] {
            assert!(answer.contains(part), "{answer}");
        }
        let ended = of_layer
            .iter()
            .filter(|line| line.contains("outcome=\"reject\""))
            .count();
        assert_eq!(ended, 1, "{lines:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_are_logged_with_their_class() {
    let logged = Heard::to(Level::WARN);
    let failures = |lines: Vec<String>| -> Vec<String> {
        let of_layer = lines
            .into_iter()
            .filter(|line| line.contains("trace::hooks"));
        of_layer.collect()
    };
    let at = Stage::Header;
    let layer = || TraceLayer::new().classify_with(Failures::new().tempfails());
    let error = filter(at, async || Err("no database".into()));
    MockMta::postfix(layer().layer(error))
        .deliver(Mail::new())
        .await;
    let lines = failures(logged.lines());
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in [
        "class=\"error\"",
        "error=no database",
        "at=\"header\"",
        "queue_id=",
    ] {
        assert!(lines[0].contains(part), "{lines:?}");
    }
    let panics = filter(at, async || panic!("as told"));
    MockMta::postfix(layer().layer(panics))
        .deliver(Mail::new())
        .await;
    let hangs = filter(at, async || std::future::pending().await);
    MockMta::postfix(layer().layer(hangs))
        .deliver(Mail::new())
        .await;
    let tempfails = filter(at, async || Ok(Response::tempfail()));
    MockMta::postfix(layer().layer(tempfails))
        .deliver(Mail::new())
        .await;
    let lines = failures(logged.lines());
    assert_eq!(lines.len(), 3, "{lines:#?}");
    for (line, class) in lines.iter().zip(["panic", "deadline", "tempfail"]) {
        assert!(line.contains(&format!("class=\"{class}\"")), "{line}");
    }
    assert!(lines[1].contains("time=25"), "{lines:?}");
}

/// Around a member of a chain its events are in the member's span.
#[tokio::test]
async fn members_of_a_chain_have_spans_of_their_own() {
    let logged = Heard::to(Level::DEBUG);
    let member = filter(Stage::Mail, async || Ok(Response::proceed()));
    let chain = Chain::new().with("first", TraceLayer::new().layer(member));
    MockMta::sendmail(chain).deliver(Mail::new()).await;
    let lines = logged.lines();
    let work = lines.iter().find(|line| line.contains("at work")).unwrap();
    assert!(
        work.contains("member{name=\"first\"}:event{stage=\"mail\""),
        "{work}"
    );
}

/// Functions do for every hook, and are called whether or not somebody listens.
#[tokio::test]
async fn hooks_may_be_functions() {
    let counts: [Arc<AtomicUsize>; 4] = Default::default();
    let [spans, requests, responses, failed] = counts.clone();
    let add = |count: &AtomicUsize| {
        count.fetch_add(1, Ordering::Relaxed);
    };
    let layer = TraceLayer::new()
        .make_span_with(move |_: &Request| {
            add(&spans);
            Span::none()
        })
        .on_request(move |_: &Request, _: &Span| add(&requests))
        .on_response(move |_: Option<Stage>, _: &Response, _: Duration, _: &Span| add(&responses))
        .on_failure(
            move |failure: &Failed<'_, BoxError>, _: Duration, _: &Span| {
                assert_eq!(failure.error.unwrap().to_string(), "broken");
                add(&failed);
            },
        );
    let filter = layer.layer(filter(Stage::EndOfMessage, async || Err("broken".into())));
    MockMta::postfix(filter).deliver(Mail::new()).await;
    let [spans, requests, responses, failed] = counts.map(|count| count.load(Ordering::Relaxed));
    assert_eq!((spans, requests, failed), (requests, responses + 1, 1));
    assert!(requests > 5);
}
