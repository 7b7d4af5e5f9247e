//! One negotiation for all (protocol 7.3 rule 11).

use milter_core::{Actions, MacroStage, Reply, Steps};
use milter_tower::{Chain, Event, Needs, Response, Stage};

use crate::common::{Scripted, connect, listen, start};
use crate::members::{idle, judging, member};

async fn steps(members: impl IntoIterator<Item = Needs>) -> (Steps, Actions) {
    let mut chain = Chain::new();
    for needs in members {
        chain = chain.with("member", member(needs, |_| Response::proceed()).0);
    }
    let (mut mta, run) = start(chain);
    let reply = mta.negotiate().await;
    mta.quit(run).await;
    (reply.steps, reply.actions)
}

#[tokio::test]
async fn an_event_is_declined_only_by_all_and_silent_only_for_all() {
    let judges = Needs::none().event(Stage::Mail).record(Stage::Rcpt);
    let records = Needs::none()
        .record(Stage::Mail)
        .record(Stage::Rcpt)
        .event(Stage::Body);
    let (steps, _) = steps([judges, records]).await;
    assert!(steps.contains(Steps::NO_CONNECT | Steps::NO_HELO | Steps::NO_DATA));
    assert!(!steps.intersects(Steps::NO_MAIL | Steps::NR_MAIL | Steps::NO_RCPT));
    assert!(steps.contains(Steps::NR_RCPT));
    assert!(!steps.intersects(Steps::NO_BODY | Steps::NR_BODY));
}

#[tokio::test]
async fn only_the_first_can_refuse_before_the_end_so_nobody_waits_for_the_others() {
    let content = || Needs::none().events([Stage::Header, Stage::EndOfHeaders]);
    let (steps, _) = steps([Needs::none(), content()]).await;
    assert!(steps.contains(Steps::NR_HEADER | Steps::NR_END_OF_HEADERS));
    let (steps, _) = self::steps([content(), content()]).await;
    assert!(!steps.intersects(Steps::NR_HEADER | Steps::NR_END_OF_HEADERS));
}

#[tokio::test]
async fn abilities_and_actions_are_those_of_all() {
    let first = Needs::none()
        .skip()
        .leading_space()
        .action(Actions::ADD_HEADERS);
    let second = Needs::none()
        .rejected_recipients()
        .optional_action(Actions::QUARANTINE);
    let (steps, actions) = steps([first, second]).await;
    assert!(steps.contains(Steps::SKIP | Steps::LEADING_SPACE | Steps::REJECTED_RECIPIENTS));
    // What a quarantine does depends on the MTA, which has to say what it is.
    let expected = Actions::ADD_HEADERS | Actions::QUARANTINE | Actions::REQUEST_MACROS;
    assert_eq!(actions, expected);
}

#[tokio::test]
async fn headers_are_recorded_where_changes_have_to_be_merged() {
    let adds = || Needs::none().action(Actions::ADD_HEADERS);
    let changes = || Needs::none().action(Actions::CHANGE_HEADERS);
    let (steps, _) = steps([adds(), adds()]).await;
    assert!(steps.contains(Steps::NO_HEADERS));
    let (steps, _) = self::steps([adds(), changes()]).await;
    assert!(!steps.contains(Steps::NO_HEADERS) && steps.contains(Steps::NR_HEADER));
    let (steps, _) = self::steps([changes()]).await;
    assert!(
        steps.contains(Steps::NO_HEADERS),
        "alone it goes out as it is"
    );
}

#[tokio::test]
async fn macros_are_those_that_anybody_asked_for() {
    let asks = |stage, name: &'static str| Needs::none().macros(stage, [name]);
    let chain = Chain::new()
        .with(
            "a",
            member(asks(MacroStage::Mail, "{client_ptr}"), |_| {
                Response::proceed()
            })
            .0,
        )
        .with(
            "b",
            member(asks(MacroStage::Mail, "{nrcpts}"), |_| Response::proceed()).0,
        );
    let (mut mta, run) = start(chain);
    let reply = mta.negotiate().await;
    let names: Vec<String> = reply
        .macros
        .get(MacroStage::Mail)
        .expect("a list")
        .map(|name| name.to_string())
        .collect();
    assert!(names.contains(&"{client_ptr}".to_owned()) && names.contains(&"{nrcpts}".to_owned()));
    mta.quit(run).await;
}

