//! Changes of several members go out as one list (C87, C89 to C92).

use milter_core::edit::Profile;
use milter_core::{Command, Reply};
use milter_tower::{
    Actions, Chain, Event, Member, MemberFailure, Modification, Mta as Kind, Needs, Response,
    Settings, Stage,
};

use crate::common::{Scripted, listen, mail, name, rcpt};
use crate::members::{field, greeted, greeted_as, judge, judging, member};

/// A member that changes a message so, and looks at headers only.
fn editing(actions: Actions, answer: Response) -> Scripted {
    let needs = Needs::none()
        .events([Stage::Header, Stage::EndOfHeaders])
        .action(actions);
    let (scripted, _) = member(needs, move |event| {
        if name(event) == "end of message" {
            answer.clone()
        } else {
            Response::proceed()
        }
    });
    scripted
}

async fn edits_as(kind: Kind, a: Scripted, b: Scripted) -> (Vec<Modification>, Reply) {
    let chain = Chain::new().with("a", a).with("b", b);
    let (mut mta, run) = greeted_as(chain, Settings::new().mta(kind)).await;
    for command in [mail(), rcpt("<b@one>"), rcpt("<c@two>")] {
        mta.send(command).await;
    }
    for value in ["1", "2", "3"] {
        mta.send(field("X", value)).await;
    }
    mta.send(Command::EndOfMessage(bytes::Bytes::new())).await;
    let mut edits = Vec::new();
    let verdict = loop {
        match mta.reply().await {
            Reply::Modify(edit) => edits.push(edit),
            // To what came before.
            Reply::Continue => {}
            verdict => break verdict,
        }
    };
    mta.quit(run).await;
    (edits, verdict)
}

async fn edits(a: Scripted, b: Scripted) -> Vec<Modification> {
    let (edits, verdict) = edits_as(Kind::Postfix, a, b).await;
    assert_eq!(verdict, Reply::Accept);
    edits
}

#[tokio::test]
async fn c92_each_deletes_the_first_that_it_sees() {
    let deletes = || {
        editing(
            Actions::CHANGE_HEADERS,
            Response::proceed().delete_header("X", 1),
        )
    };
    for kind in [Kind::Postfix, Kind::Sendmail] {
        let (edits, _) = edits_as(kind, deletes(), deletes()).await;
        let delete = |at| Modification::delete_header("X", at).unwrap();
        // From the last on, so that both count the same.
        assert_eq!(edits, [delete(2), delete(1)], "{kind:?}");
    }
}

#[tokio::test]
async fn c91_the_last_body_goes_out_in_one_run() {
    let pieces = |texts: [&'static str; 2]| {
        let pieces = texts.map(Modification::replace_body);
        editing(Actions::CHANGE_BODY, Response::proceed().edit_all(pieces))
    };
    let edits = edits(pieces(["a1", "a2"]), pieces(["b1", "b2"])).await;
    assert_eq!(edits, ["b1", "b2"].map(Modification::replace_body));
}

#[tokio::test]
async fn what_one_member_changes_goes_out_as_it_is() {
    let answer = Response::proceed()
        .change_header("X", 2, "changed")
        .delete_header("X", 1)
        .insert_header(1, "Y", "y")
        .add_header("Z", "z");
    let all = Actions::ADD_HEADERS | Actions::CHANGE_HEADERS;
    let expected = Modification::order(answer.edits().to_vec());
    let silent = || editing(all, Response::proceed());
    assert_eq!(
        edits(editing(all, answer.clone()), silent()).await,
        expected
    );
    assert_eq!(edits(silent(), editing(all, answer)).await, expected);
}

#[tokio::test]
async fn what_is_only_added_goes_out_as_it_is_and_nothing_is_asked_for() {
    let adds = |name: &'static str| {
        let needs = Needs::none().action(Actions::ADD_HEADERS);
        member(needs, move |event| match event {
            Event::EndOfMessage(_) => Response::proceed().add_header(name, "v"),
            _ => Response::proceed(),
        })
        .0
    };
    let edits = edits(adds("A"), adds("B")).await;
    let add = |name| Modification::add_header(name, "v").unwrap();
    assert_eq!(edits, [add("A"), add("B")]);
}

