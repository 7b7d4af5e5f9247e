//! Layers that answer in the place of the service within.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use milter_tower::gate::{Entry, Gate};
use milter_tower::testing::{Mail, MockMta, MtaProfile};
use milter_tower::{
    BoxError, Event, Needs, Peer, PeerAddr, Request, Response, Sender, Session, SmtpReply, Stage,
    Verdict, assert_accepted, assert_discarded, assert_refused,
};
use tower::{Service, service_fn};

/// What the service within saw.
type Log = Arc<Mutex<Vec<String>>>;

/// What the layer does.
#[derive(Clone)]
enum Plan {
    /// Answers this at the first event of a stage; none stands for the negotiation.
    Instead(Option<Stage>, Verdict),
    /// Fails with this at the first event of a stage.
    Fail(Stage, Verdict),
    /// Leaves the service within out from a stage on.
    LeaveOut(Stage, Option<Verdict>),
}

#[derive(Clone)]
struct Layered<S> {
    inner: S,
    gate: Gate,
    plan: Plan,
    alone: Log,
}

impl<S> Service<Request> for Layered<S>
where
    S: Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let answer = match self.gate.enter(request) {
            Entry::Ask(turn, request) => match &self.plan {
                Plan::Instead(at, verdict)
                    if *at == turn.stage() && (at.is_some() || turn.is_negotiation()) =>
                {
                    turn.instead(verdict.clone())
                }
                Plan::Fail(at, verdict) if Some(*at) == turn.stage() => turn.fail(verdict.clone()),
                Plan::LeaveOut(at, own) if Some(*at) == turn.stage() => {
                    turn.leave_out(own.clone());
                    Response::proceed()
                }
                _ => return Either::Left(turn.call(&mut self.inner, request)),
            },
            Entry::Alone(turn, _) => {
                let stage = turn.stage().unwrap();
                self.alone.lock().unwrap().push(stage.name().to_owned());
                Response::proceed()
            }
            Entry::Answer(response) => response,
        };
        Either::Right(ready(Ok(answer)))
    }
}

/// A service that wants these things, inside of a layer with this plan.
fn layered(
    plan: Plan,
    needs: Needs,
    log: &Log,
    alone: &Log,
) -> impl Service<Request, Response = Response, Error = BoxError, Future: Send> + Clone + Send + use<>
{
    let log = Arc::clone(log);
    let inner = service_fn(move |request: Request| {
        let name = match request.event() {
            Event::MessageEnd(outcome) => format!("{outcome:?}"),
            event => match (event, event.stage()) {
                (_, Some(stage)) => stage.name().to_owned(),
                (Event::Negotiate(_), _) => "negotiate".into(),
                (event, _) => format!("{event:?}"),
            },
        };
        log.lock().unwrap().push(name);
        let is_offer = matches!(request.event(), Event::Negotiate(_));
        let needs = is_offer.then(|| Response::needs(needs.clone()));
        ready(Ok::<_, BoxError>(needs.unwrap_or_default()))
    });
    Layered {
        inner,
        gate: Gate::new(),
        plan,
        alone: Arc::clone(alone),
    }
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut log.lock().unwrap())
}

fn reply() -> Verdict {
    SmtpReply::reject("not here").into()
}

fn profiles() -> [MtaProfile; 3] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::version_2(),
    ]
}

#[tokio::test]
async fn answers_at_once_where_a_reply_is_due() {
    for profile in profiles() {
        for stage in [Stage::Mail, Stage::EndOfHeaders, Stage::EndOfMessage] {
            let (log, alone) = (Log::default(), Log::default());
            let plan = Plan::Instead(Some(stage), reply());
            let filter = layered(plan, Needs::all(), &log, &alone);
            let mut mta = MockMta::with_profile(profile.clone(), filter);
            let mut session = mta.open().await;
            for _ in 0..2 {
                let done = session.deliver(Mail::new()).await;
                assert_refused!(done, 550, "not here");
                assert_eq!(done.ended_at, Some(stage), "{}", profile.name());
                let seen = taken(&log);
                let ends = seen.iter().filter(|name| name.starts_with("Verdict"));
                let expected = usize::from(stage != Stage::Mail);
                assert_eq!(ends.count(), expected, "{seen:?}");
                assert!(!seen.contains(&stage.name().to_owned()), "{seen:?}");
            }
        }
    }
}

/// Where nobody waits for an answer it is given where somebody does.
#[tokio::test]
async fn keeps_an_answer_until_it_can_be_told() {
    for profile in [MtaProfile::postfix(), MtaProfile::sendmail()] {
        for stage in [Stage::Connect, Stage::Helo, Stage::Mail, Stage::Header] {
            let (log, alone) = (Log::default(), Log::default());
            let plan = Plan::Instead(Some(stage), reply());
            let needs = Needs::none().record(stage);
            let filter = layered(plan, needs, &log, &alone);
            let mut mta = MockMta::with_profile(profile.clone(), filter);
            let mut session = mta.open().await;
            for _ in 0..2 {
                let done = session.deliver(Mail::new()).await;
                assert_refused!(done, 550, "not here");
                assert_eq!(done.ended_at, Some(Stage::EndOfMessage));
            }
            assert_eq!(taken(&log), ["negotiate"], "{stage}");
        }
    }
}

