use std::future::ready;
use std::sync::Mutex;

use bytes::Bytes;
use futures::FutureExt;
use milter_core::{
    Connect, Header, Helo, Macros, Modification, Offer, Recipient, Sender, SmtpReply, Steps,
    UnknownCommand, Verdict,
};
use tower::{Service, ServiceExt};

use super::*;
use crate::error::BoxError;
use crate::progress::Progress;
use crate::request::{Deadline, Event, Outcome, Request};
use crate::response::Response;
use crate::session::{Mta, Peer, PeerAddr, Session};
use crate::verdict::Skip;

type Seen = Arc<Mutex<Vec<String>>>;

fn session() -> Session {
    Session::new(Peer::new(1, PeerAddr::Other), None)
}

fn request(event: Event) -> Request {
    Request::new(event, session())
}

fn client() -> Arc<Connect> {
    let address = "192.0.2.7:25".parse::<std::net::SocketAddr>().unwrap();
    Arc::new(Connect::new("client.example", address.into()))
}

/// A session in which everything was told.
fn told() -> Session {
    let mut session = session();
    session.set_client(client());
    session.set_helo(Helo::new("helo.example"));
    session.set_sender(Sender::new("<a@example.org>", [""; 0]));
    session.add_recipient(Recipient::new("<b@example.net>", [""; 0]));
    session
}

fn rcpt() -> Event {
    Event::Rcpt(Recipient::new("<c@example.net>", [""; 0]))
}

fn negotiated(router: &Router) -> Needs {
    let asked = router.clone().oneshot(request(Event::Negotiate(Offer::V6)));
    let response = asked.now_or_never().unwrap().unwrap();
    response.needs_asked().unwrap().clone()
}

#[test]
fn no_handler_no_event() {
    assert_eq!(negotiated(&Router::new()), Needs::none());
    let router = Router::new()
        .on_rcpt(async |_: Recipient| Response::reject())
        .on_unknown(async || Response::reject());
    let expected = Needs::none().events([Stage::Rcpt, Stage::Unknown]);
    assert_eq!(negotiated(&router), expected);
    assert_eq!(router.needs(), expected);
}

#[test]
fn what_never_refuses_has_no_reply() {
    let router = Router::new()
        .on_mail(async |_: Sender| ())
        .on_helo(async || Ok::<_, BoxError>(()))
        .on_header(async || None::<()>);
    let expected = Needs::none()
        .record(Stage::Mail)
        .event(Stage::Helo)
        .record(Stage::Header);
    assert_eq!(negotiated(&router), expected);
}

#[test]
fn arguments_told_earlier_are_recorded() {
    let recorded = |stages: &[Stage]| {
        let stages = stages.iter().copied();
        stages.fold(Needs::none(), Needs::record)
    };
    let all = [Stage::Connect, Stage::Helo, Stage::Mail, Stage::Rcpt];
    for (router, expected) in [
        (
            Router::new().on_rcpt(async |_: Session| Response::reject()),
            recorded(&all[..3]).event(Stage::Rcpt),
        ),
        (
            Router::new().on_helo(async |_: Session| Response::reject()),
            recorded(&all[..1]).event(Stage::Helo),
        ),
        (
            Router::new().on_end_of_message(async |_: Request| ()),
            recorded(&all),
        ),
        (
            Router::new().on_unknown(async |_: Session| ()),
            recorded(&all).record(Stage::Unknown),
        ),
        // Its last message is over by then.
        (
            Router::new().on_close(async |_: Session| ()),
            recorded(&all[..2]),
        ),
        (
            Router::new().on_abort(async |_: Recipients| ()),
            recorded(&all[2..]),
        ),
        (
            Router::new().on_rcpt(async |_: ClientIp| Response::reject()),
            recorded(&all[..1]).event(Stage::Rcpt),
        ),
        (
            Router::new().on_data(async |_: Option<Helo>, _: Sender| Response::reject()),
            recorded(&all[1..3]).event(Stage::Data),
        ),
        (
            Router::new().on_end_of_message(async |_: Recipients, _: Macros, _: Mta| ()),
            recorded(&all[3..]),
        ),
        (
            Router::new().on_mail(async |_: Deadline, _: Peer, _: State<()>| ()),
            recorded(&all[2..3]),
        ),
        (Router::new().on_abort(async || ()), recorded(&all[2..3])),
        (
            Router::new().on_message_end(async |_: Outcome| ()),
            recorded(&all[2..3]),
        ),
        (
            Router::new().on_negotiate(async |_: Offer, _: Session| ()),
            Needs::none(),
        ),
    ] {
        assert_eq!(negotiated(&router), expected);
    }
}

