//! Long work is kept alive within what the MTA bears (D9).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use milter_core::{Command, Reply};
use milter_tower::{Event, MacroStage, Needs, Response, Settings, Stage};
use tokio::time::Instant;

use crate::common::{
    Act, Log, Mta, Run, Scripted, connect, helo, macros, mail, message, name, rcpt, seconds, start,
    start_with,
};

/// A service that hangs at this event.
fn hanging(at: &'static str) -> (Scripted, Log) {
    Scripted::new(move |request, _| {
        if name(request.event()) == at {
            Act::Hang
        } else {
            Response::proceed().into()
        }
    })
}

async fn greeted(service: Scripted, settings: Settings, version: &'static str) -> (Mta, Run) {
    let (mut mta, run) = start_with(service, settings);
    mta.negotiate().await;
    mta.send(macros(MacroStage::Connect, [("v", version)]))
        .await;
    assert_eq!(mta.ask(connect()).await, Reply::Continue);
    assert_eq!(mta.ask(helo()).await, Reply::Continue);
    (mta, run)
}

/// What comes for a message that hangs at its end: the progress, the verdict, and how long it took.
async fn at_the_end(mta: &mut Mta) -> (usize, Reply, Duration) {
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    let start = Instant::now();
    let (progress, verdict) = mta.end().await;
    assert!(progress.iter().all(|reply| *reply == Reply::Progress));
    (progress.len(), verdict, start.elapsed())
}

fn about(time: Duration, expected: Duration) -> bool {
    time >= expected && time < expected + Duration::from_millis(50)
}

#[tokio::test(start_paused = true)]
async fn d9_progress_once_a_second_at_the_end_of_the_message() {
    for version in ["8.17.1.9", "Postfix 3.7.11", "?"] {
        let (service, _) = hanging("end of message");
        let (mut mta, run) = greeted(service, Settings::new(), version).await;
        let (progress, verdict, time) = at_the_end(&mut mta).await;
        assert_eq!(verdict, Reply::TempFail);
        assert!((278..=280).contains(&progress), "{progress}");
        assert!(about(time, seconds(280)), "{time:?}");
        mta.quit(run).await;
    }
}

