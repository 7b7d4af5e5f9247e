//! Members that want no more of a message let those behind them go on.

use milter_core::{Command, Reply};
use milter_tower::{Actions, Chain, Response, Settings};

use crate::common::{body, mail};
use crate::content::{changing, reading};
use crate::members::{field, greeted, greeted_as, judging};

#[tokio::test]
async fn who_decides_early_lets_others_go_on() {
    let actions = Actions::ADD_HEADERS | Actions::CHANGE_BODY;
    for (at, seen) in [
        ("mail", vec!["X-Old:1", "Subject:hello", "."]),
        // What was held is shown with the event that comes next.
        ("header", vec!["X-Old:1", "Subject:hello", "."]),
        ("end of headers", vec![]),
    ] {
        let (a, _) = reading(changing(actions), at, Response::accept());
        let (b, second) = reading(judging(), "", Response::proceed());
        let (mut mta, run) = greeted(a, b).await;
        for command in [mail(), field("X-Old", "1"), field("Subject", "hello")] {
            mta.ask(command).await;
        }
        mta.ask(Command::EndOfHeaders).await;
        assert_eq!(second.all(), seen, "{at}");
        mta.ask(body("text\r\n")).await;
        mta.end().await;
        let all = [
            "X-Old:1",
            "Subject:hello",
            ".",
            "text\r\n",
            "end",
            "end: accept",
        ];
        assert_eq!(second.all(), all, "{at}");
        mta.quit(run).await;
    }
}

#[tokio::test]
async fn who_decides_within_the_body_lets_others_go_on() {
    let actions = Actions::ADD_HEADERS | Actions::CHANGE_BODY;
    let (headers, pieces) = (["X-Old:1", "Subject:hello", "."], ["one\r\n", "two\r\n"]);
    for (actions, memory, held) in [
        (actions, 100, [&headers[..], &pieces[..1]].concat()),
        (
            Actions::CHANGE_BODY,
            100,
            [&headers[..], &pieces[..1]].concat(),
        ),
        // What is in a file is shown at the end.
        (actions, 2, vec![]),
        (Actions::CHANGE_BODY, 2, headers.to_vec()),
    ] {
        let (a, _) = reading(changing(actions), "body", Response::accept());
        let (b, second) = reading(judging(), "", Response::proceed());
        let chain = Chain::new().with("a", a).with("b", b).memory_limit(memory);
        let (mut mta, run) = greeted_as(chain, Settings::new()).await;
        for _ in 0..2 {
            let before = second.all().len();
            for command in [mail(), field("X-Old", "1"), field("Subject", "hello")] {
                mta.ask(command).await;
            }
            mta.ask(Command::EndOfHeaders).await;
            mta.ask(body("one\r\n")).await;
            // What was held is shown with the event that comes next.
            mta.ask(body("two\r\n")).await;
            let seen = second.all().split_off(before);
            let is_released = memory > 2;
            let now = if is_released { 5 } else { held.len() };
            assert_eq!(seen.len(), now, "{seen:?}");
            assert!(seen.starts_with(&held.iter().map(ToString::to_string).collect::<Vec<_>>()));
            assert_eq!(mta.end().await.1, Reply::Accept);
            let seen = second.all().split_off(before);
            let whole = if is_released {
                &["one\r\n", "two\r\n"][..]
            } else {
                &["one\r\ntwo\r\n"]
            };
            let all = [&headers[..], whole, &["end", "end: accept"]].concat();
            assert_eq!(seen, all);
        }
        mta.quit(run).await;
    }
}

#[tokio::test]
async fn who_waits_for_two_goes_on_when_both_have_decided() {
    let decides = |at| reading(changing(Actions::CHANGE_BODY), at, Response::accept()).0;
    let (c, third) = reading(judging(), "", Response::proceed());
    // The second is shown the body only once the first wants no more of it.
    let chain = Chain::new()
        .with("a", decides("body"))
        .with("b", decides("body"))
        .with("c", c);
    let (mut mta, run) = greeted_as(chain, Settings::new()).await;
    for command in [mail(), Command::EndOfHeaders, body("1"), body("2")] {
        mta.ask(command).await;
    }
    assert_eq!(third.all(), ["."]);
    mta.ask(body("3")).await;
    assert_eq!(third.all(), [".", "12", "3"]);
    mta.end().await;
    mta.quit(run).await;
    assert_eq!(third.all(), [".", "12", "3", "end", "end: accept"]);
}