#[test]
fn a_handler_that_is_replaced_leaves_nothing() {
    let router = Router::new()
        .on_rcpt(async |_: Session| Response::reject())
        .on_rcpt(async || ());
    assert_eq!(negotiated(&router), Needs::none().record(Stage::Rcpt));
}

#[test]
fn the_rest_is_asked_for_in_words() {
    let router = Router::new()
        .actions(Actions::ADD_HEADERS)
        .optional_actions(Actions::QUARANTINE)
        .macros(MacroStage::Mail, ["{mail_addr}"])
        .macros_exact(MacroStage::Helo, ["{tls_version}"])
        .rejected_recipients()
        .leading_space()
        .skip()
        .data_size(DataSize::Mib1)
        .also_needs(&Needs::none().event(Stage::Data))
        .on_mail(async |_: Session| ());
    let expected = Needs::none()
        .action(Actions::ADD_HEADERS)
        .optional_action(Actions::QUARANTINE)
        .macros(MacroStage::Mail, ["{mail_addr}"])
        .macros_exact(MacroStage::Helo, ["{tls_version}"])
        .rejected_recipients()
        .leading_space()
        .skip()
        .data_size(DataSize::Mib1)
        .event(Stage::Data)
        .record(Stage::Connect)
        .record(Stage::Helo)
        .record(Stage::Mail);
    assert_eq!(negotiated(&router), expected);
    let skips = Router::new().on_body(async || Ok::<_, BoxError>(Some(Skip)));
    assert_eq!(negotiated(&skips), Needs::none().event(Stage::Body).skip());
}

#[tokio::test]
async fn the_negotiation_can_be_handled() {
    let ask = |router: Router| router.oneshot(request(Event::Negotiate(Offer::V6)));
    let base = || Router::new().on_rcpt(async || Response::reject());
    let changes = base().on_negotiate(async |offer: Offer, needs: Needs| {
        assert_eq!(offer, Offer::V6);
        needs.skip()
    });
    let expected = base().needs().skip();
    assert_eq!(ask(changes).await.unwrap().needs_asked(), Some(&expected));
    let looks = base().on_negotiate(async |_: Offer| ());
    assert_eq!(
        ask(looks).await.unwrap().needs_asked(),
        Some(&base().needs())
    );
    let refuses = base().on_negotiate(async || Response::refuse());
    assert!(ask(refuses).await.unwrap().is_refused());
    let fails = base().on_negotiate(async || Err::<(), _>(SmtpReply::reject("no")));
    assert!(ask(fails).await.is_err());
}

#[tokio::test]
async fn handlers_get_what_they_ask_for() {
    let ask = |router: Router, event| router.oneshot(Request::new(event, told()));
    let router = Router::new()
        .on_rcpt(
            async |to: Recipient,
                   ClientIp(ip): ClientIp,
                   who: Arc<Connect>,
                   helo: Helo,
                   from: Sender,
                   earlier: Recipients,
                   session: Session,
                   whole: Request| {
                SmtpReply::reject(format!(
                    "{} {ip} {} {} {} {} {} {}",
                    to.mailbox(),
                    who.host(),
                    helo.name(),
                    from.mailbox(),
                    earlier[0].mailbox(),
                    session.recipients().len(),
                    whole.event().stage().unwrap(),
                ))
            },
        )
        .on_connect(
            async |who: Arc<Connect>, address: milter_core::ClientAddr| {
                SmtpReply::reject(format!("{} {address}", who.host()))
            },
        )
        .on_header(async |header: Header| SmtpReply::reject(header.value()))
        .on_body(async |body: Bytes| SmtpReply::reject(&body))
        .on_unknown(async |command: UnknownCommand| SmtpReply::reject(command.line()))
        .on_end_of_message(async |progress: Progress| progress.send());
    for (event, text) in [
        (
            rcpt(),
            "c@example.net 192.0.2.7 client.example helo.example a@example.org b@example.net 1 rcpt",
        ),
        (Event::Connect(client()), "client.example 192.0.2.7"),
        (Event::Header(Header::new("A", "b")), "b"),
        (Event::Body(Bytes::from_static(b"c")), "c"),
        (Event::Unknown(UnknownCommand::new("XYZZY")), "XYZZY"),
    ] {
        let response = ask(router.clone(), event).await.unwrap();
        let Verdict::Reply(reply) = response.verdict() else {
            panic!("{response:?}");
        };
        let lines: Vec<_> = reply.lines().map(|line| line.to_string()).collect();
        assert_eq!(lines, [text]);
    }
    let end = Event::EndOfMessage(Progress::default());
    assert_eq!(ask(router.clone(), end).await.unwrap(), Response::proceed());
    // No handler.
    assert_eq!(ask(router, Event::Data).await.unwrap(), Response::proceed());
}

