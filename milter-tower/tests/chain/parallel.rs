//! Members that are asked at the same time.

use milter_core::{Actions, Reply};
use milter_tower::{
    Chain, Event, Failure, Member, MemberFailure, Needs, Response, Settings, SmtpReply, Stage,
};

use crate::common::{Act, Log, Scripted, mail, name, rcpt, seconds};
use crate::members::{acting, greeted_as, idle, judge, judging};

/// Takes so long for an answer at an event.
pub(crate) fn slow(at: &'static str, time: u64, answer: Response) -> (Scripted, Log) {
    acting(judging(), move |event| {
        if name(event) == at {
            Act::After(seconds(time), answer.clone())
        } else {
            Response::proceed().into()
        }
    })
}

pub(crate) fn both(b: Scripted, c: Scripted) -> Chain {
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
    let (lines, _listening) = crate::common::listen();
    let error = chain.check().await.unwrap_err();
    assert_eq!(error.member(), "b");
    assert!(
        matches!(error.failure(), Failure::OnlyJudges(why) if why.to_string().contains("ADD_HEADERS")),
        "{error:?}"
    );
    let (mut mta, run) = crate::common::start(chain);
    mta.negotiate().await;
    assert_eq!(mta.ask(crate::common::connect()).await, Reply::TempFail);
    mta.quit(run).await;
    assert_eq!(lines.count("Chain::with"), 1, "it says what to do");
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
