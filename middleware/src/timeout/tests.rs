use std::time::Duration;

use std::sync::{Arc, Mutex};

use milter_tower::testing::{Mail, MockMta, MtaProfile};
use milter_tower::{
    BoxError, Event, Needs, Request, Response, SmtpReply, Stage, assert_accepted, assert_refused,
};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, service_fn};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

type Log = Arc<Mutex<Vec<String>>>;

/// A filter that takes so long at each event of a stage, and writes down what it sees.
fn slow(
    at: Option<Stage>,
    time: Duration,
    needs: Needs,
    log: &Log,
) -> impl Service<Request, Response = Response, Error = BoxError, Future: Send> + Clone + Send + use<>
{
    let log = Arc::clone(log);
    service_fn(move |request: Request| {
        let stage = request.event().stage();
        let is_offer = matches!(request.event(), Event::Negotiate(_));
        let is_meant = if at.is_some() { stage == at } else { is_offer };
        let name = stage.map_or_else(
            || match request.event() {
                Event::MessageEnd(_) => "message end",
                Event::Close => "close",
                _ => "other",
            },
            Stage::name,
        );
        log.lock().unwrap().push(name.to_owned());
        let answer = if is_offer {
            Response::needs(needs.clone())
        } else {
            Response::proceed()
        };
        async move {
            if is_meant {
                sleep(time).await;
            }
            Ok(answer)
        }
    })
}

fn profiles() -> [MtaProfile; 4] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::stalwart(),
        MtaProfile::version_2(),
    ]
}

fn late() -> SmtpReply {
    SmtpReply::tempfail("too slow")
}

#[tokio::test(start_paused = true)]
async fn answers_when_the_time_is_up() {
    for profile in profiles() {
        for stage in [
            Stage::Mail,
            Stage::Header,
            Stage::EndOfHeaders,
            Stage::Body,
            Stage::EndOfMessage,
        ] {
            let log = Log::default();
            let filter = slow(Some(stage), HOUR, Needs::all(), &log);
            let filter = TimeoutLayer::new(SECOND).verdict(late()).layer(filter);
            let started = Instant::now();
            let done = MockMta::with_profile(profile.clone(), filter)
                .deliver(Mail::new())
                .await;
            assert_refused!(done, 451, "too slow");
            assert!(done.failures.is_empty(), "{done}");
            assert_eq!(started.elapsed().as_secs(), 1);
            let log = log.lock().unwrap();
            let after: Vec<_> = log
                .iter()
                .skip_while(|name| *name != stage.name())
                .collect();
            assert_eq!(after, [stage.name(), "message end", "close"]);
        }
    }
}

/// Where no reply is due the answer is given at the next event that has one.
#[tokio::test(start_paused = true)]
async fn keeps_its_answer_where_none_is_due() {
    let log = Log::default();
    let filter = slow(
        Some(Stage::Mail),
        HOUR,
        Needs::none().record(Stage::Mail),
        &log,
    );
    let filter = TimeoutLayer::new(SECOND).verdict(late()).layer(filter);
    let mut session = MockMta::postfix(filter).open().await;
    for _ in 0..2 {
        let done = session.deliver(Mail::new()).await;
        assert_refused!(done, 451, "too slow");
        assert_eq!(done.ended_at, Some(Stage::EndOfMessage));
    }
}

#[tokio::test(start_paused = true)]
async fn fails_without_a_verdict() {
    for profile in profiles() {
        let filter = slow(
            Some(Stage::EndOfHeaders),
            HOUR,
            Needs::all(),
            &Log::default(),
        );
        let filter = TimeoutLayer::new(SECOND).layer(filter);
        let done = MockMta::with_profile(profile, filter)
            .deliver(Mail::new())
            .await;
        assert!(done.is_refused(), "{done}");
        let [failure] = &*done.failures else {
            panic!("{done}")
        };
        let text = "the filter took too long at end of headers: more than 1s";
        assert!(failure.contains(text), "{failure}");
    }
}

#[tokio::test(start_paused = true)]
async fn refuses_from_connect_on_after_a_hang_in_the_negotiation() {
    for profile in profiles() {
        let filter = slow(None, HOUR, Needs::all(), &Log::default());
        let filter = TimeoutLayer::new(SECOND).verdict(late()).layer(filter);
        let done = MockMta::with_profile(profile, filter)
            .deliver(Mail::new())
            .await;
        assert!(done.is_refused(), "{done}");
        assert_eq!(done.ended_at, Some(Stage::Connect));
    }
}

#[tokio::test(start_paused = true)]
async fn has_limits_for_stages_and_messages() {
    let minute = Duration::from_secs(60);
    // One stage may take longer.
    let filter = slow(
        Some(Stage::EndOfMessage),
        minute,
        Needs::all(),
        &Log::default(),
    );
    let layer = TimeoutLayer::new(SECOND).at(Stage::EndOfMessage, 2 * minute);
    let done = MockMta::postfix(layer.layer(filter))
        .deliver(Mail::new())
        .await;
    assert_accepted!(done);

    // Each header takes its time, and all of them too much; the next message begins anew.
    let filter = slow(Some(Stage::Header), SECOND, Needs::all(), &Log::default());
    let layer = TimeoutLayer::new(2 * SECOND).per_message(6 * SECOND);
    let filter = layer.verdict(late()).layer(filter);
    let mut session = MockMta::postfix(filter).open().await;
    let few = Mail::new().without_headers().header("Subject", "a");
    let many = (0..8).fold(few.clone(), |mail, n| mail.header("X-N", n.to_string()));
    for _ in 0..2 {
        let done = session.deliver(&many).await;
        assert_refused!(done, 451, "too slow");
        assert_eq!(done.ended_at, Some(Stage::Header));
        assert_accepted!(session.deliver(&few).await);
    }
}

/// The MTA does not wait for as long as the layer would: the layer answers a little before the
/// server would.
#[tokio::test(start_paused = true)]
async fn answers_before_the_mta_gives_up() {
    for profile in profiles() {
        for stage in [Stage::EndOfHeaders, Stage::EndOfMessage] {
            let filter = slow(Some(stage), HOUR, Needs::all(), &Log::default());
            let filter = TimeoutLayer::new(HOUR).verdict(late()).layer(filter);
            let done = MockMta::with_profile(profile.clone(), filter)
                .deliver(Mail::new())
                .await;
            assert_refused!(done, 451, "too slow");
            assert!(done.failures.is_empty(), "{done}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tells_the_filter_what_is_left() {
    let filter = service_fn(async |request: Request| {
        if request.event().stage() == Some(Stage::EndOfMessage) {
            assert_eq!(request.deadline().remaining(), 5 * SECOND);
        }
        Ok::<_, BoxError>(Response::proceed())
    });
    let filter = TimeoutLayer::new(5 * SECOND).layer(filter);
    assert_accepted!(MockMta::postfix(filter).deliver(Mail::new()).await);
}