/// Q11: no MTA discards at connect; each message of that session is.
#[tokio::test]
async fn keeps_what_the_mta_would_not_take() {
    for profile in profiles() {
        let (log, alone) = (Log::default(), Log::default());
        let plan = Plan::Instead(Some(Stage::Connect), Verdict::Discard);
        let filter = layered(plan, Needs::all(), &log, &alone);
        let mut mta = MockMta::with_profile(profile, filter);
        let mut session = mta.open().await;
        for _ in 0..2 {
            let done = session.deliver(Mail::new()).await;
            assert_discarded!(done);
            assert_eq!(done.ended_at, Some(Stage::Mail));
        }
        session.quit().await;
        assert_eq!(taken(&log), ["negotiate", "Close"]);
    }
}

#[tokio::test]
async fn refuses_a_recipient_only() {
    for profile in profiles() {
        let (log, alone) = (Log::default(), Log::default());
        let plan = Plan::Instead(Some(Stage::Rcpt), reply());
        let filter = layered(plan, Needs::all(), &log, &alone);
        let mut session = MockMta::with_profile(profile, filter).open().await;
        session.connect(Mail::new().connection()).await;
        session.mail("a@example.org").await;
        assert!(session.rcpt("b@example.net").await.reply.is_some());
        session.abort().await;
        session.quit().await;
        let seen = taken(&log);
        assert_eq!(seen[seen.len() - 2..], ["Aborted", "Close"], "{seen:?}");
    }
}

#[tokio::test]
async fn fails_from_connect_on_after_the_negotiation() {
    for profile in profiles() {
        let (log, alone) = (Log::default(), Log::default());
        let plan = Plan::Instead(None, reply());
        let filter = layered(plan, Needs::all(), &log, &alone);
        let done = MockMta::with_profile(profile, filter)
            .deliver(Mail::new())
            .await;
        // Sendmail says it in words of its own.
        assert!(done.is_refused(), "{done}");
        assert_eq!(done.ended_at, Some(Stage::Connect));
        assert_eq!(taken(&log), ["Close"]);
    }
}

#[tokio::test]
async fn is_alone_with_the_rest_of_what_it_left_out() {
    for profile in [MtaProfile::postfix(), MtaProfile::sendmail()] {
        let (log, alone) = (Log::default(), Log::default());
        let plan = Plan::LeaveOut(Stage::Rcpt, Some(Verdict::Accept));
        let filter = layered(plan, Needs::all(), &log, &alone);
        let mut mta = MockMta::with_profile(profile, filter);
        let mut session = mta.open().await;
        assert_accepted!(session.deliver(Mail::new().to("a@b").to("c@d")).await);
        let seen = taken(&log);
        assert_eq!(seen.last().unwrap(), "Verdict(Accept)", "{seen:?}");
        assert!(!seen.contains(&"rcpt".to_owned()) && seen.contains(&"mail".to_owned()));
        let seen = taken(&alone);
        assert_eq!(seen[0], "rcpt");
        assert_eq!(seen.last().unwrap(), "end of message");

        let done = session.deliver(Mail::new()).await;
        assert_accepted!(done);
        assert!(
            taken(&log).contains(&"mail".to_owned()),
            "the next message is its own"
        );
    }
}

/// What broke at a recipient fails the message.
#[tokio::test]
async fn fails_the_rest_of_the_message() {
    for profile in profiles() {
        for stage in [Stage::Rcpt, Stage::Data] {
            if stage == Stage::Data && profile.name() == MtaProfile::version_2().name() {
                continue;
            }
            let (log, alone) = (Log::default(), Log::default());
            let filter = layered(Plan::Fail(stage, reply()), Needs::all(), &log, &alone);
            let mut session = MockMta::with_profile(profile.clone(), filter).open().await;
            session.connect(Mail::new().connection()).await;
            session.mail("a@example.org").await;
            session.rcpt("b@example.net").await;
            session.data().await;
            taken(&log);
            // A client that goes on all the same.
            assert!(session.end_of_headers().await.reply.is_some());
            let seen = taken(&log);
            assert!(
                seen.len() == 1 && seen[0].starts_with("Verdict(Reply"),
                "{seen:?}"
            );
        }
    }
}

/// Some layers lose the end of a message. What was of that one is not of the next, all the same.
#[tokio::test]
async fn a_message_begins_with_mail_whatever_was_before() {
    let session = Session::new(Peer::new(1, PeerAddr::Other), None);
    let mail = || {
        let mail = Event::Mail(Sender::new("<a@example.org>", [""; 0]));
        Request::new(mail, session.clone())
    };
    let mut gate = Gate::new();
    let mut turn = || match gate.enter(mail()) {
        Entry::Ask(turn, _) => turn,
        other => panic!("{other:?}"),
    };
    turn().leave_out(Some(Verdict::Accept));
    let _ = turn().fail(Verdict::Continue);
    assert_eq!(*turn().instead(reply()).verdict(), reply());
    drop(turn());
}
