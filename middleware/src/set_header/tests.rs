use std::convert::Infallible;

use milter_tower::testing::{Delivery, Mail, MockMta, MtaProfile, survives};
use milter_tower::{
    Actions, ClientAddr, Connect, Event, Header, Modification, Needs, Offer, Outcome, Peer,
    PeerAddr, Progress, Recipient, Request, Response, Sender, Session, SmtpReply, Stage, Verdict,
    assert_accepted,
};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::SetHeaderLayer;

fn layer() -> SetHeaderLayer {
    SetHeaderLayer::appending("X-A", "b").unwrap()
}

async fn ask<S>(service: &mut S, event: Event) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    let session = Session::new(Peer::new(1, PeerAddr::Other), None);
    let Ok(response) = service
        .ready()
        .await
        .unwrap()
        .call(Request::new(event, session))
        .await;
    response
}

fn end() -> Event {
    Event::EndOfMessage(Progress::default())
}

#[tokio::test]
async fn widens_the_negotiation() {
    for (inner, wanted) in [
        (Response::needs(Needs::none()), 1),
        (Response::proceed(), 10),
    ] {
        let filter = service_fn(move |_: Request| std::future::ready(Ok(inner.clone())));
        let mut plain = layer().layer(filter.clone());
        let response = ask(&mut plain, Event::Negotiate(Offer::V6)).await;
        let needs = response.needs_asked().unwrap();
        assert_eq!(needs.required_actions(), Actions::ADD_HEADERS);
        assert_eq!(needs.wanted().iter().count(), wanted);

        let mut overriding = SetHeaderLayer::overriding("X-A", "b")
            .unwrap()
            .layer(filter);
        let response = ask(&mut overriding, Event::Negotiate(Offer::V6)).await;
        let needs = response.needs_asked().unwrap();
        assert_eq!(
            needs.required_actions(),
            Actions::ADD_HEADERS | Actions::CHANGE_HEADERS
        );
        assert!(needs.wants(Stage::Header));
        assert_eq!(
            needs.is_silent(Stage::Header),
            wanted == 1,
            "the filter's own reply stays"
        );
    }
}

#[tokio::test]
async fn marks_what_passes_and_nothing_else() {
    let add = [Modification::add_header("X-A", "b").unwrap()];
    for (inner, edits) in [
        (Response::proceed(), &add[..]),
        (Response::accept(), &add[..]),
        (Response::reject(), &[]),
        (Response::discard(), &[]),
        (SmtpReply::tempfail("later").into(), &[]),
    ] {
        let verdict = inner.verdict().clone();
        let filter = service_fn(move |_: Request| std::future::ready(Ok(inner.clone())));
        let response = ask(&mut layer().layer(filter), end()).await;
        assert_eq!((response.verdict(), response.edits()), (&verdict, edits));
    }
}

#[tokio::test]
async fn a_mail_accepted_early_is_marked_and_the_filter_left_alone() {
    let mut service = layer().layer(service_fn(async |request: Request| {
        Ok(match request.event() {
            Event::Mail(_) => Response::accept(),
            Event::MessageEnd(_) => Response::proceed(),
            other => panic!("{other:?}"),
        })
    }));
    for _ in 0..2 {
        let mail = ask(&mut service, Event::Mail(Sender::new("<a@b>", [""; 0]))).await;
        assert_eq!(*mail.verdict(), Verdict::Continue);
        let rcpt = ask(&mut service, Event::Rcpt(Recipient::new("<c@d>", [""; 0]))).await;
        assert_eq!(*rcpt.verdict(), Verdict::Continue);
        let done = ask(&mut service, end()).await;
        assert_eq!((done.verdict(), done.edits().len()), (&Verdict::Accept, 1));
        let _ = ask(
            &mut service,
            Event::MessageEnd(Outcome::Verdict(Verdict::Accept)),
        )
        .await;
    }
}