#[tokio::test]
async fn what_cannot_be_had_fails() {
    let judge = || Router::new().on_mail(async |_: ClientIp| Response::accept());
    let mail = || Event::Mail(Sender::new("<>", [""; 0]));
    let error = judge().oneshot(request(mail())).await.unwrap_err();
    assert!(error.to_string().contains("client is not known"), "{error}");
    let response = judge().oneshot(Request::new(mail(), told())).await;
    assert_eq!(response.unwrap(), Response::accept());

    let optional =
        Router::new().on_mail(async |ip: Option<ClientIp>, no: Result<Helo, NotKnown>| {
            assert!(ip.is_none() && no.is_err());
            Response::accept()
        });
    let response = optional.oneshot(request(mail())).await;
    assert_eq!(response.unwrap(), Response::accept());

    let layered = || Router::new().on_mail(async |Extension(n): Extension<u8>| assert_eq!(n, 7));
    let error = layered().oneshot(request(mail())).await.unwrap_err();
    assert!(error.to_string().contains("u8"), "{error}");
    let mut with = request(mail());
    with.extensions_mut().insert(7_u8);
    assert!(layered().oneshot(with).await.is_ok());
}

/// An argument that refuses, and says so in its needs or not.
struct Refuses<const SAYS: bool>;

impl<S: at::Marker, T, const SAYS: bool> FromRequest<S, T> for Refuses<SAYS> {
    type Error = SmtpReply;

    fn needs() -> Needs {
        let stage = S::STAGE.filter(|_| SAYS);
        stage.into_iter().fold(Needs::none(), Needs::event)
    }

    fn from_request(_: &Request, _: &T) -> Result<Self, SmtpReply> {
        Err(SmtpReply::reject("no"))
    }
}

#[tokio::test]
async fn an_argument_may_refuse() {
    let says = Router::new().on_rcpt(async |_: Refuses<true>| ());
    assert_eq!(negotiated(&says), Needs::none().event(Stage::Rcpt));
    let response = says.oneshot(request(rcpt())).await.unwrap();
    assert_eq!(response, SmtpReply::reject("no").into());
    // Its verdict would be lost: that must not let mail pass.
    let silent = Router::new().on_rcpt(async |_: Refuses<false>| ());
    assert!(silent.oneshot(request(rcpt())).await.is_err());
    let judges = Router::new().on_rcpt(async |_: Refuses<false>| Response::accept());
    assert!(
        judges
            .oneshot(request(rcpt()))
            .await
            .unwrap()
            .verdict()
            .is_refusal()
    );
}

#[derive(Clone)]
struct App {
    name: &'static str,
    count: Count,
}

#[derive(Clone, Default)]
struct Count(Arc<Mutex<u32>>);

impl FromRef<App> for Count {
    fn from_ref(app: &App) -> Self {
        app.count.clone()
    }
}

#[tokio::test]
async fn handlers_share_the_state() {
    async fn named(State(app): State<App>, State(count): State<Count>) -> SmtpReply {
        *count.0.lock().unwrap() += 1;
        SmtpReply::reject(app.name)
    }
    let count = Count::default();
    let app = App {
        name: "app",
        count: count.clone(),
    };
    let router = Router::with_state(app).on_rcpt(named).on_data(named);
    for event in [rcpt(), Event::Data] {
        let response = router.clone().oneshot(request(event)).await.unwrap();
        assert_eq!(response, SmtpReply::reject("app").into());
    }
    assert_eq!(*count.0.lock().unwrap(), 2);
}

fn ends(seen: &Seen) -> Router {
    let note = |what: &'static str| {
        let seen = seen.clone();
        move || {
            seen.lock().unwrap().push(what.to_owned());
            ready(())
        }
    };
    let all = seen.clone();
    Router::new()
        .on_abort(note("abort"))
        .on_message_end(move |outcome: Outcome| {
            all.lock().unwrap().push(format!("{outcome:?}"));
            ready(())
        })
        .on_close(note("close"))
}