#[tokio::test]
async fn the_last_sender_and_the_last_quarantine_count() {
    let actions = Actions::CHANGE_SENDER | Actions::QUARANTINE;
    let says = |text: &'static str| {
        let sender = format!("<{text}@example.org>");
        editing(
            actions,
            Response::proceed().change_sender(sender).quarantine(text),
        )
    };
    let (edits, _) = edits_as(Kind::Sendmail, says("a"), says("b")).await;
    let expected = [
        Modification::change_sender("<b@example.org>").unwrap(),
        Modification::quarantine("b").unwrap(),
    ];
    assert_eq!(edits, expected);
}

#[tokio::test]
async fn who_was_added_and_deleted_again_is_no_news() {
    let actions = Actions::ADD_RECIPIENTS | Actions::DELETE_RECIPIENTS;
    let [fresh, known] = ["<new@x>", "<b@one>"];
    let adds = || {
        editing(
            actions,
            Response::proceed()
                .add_recipient(fresh)
                .add_recipient(known),
        )
    };
    let deletes = || {
        let answer = Response::proceed()
            .delete_recipient(fresh)
            .delete_recipient(known);
        editing(actions, answer)
    };
    let net = |a: Scripted, b: Scripted| edits(a, b);
    // Nobody asked for recipients, so it is not known who was there.
    let delete = |address| Modification::delete_recipient(address).unwrap();
    let add = |address| Modification::add_recipient(address).unwrap();
    assert_eq!(
        net(adds(), deletes()).await,
        [add(fresh), add(known), delete(fresh), delete(known)]
    );
    let knowing = |scripted: Scripted| {
        let (curious, _) = judge("never", Response::proceed());
        Chain::new()
            .with("recipients", curious)
            .with("inner", scripted)
    };
    let chain = Chain::new().with("a", knowing(adds())).with("b", deletes());
    let (mut mta, run) = greeted_as(chain, Settings::new()).await;
    for command in [mail(), rcpt(known)] {
        mta.ask(command).await;
    }
    let (edits, _) = mta.end().await;
    mta.quit(run).await;
    let edits: Vec<_> = edits
        .into_iter()
        .filter_map(|reply| match reply {
            Reply::Modify(edit) => Some(edit),
            _ => None,
        })
        .collect();
    assert_eq!(edits, [add(known), delete(known)]);
}

#[tokio::test]
async fn c90_who_refuses_undoes_what_others_changed() {
    let actions = Actions::QUARANTINE | Actions::ADD_HEADERS;
    for (answer, code) in [
        (Response::tempfail(), b't'),
        (Response::reject(), b'r'),
        (Response::discard(), b'd'),
    ] {
        let a = editing(
            actions,
            Response::proceed().quarantine("q").add_header("A", "a"),
        );
        let b = editing(Actions::empty(), answer);
        let (edits, verdict) = edits_as(Kind::Sendmail, a, b).await;
        assert_eq!((edits.len(), verdict.code()), (0, code));
    }
}

#[tokio::test]
async fn c89_who_discards_stops_those_behind() {
    let a = editing(Actions::ADD_HEADERS, Response::discard());
    let (b, seen) = judge("never", Response::proceed());
    let (mut mta, run) = greeted(a, b).await;
    assert!(mta.message().await.ends_with("Ed"));
    mta.quit(run).await;
    assert_eq!((seen.count("header"), seen.count("end: aborted")), (0, 1));
}

#[tokio::test]
async fn values_keep_their_space_whoever_asked_for_it() {
    let needs = Needs::none().action(Actions::ADD_HEADERS).leading_space();
    let (a, _) = member(needs, |event| match event {
        Event::EndOfMessage(_) => Response::proceed().add_header("A", "\tv"),
        _ => Response::proceed(),
    });
    let b = editing(
        Actions::ADD_HEADERS,
        Response::proceed().add_header("B", "v"),
    );
    assert_eq!(
        edits(a, b).await,
        [
            Modification::add_header("A", "\tv").unwrap(),
            Modification::add_header("B", " v").unwrap(),
        ]
    );
}

#[tokio::test]
async fn the_mta_can_be_said() {
    let quarantines = || editing(Actions::QUARANTINE, Response::proceed().quarantine("q"));
    let (b, seen) = judge("never", Response::proceed());
    let chain = Chain::new().with("a", quarantines()).with("b", b);
    let chain = chain.profile(Profile::sendmail());
    let (mut mta, run) = greeted_as(chain, Settings::new().mta(Kind::Postfix)).await;
    mta.message_but_its_end().await;
    mta.end().await;
    mta.quit(run).await;
    assert_eq!(seen.count("end of message"), 1);
}

