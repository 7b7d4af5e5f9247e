//! Responses that the stage or the negotiation does not allow (D6, C61, C62, C75).

use milter_core::{Command, Reply};
use milter_tower::{Actions, Event, Modification, Needs, Offer, Response, SmtpReply, Stage, Steps};

use crate::common::{Scripted, connect, eom, helo, mail, message, start};

/// Has a service say something at a stage and tells what the MTA hears there. The next message
/// must be filtered as if nothing had been.
async fn heard(stage: Stage, needs: Needs, response: Response) -> (Vec<Reply>, Reply) {
    let said = std::sync::atomic::AtomicBool::new(false);
    let (service, log) = Scripted::new(move |request, _| match request.event() {
        Event::Negotiate(_) => Response::needs(needs.clone()).into(),
        event
            if event.stage() == Some(stage)
                && !said.swap(true, std::sync::atomic::Ordering::SeqCst) =>
        {
            response.clone().into()
        }
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = start(service);
    mta.negotiate().await;
    let mut heard = None;
    for command in [connect(), helo()].into_iter().chain(message()) {
        if command.stage() == Some(stage) {
            mta.send(command).await;
            let mut edits = Vec::new();
            let verdict = loop {
                match mta.reply().await {
                    reply if reply.is_final() => break reply,
                    edit => edits.push(edit),
                }
            };
            heard = Some((edits, verdict));
            break;
        }
        assert_eq!(mta.ask(command).await, Reply::Continue);
    }
    mta.send(Command::Abort).await;
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc", "at {stage}");
    mta.quit(run).await;
    assert_eq!(log.clones(), 1, "a wrong answer does not break a service");
    heard.unwrap()
}

#[tokio::test(start_paused = true)]
async fn c61_verdicts_where_they_are_harmful() {
    let all = Needs::all().skip();
    for stage in Stage::ALL {
        let outside = matches!(stage, Stage::Connect | Stage::Helo | Stage::Unknown);
        for (response, legal, letter) in [
            (Response::discard(), !outside, 'd'),
            (Response::skip(), stage == Stage::Body, 's'),
            (Response::reject(), true, 'r'),
        ] {
            let (edits, verdict) = heard(stage, all.clone(), response.clone()).await;
            let expected = if legal { letter } else { 't' };
            assert!(edits.is_empty());
            assert_eq!(
                char::from(verdict.code()),
                expected,
                "{response:?} at {stage}"
            );
        }
    }
    let (_, verdict) = heard(Stage::Unknown, all.clone(), Response::accept()).await;
    assert_eq!(verdict, Reply::TempFail);
    // SKIP was not asked for.
    let (_, verdict) = heard(Stage::Body, Needs::all(), Response::skip()).await;
    assert_eq!(verdict, Reply::TempFail);
}

#[tokio::test(start_paused = true)]
async fn c62_edits_before_the_end() {
    for stage in Stage::ALL {
        for response in [
            Response::proceed().add_header("X-A", "b"),
            Response::proceed().quarantine("why"),
            Response::reject().add_recipient("c@example.net"),
        ] {
            let refuses = *response.verdict() != milter_tower::Verdict::Continue;
            let (edits, verdict) = heard(stage, Needs::all(), response).await;
            if stage == Stage::EndOfMessage {
                let expected = if refuses {
                    (0, Reply::Reject)
                } else {
                    (1, Reply::Continue)
                };
                assert_eq!((edits.len(), verdict), expected);
            } else {
                assert_eq!((edits.len(), verdict), (0, Reply::TempFail), "{stage}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c75_edits_that_were_not_negotiated() {
    for (action, response) in [
        (
            Actions::ADD_HEADERS,
            Response::accept().add_header("X-A", "b"),
        ),
        (
            Actions::ADD_HEADERS,
            Response::accept().insert_header(0, "X-A", "b"),
        ),
        (
            Actions::CHANGE_HEADERS,
            Response::accept().change_header("X-A", 1, "b"),
        ),
        (Actions::CHANGE_BODY, Response::accept().replace_body("b")),
        (
            Actions::CHANGE_SENDER,
            Response::accept().change_sender("c@example.net"),
        ),
        (
            Actions::ADD_RECIPIENTS,
            Response::accept().add_recipient("c@example.net"),
        ),
        (
            Actions::DELETE_RECIPIENTS,
            Response::accept().delete_recipient("c@example.net"),
        ),
        (Actions::QUARANTINE, Response::accept().quarantine("why")),
    ] {
        let without = Needs::all();
        let (edits, verdict) = heard(
            Stage::EndOfMessage,
            without.action(action),
            response.clone(),
        )
        .await;
        assert_eq!((edits.len(), verdict), (1, Reply::Accept), "{response:?}");
        let needs = Stage::ALL.into_iter().fold(Needs::none(), Needs::event);
        let others = Actions::CHANGES - action;
        let (edits, verdict) = heard(
            Stage::EndOfMessage,
            needs.optional_action(others),
            response.clone(),
        )
        .await;
        assert_eq!((edits.len(), verdict), (0, Reply::TempFail), "{response:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn c6_c70_c71_edits_that_cannot_be_made() {
    for response in [
        Response::accept().add_header("not a name", "b"),
        Response::accept().add_header("X-A", "a\0b"),
        Response::accept().change_header("X-A", 0, "b"),
        Response::accept().quarantine(""),
        Response::accept().add_header("X-Large", vec![b'x'; 65_535]),
        Response::accept().add_recipient(""),
    ] {
        for stage in [Stage::EndOfMessage, Stage::Mail] {
            // A good edit beside it is not sent either.
            let response = response.clone().add_header("X-Good", "y");
            let (edits, verdict) = heard(stage, Needs::all(), response.clone()).await;
            assert_eq!((edits.len(), verdict), (0, Reply::TempFail), "{response:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c61_skip_that_the_mta_did_not_offer() {
    let (service, _) = Scripted::new(|request, _| match request.event() {
        Event::Negotiate(_) => Response::needs(Needs::all().skip()).into(),
        Event::Body(_) => Response::skip().into(),
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = start(service);
    let offer = Offer {
        steps: Offer::V6.steps - Steps::SKIP,
        ..Offer::V6
    };
    mta.offer(offer).await;
    assert_eq!(mta.message().await, "McRcTcUcLcNcBt");
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn c61_after_a_skip_no_more_of_this_body_and_all_of_the_next() {
    let (service, log) = Scripted::new(|request, _| match request.event() {
        Event::Negotiate(_) => Response::needs(Needs::all().skip()).into(),
        Event::Body(_) => Response::skip().into(),
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = start(service);
    mta.greet().await;
    for n in 1..3 {
        assert_eq!(mta.ask(mail()).await, Reply::Continue);
        assert_eq!(mta.ask(crate::common::body("a")).await, Reply::Skip);
        // An MTA may have sent more before it read the reply.
        assert_eq!(mta.ask(crate::common::body("b")).await, Reply::Continue);
        assert_eq!(mta.ask(eom()).await, Reply::Continue);
        assert_eq!(log.count("body"), n);
    }
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn c64_c69_quarantine_and_texts_go_with_one_verdict() {
    let said = SmtpReply::reject("100% no");
    let replies = [
        Response::accept().quarantine("why"),
        Response::from(said.clone()),
        Response::reject(),
    ];
    let next = std::sync::atomic::AtomicUsize::new(0);
    let (service, _) = Scripted::new(move |request, _| match request.event() {
        Event::EndOfMessage(_) => {
            let n = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            replies[n].clone().into()
        }
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = start(service);
    mta.greet().await;
    let held = Reply::Modify(Modification::quarantine("why").unwrap());
    for expected in [
        (vec![held], Reply::Accept),
        (vec![], Reply::Smtp(said)),
        (vec![], Reply::Reject),
    ] {
        assert_eq!(mta.ask(mail()).await, Reply::Continue);
        assert_eq!(mta.end().await, expected);
    }
    mta.quit(run).await;
}