#[tokio::test]
async fn an_abort_is_an_end_without_the_last_word() {
    let refused = || Outcome::Verdict(Verdict::Reject);
    let accepted = || Outcome::Verdict(Verdict::Accept);
    let end = || Event::EndOfMessage(Progress::default());
    for (answer, event, outcome, aborts) in [
        (Some(Response::proceed()), end(), accepted(), false),
        (Some(Response::reject()), end(), refused(), false),
        // A layer that lets pass what the filter refuses.
        (Some(Response::reject()), end(), accepted(), false),
        // An answer that could not be sent.
        (Some(Response::accept()), end(), refused(), true),
        (None, end(), refused(), true),
        (Some(Response::reject()), rcpt(), Outcome::Aborted, true),
        (Some(Response::discard()), rcpt(), accepted(), false),
        (
            Some(Response::proceed()),
            rcpt(),
            Outcome::ConnectionLost,
            true,
        ),
        // Without a handler the end is accepted.
        (Some(Response::proceed()), Event::Data, accepted(), true),
    ] {
        let context = format!("{answer:?} at {event:?}: {outcome:?}");
        let seen = Seen::default();
        let answer = move || ready(answer.clone().ok_or("failed"));
        let mut router = ends(&seen)
            .on_end_of_message(answer.clone())
            .on_rcpt(answer);
        for _ in 0..2 {
            let _ = router.call(request(event.clone())).await;
            let told = router.call(request(Event::MessageEnd(outcome.clone())));
            assert_eq!(told.await.unwrap(), Response::proceed());
            let expected = [
                aborts.then(|| "abort".to_owned()),
                Some(format!("{outcome:?}")),
            ];
            let seen = std::mem::take(&mut *seen.lock().unwrap());
            assert_eq!(
                seen,
                expected.into_iter().flatten().collect::<Vec<_>>(),
                "{context}"
            );
        }
        let _ = router.call(request(Event::SessionEnd)).await.unwrap();
        let _ = router.call(request(Event::Close)).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), ["close"]);
    }
}

/// A request on a connection with an MTA that waits for an answer to each event.
fn answered(event: Event) -> Request {
    let mut session = session();
    let agreement = milter_core::negotiate(&Offer::V6, &Needs::all()).unwrap();
    session.set_agreement(Arc::new(agreement));
    Request::new(event, session)
}

#[tokio::test]
async fn who_is_asked_again_did_not_have_the_last_word() {
    let mail = || Event::Mail(Sender::new("<>", [""; 0]));
    let end = || Event::EndOfMessage(Progress::default());
    let failed = || Outcome::Verdict(Verdict::TempFail);
    // A layer lets pass what was refused at MAIL.
    for (after, outcome) in [(rcpt(), Outcome::Aborted), (end(), failed())] {
        let seen = Seen::default();
        let mut router = ends(&seen)
            .on_mail(async || Response::reject())
            .on_end_of_message(async || Err::<(), _>("broken"));
        let _ = router.call(request(mail())).await;
        let _ = router.call(request(after)).await;
        let told = router.call(request(Event::MessageEnd(outcome)));
        assert!(told.await.is_ok());
        assert_eq!(seen.lock().unwrap()[0], "abort");
    }
}

#[tokio::test]
async fn d1_what_was_not_asked_for_proceeds_where_a_layer_asks_for_more() {
    let seen = Seen::default();
    let mut router = ends(&seen)
        .on_negotiate(async || {
            let needs = Needs::none().event(Stage::Data);
            needs.record(Stage::Mail).record(Stage::Rcpt)
        })
        .on_mail(async || "broken".parse::<u8>().map(|_| ()))
        .on_rcpt(async || Response::discard())
        .on_data(async || Response::tempfail())
        .on_header(async |_: Header| Response::reject());
    let asked = router.call(request(Event::Negotiate(Offer::V6))).await;
    assert!(asked.unwrap().needs_asked().unwrap().is_silent(Stage::Rcpt));
    let failed = router.call(answered(Event::Mail(Sender::new("<>", [""; 0]))));
    assert!(failed.await.is_err(), "a failure is none of the MTA's");
    for (event, expected) in [
        (rcpt(), Response::proceed()),
        (Event::Data, Response::tempfail()),
        (Event::Header(Header::new("A", "b")), Response::proceed()),
    ] {
        assert_eq!(router.call(answered(event)).await.unwrap(), expected);
    }
    let given_up = Event::MessageEnd(Outcome::Verdict(Verdict::Accept));
    assert!(router.call(answered(given_up)).await.is_ok());
    assert_eq!(seen.lock().unwrap()[0], "abort");
    // Without such a layer the server says that the verdict is lost.
    assert_eq!(
        router.call(request(rcpt())).await.unwrap(),
        Response::discard()
    );
}

