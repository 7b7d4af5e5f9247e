use milter_tower::testing::{Delivery, Mail, MockMta, MtaProfile, survives};
use milter_tower::{
    Actions, BoxError, Needs, Request, Response, Stage, assert_accepted, assert_refused,
};
use tower::{Layer, Service, service_fn};

use super::*;

const NAME: &str = "Authentication-Results";

fn profiles() -> [MtaProfile; 4] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::stalwart(),
        MtaProfile::version_2(),
    ]
}

/// Gives an answer at a stage.
fn answers(
    at: Stage,
    answer: Response,
) -> impl Service<Request, Response = Response, Error = BoxError, Future: Send> + Clone + Send {
    service_fn(move |request: Request| {
        let stage = request.event().stage();
        std::future::ready(Ok(match stage {
            None => Response::needs(
                Needs::none()
                    .event(at)
                    .action(Actions::ADD_HEADERS | Actions::CHANGE_HEADERS),
            ),
            Some(stage) if stage == at => answer.clone(),
            Some(_) => Response::proceed(),
        }))
    })
}

fn layer() -> StripAuthResultsLayer {
    StripAuthResultsLayer::new("mx.example.org").also("MX2.example.org")
}

fn forged() -> Mail {
    Mail::new()
        .header(NAME, "mx.example.org; dkim=pass")
        .header(NAME, "mx.example.net; dkim=pass")
        .header(
            "authentication-results",
            "(x) \"mx2.Example.org\" 1; spf=pass",
        )
        .header(
            "ARC-Authentication-Results",
            "i=1; mx.example.org; spf=pass",
        )
        .header(NAME, "mx3.example.org; spf=pass")
        .header(NAME, "; spf=pass")
}

fn left(done: &Delivery) -> Vec<String> {
    let results = done.message.headers().get_all(NAME);
    results.map(|field| field.value().to_string()).collect()
}

const OTHERS: [&str; 2] = ["mx.example.net; dkim=pass", "mx3.example.org; spf=pass"];

#[tokio::test]
async fn removes_what_others_wrote_in_our_name() {
    for profile in profiles() {
        for at in [
            Stage::Connect,
            Stage::Mail,
            Stage::Header,
            Stage::EndOfHeaders,
            Stage::Body,
            Stage::EndOfMessage,
        ] {
            let filter = layer().layer(answers(at, Response::accept()));
            let mut mta = MockMta::with_profile(profile.clone(), filter);
            for _ in 0..2 {
                let done = mta.deliver(forged()).await;
                assert_accepted!(done);
                assert_eq!(left(&done), OTHERS, "{done}");
                assert!(
                    done.message
                        .headers()
                        .contains("ARC-Authentication-Results")
                );
            }
        }
        let filter = layer().layer(answers(Stage::EndOfMessage, Response::reject()));
        let done = MockMta::with_profile(profile, filter)
            .deliver(forged())
            .await;
        assert_refused!(done);
        assert!(done.edits.is_empty() && left(&done).len() == 5, "{done}");
    }
}

/// The next message of a session begins anew.
#[tokio::test]
async fn counts_for_each_message() {
    for profile in [MtaProfile::postfix(), MtaProfile::sendmail()] {
        let filter = layer().layer(answers(Stage::EndOfMessage, Response::accept()));
        let mut session = MockMta::with_profile(profile, filter).open().await;
        for _ in 0..2 {
            assert_eq!(left(&session.deliver(forged()).await), OTHERS);
            let done = session.deliver(Mail::new()).await;
            assert!(done.edits.is_empty(), "{done}");
            // One that is given up behind its headers.
            session.mail("alice@example.net").await;
            session.rcpt("bob@example.org").await;
            session.data().await;
            session.header(NAME, "mx.example.org; dkim=pass").await;
            session.end_of_headers().await;
            session.abort().await;
        }
    }
}

#[tokio::test]
async fn what_the_filter_within_writes_stays() {
    let within = Response::accept()
        .insert_header(0, NAME, "mx.example.org; spf=fail")
        .add_header("X-B", "b")
        .change_header(NAME, 3, "mx2.example.org; spf=fail")
        .delete_header(NAME, 1)
        .delete_header(NAME, 2);
    let want = [
        "mx.example.org; spf=fail",
        "mx2.example.org; spf=fail",
        "mx3.example.org; spf=pass",
    ];
    for profile in profiles() {
        let filter = layer().layer(answers(Stage::EndOfMessage, within.clone()));
        let done = MockMta::with_profile(profile, filter)
            .deliver(forged())
            .await;
        assert_accepted!(done);
        assert_eq!(left(&done), want, "{done}");
        assert!(done.message.headers().contains("X-B"));
    }
}

#[tokio::test]
async fn bears_what_mails_bring() {
    let within = Response::accept().delete_header(NAME, 1);
    survives(layer().layer(answers(Stage::EndOfMessage, within))).await;
}
