use std::sync::{Arc, Mutex};

use futures::future::ready;
use milter_tower::testing::{Mail, MockMta, MtaProfile};
use milter_tower::{
    Actions, BoxError, Event, Needs, Request, Response, SmtpReply, Stage, assert_accepted,
    assert_refused,
};
use tower::{Layer, Service, service_fn};

use super::*;

type Log = Arc<Mutex<Vec<String>>>;

/// Gives an answer at a stage, and writes down what it sees; none is an error.
fn answers(
    at: Stage,
    answer: Option<Response>,
    log: &Log,
) -> impl Service<Request, Response = Response, Error = BoxError, Future: Send> + Clone + Send + use<>
{
    let log = Arc::clone(log);
    service_fn(move |request: Request| {
        let stage = request.event().stage();
        log.lock().unwrap().push(match request.event() {
            Event::MessageEnd(outcome) => format!("{outcome:?}"),
            Event::Close => "close".into(),
            _ => stage.map_or("negotiate", Stage::name).into(),
        });
        ready(match &answer {
            _ if stage != Some(at) => Ok(Response::proceed()),
            Some(answer) => Ok(answer.clone()),
            None => Err("broken".into()),
        })
    })
}

fn profiles() -> [MtaProfile; 3] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::version_2(),
    ]
}

fn no() -> Response {
    SmtpReply::reject("no").into()
}

#[tokio::test]
async fn has_no_effect() {
    for profile in profiles() {
        for (stage, answer) in [
            (Stage::Connect, no()),
            (Stage::Helo, Response::tempfail()),
            (Stage::Mail, no()),
            (Stage::Rcpt, no()),
            (Stage::Rcpt, Response::discard()),
            (Stage::Header, no()),
            (Stage::EndOfHeaders, Response::discard()),
            (Stage::Body, no()),
            (Stage::EndOfMessage, no()),
            (
                Stage::EndOfMessage,
                Response::accept().add_header("X-A", "b"),
            ),
            (Stage::EndOfMessage, Response::accept().quarantine("odd")),
        ] {
            let (log, told) = (Log::default(), Log::default());
            let layer = {
                let told = Arc::clone(&told);
                DryRunLayer::new().on_answer(move |would| {
                    let line = format!("{} {}", would.stage(), would.response().verdict().name());
                    told.lock().unwrap().push(line);
                })
            };
            let counts = layer.counts();
            let filter = layer.layer(answers(stage, Some(answer.clone()), &log));
            let mut session = MockMta::with_profile(profile.clone(), filter).open().await;
            let done = session.deliver(Mail::new()).await;
            assert_accepted!(done);
            assert!(done.edits.is_empty() && done.failures.is_empty(), "{done}");
            assert!(done.quarantine().is_none());
            session.quit().await;
            let told = std::mem::take(&mut *told.lock().unwrap());
            assert_eq!(told, [format!("{stage} {}", answer.verdict().name())]);
            let counted = counts.refused() + counts.discarded() + counts.changed();
            assert_eq!(counted, 1);
            // It hears of its own verdict, and is asked no more before.
            let seen = log.lock().unwrap();
            if answer.verdict().ends_message_at(stage) {
                let after: Vec<_> = seen
                    .iter()
                    .skip_while(|name| *name != stage.name())
                    .collect();
                let end = match stage {
                    Stage::EndOfMessage => "Verdict(".to_owned(),
                    _ => format!(
                        "{:?}",
                        milter_tower::Outcome::Verdict(answer.verdict().clone())
                    ),
                };
                assert!(after[1].starts_with(&end), "{stage}: {seen:?}");
                assert_eq!(after[2], "close");
            }
        }
    }
}

#[tokio::test]
async fn a_filter_that_fails_harms_nobody() {
    for profile in profiles() {
        let layer = DryRunLayer::new();
        let counts = layer.counts();
        let filter = layer.layer(answers(Stage::Rcpt, None, &Log::default()));
        let mut session = MockMta::with_profile(profile, filter).open().await;
        for _ in 0..2 {
            let done = session.deliver(Mail::new()).await;
            assert_accepted!(done);
            assert!(done.failures.is_empty(), "{done}");
        }
        assert_eq!(counts.failed(), 2);
    }
}