#[tokio::test]
async fn the_last_word_is_that_of_one_message() {
    let seen = Seen::default();
    let mut router = ends(&seen);
    let end = Event::EndOfMessage(Progress::default());
    for event in [
        end,
        Event::MessageEnd(Outcome::Verdict(Verdict::Accept)),
        Event::MessageEnd(Outcome::Aborted),
    ] {
        assert!(router.call(request(event)).await.is_ok());
    }
    let expected = ["Verdict(Accept)", "abort", "Aborted"];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn both_ends_are_told_if_the_first_fails() {
    let seen = Seen::default();
    let all = seen.clone();
    let mut router = Router::new()
        .on_abort(async || Err::<(), _>("abort failed"))
        .on_message_end(move || {
            let all = all.clone();
            async move { all.lock().unwrap().push("told".to_owned()) }
        });
    let told = router.call(request(Event::MessageEnd(Outcome::Aborted)));
    assert_eq!(told.await.unwrap_err().to_string(), "abort failed");
    assert_eq!(*seen.lock().unwrap(), ["told"]);
}

#[tokio::test]
async fn the_client_is_known_from_its_own_event() {
    let router = Router::new().on_connect(
        async |ClientIp(ip): ClientIp, who: Arc<Connect>, address: milter_core::ClientAddr| {
            assert_eq!((Some(ip), &address), (who.client().ip(), who.client()));
            Response::accept()
        },
    );
    let response = router.oneshot(request(Event::Connect(client()))).await;
    assert_eq!(response.unwrap(), Response::accept());
}

#[tokio::test]
async fn a_router_without_handlers_for_the_end_accepts_it() {
    let seen = Seen::default();
    let mut router = ends(&seen);
    let end = Event::EndOfMessage(Progress::default());
    let _ = router.call(request(end)).await.unwrap();
    let accepted = Outcome::Verdict(Verdict::Accept);
    let _ = router
        .call(request(Event::MessageEnd(accepted)))
        .await
        .unwrap();
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn where_the_mta_cannot_skip_the_rest_is_taken() {
    let calls = Count::default();
    let counted = calls.clone();
    let mut router = Router::new().on_body(move || {
        *counted.0.lock().unwrap() += 1;
        ready(Skip)
    });
    let agreed = |offer: Offer| {
        let mut session = session();
        let agreement = milter_core::negotiate(&offer, &Needs::all().skip()).unwrap();
        session.set_agreement(Arc::new(agreement));
        Request::new(Event::Body(Bytes::from_static(b"x")), session)
    };
    let old = Offer {
        steps: Steps::NO_CONNECT,
        ..Offer::V6
    };
    for _ in 0..2 {
        for _ in 0..3 {
            let response = router.call(agreed(old)).await.unwrap();
            assert_eq!(response, Response::proceed());
        }
        let end = Event::MessageEnd(Outcome::Aborted);
        let _ = router.call(request(end)).await.unwrap();
    }
    assert_eq!(*calls.0.lock().unwrap(), 2);
    let response = router.call(agreed(Offer::V6)).await.unwrap();
    assert_eq!(response, Response::skip());
}

#[tokio::test]
async fn edits_as_an_answer() {
    let router = Router::new().on_end_of_message(async || Modification::add_header("X-A", "b"));
    let end = Event::EndOfMessage(Progress::default());
    let response = router.oneshot(request(end)).await.unwrap();
    assert_eq!(response.edits().len(), 1);
}

#[test]
fn only_what_is_handled_is_boxed() {
    let mut router = Router::new()
        .on_rcpt(async || ())
        .on_data(async |_: Sender| ());
    assert!(router.call(request(rcpt())).is_boxed());
    let refused = router.call(request(Event::Data));
    assert!(!refused.is_boxed(), "an argument could not be had");
    for event in [
        Event::Negotiate(Offer::V6),
        Event::EndOfHeaders,
        Event::EndOfMessage(Progress::default()),
        Event::MessageEnd(Outcome::Aborted),
        Event::SessionEnd,
        Event::Close,
    ] {
        assert!(!router.call(request(event)).is_boxed());
    }
}

#[test]
fn small_and_cheap_to_clone() {
    fn check<S>(_: &S)
    where
        S: Service<Request, Future: Send> + Clone + Send + Sync + 'static,
    {
    }
    let router = Router::new().on_abort(async || ());
    let clone = router.clone();
    assert!(Arc::ptr_eq(&router.routes, &clone.routes));
    assert!(size_of::<Router>() <= 2 * size_of::<usize>());
    check(&clone);
}