#[tokio::test(start_paused = true)]
async fn d9_none_for_a_quick_answer() {
    let (service, _) = Scripted::new(|request, _| match request.event() {
        Event::EndOfMessage(_) => Act::After(Duration::from_millis(900), Response::accept()),
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = greeted(service, Settings::new(), "8.17.1.9").await;
    assert_eq!(at_the_end(&mut mta).await.0, 0);
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn d9_interval_and_deadline_are_settings() {
    let (service, _) = hanging("end of message");
    let settings = Settings::new()
        .end_of_message_timeout(seconds(20))
        .progress_interval(seconds(4));
    let (mut mta, run) = greeted(service, settings, "?").await;
    let (progress, verdict, time) = at_the_end(&mut mta).await;
    assert_eq!((progress, verdict), (4, Reply::TempFail));
    assert!(about(time, seconds(20)), "{time:?}");
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn d9_deadlines_outside_the_end_and_progress_there_for_postfix_only() {
    let plain = Settings::new;
    for (settings, version, limit, progress) in [
        (plain(), "8.17.1.9", 8, 0),
        (plain(), "?", 8, 0),
        (plain(), "Postfix 3.7.11", 25, 24),
        (plain().call_timeout(seconds(3)), "8.17.1.9", 3, 0),
        (plain().call_timeout(seconds(40)), "Postfix 3.7.11", 40, 39),
        (plain().mta(milter_tower::Mta::Postfix), "?", 25, 24),
        (
            plain().mta(milter_tower::Mta::Sendmail),
            "Postfix 3.7.11",
            8,
            0,
        ),
    ] {
        for at in ["mail", "rcpt", "header", "body"] {
            let (service, log) = hanging(at);
            let (mut mta, run) = greeted(service, settings.clone(), version).await;
            for command in message() {
                if command.stage().unwrap().name() != at {
                    assert_eq!(mta.ask(command).await, Reply::Continue);
                    continue;
                }
                let start = Instant::now();
                mta.send(command).await;
                for _ in 0..progress {
                    assert_eq!(mta.reply().await, Reply::Progress);
                }
                let last = mta.reply().await;
                let last = if last == Reply::Progress {
                    mta.reply().await
                } else {
                    last
                };
                assert_eq!(last, Reply::TempFail);
                let time = start.elapsed();
                assert!(about(time, seconds(limit)), "{version} {at} {time:?}");
                break;
            }
            mta.quit(run).await;
            assert_eq!(log.count("dropped"), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c63_no_progress_where_no_reply_is_due() {
    let (service, _) = Scripted::new(|request, _| match request.event() {
        Event::Negotiate(_) => Response::needs(Needs::none().record(Stage::Mail)).into(),
        Event::Mail(_) => Act::Hang,
        _ => Response::proceed().into(),
    });
    let settings = Settings::new().mta(milter_tower::Mta::Postfix);
    let (mut mta, run) = start_with(service, settings);
    mta.negotiate().await;
    mta.send(mail()).await;
    mta.silence(seconds(100)).await;
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn d9_a_filter_may_tell_progress_itself_from_another_task() {
    let (service, _) = Scripted::new(|request, _| match request.event() {
        Event::EndOfMessage(progress) => {
            let progress = progress.clone();
            tokio::spawn(async move {
                for _ in 0..3 {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    progress.send();
                }
                // Of no effect once the message is over.
                tokio::time::sleep(seconds(10)).await;
                progress.send();
            });
            Act::After(Duration::from_millis(900), Response::accept())
        }
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = greeted(service, Settings::new(), "8.17.1.9").await;
    let (progress, verdict, _) = at_the_end(&mut mta).await;
    assert_eq!((progress, verdict), (3, Reply::Accept));
    mta.silence(seconds(20)).await;
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn d9_a_handle_of_one_message_says_nothing_about_the_next() {
    let old = Arc::new(Mutex::new(None));
    let (service, _) = Scripted::new(move |request, _| match request.event() {
        Event::EndOfMessage(progress) => {
            let before = old.lock().unwrap().replace(progress.clone());
            if let Some(before) = before {
                before.send();
            }
            Act::After(Duration::from_millis(900), Response::accept())
        }
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = greeted(service, Settings::new(), "8.17.1.9").await;
    for _ in 0..2 {
        assert_eq!(at_the_end(&mut mta).await.0, 0);
    }
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn d9_progress_does_not_pile_up_for_an_mta_that_does_not_read() {
    let (service, _) = Scripted::new(|request, _| match request.event() {
        Event::EndOfMessage(progress) => {
            let progress = progress.clone();
            tokio::spawn(async move {
                for _ in 0..1000 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    progress.send();
                }
            });
            Act::After(seconds(20), Response::accept())
        }
        _ => Response::proceed().into(),
    });
    let (mta, io) = tokio::io::duplex(64);
    let run = tokio::spawn(milter_tower::serve_connection(io, service).into_future());
    let mut mta = Mta::new(mta);
    mta.greet().await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    mta.send(crate::common::eom()).await;
    tokio::time::sleep(seconds(19)).await;
    let mut progress = 0;
    while mta.reply().await == Reply::Progress {
        progress += 1;
    }
    assert!(progress <= 20, "{progress}");
    mta.quit(run).await;
}

/// Sendmail waits 10 s for the answer to the next MAIL, also while the service is still told of
/// the end of the message before.
#[tokio::test(start_paused = true)]
async fn d9_time_spent_on_an_end_is_missing_at_the_next_command() {
    let (service, log) = Scripted::new(|request, _| match request.event() {
        Event::MessageEnd(_) | Event::Mail(_) => Act::After(seconds(6), Response::proceed()),
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = greeted(service, Settings::new(), "8.17.1.9").await;
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    let start = Instant::now();
    assert_eq!(mta.ask(mail()).await, Reply::TempFail);
    assert!(about(start.elapsed(), seconds(8)), "{:?}", start.elapsed());
    // Who was not kept waiting has all its time.
    tokio::time::sleep(seconds(20)).await;
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    mta.quit(run).await;
    assert_eq!(log.count("end: accept"), 2);
}

/// Behind what has no reply the MTA sends the next command at once, and waits from then on.
#[tokio::test(start_paused = true)]
async fn d9_time_spent_without_a_reply_is_missing_at_the_next_command() {
    let (service, log) = Scripted::new(|request, _| match request.event() {
        Event::Negotiate(_) => {
            let needs = Needs::none().record(Stage::Mail).event(Stage::Rcpt);
            Response::needs(needs).into()
        }
        Event::Mail(_) | Event::Rcpt(_) => Act::After(seconds(6), Response::proceed()),
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = start(service);
    mta.negotiate().await;
    let start = Instant::now();
    mta.send_all([mail(), rcpt("<b@example.net>")]).await;
    assert_eq!(mta.reply().await, Reply::TempFail);
    assert!(about(start.elapsed(), seconds(8)), "{:?}", start.elapsed());
    mta.send_all([Command::Abort, mail()]).await;
    // Who was not kept waiting has all its time.
    tokio::time::sleep(seconds(20)).await;
    assert_eq!(mta.ask(rcpt("<b@example.net>")).await, Reply::Continue);
    mta.quit(run).await;
    assert_eq!(log.count("rcpt"), 2);
}

#[tokio::test(start_paused = true)]
async fn d9_two_ends_that_hang_leave_time_for_the_answer_behind_them() {
    let (service, log) = Scripted::new(|request, _| match request.event() {
        Event::MessageEnd(_) | Event::SessionEnd => Act::Hang,
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = greeted(service, Settings::new(), "8.17.1.9").await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    let start = Instant::now();
    mta.send_all([Command::Abort, Command::QuitNewConnection, connect()])
        .await;
    assert_eq!(mta.reply().await, Reply::Continue);
    assert!(start.elapsed() < seconds(10), "{:?}", start.elapsed());
    mta.quit(run).await;
    assert_eq!(log.count("dropped"), 2);
}

#[tokio::test(start_paused = true)]
async fn d9_an_end_behind_what_has_no_reply_leaves_time_for_the_answer() {
    let (service, _) = Scripted::new(|request, _| match request.event() {
        Event::Negotiate(_) => Response::needs(Needs::none().record(Stage::Mail)).into(),
        Event::Mail(_) | Event::MessageEnd(_) => Act::Hang,
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = start(service);
    mta.negotiate().await;
    let start = Instant::now();
    mta.send_all([mail(), Command::Abort, rcpt("<b@example.net>")])
        .await;
    assert_eq!(mta.reply().await, Reply::Continue);
    assert!(start.elapsed() < seconds(10), "{:?}", start.elapsed());
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn d9_the_request_tells_the_time_that_is_left() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let (service, _) = Scripted::new(move |request, _| {
        let left = request.deadline().remaining();
        keep.lock().unwrap().push((name(request.event()), left));
        Response::proceed().into()
    });
    let (mut mta, run) = greeted(service, Settings::new(), "Postfix 3.7.11").await;
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    mta.send(Command::Abort).await;
    mta.quit(run).await;
    for (event, left) in kept.lock().unwrap().iter() {
        let expected = match event.as_str() {
            "negotiate" => 8,
            "end of message" => 280,
            end if end.starts_with("end: ") || end == "close" => 5,
            _ => 25,
        };
        assert_eq!(*left, seconds(expected), "{event}");
    }
}
