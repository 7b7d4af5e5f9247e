use std::convert::Infallible;

use milter_tower::{
    Actions, ClientAddr, Connect, Event, Header, Modification, Needs, Offer, Outcome, Peer,
    PeerAddr, Progress, Recipient, Request, Response, Sender, Session, SmtpReply, Stage, Verdict,
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
