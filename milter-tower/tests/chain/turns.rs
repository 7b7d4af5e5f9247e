//! Calls that were lost before the service was ready for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use milter_core::{Command, Reply};
use milter_tower::{Chain, Member, Needs, Response, Settings, Stage};
use tower::Layer;
use tower::limit::GlobalConcurrencyLimitLayer;

use crate::common::{Log, Ready, Scripted, mail, rcpt, seconds};
use crate::lost::{nth_time, refuses_once, two};
use crate::members::{acting, greeted_as, judging};
use crate::parallel::slow;

#[tokio::test(start_paused = true)]
async fn who_lost_while_it_waited_for_its_turn_takes_it() {
    let limit = GlobalConcurrencyLimitLayer::new(1);
    let (c, log) = slow("data", 3, Response::proceed());
    let c = Member::new("c", limit.layer(c));
    let chain = Chain::new().with_parallel([Member::new("b", refuses_once()), c]);
    let (mut first, run) = greeted_as(chain.clone(), Settings::new()).await;
    let (mut second, other) = greeted_as(chain, Settings::new()).await;
    first.ask(mail()).await;
    second.ask(mail()).await;
    second.send(Command::Data).await;
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(first.ask(rcpt("<a@b>")).await, Reply::Reject);
    assert_eq!(log.count("rcpt"), 0, "it is not its turn");
    assert_eq!(second.reply().await, Reply::Continue);
    let start = tokio::time::Instant::now();
    assert_eq!(second.ask(rcpt("<a@b>")).await, Reply::Continue);
    assert!(start.elapsed() < seconds(1), "{:?}", start.elapsed());
    assert_eq!(log.count("rcpt"), 2);
    first.quit(run).await;
    second.quit(other).await;
}

/// A member that is ready for so many calls, and may be made ready for more.
fn ready_for(calls: usize, needs: Needs) -> (Scripted, Log, Arc<AtomicUsize>) {
    let most = Arc::new(AtomicUsize::new(calls));
    let (c, log) = acting(needs, |_| Response::proceed().into());
    let limit = Arc::clone(&most);
    let c = c.ready(move |_, calls| {
        if calls < limit.load(Ordering::SeqCst) {
            Ready::Yes
        } else {
            Ready::Never
        }
    });
    (c, log, most)
}

#[tokio::test(start_paused = true)]
async fn who_lost_before_it_saw_the_message_hears_of_its_end_only_if_it_does() {
    for turns_ready in [false, true] {
        let (b, _) = nth_time("mail", 1, || Response::reject().into());
        let (c, log, most) = ready_for(3, judging());
        let (mut mta, run) = greeted_as(two(b, c), Settings::new()).await;
        assert_eq!(mta.ask(mail()).await, Reply::Reject);
        assert_eq!(log.count("mail"), 0);
        most.fetch_add(if turns_ready { 9 } else { 0 }, Ordering::SeqCst);
        mta.send(Command::Abort).await;
        tokio::time::sleep(seconds(10)).await;
        most.store(usize::MAX, Ordering::SeqCst);
        assert!(mta.message().await.ends_with("Ea"));
        mta.quit(run).await;
        let expected = usize::from(turns_ready);
        assert_eq!(log.count("mail"), 1 + expected, "{:?}", log.all());
        assert_eq!(log.count("end: aborted"), expected, "{:?}", log.all());
        assert_eq!((log.count("end: accept"), log.count("close")), (1, 1));
        assert_eq!(log.clones(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_it_saw_when_it_had_lost_has_an_end() {
    let (c, log, most) = ready_for(1, Needs::none().event(Stage::Rcpt));
    let (mut mta, run) = greeted_as(two(refuses_once(), c), Settings::new()).await;
    mta.ask(mail()).await;
    assert_eq!(mta.ask(rcpt("<a@b>")).await, Reply::Reject);
    most.store(2, Ordering::SeqCst);
    tokio::time::sleep(seconds(1)).await;
    // This one it does not see.
    assert_eq!(mta.ask(rcpt("<c@d>")).await, Reply::TempFail);
    assert_eq!(log.all(), ["negotiate", "rcpt"]);
    most.store(usize::MAX, Ordering::SeqCst);
    mta.quit(run).await;
    assert_eq!(log.all()[2..], ["end: aborted", "close"]);
}
