//! The MTA's offer for the backend, and the backend's answer for the MTA.

use milter_core::{Agreement, Command, Needs, Offer, OfferReply, Reply, negotiate};
use milter_tower::testing::{Mail, MockMta};
use milter_tower::{Actions, DataSize, MacroStage, OnFailure, OnRemoteFailure, Stage, Steps};

use crate::backend::{Backend, silent};
use crate::common::{connect, ended, helo, mail, start};

fn offers() -> Vec<Offer> {
    let offer = |version, steps| Offer {
        version,
        actions: Actions::from_bits_retain(0x1ff),
        steps: Steps::from_bits_retain(steps),
    };
    vec![
        Offer::V6,
        offer(6, 0x301f_ffff),
        offer(6, 0x101f_ffff),
        offer(4, 0x37f),
        offer(3, 0x17f),
        offer(2, 0x7f),
        offer(2, 0),
        Offer {
            actions: Actions::CHANGE_BODY,
            ..Offer::V6
        },
    ]
}

fn wants() -> Vec<Needs> {
    vec![
        Needs::none(),
        Needs::all(),
        silent(),
        Needs::all()
            .optional_action(Actions::REQUEST_MACROS)
            .skip()
            .leading_space()
            .rejected_recipients()
            .data_size(DataSize::Mib1)
            .macros_exact(MacroStage::Mail, ["i", "{auth_type}", "_"])
            .macros_exact(MacroStage::Helo, [""; 0])
            .macros_exact(MacroStage::EndOfHeaders, ["i"])
            .macros_exact(MacroStage::EndOfMessage, ["i"]),
        Needs::none().record(Stage::Rcpt).event(Stage::Body),
    ]
}

#[tokio::test]
async fn offer_and_answer_pass() {
    for offer in offers() {
        for needs in wants() {
            let backend = Backend::going_on(needs.clone());
            let (mut mta, run) = start(backend.remote());
            let answer = mta.offer(offer).await;
            mta.quit(run).await;
            let direct = negotiate(&offer, &needs).unwrap().to_reply();
            assert_eq!(answer, direct, "{offer}: {needs:?}");
            // What an empty word stands for is said.
            let told = Command::Negotiate(offer.normalized());
            assert_eq!(backend.seen(1)[0], told);
        }
    }
}

#[tokio::test]
async fn what_is_not_known_is_neither_offered_nor_asked_for() {
    let odd = Offer {
        version: 9,
        actions: Actions::from_bits_retain(0xffff),
        steps: Steps::from_bits_retain(0x7fff_ffff),
    };
    let backend = Backend::going_on(Needs::all());
    let (mut mta, run) = start(backend.remote());
    assert_eq!(mta.offer(odd).await.version, 6);
    mta.quit(run).await;
    let Command::Negotiate(told) = &backend.seen(1)[0] else {
        panic!("no offer");
    };
    assert_eq!((told.version, told.actions), (6, Offer::V6.actions));
    assert_eq!(told.steps.bits(), 0x301f_ffff);
}

#[tokio::test]
async fn c22_c23_an_answer_with_more_than_was_offered_fails() {
    let wrong = [
        OfferReply {
            version: 7,
            ..Agreement::default().to_reply()
        },
        OfferReply {
            version: 2,
            actions: Actions::CHANGE_BODY,
            ..Agreement::default().to_reply()
        },
    ];
    for answer in wrong {
        let backend = Backend::going_on(Needs::all()).answering(answer);
        let (mut mta, run) = start(backend.remote());
        let poor = Offer {
            actions: Actions::ADD_HEADERS,
            ..Offer::V6
        };
        mta.offer(poor).await;
        assert_eq!(mta.ask(connect()).await, Reply::TempFail);
        assert_eq!(backend.open().await, 0);
        drop(mta);
        ended(run).await.expect("a good end");
    }
}

#[tokio::test]
async fn no_backend_is_the_failure_verdict_from_connect_on() {
    let backend = Backend::going_on(Needs::all()).refusing(|_| true);
    let (mut mta, run) = start(backend.remote());
    mta.negotiate().await;
    assert_eq!(mta.ask(connect()).await, Reply::TempFail);
    assert_eq!(mta.ask(helo()).await, Reply::TempFail);
    assert_eq!(mta.ask(mail()).await, Reply::TempFail);
    mta.quit(run).await;
    assert_eq!(backend.tried(), 1);
}

#[tokio::test]
async fn no_backend_is_told_once_with_its_address() {
    let address = "inet:1@127.0.0.1".parse().unwrap();
    let mut mta = MockMta::postfix(milter_tower::Remote::new(address));
    let done = mta.deliver(Mail::new()).await;
    assert_eq!(done.reply().unwrap().code(), 451, "{done}");
    assert_eq!(done.failures.len(), 1, "{done}");
    assert!(done.failures[0].contains("inet:1@127.0.0.1"), "{done}");
}

/// What a backend that is not there becomes, by policy.
#[tokio::test]
async fn a_backend_that_comes_back_is_asked_from_the_next_message_on() {
    // Nobody could ask the MTA for what it asks for; it gets the MTA's own list.
    let needs = Needs::all().macros_exact(MacroStage::Mail, ["i", "{auth_authen}"]);
    let backend = Backend::going_on(needs).refusing(|tried| tried <= 2);
    let mut mta = MockMta::postfix(backend.remote().on_failure(OnRemoteFailure::LeaveOut));
    let mut session = mta.open().await;
    for _ in 0..3 {
        let done = session.deliver(Mail::new()).await;
        assert!(done.is_accepted(), "{done}");
        assert!(done.failures.is_empty(), "{done}");
    }
    session.quit().await;
    assert_eq!(backend.tried(), 3);
    let letters = backend.letters(1);
    // The third message is the second that was tried for.
    assert!(
        letters.starts_with("OCHMRT") && letters.ends_with("EMRTLLLLLNBEQ"),
        "{letters}"
    );
}

#[tokio::test]
async fn a_verdict_in_the_place_of_a_backend() {
    let backend = Backend::going_on(Needs::all()).refusing(|_| true);
    let mut mta = MockMta::postfix(backend.remote().on_failure(OnFailure::Reject));
    let done = mta.deliver(Mail::new()).await;
    assert_eq!(done.reply().unwrap().code(), 550, "{done}");
    assert_eq!(done.ended_at, Some(Stage::Connect));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_agree_in_time() {
    let began = tokio::time::Instant::now();
    let backend = Backend::new(Needs::all(), |_, _| crate::backend::Act::Hang);
    let (mut mta, run) = start(backend.remote());
    mta.negotiate().await;
    assert_eq!(began.elapsed().as_secs(), 5);
    assert_eq!(mta.ask(connect()).await, Reply::TempFail);
    mta.quit(run).await;
    let began = tokio::time::Instant::now();
    let quick = backend
        .remote()
        .connect_timeout(std::time::Duration::from_secs(1));
    let (mut mta, run) = start(quick);
    mta.negotiate().await;
    assert_eq!(began.elapsed().as_secs(), 1);
    mta.quit(run).await;
}
