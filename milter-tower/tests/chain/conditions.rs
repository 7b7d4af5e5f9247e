//! Members that see only some messages.

use milter_core::{Command, MacroStage, Reply};
use milter_tower::{
    Actions, Chain, Condition, Event, Failure, Member, MemberFailure, Needs, Response, Settings,
    Stage,
};

use crate::common::{
    Act, Log, Mta, Run, Scripted, body, connect, macros, mail, name, rcpt, start, unknown,
};
use crate::members::{field, greeted_as, idle, judge, judging, member};

async fn with_when(condition: Condition, a: Scripted) -> (Mta, Run) {
    let chain = Chain::new()
        .with_when("a", condition, a)
        .with("b", idle().0);
    greeted_as(chain, Settings::new()).await
}

/// Whether a member that judges everything is shown a message.
async fn is_shown(condition: Condition) -> bool {
    let (a, log) = idle();
    let (mut mta, run) = with_when(condition, a).await;
    assert!(mta.message().await.ends_with("Ea"));
    mta.quit(run).await;
    let [mails, ends] = ["mail", "end: accept"].map(|what| log.count(what));
    assert_eq!(mails, ends, "both or neither: {:?}", log.all());
    mails == 1
}

#[tokio::test]
async fn by_client_sender_and_size() {
    let yes = || Condition::client_in(["192.0.2.0/24"]).unwrap();
    let no = || Condition::client_in(["198.51.100.0/24"]).unwrap();
    let size = |range: std::ops::Range<u64>| Condition::announced_size(range);
    for (condition, expected) in [
        (yes(), true),
        (no(), false),
        (Condition::listener("other"), false),
        (!Condition::listener("other"), true),
        (Condition::authenticated(), false),
        (
            Condition::sender(|from| from.mailbox() == "a@example.org"),
            true,
        ),
        (
            Condition::sender(|from| from.mailbox() == "b@example.org"),
            false,
        ),
        (size(0..10), true),
        (size(10..20), false),
        (yes() & size(10..20), false),
        (no() | size(0..10), true),
        (!(yes() & !no()), false),
    ] {
        let text = format!("{condition:?}");
        assert_eq!(is_shown(condition).await, expected, "{text}");
    }
}

#[tokio::test]
async fn who_is_left_out_for_the_client_is_not_asked_at_all() {
    let (a, log) = idle();
    let (mut mta, run) = with_when(Condition::client(|_| false), a).await;
    mta.message().await;
    mta.quit(run).await;
    assert_eq!(log.all(), ["negotiate", "close"]);
    let (a, log) = idle();
    let (mut mta, run) = with_when(Condition::listener("other"), a).await;
    mta.message().await;
    mta.quit(run).await;
    assert_eq!((log.clones(), log.all().len()), (0, 0), "not even made");
}

#[tokio::test]
async fn each_message_is_another_one() {
    let (a, log) = idle();
    let (mut mta, run) = with_when(Condition::authenticated(), a).await;
    for user in ["", "alice", ""] {
        mta.send(macros(MacroStage::Mail, [("{auth_type}", user)]))
            .await;
        assert!(mta.message().await.ends_with("Ea"));
    }
    mta.quit(run).await;
    let expected = [1, 1, 1];
    assert_eq!(
        ["connect", "mail", "end: accept"].map(|what| log.count(what)),
        expected
    );
}

/// Writes down what it sees of a message.
fn watching(needs: Needs) -> (Scripted, Log) {
    let log = Log::default();
    let told = log.clone();
    let (scripted, _) = member(needs, move |event| {
        match event {
            Event::Mail(from) => told.add(0, from.address().to_string()),
            Event::Rcpt(to) => told.add(0, to.address().to_string()),
            Event::Header(header) => told.add(0, header.value().to_string()),
            other => told.add(0, name(other)),
        }
        Response::proceed()
    });
    (scripted, log)
}

/// Everything, but verdicts on content only.
fn late() -> Needs {
    let envelope = [Stage::Mail, Stage::Rcpt, Stage::Data];
    let needs = envelope.into_iter().fold(Needs::none(), Needs::record);
    needs.events([Stage::Header, Stage::EndOfHeaders, Stage::Body])
}