#[tokio::test]
async fn a_share_is_for_real() {
    let layer = DryRunLayer::new().share(0.75);
    let filter = layer.layer(answers(Stage::Mail, Some(no()), &Log::default()));
    let mut mta = MockMta::postfix(filter);
    let mut session = mta.open().await;
    session.connect(Mail::new().connection()).await;
    session.helo("client.example").await;
    let mut refused = Vec::new();
    for _ in 0..12 {
        refused.push(session.deliver(Mail::new()).await.is_refused());
    }
    assert_eq!(
        refused.iter().filter(|refused| **refused).count(),
        3,
        "{refused:?}"
    );
    // All of it, and nothing.
    for (share, real) in [(0.0, true), (1.0, false), (7.0, false), (f64::NAN, true)] {
        let layer = DryRunLayer::new().share(share);
        let filter = layer.layer(answers(Stage::Mail, Some(no()), &Log::default()));
        let done = MockMta::sendmail(filter).deliver(Mail::new()).await;
        assert_eq!(done.is_refused(), real, "{share}");
    }
}

/// What is for real is so with its edits.
#[tokio::test]
async fn a_share_of_edits_is_for_real() {
    let answer = Response::accept().add_header("X-A", "b");
    let layer = DryRunLayer::new().share(0.0);
    let filter = layer.layer(answers(Stage::EndOfMessage, Some(answer), &Log::default()));
    let done = MockMta::postfix(filter).deliver(Mail::new()).await;
    milter_tower::assert_header!(done, "X-A", "b");
}

/// Nothing is required of an MTA that does not offer it.
#[tokio::test]
async fn requires_nothing() {
    let filter = service_fn(async |request: Request| {
        Ok::<_, BoxError>(match request.event() {
            Event::Negotiate(_) => {
                Response::needs(Needs::none().action(Actions::QUARANTINE | Actions::CHANGE_SENDER))
            }
            Event::EndOfMessage(_) => Response::accept().quarantine("odd"),
            _ => Response::proceed(),
        })
    });
    let old = MtaProfile::postfix().offer(milter_tower::Offer {
        version: 2,
        actions: Actions::ADD_HEADERS,
        ..milter_tower::Offer::V6
    });
    let mut mta = MockMta::with_profile(old.clone(), filter);
    assert!(
        !mta.deliver(Mail::new()).await.is_accepted(),
        "it has no use for this MTA"
    );
    let mut mta = MockMta::with_profile(old, DryRunLayer::new().layer(filter));
    assert_accepted!(mta.deliver(Mail::new()).await);
    let refused = service_fn(async |_: Request| Ok::<_, BoxError>(Response::refuse()));
    let mut mta = MockMta::postfix(DryRunLayer::new().layer(refused));
    assert_accepted!(mta.deliver(Mail::new()).await);
    // For real it is another thing.
    let real = DryRunLayer::new().share(0.0);
    let filter = real.layer(answers(Stage::EndOfMessage, Some(no()), &Log::default()));
    assert_refused!(
        MockMta::postfix(filter).deliver(Mail::new()).await,
        550,
        "no"
    );
}

/// Sessions and messages come in turn: each of them has its share.
#[tokio::test]
async fn sessions_take_no_share_of_messages() {
    for (stage, counted) in [
        (Stage::Mail, "550 5.7.1 no"),
        (Stage::Connect, "550 5.7.1 no"),
    ] {
        let filter = answers(stage, Some(no()), &Log::default());
        let mut mta = MockMta::postfix(DryRunLayer::new().share(0.5).layer(filter));
        let mut real = 0;
        for _ in 0..20 {
            let done = mta.deliver(Mail::new()).await;
            real += u32::from(done.to_string().contains(counted));
        }
        assert_eq!(real, 10, "{stage}");
    }
}

/// What cannot be done is a failure also where it is not to be done.
#[tokio::test]
async fn a_change_that_cannot_be_made_is_a_failure() {
    let answer = Response::accept().add_header("no name", "b");
    let layer = DryRunLayer::new();
    let counts = layer.counts();
    let filter = layer.layer(answers(Stage::EndOfMessage, Some(answer), &Log::default()));
    assert_accepted!(MockMta::postfix(filter).deliver(Mail::new()).await);
    assert_eq!((counts.failed(), counts.changed()), (1, 0));
}
