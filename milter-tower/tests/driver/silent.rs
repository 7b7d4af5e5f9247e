//! Stages without a reply (D3, D6, C15, C63).

use milter_core::{Command, Reply};
use milter_tower::{Event, Needs, Offer, Request, Response, Stage, Steps};

use crate::common::{
    Act, Log, Mta, Run, Scripted, connect, eom, helo, mail, message, seconds, start,
};

fn all_recorded() -> Needs {
    Stage::ALL.into_iter().fold(Needs::none(), Needs::record)
}

/// A service that records everything, and acts at the first event of a stage.
fn recording(needs: Needs, stage: Stage, act: fn() -> Act) -> (Scripted, Log) {
    let done = std::sync::atomic::AtomicBool::new(false);
    Scripted::new(move |request: &Request, _| match request.event() {
        Event::Negotiate(_) => Response::needs(needs.clone()).into(),
        event
            if event.stage() == Some(stage)
                && !done.swap(true, std::sync::atomic::Ordering::SeqCst) =>
        {
            act()
        }
        _ => Response::proceed().into(),
    })
}

async fn greeted(service: Scripted) -> (Mta, Run) {
    let (mut mta, run) = start(service);
    mta.negotiate().await;
    mta.send_all([connect(), helo()]).await;
    (mta, run)
}

const SILENT: [Stage; 9] = [
    Stage::Connect,
    Stage::Helo,
    Stage::Mail,
    Stage::Rcpt,
    Stage::Data,
    Stage::Unknown,
    Stage::Header,
    Stage::EndOfHeaders,
    Stage::Body,
];

#[tokio::test(start_paused = true)]
async fn c63_nothing_is_written_whatever_the_service_says() {
    let acts: [fn() -> Act; 7] = [
        || Response::reject().into(),
        || Response::discard().into(),
        || Response::accept().into(),
        || Response::skip().into(),
        || Act::Fail,
        || Act::Panic,
        || Act::Hang,
    ];
    for stage in SILENT {
        for act in acts {
            let (service, _) = recording(all_recorded().skip(), stage, act);
            let (mut mta, run) = greeted(service).await;
            mta.send_all(message().into_iter().take(7)).await;
            mta.silence(seconds(100)).await;
            mta.quit(run).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn d6_a_verdict_at_a_stage_without_reply_is_dropped() {
    let acts: [fn() -> Act; 4] = [
        || Response::reject().into(),
        || Response::discard().into(),
        || Response::accept().into(),
        || Response::skip().into(),
    ];
    for stage in SILENT {
        for act in acts {
            let (service, log) = recording(all_recorded(), stage, act);
            let (mut mta, run) = greeted(service).await;
            mta.send_all(message()).await;
            assert_eq!(mta.reply().await, Reply::Continue, "{stage}");
            mta.quit(run).await;
            assert_eq!(log.all().len(), 13, "the message went on: {:?}", log.all());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn d6_a_failure_at_a_stage_without_reply_is_told_at_the_end() {
    let acts: [fn() -> Act; 6] = [
        || Act::Fail,
        || Act::Panic,
        || Act::PanicLater,
        || Act::Hang,
        || Act::PanicInDrop(None),
        || Response::proceed().add_header("X-A", "b").into(),
    ];
    for stage in SILENT.into_iter().filter(|s| *s != Stage::Unknown) {
        for act in acts {
            let (service, log) = recording(all_recorded(), stage, act);
            let (mut mta, run) = greeted(service).await;
            mta.send_all(message()).await;
            assert_eq!(mta.reply().await, Reply::TempFail, "{stage}");
            mta.send_all(message()).await;
            // A client that was not judged stays unjudged for its session.
            let of_session = matches!(stage, Stage::Connect | Stage::Helo);
            let next = if of_session {
                Reply::TempFail
            } else {
                Reply::Continue
            };
            assert_eq!(mta.reply().await, next, "{stage}");
            // The next session has nothing to do with it.
            mta.send(Command::QuitNewConnection).await;
            mta.send_all([connect(), helo()]).await;
            mta.send_all(message()).await;
            assert_eq!(mta.reply().await, Reply::Continue, "{stage}");
            mta.quit(run).await;
            assert_eq!(log.count("close"), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn d6_a_kept_failure_is_told_at_the_next_event_with_a_reply() {
    let needs = all_recorded().event(Stage::Rcpt).event(Stage::Header);
    let (service, log) = recording(needs, Stage::Mail, || Act::Fail);
    let (mut mta, run) = greeted(service).await;
    mta.send(mail()).await;
    let rcpt = crate::common::rcpt("<b@x>");
    assert_eq!(mta.ask(rcpt.clone()).await, Reply::TempFail);
    assert_eq!(mta.ask(rcpt.clone()).await, Reply::TempFail);
    mta.send(Command::Data).await;
    assert_eq!(mta.ask(crate::common::header()).await, Reply::TempFail);
    mta.send_all([Command::Abort, mail()]).await;
    assert_eq!(mta.ask(rcpt).await, Reply::Continue);
    mta.quit(run).await;
    assert_eq!(log.count("rcpt"), 1);
    assert_eq!(log.count("end: tempfail"), 1);
}

#[tokio::test(start_paused = true)]
async fn c15_c16_what_cannot_be_left_out_is_made_up_for() {
    // Records all but DATA and unknown commands, which it declines, and judges no event.
    let needs = all_recorded().without(Stage::Data).without(Stage::Unknown);
    let (service, log) = recording(needs, Stage::Mail, || Response::reject().into());
    let (mut mta, run) = start(service);
    let offer = Offer {
        steps: Steps::NO_CONNECT,
        ..Offer::V6
    };
    assert_eq!(mta.offer(offer).await.steps, Steps::empty());
    assert_eq!(mta.ask(connect()).await, Reply::Continue);
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    mta.quit(run).await;
    assert_eq!(log.count("mail"), 1);
    assert_eq!(log.count("data") + log.count("unknown command"), 0);
}

#[tokio::test(start_paused = true)]
async fn c15_a_failure_where_the_reply_is_made_up_is_told_at_once() {
    let (service, _) = recording(all_recorded(), Stage::Mail, || Act::Fail);
    let (mut mta, run) = start(service);
    let offer = Offer {
        steps: Steps::NO_CONNECT,
        ..Offer::V6
    };
    mta.offer(offer).await;
    assert_eq!(mta.message().await, "Mt");
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn c63_between_silent_stages_only_what_is_due_is_answered() {
    let needs = all_recorded().event(Stage::Rcpt);
    let (service, _) = Scripted::new(move |request, _| match request.event() {
        Event::Negotiate(_) => Response::needs(needs.clone()).into(),
        Event::Rcpt(_) => Response::reject().into(),
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = greeted(service).await;
    mta.send_all(message()).await;
    assert_eq!(mta.reply().await, Reply::Reject);
    assert_eq!(mta.reply().await, Reply::Continue);
    mta.send_all([mail(), eom()]).await;
    assert_eq!(mta.reply().await, Reply::Continue);
    mta.silence(seconds(10)).await;
    mta.quit(run).await;
}