async fn message(mta: &mut Mta, subject: &'static str, to: &'static str) {
    for command in [mail(), rcpt("<b@one>"), rcpt(to), Command::Data] {
        assert_eq!(mta.ask(command).await, Reply::Continue);
    }
    mta.ask(field("X-First", "1")).await;
    mta.ask(field("Subject", subject)).await;
    mta.ask(Command::EndOfHeaders).await;
    mta.ask(body("text\r\n")).await;
    assert_eq!(mta.end().await.1, Reply::Accept);
}

#[tokio::test]
async fn by_recipient_the_envelope_comes_with_the_content() {
    let (a, log) = watching(late());
    let condition = Condition::recipient(|to| to.mailbox() == "c@two");
    let (mut mta, run) = with_when(condition, a).await;
    message(&mut mta, "s", "<other@x>").await;
    assert_eq!(log.all(), [""; 0]);
    message(&mut mta, "s", "<c@two>").await;
    mta.quit(run).await;
    let expected = [
        "<a@example.org>",
        "<b@one>",
        "<c@two>",
        "data",
        "1",
        "s",
        "end of headers",
        "body",
        "end of message",
        "end: accept",
        "close",
    ];
    assert_eq!(log.all(), expected);
}

#[tokio::test]
async fn by_header_the_headers_come_with_their_end() {
    for actions in [
        Actions::empty(),
        Actions::ADD_HEADERS | Actions::CHANGE_BODY,
    ] {
        let (a, log) = watching(late());
        let condition = Condition::header("subject", |header| header.value() == "yes");
        // Also behind one that may change what it sees.
        let (first, _) = member(judging().action(actions), |_| Response::proceed());
        let chain = Chain::new()
            .with("first", first)
            .with_when("a", condition, a);
        let (mut mta, run) = greeted_as(chain, Settings::new()).await;
        message(&mut mta, "no", "<c@two>").await;
        assert_eq!(log.all(), [""; 0]);
        message(&mut mta, "yes", "<c@two>").await;
        mta.quit(run).await;
        let expected = [
            "<a@example.org>",
            "<b@one>",
            "<c@two>",
            "data",
            "1",
            "yes",
            "end of headers",
            "body",
            "end of message",
            "end: accept",
            "close",
        ];
        assert_eq!(log.all(), expected);
    }
}

#[tokio::test]
async fn who_is_left_out_late_lets_those_behind_go_on() {
    let may_change = late().action(Actions::ADD_HEADERS);
    let (a, _) = watching(may_change);
    let (b, log) = watching(judging());
    let chain = Chain::new()
        .with_when("a", Condition::header("Subject", |_| false), a)
        .with("b", b);
    let (mut mta, run) = greeted_as(chain, Settings::new()).await;
    for command in [mail(), field("Subject", "s")] {
        mta.ask(command).await;
    }
    assert_eq!(log.all(), ["connect", "helo", "<a@example.org>"]);
    mta.ask(Command::EndOfHeaders).await;
    assert_eq!(log.all()[2..], ["<a@example.org>", "s", "end of headers"]);
    mta.quit(run).await;
}

#[tokio::test]
async fn who_judges_the_envelope_cannot_wait_for_the_content() {
    let (a, _) = judge("never", Response::proceed());
    let condition = Condition::recipient(|_| true);
    let chain = Chain::new()
        .with("first", idle().0)
        .with_when("a", condition.clone(), a);
    let error = chain.check().await.unwrap_err();
    assert_eq!(error.member(), "a");
    assert!(
        matches!(error.failure(), Failure::JudgesTooEarly(Stage::Connect)),
        "{error:?}"
    );
    assert!(Chain::new().with("b", idle().0).check().await.is_ok());
    let (a, log) = judge("never", Response::proceed());
    let (mut mta, run) = start(Chain::new().with_when("a", condition.clone(), a));
    mta.negotiate().await;
    assert_eq!(mta.ask(connect()).await, Reply::TempFail);
    mta.quit(run).await;
    assert_eq!(log.all(), ["negotiate", "close"]);

    let (a, _) = judge("never", Response::proceed());
    let a = Member::new("a", a)
        .when(condition)
        .on_failure(MemberFailure::LeaveOut);
    let (mut mta, run) = greeted_as(
        Chain::new().with_member(a).with("b", idle().0),
        Settings::new(),
    )
    .await;
    assert!(mta.message().await.ends_with("Ea"));
    mta.quit(run).await;
}

