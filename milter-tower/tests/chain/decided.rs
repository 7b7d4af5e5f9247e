//! What stands around a chain sees which member decided.

use std::sync::{Arc, Mutex};

use milter_tower::chain::Decided;
use milter_tower::{
    BoxError, Chain, ClientAddr, Connect, Event, Member, MemberFailure, Offer, OnMemberFailure,
    Peer, PeerAddr, Request, Response, Session, Settings, SmtpReply, Stage,
};
use tower::{Service, ServiceExt, service_fn};

use crate::common::{Act, Scripted, start_with};
use crate::members::{acting, idle, judge, judging};

type Told = Vec<Option<(String, Stage, bool)>>;

/// Writes down what is there at the ends of messages.
fn watched(
    chain: Chain,
    told: &Arc<Mutex<Told>>,
) -> impl Service<Request, Response = Response, Error = BoxError, Future: Send> + Clone + Send + use<>
{
    let told = Arc::clone(told);
    chain.map_request(move |request: Request| {
        if matches!(request.event(), Event::MessageEnd(_)) {
            let decided: Option<Decided> = request.session().message_data().get();
            let decided = decided.map(|told| {
                let member = told.member().to_owned();
                (member, told.stage(), told.is_failure())
            });
            told.lock().unwrap().push(decided);
        }
        request
    })
}

/// What is there at the end of each of two messages, the chain within another one or not.
async fn decided(first: Member, second: Scripted, nested: bool) -> Told {
    let told = Arc::new(Mutex::new(Told::new()));
    let chain = Chain::new().with_member(first).with("second", second);
    let chain = watched(chain, &told);
    let settings = Settings::new();
    let (mut mta, run) = if nested {
        start_with(Chain::new().with("inner", chain), settings)
    } else {
        start_with(chain, settings)
    };
    mta.greet().await;
    for _ in 0..2 {
        mta.message().await;
    }
    mta.quit(run).await;
    std::mem::take(&mut *told.lock().unwrap())
}

fn failing(policy: impl Into<OnMemberFailure>) -> Member {
    let (service, _) = acting(judging(), |event| match event {
        Event::EndOfMessage(_) => Act::Fail,
        _ => Response::proceed().into(),
    });
    Member::new("first", service).on_failure(policy)
}

#[tokio::test(start_paused = true)]
async fn a_verdict_names_its_member() {
    let refusal = || Response::from(SmtpReply::reject("no"));
    for nested in [false, true] {
        let (first, _) = idle();
        let told = decided(Member::new("first", first), idle().0, nested).await;
        assert_eq!(told, [None, None], "nobody objects");

        for (at, stage) in [
            ("mail", Stage::Mail),
            ("rcpt", Stage::Rcpt),
            ("end of message", Stage::EndOfMessage),
        ] {
            let (first, _) = idle();
            let (second, _) = judge(at, refusal());
            let told = decided(Member::new("first", first), second, nested).await;
            let by = Some(("second".to_owned(), stage, false));
            assert_eq!(told, [by.clone(), by], "{at}");
        }
        let (first, _) = judge("body", Response::discard());
        let told = decided(Member::new("first", first), idle().0, nested).await;
        let by = Some(("first".to_owned(), Stage::Body, false));
        assert_eq!(told, [by.clone(), by]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_names_its_member_whatever_came_of_it() {
    for policy in [
        OnMemberFailure::from(MemberFailure::TempFail),
        OnMemberFailure::leave_out(),
    ] {
        let told = decided(failing(policy), idle().0, false).await;
        let by = Some(("first".to_owned(), Stage::EndOfMessage, true));
        assert_eq!(told, [by.clone(), by]);
    }
    // Of one that is left out the verdict is not.
    let (second, _) = judge("end of message", Response::reject());
    let told = decided(failing(OnMemberFailure::leave_out()), second, false).await;
    let by = Some(("second".to_owned(), Stage::EndOfMessage, false));
    assert_eq!(told, [by.clone(), by]);
}

/// Its verdict is then the MTA's from connect on.
#[tokio::test(start_paused = true)]
async fn a_failure_in_the_negotiation_is_one() {
    let first = service_fn(async |_: Request| Err::<Response, BoxError>("broken".into()));
    let first = Member::new("first", first).on_failure(MemberFailure::Reject);
    let mut chain = Chain::new().with_member(first).with("second", idle().0);
    let session = Session::new(Peer::new(1, PeerAddr::Other), None);
    let client = Connect::new("client.example", ClientAddr::Unknown);
    for event in [
        Event::Negotiate(Offer::V6),
        Event::Connect(Arc::new(client)),
    ] {
        let request = Request::new(event, session.clone());
        let _ = chain.ready().await.unwrap().call(request).await.unwrap();
    }
    let told: Decided = session.message_data().get().expect("somebody decided");
    assert!(told.member() == "first" && told.stage() == Stage::Connect && told.is_failure());
}

/// Of a chain within another one it is the member of the inner one, in both.
#[tokio::test(start_paused = true)]
async fn the_innermost_member_is_named() {
    let seen = Arc::new(Mutex::new(Told::new()));
    for (at, stage) in [
        ("rcpt", Stage::Rcpt),
        // What is before it may change the body, which is held.
        ("body", Stage::EndOfMessage),
        ("end of message", Stage::EndOfMessage),
    ] {
        let (service, _) = judge(at, Response::from(SmtpReply::reject("no")));
        let inner = Chain::new().with("idle", idle().0).with("judge", service);
        let inner = watched(inner, &seen);
        let outer = Chain::new().with("before", idle().0).with("inner", inner);
        let (mut mta, run) = start_with(watched(outer, &seen), Settings::new());
        mta.greet().await;
        for _ in 0..2 {
            mta.message().await;
        }
        mta.quit(run).await;
        let by = Some(("judge".to_owned(), stage, false));
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        assert_eq!(seen, vec![by; 4], "{at}");
    }
}