/// A list takes the place of the MTA's own: who asked for none finds what the MTA would have sent.
#[tokio::test]
async fn those_that_asked_for_no_macros_find_the_usual_ones() {
    let asks = Needs::none().macros_exact(MacroStage::Mail, ["{client_ptr}"]);
    let members = |other: Needs| {
        Chain::new()
            .with("a", member(asks.clone(), |_| Response::proceed()).0)
            .with("b", member(other, |_| Response::proceed()).0)
    };
    for (other, usual) in [(Needs::none(), true), (asks.clone(), false)] {
        let (mut mta, run) = start(members(other));
        let reply = mta.negotiate().await;
        let names = reply.macros.get(MacroStage::Mail).expect("a list");
        let names: Vec<String> = names.map(|name| name.to_string()).collect();
        assert!(names.contains(&"{client_ptr}".to_owned()), "{names:?}");
        let both = ["i", "{mail_addr}"].map(str::to_owned);
        assert_eq!(
            both.iter().all(|name| names.contains(name)),
            usual,
            "{names:?}"
        );
        assert!(reply.macros.get(MacroStage::Rcpt).is_none());
        mta.quit(run).await;
    }
}

/// A member that asks for so many macros of MAIL, numbered from this on.
fn asking(from: usize, count: usize) -> Scripted {
    let names = (from..from + count).map(|at| format!("{{m{at}}}"));
    let needs = judging().macros_exact(MacroStage::Mail, names);
    member(needs, |_| Response::proceed()).0
}

#[tokio::test]
async fn macros_that_are_too_many_together_are_not_all_asked_for() {
    let (lines, _guard) = listen();
    let chain = || {
        Chain::new()
            .with("a", asking(0, 30))
            .with("b", asking(20, 40))
    };
    let (mut mta, run) = start(chain());
    let reply = mta.negotiate().await;
    let names = reply.macros.get(MacroStage::Mail).expect("a list");
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    // What a session's facts come from is asked for with them.
    let (facts, asked) = names.split_at(5);
    assert!(facts.contains(&"{auth_authen}".to_owned()), "{facts:?}");
    let expected: Vec<String> = (0..45).map(|at| format!("{{m{at}}}")).collect();
    assert_eq!(asked, expected);
    assert_eq!(mta.ask(connect()).await, Reply::Continue);
    mta.quit(run).await;
    assert_eq!(lines.count(r#"member="b" macros=[(Mail, "{m45}")"#), 1);
    let error = chain().check().await.unwrap_err();
    assert_eq!(error.member(), "b");
    assert!(
        error.failure().to_string().starts_with("65 macros"),
        "{error:?}"
    );
}

#[tokio::test]
async fn macros_that_are_too_many_alone_are_that_members_failure() {
    let chain = Chain::new().with("a", asking(0, 51)).with("b", idle().0);
    assert_eq!(chain.check().await.unwrap_err().member(), "a");
    let (mut mta, run) = start(chain);
    mta.negotiate().await;
    assert_eq!(mta.ask(connect()).await, Reply::TempFail);
    mta.quit(run).await;
}

#[tokio::test]
async fn an_empty_chain_asks_for_nothing_and_accepts() {
    let (mut mta, run) = start(Chain::new());
    let reply = mta.negotiate().await;
    assert!(
        reply
            .steps
            .contains(Steps::NO_MAIL | Steps::NO_BODY | Steps::NO_HEADERS)
    );
    assert_eq!(mta.end().await.1, Reply::Accept);
    mta.quit(run).await;
}

#[tokio::test]
async fn each_member_knows_what_it_agreed_on_itself() {
    let (a, _) = Scripted::new(|request, _| {
        let agreement = request.session().agreement();
        match request.event() {
            Event::Negotiate(_) => {
                assert!(agreement.is_none());
                Response::needs(Needs::none().event(Stage::Mail).leading_space()).into()
            }
            Event::Close => Response::proceed().into(),
            _ => {
                let agreement = agreement.expect("negotiated");
                assert!(agreement.leading_space() && !agreement.delivers(Stage::Rcpt));
                Response::proceed().into()
            }
        }
    });
    let (b, _) = Scripted::new(|request, _| match request.event() {
        Event::Negotiate(_) => Response::needs(judging()).into(),
        Event::Mail(_) => {
            let agreement = request.session().agreement().expect("negotiated");
            assert!(!agreement.leading_space() && agreement.delivers(Stage::Rcpt));
            Response::reject().into()
        }
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = start(Chain::new().with("a", a).with("b", b));
    mta.greet().await;
    assert_eq!(mta.message().await, "Mr", "no assertion failed");
    mta.quit(run).await;
}

#[tokio::test]
async fn chains_stand_in_chains() {
    let ((a, first), (b, second), (c, third)) = (idle(), idle(), idle());
    let inner = Chain::new().with("b", b).with("c", c);
    let (mut mta, run) = start(Chain::new().with("a", a).with("inner", inner));
    mta.greet().await;
    assert!(mta.message().await.ends_with("Ea"));
    mta.quit(run).await;
    assert_eq!(first.all(), second.all());
    assert_eq!(second.all(), third.all());
}
