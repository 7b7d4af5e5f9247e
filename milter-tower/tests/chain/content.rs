//! Content: streamed where nobody before may change it, held where somebody may (C87, C93).

use milter_core::{Command, Reply};
use milter_tower::{Actions, Chain, Event, Mta as Kind, Needs, Response, Settings, Stage};

use crate::common::{Log, Scripted, body, eom, mail, message, name, rcpt, start};
use crate::members::{field, greeted, greeted_as, idle, judge, judging};

/// A member that writes down what content it is shown, and answers so at one event.
pub(crate) fn reading(needs: Needs, at: &'static str, answer: Response) -> (Scripted, Log) {
    let log = Log::default();
    let told = log.clone();
    let (scripted, _) = Scripted::new(move |request, _| {
        let event = request.event();
        match event {
            Event::Negotiate(_) => return Response::needs(needs.clone()).into(),
            Event::Header(header) => {
                told.add(0, format!("{}:{}", header.name(), header.value()));
            }
            Event::EndOfHeaders => told.add(0, "."),
            Event::Body(piece) if piece.len() > 100 => told.add(0, piece.len().to_string()),
            Event::Body(piece) => told.add(0, String::from_utf8_lossy(piece)),
            Event::EndOfMessage(_) => told.add(0, "end"),
            Event::MessageEnd(_) => told.add(0, name(event)),
            _ => {}
        }
        if name(event) == at {
            answer.clone().into()
        } else {
            Response::proceed().into()
        }
    });
    (scripted, log)
}

pub(crate) fn changing(actions: Actions) -> Needs {
    judging().action(actions)
}

async fn content(mta: &mut crate::common::Mta) -> (String, Reply) {
    let mut replies = String::new();
    for command in [
        mail(),
        rcpt("<a@b>"),
        Command::Data,
        field("X-Old", "1"),
        field("Subject", "hello"),
        Command::EndOfHeaders,
        body("one\r\n"),
        body("two\r\n"),
    ] {
        replies.push(char::from(mta.ask(command).await.code()));
    }
    let (edits, verdict) = mta.end().await;
    replies.extend(edits.iter().map(|edit| char::from(edit.code())));
    (replies, verdict)
}

#[tokio::test]
async fn who_only_judges_lets_content_stream() {
    let (a, first) = reading(
        judging().action(Actions::CHANGE_SENDER),
        "",
        Response::proceed(),
    );
    let (b, second) = reading(judging(), "", Response::proceed());
    let (mut mta, run) = greeted(a, b).await;
    for command in [mail(), rcpt("<a@b>"), field("X-A", "1")] {
        mta.ask(command).await;
    }
    assert_eq!(second.all(), ["X-A:1"]);
    mta.ask(Command::EndOfHeaders).await;
    mta.ask(body("text\r\n")).await;
    assert_eq!(second.all(), ["X-A:1", ".", "text\r\n"]);
    mta.end().await;
    mta.quit(run).await;
    assert_eq!(first.all(), second.all());
}

#[tokio::test]
async fn c87_who_may_change_content_is_done_before_the_next_sees_it() {
    let answer = Response::proceed()
        .change_header("X-Old", 1, "")
        .insert_header(0, "X-Top", "t")
        .add_header("X-New", "n")
        .replace_body("new\r\nbody");
    let actions = Actions::ADD_HEADERS | Actions::CHANGE_HEADERS | Actions::CHANGE_BODY;
    let (a, first) = reading(changing(actions), "end of message", answer);
    let (b, second) = reading(judging(), "", Response::proceed());
    let (mut mta, run) = greeted(a, b).await;
    for command in [
        mail(),
        rcpt("<a@b>"),
        field("X-Old", "1"),
        field("Subject", "s"),
    ] {
        mta.ask(command).await;
    }
    mta.ask(Command::EndOfHeaders).await;
    mta.ask(body("old\r\n")).await;
    assert_eq!(second.all(), [""; 0]);
    assert_eq!(mta.end().await.1, Reply::Accept);
    mta.quit(run).await;
    assert_eq!(
        first.all(),
        ["X-Old:1", "Subject:s", ".", "old\r\n", "end", "end: accept"]
    );
    assert_eq!(
        second.all(),
        [
            "X-Top:t",
            "Subject:s",
            "X-New:n",
            ".",
            "new\r\nbody\r\n",
            "end",
            "end: accept"
        ]
    );
}