/// What members before did to the envelope is no event, but can be asked for; each message anew.
#[cfg(feature = "testing")]
#[tokio::test]
async fn c87_the_envelope_can_be_looked_at() {
    use std::sync::{Arc, Mutex};

    use milter_tower::testing::{Mail, MockMta};
    use milter_tower::{Router, Sender, Session};

    let seen = Arc::new(Mutex::new(Vec::new()));
    let looks = |name: &'static str| {
        let seen = Arc::clone(&seen);
        Router::new().on_end_of_message(move |session: Session| {
            let edits: Vec<_> = session.envelope_edits().cloned().collect();
            let (to, seen) = (session.recipients().len(), Arc::clone(&seen));
            async move {
                seen.lock().unwrap().push((name, to, edits));
            }
        })
    };
    let adds = |address: &'static str, only_from: &'static str| {
        Router::new()
            .actions(Actions::ADD_RECIPIENTS | Actions::ADD_HEADERS)
            .on_end_of_message(move |sender: Sender| async move {
                let response = Response::accept().add_header("X-A", "b");
                if sender.mailbox() == only_from {
                    response.add_recipient(address)
                } else {
                    response
                }
            })
    };
    let inner = Chain::new()
        .with("adds too", adds("dave@example.net", "a@example.org"))
        .with("looks within", looks("within"));
    let chain = Chain::new()
        .with("looks first", looks("first"))
        .with("adds", adds("carol@example.net", "a@example.org"))
        .with("inner", inner)
        .with("looks last", looks("last"));
    let mut mta = MockMta::sendmail(chain);
    let mut session = mta.open().await;
    session.deliver(&Mail::new().from("a@example.org")).await;
    session.deliver(&Mail::new().from("b@example.org")).await;
    session.quit().await;
    let add = |address| Modification::add_recipient(address).unwrap();
    let (carol, dave) = (add("carol@example.net"), add("dave@example.net"));
    let seen = seen.lock().unwrap();
    assert_eq!(
        seen[..3],
        [
            ("first", 1, vec![]),
            ("within", 1, vec![carol.clone(), dave.clone()]),
            ("last", 1, vec![carol, dave]),
        ]
    );
    assert!(
        seen[3..].iter().all(|(_, _, edits)| edits.is_empty()),
        "{seen:?}"
    );
    assert_eq!(seen.len(), 6);
}

/// A filter in another process, whose modification nobody checked.
fn changing_so(code: u8, payload: &'static [u8]) -> Scripted {
    let edit = Modification::decode(code, payload.into()).expect("can be read");
    let needs = judging().action(Actions::CHANGES);
    let (a, _) = member(needs, move |event| match event {
        Event::EndOfMessage(_) => Response::proceed().edit(edit.clone()),
        _ => Response::proceed(),
    });
    a
}

#[tokio::test]
async fn changes_that_cannot_be_made_are_that_members_failure() {
    const FATAL: (u8, &[u8]) = (b'e', b"<a@b>\0RET\0");
    const NO_HEADER: (u8, &[u8]) = (b'h', b"X Y\0z\0");
    for (kind, (code, payload), fails) in [
        (Kind::Sendmail, FATAL, true),
        (Kind::Unknown, FATAL, true),
        (Kind::Postfix, FATAL, false),
        (Kind::Postfix, NO_HEADER, true),
    ] {
        for policy in [MemberFailure::Reject, MemberFailure::LeaveOut] {
            let (lines, _guard) = listen();
            let (a, b) = (changing_so(code, payload), changing_so(b'h', b"X\0y\0"));
            let leaves_out = policy == MemberFailure::LeaveOut;
            let a = Member::new("a", a).on_failure(policy);
            let chain = Chain::new().with_member(a).with("b", b);
            let (mut mta, run) = greeted_as(chain, Settings::new().mta(kind)).await;
            mta.message_but_its_end().await;
            let (edits, verdict) = mta.end().await;
            mta.quit(run).await;
            let expected = if fails && !leaves_out {
                (0, Reply::Reject)
            } else {
                (if fails { 1 } else { 2 }, Reply::Accept)
            };
            assert_eq!((edits.len(), verdict), expected, "{kind:?}: {edits:?}");
            let logged = lines.count(r#"member="a" at="end of message""#);
            assert_eq!(logged, usize::from(fails));
        }
    }
}