#[tokio::test]
async fn overriding_leaves_one_header_of_the_name() {
    let layer = SetHeaderLayer::overriding("X-A", "b").unwrap();
    let mut service = layer.layer(service_fn(async |request: Request| {
        Ok(match request.event() {
            Event::EndOfMessage(_) => Response::accept()
                .add_header("x-a", "inner")
                .add_header("X-B", "kept")
                .delete_header("X-A", 1),
            _ => Response::proceed(),
        })
    }));
    for present in [2_u32, 0] {
        for name in ["X-A", "x-a", "X-C"].into_iter().take(present as usize) {
            let _ = ask(&mut service, Event::Header(Header::new(name, "forged"))).await;
        }
        let response = ask(&mut service, end()).await;
        let mut want = vec![Modification::add_header("X-B", "kept").unwrap()];
        want.extend(
            (1..=present)
                .rev()
                .map(|i| Modification::delete_header("X-A", i).unwrap()),
        );
        want.push(Modification::add_header("X-A", "b").unwrap());
        assert_eq!(response.edits(), want);
        let _ = ask(&mut service, Event::MessageEnd(Outcome::Aborted)).await;
    }
}

/// What was accepted at connect are messages that the filter never sees.
#[tokio::test]
async fn a_filter_hears_no_end_of_a_message_that_it_did_not_see_begin() {
    let mut service = layer().layer(service_fn(async |request: Request| match request.event() {
        Event::Connect(_) => Ok(Response::accept()),
        other => panic!("{other:?}"),
    }));
    let client = Connect::new("client.example", ClientAddr::Unknown);
    let connected = ask(&mut service, Event::Connect(client.into())).await;
    assert_eq!(*connected.verdict(), Verdict::Continue);
    for _ in 0..2 {
        assert_eq!(ask(&mut service, end()).await.edits().len(), 1);
        let _ = ask(
            &mut service,
            Event::MessageEnd(Outcome::Verdict(Verdict::Accept)),
        )
        .await;
    }
}

#[test]
fn what_cannot_be_a_header_is_refused_at_once() {
    assert!(SetHeaderLayer::appending("X A", "b").is_err());
    assert!(SetHeaderLayer::prepending("X-A", "b\0").is_err());
}

fn profiles() -> [MtaProfile; 4] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::stalwart(),
        MtaProfile::version_2(),
    ]
}