#[tokio::test]
async fn only_what_may_be_changed_is_held() {
    let (a, _) = reading(changing(Actions::CHANGE_BODY), "", Response::proceed());
    let (b, second) = reading(judging(), "", Response::proceed());
    let (mut mta, run) = greeted(a, b).await;
    for command in [mail(), field("X-A", "1"), Command::EndOfHeaders, body("b")] {
        mta.ask(command).await;
    }
    assert_eq!(second.all(), ["X-A:1", "."], "headers stay as they are");
    mta.end().await;
    assert_eq!(second.all(), ["X-A:1", ".", "b", "end", "end: accept"]);
    mta.quit(run).await;

    let (a, _) = reading(changing(Actions::ADD_HEADERS), "", Response::proceed());
    let bodies = Needs::none().event(Stage::Body);
    let (b, second) = reading(bodies, "", Response::proceed());
    let (mut mta, run) = greeted(a, b).await;
    for command in [mail(), field("X-A", "1"), Command::EndOfHeaders, body("b")] {
        mta.ask(command).await;
    }
    assert_eq!(second.all(), ["b"], "the body stays as it is");
    mta.end().await;
    mta.quit(run).await;
}

#[tokio::test]
async fn a_body_of_nothing_may_become_something() {
    let answer = Response::proceed()
        .replace_body("now\r\n")
        .add_header("X-A", "a");
    let actions = Actions::CHANGE_BODY | Actions::ADD_HEADERS;
    let (a, _) = reading(changing(actions), "end of message", answer);
    let (b, second) = reading(judging(), "", Response::proceed());
    let (mut mta, run) = greeted(a, b).await;
    for command in [mail(), Command::EndOfHeaders] {
        mta.ask(command).await;
    }
    mta.end().await;
    mta.quit(run).await;
    assert_eq!(
        second.all(),
        ["X-A:a", ".", "now\r\n", "end", "end: accept"]
    );
}

#[tokio::test]
async fn the_first_judges_the_whole_message_before_a_later_one_is_heard() {
    // Behind an MTA the second would not have been asked.
    let (a, first) = reading(judging(), "end of message", Response::reject());
    let (b, second) = reading(judging(), "header", Response::tempfail());
    let (mut mta, run) = greeted(a, b).await;
    assert_eq!(
        content(&mut mta).await,
        ("cccccccc".to_owned(), Reply::Reject)
    );
    mta.quit(run).await;
    assert_eq!(first.all().last().unwrap(), "end: reject");
    assert_eq!(second.all(), ["X-Old:1", "end: tempfail"], "no more of it");

    let (a, first) = reading(judging(), "", Response::proceed());
    let (b, _) = reading(judging(), "header", Response::tempfail());
    let (c, third) = reading(judging(), "", Response::proceed());
    let (mut mta, run) = start(Chain::new().with("a", a).with("b", b).with("c", c));
    mta.greet().await;
    assert_eq!(
        content(&mut mta).await,
        ("cccccccc".to_owned(), Reply::TempFail)
    );
    mta.quit(run).await;
    assert_eq!(first.all().last().unwrap(), "end: accept");
    assert_eq!(third.all(), ["end: aborted"]);
}

#[tokio::test]
async fn a_refusal_of_content_comes_at_once_where_nobody_is_before() {
    for at in ["header", "end of headers", "body"] {
        let (a, first) = reading(judging(), "rcpt", Response::accept());
        let (b, second) = judge(at, Response::reject());
        // The first could have refused, so nobody waits for the second's word on headers.
        let (mut mta, run) = greeted(a, b).await;
        let seen = mta.message().await;
        assert!(seen.ends_with('r'), "{at}: {seen}");
        mta.quit(run).await;
        assert_eq!(second.count("end: reject"), 1);
        assert_eq!(first.all(), ["end: accept"]);
    }
    let ((a, _), (b, second)) = (judge("header", Response::reject()), idle());
    let (mut mta, run) = greeted(a, b).await;
    assert!(mta.message().await.ends_with("Lr"));
    mta.quit(run).await;
    assert_eq!(second.count("header"), 0);
    assert_eq!(second.count("end: aborted"), 1);
}

