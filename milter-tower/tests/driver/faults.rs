//! The MTA goes at every byte of a session (D5, C7, C50).

use milter_core::Command;
use milter_tower::{Event, MacroStage, Needs, Offer, Response, Settings, Stage};

use crate::common::{
    Log, Scripted, bytes_of, connect, ended, helo, macros, message, seconds, start_with,
};

fn session() -> Vec<Vec<u8>> {
    let first = [
        Command::Negotiate(Offer::V6),
        macros(MacroStage::Connect, [("v", "Postfix 3.7.11")]),
        connect(),
        helo(),
    ];
    let macros = || [macros(MacroStage::Mail, [("i", "4XyZ")])];
    let commands = first
        .into_iter()
        .chain(macros())
        .chain(message())
        .chain([Command::Abort])
        .chain(macros())
        .chain(message())
        .chain([Command::QuitNewConnection, connect(), Command::Quit]);
    commands.map(bytes_of).collect()
}

fn filter(needs: Needs, last: Response) -> (Scripted, Log) {
    Scripted::new(move |request, _| match request.event() {
        Event::Negotiate(_) => Response::needs(needs.clone()).into(),
        Event::EndOfMessage(_) => last.clone().into(),
        _ => Response::proceed().into(),
    })
}

fn check(log: &Log, context: &str) {
    let seen = log.all();
    if seen.is_empty() {
        return;
    }
    assert_eq!(log.count("close"), 1, "{context}: {seen:?}");
    assert_eq!(seen.last().unwrap(), "close", "{context}: {seen:?}");
    let mut open = false;
    for event in &seen {
        match event.as_str() {
            "mail" => {
                assert!(!open, "{context}: {seen:?}");
                open = true;
            }
            end if end.starts_with("end: ") => {
                assert!(open, "{context}: {seen:?}");
                open = false;
            }
            "session end" | "close" => assert!(!open, "{context}: {seen:?}"),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn d5_c7_c50_the_mta_goes_at_every_byte() {
    let bytes = session().concat();
    let silent = Stage::ALL.into_iter().fold(Needs::none(), Needs::record);
    for (needs, last) in [
        (Needs::all(), Response::accept().add_header("X-A", "b")),
        (Needs::all(), Response::reject()),
        (silent, Response::proceed()),
    ] {
        for cut in 0..bytes.len() {
            let (service, log) = filter(needs.clone(), last.clone());
            let (mut mta, run) = start_with(service, Settings::new());
            mta.send_raw(&bytes[..cut]).await;
            if cut % 2 == 0 {
                // Once the server is idle.
                tokio::time::sleep(seconds(1)).await;
            }
            drop(mta);
            let _ = ended(run).await;
            check(&log, &format!("cut at {cut}"));
        }
    }
}

/// The same while every call takes a while.
#[tokio::test(start_paused = true)]
async fn d3_d5_the_mta_goes_during_every_call() {
    let frames = session();
    for cut in 1..frames.len() {
        let (service, log) =
            Scripted::new(|_, _| crate::common::Act::After(seconds(1), Response::proceed()));
        let (mut mta, run) = start_with(service, Settings::new());
        mta.send_raw(&frames[..cut].concat()).await;
        tokio::time::sleep(seconds(cut as u64)).await;
        drop(mta);
        let _ = ended(run).await;
        check(&log, &format!("cut after frame {cut}"));
    }
}

/// Reading goes on working where writing fails, and the other way round.
#[tokio::test(start_paused = true)]
async fn d5_an_mta_that_closes_one_direction() {
    use tokio::io::AsyncWriteExt;
    let (service, log) = filter(Needs::all(), Response::accept());
    let (mut mta, run) = start_with(service, Settings::new());
    let bytes = session().concat();
    mta.send_raw(&bytes[..bytes.len() - 5]).await;
    mta.framed.get_mut().shutdown().await.unwrap();
    let mut replies = 0;
    while mta.next().await.is_some() {
        replies += 1;
    }
    assert_eq!(replies, 1 + 2 + 8 + 8 + 1);
    ended(run).await.unwrap();
    check(&log, "half closed");
    assert_eq!(log.count("end: accept"), 2);
}