/// Gives an answer at a stage.
fn answers(
    at: Stage,
    answer: Response,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send {
    service_fn(move |request: Request| {
        let is_there = request.event().stage() == Some(at);
        std::future::ready(Ok(match request.event() {
            Event::Negotiate(_) => Response::needs(
                Needs::none()
                    .event(at)
                    .action(Actions::ADD_HEADERS | Actions::CHANGE_HEADERS),
            ),
            _ if is_there => answer.clone(),
            _ => Response::proceed(),
        }))
    })
}

async fn deliver(profile: &MtaProfile, layer: &SetHeaderLayer, answer: Response) -> Delivery {
    let filter = layer.layer(answers(Stage::EndOfMessage, answer));
    let done = MockMta::with_profile(profile.clone(), filter)
        .deliver(mail())
        .await;
    assert_accepted!(done);
    assert!(done.failures.is_empty(), "{done}");
    done
}

fn mail() -> Mail {
    let mail = Mail::new().without_headers().header("Subject", "s");
    mail.header("X-A", "1")
        .header("X-B", "b")
        .header("x-a", "2")
        .header("X-A", "3")
}

/// Names and values as they are delivered, but for the MTA's own.
fn headers(done: &Delivery) -> Vec<(String, String)> {
    let fields = done.message.headers().iter();
    let fields = fields.filter(|field| !field.is_named("Received"));
    let text = fields.map(|field| (field.name().to_string(), field.raw().to_string()));
    text.map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect()
}

fn list(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = headers.iter();
    own.map(|(name, value)| ((*name).to_owned(), format!(" {value}")))
        .collect()
}

/// Edits of the same name, in an order that is hard.
fn same_name() -> Response {
    Response::accept()
        .delete_header("X-A", 2)
        .add_header("x-a", "inner")
        .insert_header(1, "X-A", "on top")
        .change_header("X-A", 1, "changed")
        .change_header("X-A", 9, "new")
        .delete_header("X-A", 3)
}

#[tokio::test]
async fn replaces_removes_and_overrides_what_the_filter_within_does() {
    let replaced = [("subject", "s"), ("x-a", "ours"), ("x-b", "b")];
    let removed = [("subject", "s"), ("x-b", "b")];
    let overridden = [("subject", "s"), ("x-b", "b"), ("x-a", "ours")];
    let ours = |_: &Session| Some("ours");
    let nothing = |_: &Session| None::<&str>;
    let broken = |_: &Session| Some("b\0");
    for (layer, want, on_sendmail) in [
        (
            SetHeaderLayer::replacing("X-A", "ours"),
            &replaced[..],
            None,
        ),
        (SetHeaderLayer::replacing_with("X-A", ours), &replaced, None),
        (
            SetHeaderLayer::replacing_with("X-A", nothing),
            &removed,
            None,
        ),
        (
            SetHeaderLayer::replacing_with("X-A", broken),
            &removed,
            None,
        ),
        (SetHeaderLayer::removing("X-A"), &removed, None),
        (
            SetHeaderLayer::overriding("X-A", "ours"),
            &overridden,
            // Before the first of its name, which is deleted.
            Some(&replaced),
        ),
        (
            SetHeaderLayer::overriding_with("X-A", ours),
            &overridden,
            Some(&replaced),
        ),
        (
            SetHeaderLayer::overriding_with("X-A", nothing),
            &removed,
            None,
        ),
        (
            SetHeaderLayer::overriding_with("X-A", broken),
            &removed,
            None,
        ),
    ] {
        let layer = layer.unwrap();
        for profile in profiles() {
            for answer in [Response::accept(), Response::proceed(), same_name()] {
                let done = deliver(&profile, &layer, answer).await;
                let is_sendmail = profile.name() == "Sendmail";
                let want = match on_sendmail {
                    Some(want) if is_sendmail => &want[..],
                    _ => want,
                };
                assert_eq!(headers(&done), list(want), "{} {done}", profile.name());
            }
        }
    }
}

#[tokio::test]
async fn adds_behind_and_before_those_of_the_filter_within() {
    for profile in profiles() {
        let within = Response::accept()
            .insert_header(0, "X-A", "inner")
            .delete_header("X-A", 2);
        for layer in [
            SetHeaderLayer::prepending("X-A", "ours"),
            SetHeaderLayer::prepending_with("X-A", |_: &Session| Some("ours")),
        ] {
            let done = deliver(&profile, &layer.unwrap(), within.clone()).await;
            assert_eq!(
                headers(&done)[..2],
                list(&[("x-a", "ours"), ("x-a", "inner")])
            );
            let top = done.message.headers().iter().next().unwrap();
            assert_eq!(top.value(), "ours", "above the MTA's own: {done}");
        }
        let layer = SetHeaderLayer::appending_with("X-New", |session: &Session| {
            let session = session.sender()?;
            Some(format!("from {}\r\nX-Forged: yes", session.mailbox()))
        });
        let filter = answers(Stage::Mail, Response::proceed());
        let filter = layer.unwrap().layer(filter);
        let mut mta = MockMta::with_profile(profile, filter);
        let done = mta.deliver(mail().from("a@example.org")).await;
        let last = headers(&done).pop().unwrap();
        assert_eq!(last.1, " from a@example.org\n\tX-Forged: yes", "{done}");
    }
}

#[tokio::test]
async fn a_value_may_be_empty() {
    for profile in profiles() {
        for placed in [SetHeaderLayer::replacing, SetHeaderLayer::overriding] {
            let done = deliver(&profile, &placed("X-A", "").unwrap(), Response::accept()).await;
            let all = headers(&done);
            let mut named = all.iter().filter(|(name, _)| name == "x-a");
            let (one, more) = (named.next().unwrap(), named.next());
            assert!(one.1.trim().is_empty() && more.is_none(), "{done}");
        }
    }
}

#[tokio::test]
async fn sets_it_wherever_the_filter_accepts() {
    for profile in profiles() {
        for at in [
            Stage::Connect,
            Stage::Helo,
            Stage::Mail,
            Stage::Rcpt,
            Stage::Header,
            Stage::EndOfHeaders,
            Stage::Body,
            Stage::EndOfMessage,
        ] {
            let filter = answers(at, Response::accept());
            let filter = SetHeaderLayer::replacing("X-A", "ours")
                .unwrap()
                .layer(filter);
            for _ in 0..2 {
                let done = MockMta::with_profile(profile.clone(), filter.clone())
                    .deliver(mail())
                    .await;
                assert_accepted!(done);
                let want = [("subject", "s"), ("x-a", "ours"), ("x-b", "b")];
                assert_eq!(headers(&done), list(&want), "{at} {done}");
            }
        }
    }
}

/// A filter that accepted has no more of a body sent than the MTA has sent already.
#[tokio::test]
async fn spares_the_body_that_nobody_wants() {
    let filter = service_fn(async |request: Request| {
        Ok::<_, Infallible>(match request.event() {
            Event::Negotiate(_) => Response::needs(Needs::none().event(Stage::Body).skip()),
            Event::Body(_) => Response::accept(),
            _ => Response::proceed(),
        })
    });
    let mut service = layer().layer(filter);
    let offer = ask(&mut service, Event::Negotiate(Offer::V6)).await;
    assert!(offer.needs_asked().is_some());
    for profile in [MtaProfile::postfix(), MtaProfile::sendmail()] {
        let large = mail().raw_body("0123456789abcde\r\n".repeat(100_000));
        let done = MockMta::with_profile(profile, service.clone())
            .deliver(large)
            .await;
        assert_accepted!(done);
        let skips = done
            .answers
            .iter()
            .filter(|answer| answer.verdict == Verdict::Skip);
        assert_eq!(skips.count(), 1, "{done}");
        assert_eq!(done.edits.len(), 1, "{done}");
    }
}

#[tokio::test]
async fn bears_what_mails_bring() {
    for layer in [
        SetHeaderLayer::appending("X-A", "b"),
        SetHeaderLayer::prepending_with("Subject", |session: &Session| {
            session.helo().map(|helo| helo.to_vec())
        }),
        SetHeaderLayer::overriding("Received", "b"),
        SetHeaderLayer::replacing("From", "b"),
        SetHeaderLayer::removing("Subject"),
    ] {
        let filter = answers(Stage::EndOfMessage, same_name());
        survives(layer.unwrap().layer(filter)).await;
    }
}

/// Where values keep their leading space the layer writes one.
#[tokio::test]
async fn has_its_space_whatever_was_negotiated() {
    let ours = |_: &Session| Some("ours");
    for layer in [
        SetHeaderLayer::appending("X-A", "ours"),
        SetHeaderLayer::prepending_with("X-A", ours),
        SetHeaderLayer::replacing("X-A", "ours"),
        SetHeaderLayer::replacing_with("X-A", ours),
    ] {
        let layer = layer.unwrap();
        for needs in [Needs::none(), Needs::none().leading_space()] {
            let filter = service_fn(move |_: Request| {
                std::future::ready(Ok::<_, Infallible>(Response::needs(needs.clone())))
            });
            for profile in profiles() {
                let filter = layer.layer(filter.clone());
                let mut mta = MockMta::with_profile(profile, filter);
                let done = mta.deliver(mail()).await;
                assert!(
                    headers(&done).contains(&("x-a".into(), " ours".into())),
                    "{done}"
                );
            }
        }
    }
}