#[tokio::test]
async fn c93_a_skip_is_the_members_own() {
    let skipping = judging().skip();
    let ((a, first), (b, second)) = (
        reading(skipping.clone(), "body", Response::skip()),
        reading(judging(), "", Response::proceed()),
    );
    let (mut mta, run) = greeted(a, b).await;
    assert_eq!(
        content(&mut mta).await,
        ("cccccccc".to_owned(), Reply::Accept)
    );
    mta.quit(run).await;
    let all = [
        "X-Old:1",
        "Subject:hello",
        ".",
        "one\r\n",
        "end",
        "end: accept",
    ];
    assert_eq!(first.all(), all);
    assert_eq!(second.all().len(), all.len() + 1);

    let members = [(); 2].map(|()| reading(skipping.clone(), "body", Response::skip()).0);
    let [a, b] = members;
    let (mut mta, run) = greeted(a, b).await;
    // Not asked any more, the chain has nothing more to say.
    assert_eq!(content(&mut mta).await.0, "ccccccsc");
    mta.quit(run).await;
}

#[tokio::test]
async fn a_skip_holds_for_what_was_held_too() {
    let (a, _) = reading(changing(Actions::CHANGE_BODY), "", Response::proceed());
    let (b, second) = reading(judging().skip(), "body", Response::skip());
    let (mut mta, run) = greeted(a, b).await;
    mta.ask(mail()).await;
    for _ in 0..3 {
        mta.ask(body(vec![b'x'; 40_000])).await;
    }
    mta.ask(eom()).await;
    mta.quit(run).await;
    // Cut anew, as an MTA cuts.
    assert_eq!(second.all(), ["65535", "end", "end: accept"]);
}

#[tokio::test]
async fn c94_leading_space_is_for_who_asked_for_it() {
    let spaced = judging().leading_space();
    let ((a, first), (b, second)) = (
        reading(
            spaced.clone().action(Actions::CHANGE_BODY),
            "",
            Response::proceed(),
        ),
        reading(judging(), "", Response::proceed()),
    );
    let (mut mta, run) = greeted(a, b).await;
    for command in [
        mail(),
        field("X-A", " 1"),
        field("X-B", "2"),
        field("X-C", "  3"),
    ] {
        mta.ask(command).await;
    }
    mta.end().await;
    mta.quit(run).await;
    assert_eq!(first.all()[..3], ["X-A: 1", "X-B:2", "X-C:  3"]);
    assert_eq!(second.all()[..3], ["X-A:1", "X-B:2", "X-C: 3"]);
}

#[tokio::test]
async fn a_quarantine_stops_those_behind_where_the_mta_does_so() {
    for (kind, goes_on) in [
        (Kind::Postfix, false),
        (Kind::Unknown, false),
        (Kind::Sendmail, true),
    ] {
        let needs = changing(Actions::QUARANTINE | Actions::ADD_HEADERS);
        let answer = Response::accept().quarantine("why").add_header("X-A", "a");
        let (a, _) = reading(needs, "end of message", answer);
        let (b, second) = reading(judging(), "end of message", Response::tempfail());
        let chain = Chain::new().with("a", a).with("b", b);
        let (mut mta, run) = greeted_as(chain, Settings::new().mta(kind)).await;
        let (replies, verdict) = content(&mut mta).await;
        mta.quit(run).await;
        let (expected, end) = if goes_on {
            (("cccccccc", Reply::TempFail), "end: tempfail")
        } else {
            (("cccccccchq", Reply::Accept), "end: aborted")
        };
        assert_eq!((replies.as_str(), verdict), expected, "{kind:?}");
        assert_eq!(second.all().last().unwrap(), end);
    }
}

#[tokio::test]
async fn several_messages_begin_anew() {
    let answer = Response::proceed().add_header("X-A", "a");
    let (a, _) = reading(changing(Actions::ADD_HEADERS), "end of message", answer);
    let (b, second) = reading(judging(), "", Response::proceed());
    let (mut mta, run) = greeted(a, b).await;
    for command in &message()[..5] {
        mta.ask(command.clone()).await;
    }
    mta.send(Command::Abort).await;
    for _ in 0..2 {
        assert_eq!(content(&mut mta).await.0, "cccccccch");
    }
    mta.quit(run).await;
    let one = [
        "X-Old:1",
        "Subject:hello",
        "X-A:a",
        ".",
        "one\r\ntwo\r\n",
        "end",
        "end: accept",
    ];
    assert_eq!(second.all(), [&["end: aborted"][..], &one, &one].concat());
}