#[tokio::test]
async fn a_condition_that_panics_is_its_members_failure() {
    for (policy, reply) in [
        (MemberFailure::TempFail, Reply::TempFail),
        (MemberFailure::Reject, Reply::Reject),
        (MemberFailure::LeaveOut, Reply::Continue),
    ] {
        let ((a, first), (b, second)) = (idle(), idle());
        let count = std::sync::atomic::AtomicUsize::new(0);
        let condition = Condition::sender(move |_| {
            let before = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            assert!(before > 0, "expected");
            true
        });
        let a = Member::new("a", a).when(condition).on_failure(policy);
        let chain = Chain::new().with_member(a).with("b", b);
        let (mut mta, run) = greeted_as(chain, Settings::new()).await;
        assert_eq!(mta.ask(mail()).await, reply);
        mta.send(Command::Abort).await;
        assert!(mta.message().await.ends_with("Ea"));
        mta.quit(run).await;
        assert_eq!(first.count("mail"), 1, "{:?}", first.all());
        assert_eq!((first.clones(), second.clones()), (1, 1));
    }
}

#[tokio::test]
async fn a_condition_that_panics_does_not_undo_what_the_negotiation_came_to() {
    let (a, log) = Scripted::new(|request, _| match request.event() {
        Event::Negotiate(_) => Act::Fail,
        _ => Response::proceed().into(),
    });
    let condition = Condition::sender(|_| panic!("expected"));
    let chain = Chain::new()
        .with_when("a", condition, a)
        .with("b", idle().0);
    let (mut mta, run) = start(chain);
    mta.negotiate().await;
    for _ in 0..2 {
        assert_eq!(mta.ask(mail()).await, Reply::TempFail);
        assert_eq!(mta.ask(unknown()).await, Reply::TempFail);
    }
    mta.quit(run).await;
    assert_eq!(log.all(), ["negotiate", "close"]);
}

#[tokio::test]
async fn a_check_is_of_members_of_all_listeners() {
    let (a, _) = Scripted::new(|_, _| Response::refuse().into());
    let chain = Chain::new().with_when("a", Condition::listener("in"), a);
    assert_eq!(chain.check().await.unwrap_err().member(), "a");
}

#[tokio::test]
async fn who_hears_late_of_the_envelope_knows_only_the_recipients_that_nobody_refused() {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let known = std::sync::Arc::clone(&seen);
    let records = Needs::none().record(Stage::Mail).record(Stage::Rcpt);
    let (a, log) = Scripted::new(move |request, _| match request.event() {
        Event::Negotiate(_) => Response::needs(records.clone().event(Stage::EndOfMessage)).into(),
        Event::EndOfMessage(_) => {
            let to = request.session().recipients().iter();
            known
                .lock()
                .unwrap()
                .extend(to.map(|to| to.mailbox().to_string()));
            Response::proceed().into()
        }
        _ => Response::proceed().into(),
    });
    let (b, _) = member(judging(), |event| match event {
        Event::Rcpt(to) if to.mailbox() == "refused@later" => Response::reject(),
        _ => Response::proceed(),
    });
    let chain = Chain::new()
        .with_when("a", Condition::header("Subject", |_| true), a)
        .with("b", b);
    let (mut mta, run) = greeted_as(chain, Settings::new()).await;
    mta.ask(mail()).await;
    assert_eq!(mta.ask(rcpt("<refused@later>")).await, Reply::Reject);
    mta.ask(rcpt("<taken@later>")).await;
    mta.ask(Command::Data).await;
    mta.send(field("Subject", "x")).await;
    mta.send(Command::EndOfHeaders).await;
    assert_eq!(mta.ask(crate::common::eom()).await, Reply::Accept);
    mta.quit(run).await;
    assert_eq!(log.count("rcpt"), 1);
    assert_eq!(*seen.lock().unwrap(), ["taken@later"]);
}
