//! Negotiation is an event like the others (D1, C10 to C21).

use std::convert::Infallible;
use std::time::Duration;

use milter_core::{Command, Reply};
use milter_tower::{
    Actions, BoxError, ConnectionError, Event, Failure, MacroStage, Needs, Offer,
    OnNegotiateFailure, Request, Response, Settings, Stage, Steps,
};
use tower::{ServiceBuilder, ServiceExt, service_fn};

use crate::common::{
    Act, Mta, Ready, Run, Scripted, connect, ended, helo, proceeding, rcpt, start, start_with,
};

fn needing(needs: Needs) -> Scripted {
    let (service, _) = Scripted::new(move |_, _| Response::needs(needs.clone()).into());
    service
}

#[tokio::test(start_paused = true)]
async fn d1_who_proceeds_needs_all() {
    let (service, log) = proceeding();
    let (mut mta, run) = start(service);
    let reply = mta.negotiate().await;
    assert_eq!(reply.actions, Actions::CHANGES);
    assert_eq!(reply.steps, Steps::empty());
    assert!(reply.macros.is_empty());
    assert_eq!(mta.ask(connect()).await, Reply::Continue);
    mta.quit(run).await;
    assert_eq!(log.all(), ["negotiate", "connect", "close"]);
}

#[tokio::test(start_paused = true)]
async fn d1_what_is_needed_is_asked_and_no_more() {
    let needs = Needs::none()
        .event(Stage::Rcpt)
        .record(Stage::Helo)
        .action(Actions::ADD_HEADERS)
        .optional_action(Actions::QUARANTINE)
        .skip()
        .rejected_recipients()
        .leading_space();
    let (mut mta, run) = start(needing(needs));
    let reply = mta.negotiate().await;
    assert_eq!(reply.actions, Actions::ADD_HEADERS | Actions::QUARANTINE);
    let declined = [
        Stage::Connect,
        Stage::Mail,
        Stage::Data,
        Stage::Unknown,
        Stage::Header,
        Stage::EndOfHeaders,
        Stage::Body,
    ];
    let declined = declined
        .iter()
        .filter_map(|s| s.declining())
        .fold(Steps::empty(), |a, b| a | b);
    assert_eq!(reply.steps, declined | Steps::NR_HELO | Steps::ABILITIES);
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn c11_c12_c13_c17_nothing_that_was_not_offered() {
    let needs = Needs::all()
        .skip()
        .rejected_recipients()
        .leading_space()
        .macros(MacroStage::Mail, ["i"]);
    for (version, actions, steps, answer) in [
        (99, 0x1ff, 0x1f_ffff, (6, 0x1ff, 0x10_0c00)),
        (6, 0x11, 0x400, (6, 0x11, 0x400)),
        (2, 0, 0, (2, 0x0f, 0)),
    ] {
        let seen = needs.clone();
        let (service, _) = Scripted::new(move |request, _| {
            if let Some(agreed) = request.session().agreement() {
                assert_eq!(agreed.skip(), agreed.steps().contains(Steps::SKIP));
                assert_eq!(agreed.version(), version.min(6));
            }
            Response::needs(seen.clone()).into()
        });
        let (mut mta, run) = start(service);
        let reply = mta
            .offer(Offer {
                version,
                actions: Actions::from_bits_retain(actions),
                steps: Steps::from_bits_retain(steps),
            })
            .await;
        let got = (reply.version, reply.actions.bits(), reply.steps.bits());
        assert_eq!(got, answer);
        assert_eq!(mta.ask(connect()).await, Reply::Continue);
        mta.quit(run).await;
    }
}

#[tokio::test(start_paused = true)]
async fn c14_what_is_needed_and_not_offered_closes_without_a_reply() {
    let (mut mta, run) = start(needing(Needs::none().action(Actions::CHANGE_SENDER)));
    let offer = Offer {
        actions: Actions::ADD_HEADERS,
        ..Offer::V6
    };
    mta.send(Command::Negotiate(offer)).await;
    mta.closed().await;
    let error = ended(run).await.unwrap_err();
    assert!(matches!(error, ConnectionError::Negotiation(_)));
    assert!(error.to_string().contains("CHANGE_SENDER"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn c10_c21_offers_short_old_and_long() {
    for offer in [
        &b"\0\0\0\x0cO\0\0\0\x06\0\0\x01\xff\0\0\0"[..],
        b"\0\0\0\x0dO\0\0\0\x01\0\0\x01\xff\0\x1f\xff\xff",
    ] {
        let (service, log) = proceeding();
        let (mut mta, run) = start(service);
        mta.send_raw(offer).await;
        mta.closed().await;
        assert!(ended(run).await.is_err());
        assert_eq!(log.clones(), 0);
    }
    let (mut mta, run) = start(proceeding().0);
    mta.send_raw(b"\0\0\0\x10O\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xffxyz")
        .await;
    assert!(matches!(mta.reply().await, Reply::Negotiate(_)));
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn c18_c19_macro_lists() {
    let needs = Needs::all().macros_exact(MacroStage::EndOfMessage, ["{msg_id}"]);
    let (mut mta, run) = start(needing(needs));
    let reply = mta.negotiate().await;
    assert!(reply.actions.contains(Actions::REQUEST_MACROS));
    let stages: Vec<u32> = reply.macros.iter().map(|(stage, _)| stage).collect();
    assert!(stages.contains(&5) && stages.contains(&6), "{stages:?}");
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn d1_refuse_closes() {
    let (service, log) = Scripted::new(|_, _| Response::refuse().into());
    let (mut mta, run) = start(service);
    mta.send(Command::Negotiate(Offer::V6)).await;
    mta.closed().await;
    assert!(matches!(ended(run).await, Err(ConnectionError::Refused)));
    assert_eq!(log.all(), ["negotiate", "close"]);
}

#[tokio::test(start_paused = true)]
async fn d1_refuse_closes_later_too() {
    let (service, log) = Scripted::new(|request, _| match request.event() {
        Event::Rcpt(_) => Response::refuse().into(),
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = start(service);
    mta.greet().await;
    assert_eq!(mta.ask(crate::common::mail()).await, Reply::Continue);
    mta.send(rcpt("<b@example.net>")).await;
    mta.closed().await;
    assert!(matches!(ended(run).await, Err(ConnectionError::Refused)));
    assert_eq!(log.all()[3..], ["mail", "rcpt", "end: lost", "close"]);
}

/// The failure verdict from connect on, until the end.
async fn fails_from_connect_on(mut mta: Mta, run: Run) {
    let reply = mta.negotiate().await;
    assert_eq!(reply.steps, Steps::empty(), "everything is asked for");
    assert_eq!(mta.ask(connect()).await, Reply::TempFail);
    assert_eq!(mta.ask(helo()).await, Reply::TempFail);
    assert_eq!(mta.message().await, "Mt");
    mta.send(Command::QuitNewConnection).await;
    assert_eq!(mta.ask(connect()).await, Reply::TempFail);
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn d1_d6_a_negotiation_that_fails_is_an_agreement_and_the_failure_verdict() {
    let acts: [fn() -> Act; 9] = [
        || Act::Fail,
        || Act::Panic,
        || Act::PanicLater,
        || Act::PanicInDrop(Some(Response::proceed())),
        || Act::PanicInDrop(None),
        || Act::Hang,
        // Responses that an offer cannot have.
        || Response::tempfail().into(),
        || Response::proceed().add_header("X-A", "b").into(),
        || Response::proceed().add_header("not a name", "b").into(),
    ];
    for (n, act) in acts.into_iter().enumerate() {
        let (service, log) = Scripted::new(move |request, _| match request.event() {
            Event::Negotiate(_) => act(),
            _ => Response::proceed().into(),
        });
        let (mta, run) = start(service);
        fails_from_connect_on(mta, run).await;
        let seen = log.of(1);
        assert!(log.clones() == 1 && seen[0] == "negotiate", "{n} {seen:?}");
        assert!(!seen.contains(&"connect".into()), "{n} {seen:?}");
    }
    for ready in [Ready::Fail, Ready::Panic, Ready::Never] {
        let (service, log) = proceeding();
        let (mta, run) = start(service.ready(move |_, _| ready));
        fails_from_connect_on(mta, run).await;
        assert!(log.all().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn d1_d6_a_prototype_that_cannot_be_cloned() {
    struct Uncloneable;
    impl Clone for Uncloneable {
        fn clone(&self) -> Self {
            panic!("expected")
        }
    }
    drop(proceeding());
    let bomb = Uncloneable;
    let service = service_fn(move |_: Request| {
        let _ = &bomb;
        std::future::ready(Ok::<_, Infallible>(Response::proceed()))
    });
    let (mta, run) = start(service);
    fails_from_connect_on(mta, run).await;
}

#[tokio::test(start_paused = true)]
async fn d1_a_negotiation_that_fails_may_close() {
    let settings = Settings::new().on_negotiate_failure(OnNegotiateFailure::Close);
    let (service, log) = Scripted::new(|_, _| Act::Fail);
    let (mut mta, run) = start_with(service, settings);
    mta.send(Command::Negotiate(Offer::V6)).await;
    mta.closed().await;
    assert!(matches!(
        ended(run).await,
        Err(ConnectionError::NegotiateFailed(Failure::Error(_)))
    ));
    assert_eq!(log.all(), ["negotiate", "close"]);
}

#[tokio::test(start_paused = true)]
async fn d1_the_same_offer_again_gets_the_same_answer() {
    let (service, log) = proceeding();
    let (mut mta, run) = start(service);
    let first = mta.negotiate().await;
    assert_eq!(mta.ask(connect()).await, Reply::Continue);
    assert_eq!(mta.negotiate().await, first);
    assert_eq!(mta.ask(helo()).await, Reply::Continue);
    mta.quit(run).await;
    assert_eq!(log.all(), ["negotiate", "connect", "helo", "close"]);
}

#[tokio::test(start_paused = true)]
async fn d1_another_offer_closes() {
    let (service, log) = proceeding();
    let (mut mta, run) = start(service);
    mta.negotiate().await;
    let other = Offer {
        actions: Actions::ADD_HEADERS,
        ..Offer::V6
    };
    mta.send(Command::Negotiate(other)).await;
    mta.closed().await;
    assert!(matches!(
        ended(run).await,
        Err(ConnectionError::Renegotiated)
    ));
    assert_eq!(log.all(), ["negotiate", "close"]);
}

#[tokio::test(start_paused = true)]
async fn d1_layers_that_know_nothing_of_milter() {
    let needs = Needs::all().action(Actions::ADD_HEADERS).skip();
    let (filter, log) = Scripted::new(move |request, _| match request.event() {
        Event::Negotiate(_) => Response::needs(needs.clone()).into(),
        Event::EndOfMessage(_) => Response::accept().add_header("X-A", "b").into(),
        _ => Response::proceed().into(),
    });
    let service = ServiceBuilder::new()
        .boxed_clone()
        .load_shed()
        .concurrency_limit(1)
        .timeout(Duration::from_secs(5))
        .filter(|request: Request| Ok::<_, BoxError>(request))
        .map_request(|request: Request| request)
        .map_response(|response: Response| response)
        .service(filter);
    let (mut mta, run) = start(service);
    assert!(mta.negotiate().await.steps.contains(Steps::SKIP));
    assert_eq!(mta.ask(connect()).await, Reply::Continue);
    assert_eq!(mta.ask(helo()).await, Reply::Continue);
    for _ in 0..2 {
        assert_eq!(mta.message_but_its_end().await, "McRcTcUcLcNcBc");
        let (edits, verdict) = mta.end().await;
        assert_eq!((edits.len(), verdict), (1, Reply::Accept));
    }
    mta.quit(run).await;
    assert_eq!(log.count("end: accept"), 2);
    assert_eq!(log.count("close"), 1);
}

/// Permits of a limit that several connections share are held by calls only.
#[tokio::test(start_paused = true)]
async fn d3_an_idle_connection_holds_no_permit() {
    let (filter, _) = proceeding();
    let service = ServiceBuilder::new().concurrency_limit(1).service(filter);
    let (mut one, run_one) = start(service.clone());
    let (mut two, run_two) = start(service.map_err(BoxError::from));
    one.greet().await;
    two.greet().await;
    assert_eq!(one.message().await, "McRcTcUcLcNcBcEc");
    assert_eq!(two.message().await, "McRcTcUcLcNcBcEc");
    one.quit(run_one).await;
    two.quit(run_two).await;
}

#[tokio::test(start_paused = true)]
async fn d1_overload_is_a_failure_like_others() {
    let (filter, log) = Scripted::new(|request, _| match request.event() {
        Event::Mail(_) => Act::Hang,
        _ => Response::proceed().into(),
    });
    let service = ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(1)
        .service(filter);
    let (mut one, run_one) = start(service.clone());
    let (mut two, run_two) = start(service);
    one.greet().await;
    two.greet().await;
    one.send(crate::common::mail()).await;
    tokio::task::yield_now().await;
    assert_eq!(two.ask(crate::common::mail()).await, Reply::TempFail);
    assert_eq!(one.reply().await, Reply::TempFail, "after its deadline");
    // tower's limit has given the free permit to the second, which asked for it in vain.
    assert_eq!(two.ask(helo()).await, Reply::Continue);
    one.quit(run_one).await;
    two.quit(run_two).await;
    assert_eq!(log.count("close"), 2);
}
