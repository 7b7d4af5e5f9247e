//! Calls that were lost to a stricter verdict: they run on by themselves.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use milter_core::{Command, Reply};
use milter_tower::{Chain, Event, Member, Request, Response, Settings};
use tower::Layer;
use tower::Service;
use tower::limit::GlobalConcurrencyLimitLayer;

use crate::common::{Act, Log, Scripted, ended, listen, mail, name, rcpt, seconds};
use crate::members::{acting, greeted_as, judge, judging};
use crate::parallel::{both, slow};

/// A member that does so when it sees this for the n-th time, from one.
pub(crate) fn nth_time(at: &'static str, nth: usize, act: fn() -> Act) -> (Scripted, Log) {
    let count = AtomicUsize::new(0);
    acting(judging(), move |event| {
        if name(event) == at && count.fetch_add(1, Ordering::SeqCst) + 1 == nth {
            act()
        } else {
            Response::proceed().into()
        }
    })
}

pub(crate) fn two(b: Scripted, c: Scripted) -> Chain {
    Chain::new().with_parallel([("b", b), ("c", c)])
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
    let (mut mta, run) = greeted_as(late(b, c, &log), Settings::new()).await;
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

#[tokio::test(start_paused = true)]
async fn one_that_goes_away_for_good_is_told_so_once() {
    let refusals = AtomicUsize::new(0);
    let (b, _) = acting(judging(), move |event| {
        let is_mail = name(event) == "mail";
        if is_mail && [1, 2, 3].contains(&refusals.fetch_add(1, Ordering::SeqCst)) {
            Response::reject().into()
        } else {
            Response::proceed().into()
        }
    });
    let (c, log) = Scripted::new(|request, id| match request.event() {
        Event::Negotiate(_) if id == 2 => Act::After(seconds(2), Response::needs(judging())),
        Event::Negotiate(_) => Response::needs(judging()).into(),
        Event::EndOfMessage(_) if id == 1 => Act::Panic,
        Event::Close if id == 2 => Act::After(seconds(2), Response::proceed()),
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = greeted_as(two(b, c), Settings::new()).await;
    assert!(mta.message().await.ends_with("Et"));
    for _ in 0..2 {
        assert_eq!(mta.ask(mail()).await, Reply::Reject);
        tokio::time::sleep(seconds(1)).await;
    }
    assert_eq!(
        log.of(2),
        ["negotiate"],
        "it runs on, and nothing else is begun"
    );
    tokio::time::sleep(seconds(3)).await;
    assert_eq!(mta.ask(mail()).await, Reply::Reject);
    assert_eq!(
        log.of(2),
        ["negotiate", "close"],
        "it is told, and has not ended"
    );
    assert!(mta.message().await.ends_with("Ea"));
    mta.quit(run).await;
    assert_eq!(log.of(2), ["negotiate", "close"]);
    assert_eq!(log.of(3)[..4], ["negotiate", "connect", "helo", "mail"]);
}

/// A service whose answers come a second later, which it writes down.
#[derive(Clone)]
struct Late<S>(S, Log);

impl<S: Service<Request, Future: Send + 'static>> Service<Request> for Late<S>
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
        let (call, log) = (self.0.call(request), self.1.clone());
        Box::pin(async move {
            tokio::time::sleep(seconds(1)).await;
            log.add(0, "late");
            call.await
        })
    }
}

/// Two of whom the second answers a second later.
fn late(b: Scripted, c: Scripted, log: &Log) -> Chain {
    let c = Late(c, log.clone());
    Chain::new().with_parallel([Member::new("b", b), Member::new("c", c)])
}

/// Refuses the first recipient of all connections.
pub(crate) fn refuses_once() -> Scripted {
    nth_time("rcpt", 1, || Response::reject().into()).0
}

#[tokio::test(start_paused = true)]
async fn it_ends_without_another_event() {
    let (c, log) = judge("never", Response::proceed());
    let (mut mta, run) = greeted_as(late(refuses_once(), c, &log), Settings::new()).await;
    mta.ask(mail()).await;
    assert_eq!(mta.ask(rcpt("<a@b>")).await, Reply::Reject);
    let before = log.count("late");
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(log.count("late"), before + 1);
    mta.quit(run).await;
    assert_eq!(log.all()[log.all().len() - 2..], ["close", "late"]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_connections_share_is_free_again() {
    let limit = GlobalConcurrencyLimitLayer::new(1);
    let (c, _) = slow("rcpt", 3, Response::proceed());
    let c = Member::new("c", limit.layer(c));
    let chain = Chain::new().with_parallel([Member::new("b", refuses_once()), c]);
    let (mut first, run) = greeted_as(chain.clone(), Settings::new()).await;
    let (mut second, other) = greeted_as(chain, Settings::new()).await;
    first.ask(mail()).await;
    assert_eq!(first.ask(rcpt("<a@b>")).await, Reply::Reject);
    let start = tokio::time::Instant::now();
    assert_eq!(second.ask(mail()).await, Reply::Continue);
    assert!(start.elapsed() < seconds(4), "{:?}", start.elapsed());
    first.quit(run).await;
    second.quit(other).await;
}

#[tokio::test(start_paused = true)]
async fn its_deadline_ends_it() {
    let (c, log) = nth_time("rcpt", 1, || Act::Hang);
    let (lines, _guard) = listen();
    let settings = Settings::new().call_timeout(seconds(10));
    let (mut mta, run) = greeted_as(two(refuses_once(), c), settings).await;
    mta.ask(mail()).await;
    assert_eq!(mta.ask(rcpt("<a@b>")).await, Reply::Reject);
    tokio::time::sleep(seconds(8)).await;
    assert_eq!(log.count("dropped"), 0);
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(log.count("dropped"), 1);
    assert_eq!(lines.count(r#"member="c" at="rcpt""#), 1);
    let start = tokio::time::Instant::now();
    assert_eq!(mta.ask(rcpt("<a@b>")).await, Reply::Continue);
    assert!(start.elapsed() < seconds(1), "{:?}", start.elapsed());
    mta.quit(run).await;
    assert_eq!(log.clones(), 1);
}

#[tokio::test(start_paused = true)]
async fn its_failure_is_logged_once_and_its_panic_breaks_it() {
    for (act, clones) in [
        ((|| Act::Fail) as fn() -> Act, 1),
        (|| Act::PanicLater, 2),
        (|| Act::PanicInDrop(Some(Response::proceed())), 2),
    ] {
        let (c, log) = nth_time("rcpt", 1, act);
        let (lines, _guard) = listen();
        let (mut mta, run) = greeted_as(late(refuses_once(), c, &log), Settings::new()).await;
        mta.ask(mail()).await;
        assert_eq!(mta.ask(rcpt("<a@b>")).await, Reply::Reject);
        tokio::time::sleep(seconds(2)).await;
        assert_eq!(lines.count(r#"member="c" at="rcpt""#), 1);
        let rest = mta.ask(rcpt("<a@b>")).await;
        let expected = if clones == 1 {
            Reply::Continue
        } else {
            Reply::TempFail
        };
        assert_eq!(rest, expected);
        mta.send(Command::Abort).await;
        assert!(mta.message().await.ends_with("Ea"));
        mta.quit(run).await;
        assert_eq!(log.clones(), clones, "{:?}", log.all());
        assert_eq!(lines.count("a member of the chain failed"), 1);
        assert_eq!(log.count("close"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn c95_a_connection_that_ends_meanwhile_tells_it_afterwards() {
    for is_lost in [false, true] {
        let (c, log) = judge("never", Response::proceed());
        let (mut mta, run) = greeted_as(late(refuses_once(), c, &log), Settings::new()).await;
        mta.ask(mail()).await;
        assert_eq!(mta.ask(rcpt("<a@b>")).await, Reply::Reject);
        let end = if is_lost {
            drop(mta);
            let _ = ended(run).await;
            "end: lost"
        } else {
            mta.send(Command::Abort).await;
            mta.quit(run).await;
            "end: aborted"
        };
        let seen = log.all();
        let seen: Vec<_> = seen.iter().map(String::as_str).collect();
        assert!(
            seen.ends_with(&["mail", "late", "rcpt", "late", end, "late", "close", "late"]),
            "{seen:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_waits_no_longer_than_it_may() {
    let (c, log) = nth_time("rcpt", 1, || Act::Hang);
    let (mut mta, run) = greeted_as(two(refuses_once(), c), Settings::new()).await;
    mta.ask(mail()).await;
    assert_eq!(mta.ask(rcpt("<a@b>")).await, Reply::Reject);
    let start = tokio::time::Instant::now();
    mta.quit(run).await;
    assert!(start.elapsed() < seconds(6), "{:?}", start.elapsed());
    assert_eq!(log.all()[4..], ["rcpt", "dropped", "end: aborted", "close"]);
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_is_dropped_takes_it_along() {
    let (c, log) = nth_time("rcpt", 1, || Act::Hang);
    let (mut mta, run) = greeted_as(two(refuses_once(), c), Settings::new()).await;
    mta.ask(mail()).await;
    assert_eq!(mta.ask(rcpt("<a@b>")).await, Reply::Reject);
    let start = tokio::time::Instant::now();
    run.abort();
    tokio::time::sleep(seconds(1)).await;
    assert!(start.elapsed() < seconds(2));
    assert_eq!(log.all()[4..], ["rcpt", "dropped"]);
}
