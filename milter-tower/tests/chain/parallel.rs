//! Members that are asked at the same time.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use milter_core::{Actions, Command, Reply};
use milter_tower::{
    Chain, Event, Member, MemberFailure, Needs, Request, Response, Settings, SmtpReply, Stage,
};

use crate::common::{Act, Log, Scripted, mail, name, rcpt, seconds};
use crate::members::{acting, greeted_as, idle, judge, judging};

/// Takes so long for an answer at an event.
fn slow(at: &'static str, time: u64, answer: Response) -> (Scripted, Log) {
    acting(judging(), move |event| {
        if name(event) == at {
            Act::After(seconds(time), answer.clone())
        } else {
            Response::proceed().into()
        }
    })
}

fn both(b: Scripted, c: Scripted) -> Chain {
    Chain::new()
        .with_parallel([("b", b), ("c", c)])
        .with("d", idle().0)
}

#[tokio::test(start_paused = true)]
async fn they_are_asked_at_the_same_time() {
    let (b, c) = (
        slow("mail", 3, Response::proceed()),
        slow("mail", 3, Response::proceed()),
    );
    let (mut mta, run) = greeted_as(both(b.0, c.0), Settings::new()).await;
    let start = tokio::time::Instant::now();
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    assert!(start.elapsed() < seconds(4), "{:?}", start.elapsed());
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn the_strictest_wins_and_of_equals_the_first() {
    let say = |text: &str| Response::from(SmtpReply::reject(text));
    for (b, c, expected) in [
        (Response::tempfail(), Response::reject(), Reply::Reject),
        (Response::discard(), Response::tempfail(), Reply::TempFail),
        (Response::accept(), Response::discard(), Reply::Discard),
        (Response::proceed(), say("c"), say("c").verdict().to_reply()),
    ] {
        let (b, c) = (judge("mail", b), judge("mail", c));
        let (mut mta, run) = greeted_as(both(b.0, c.0), Settings::new()).await;
        assert_eq!(mta.ask(mail()).await, expected);
        mta.quit(run).await;
    }
    // The later answer of the first in order.
    let (b, c) = (
        slow("mail", 1, Response::tempfail()),
        judge("mail", Response::tempfail()),
    );
    let (mut mta, run) = greeted_as(both(b.0, c.0), Settings::new()).await;
    assert_eq!(mta.ask(mail()).await, Reply::TempFail);
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn who_lost_runs_on_and_its_answer_is_dropped() {
    let ((b, first), (c, second)) = (
        slow("rcpt", 3, Response::tempfail()),
        judge("rcpt", Response::reject()),
    );
    let (mut mta, run) = greeted_as(both(b, c), Settings::new()).await;
    mta.ask(mail()).await;
    let start = tokio::time::Instant::now();
    assert_eq!(mta.ask(rcpt("<a@b>")).await, Reply::Reject);
    assert!(start.elapsed() < seconds(1), "it need not be waited for");
    assert_eq!(mta.ask(Command::Data).await, Reply::Continue);
    assert!(start.elapsed() >= seconds(3), "one call at a time");
    assert!(mta.message().await.contains("Rr"));
    mta.quit(run).await;
    for log in [&first, &second] {
        assert_eq!(
            log.all()
                .iter()
                .filter(|seen| seen.starts_with("end:"))
                .count(),
            2
        );
    }
    assert_eq!(second.count("close"), 1);
}

#[tokio::test]
async fn they_only_judge() {
    let asks = |needs: Needs| acting(needs, |_| Response::proceed().into()).0;
    let judges = || judge("never", Response::proceed()).0;
    // What is optional is not offered.
    let optional = judging().optional_action(Actions::CHANGES);
    let chain = Chain::new().with_parallel([("b", asks(optional)), ("c", judges())]);
    let (mut mta, run) = crate::common::start(chain);
    assert!(
        !mta.negotiate()
            .await
            .actions
            .intersects(Actions::ADD_HEADERS | Actions::CHANGE_BODY)
    );
    mta.quit(run).await;
    // What is required is not to be had.
    let required = judging().action(Actions::ADD_HEADERS);
    let chain = Chain::new().with_parallel([("b", asks(required)), ("c", judges())]);
    let (mut mta, run) = crate::common::start(chain);
    mta.negotiate().await;
    assert_eq!(mta.ask(crate::common::connect()).await, Reply::TempFail);
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_has_its_own_policy() {
    let ((b, _), (c, second)) = (
        acting(judging(), |event| match event {
            Event::Mail(_) => Act::Hang,
            _ => Response::proceed().into(),
        }),
        idle(),
    );
    let chain = Chain::new().with_parallel([
        Member::new("b", b).on_failure(MemberFailure::LeaveOut),
        Member::new("c", c),
    ]);
    let (mut mta, run) = greeted_as(chain, Settings::new()).await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    assert_eq!(mta.ask(rcpt("<a@b>")).await, Reply::Continue);
    mta.quit(run).await;
    assert_eq!((second.count("mail"), second.count("rcpt")), (1, 1));
}

#[tokio::test]
async fn content_is_shown_to_all_of_them() {
    let (b, c) = (
        judge("body", Response::accept()),
        judge("end of message", Response::tempfail()),
    );
    let ((b, first), (c, second)) = (b, c);
    let (mut mta, run) = greeted_as(both(b, c), Settings::new()).await;
    assert!(mta.message().await.ends_with("Et"));
    mta.quit(run).await;
    let content = [
        Stage::Header.name(),
        Stage::EndOfHeaders.name(),
        Stage::Body.name(),
    ];
    for stage in content {
        assert_eq!((first.count(stage), second.count(stage)), (1, 1));
    }
    assert_eq!(
        (first.count("end: accept"), second.count("end: tempfail")),
        (1, 1)
    );
}

/// A member that does so when it sees this for the n-th time, from one.
fn nth_time(at: &'static str, nth: usize, act: fn() -> Act) -> (Scripted, Log) {
    let count = AtomicUsize::new(0);
    acting(judging(), move |event| {
        if name(event) == at && count.fetch_add(1, Ordering::SeqCst) + 1 == nth {
            act()
        } else {
            Response::proceed().into()
        }
    })
}

fn two(b: Scripted, c: Scripted) -> Chain {
    Chain::new().with_parallel([("b", b), ("c", c)])
}

#[tokio::test(start_paused = true)]
async fn who_lost_with_the_first_it_saw_of_a_message_hears_of_its_end() {
    for act in [
        || Act::Hang,
        || Act::After(seconds(1), Response::proceed()),
        || Act::PanicInDrop(None),
    ] as [fn() -> Act; 3]
    {
        let (b, _) = judge("mail", Response::reject());
        let (c, log) = nth_time("mail", 1, act);
        let (mut mta, run) = greeted_as(two(b, c), Settings::new()).await;
        assert_eq!(mta.ask(mail()).await, Reply::Reject);
        assert_eq!(mta.ask(mail()).await, Reply::Reject);
        mta.quit(run).await;
        let ends = log.count("end: aborted");
        // One that panics has its end then.
        let expected = if log.clones() == 1 { 2 } else { 1 };
        assert_eq!(ends, expected, "{:?}", log.all());
        assert_eq!(log.count("close"), 1, "{:?}", log.all());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_lost_and_hangs_costs_one_event_its_time() {
    let (b, _) = nth_time("rcpt", 1, || Response::reject().into());
    let (c, log) = nth_time("rcpt", 1, || Act::Hang);
    let settings = Settings::new().call_timeout(seconds(10));
    let (mut mta, run) = greeted_as(two(b, c), settings).await;
    mta.ask(mail()).await;
    assert_eq!(mta.ask(rcpt("<a@b>")).await, Reply::Reject);
    let start = tokio::time::Instant::now();
    for _ in 0..3 {
        assert_eq!(mta.ask(rcpt("<a@b>")).await, Reply::Continue);
    }
    assert!(start.elapsed() < seconds(10), "{:?}", start.elapsed());
    mta.send(Command::Abort).await;
    mta.quit(run).await;
    assert_eq!(log.clones(), 1);
    assert_eq!(log.all()[4..8], ["rcpt", "dropped", "rcpt", "rcpt"]);
    assert!(
        log.all()
            .ends_with(&["rcpt".into(), "end: aborted".into(), "close".into()])
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_lost_and_panics_breaks_its_member() {
    let (b, _) = nth_time("rcpt", 1, || Response::reject().into());
    let (c, log) = nth_time("rcpt", 1, || Act::PanicLater);
    // In the order of the members it is asked first, and panics when it is next polled.
    let late = tower::ServiceBuilder::new().layer_fn(Late).service(c);
    let chain = Chain::new().with_parallel([Member::new("b", b), Member::new("c", late)]);
    let (mut mta, run) = greeted_as(chain, Settings::new()).await;
    mta.ask(mail()).await;
    assert_eq!(mta.ask(rcpt("<a@b>")).await, Reply::Reject);
    assert_eq!(mta.ask(rcpt("<a@b>")).await, Reply::TempFail);
    mta.send(Command::Abort).await;
    assert!(mta.message().await.ends_with("Ea"));
    mta.quit(run).await;
    assert_eq!(log.of(1).last().unwrap(), "rcpt");
    assert_eq!(log.of(1).iter().filter(|seen| *seen == "rcpt").count(), 1);
    assert_eq!(log.of(2).last().unwrap(), "close");
}

/// A service whose answers come a second later.
#[derive(Clone)]
struct Late<S>(S);

impl<S: tower::Service<Request, Future: Send + 'static>> tower::Service<Request> for Late<S>
where
    S::Response: Send,
    S::Error: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let call = self.0.call(request);
        Box::pin(async move {
            tokio::time::sleep(seconds(1)).await;
            call.await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_service_that_lost_before_it_knew_the_session_is_made_anew() {
    let (b, _) = nth_time("mail", 2, || Response::reject().into());
    let (c, log) = Scripted::new(|request, id| match request.event() {
        Event::Negotiate(_) if id == 2 => Act::After(seconds(2), Response::needs(judging())),
        Event::Negotiate(_) => Response::needs(judging()).into(),
        Event::EndOfMessage(_) if id == 1 => Act::Panic,
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = greeted_as(two(b, c), Settings::new()).await;
    assert!(mta.message().await.ends_with("Et"));
    assert_eq!(mta.ask(mail()).await, Reply::Reject);
    assert!(mta.message().await.ends_with("Ea"));
    mta.quit(run).await;
    let introduced = ["negotiate", "connect", "helo", "mail"];
    assert_eq!(log.of(log.clones())[..4], introduced);
}
