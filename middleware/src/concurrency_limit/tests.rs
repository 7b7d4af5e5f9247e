use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use milter_tower::testing::{Fate, Mail, MockMta, MtaProfile, SmtpSession, survives};
use milter_tower::{
    BoxError, ClientAddr, Connect, Event, Needs, Peer, PeerAddr, Request, Response, Router,
    Session, SmtpReply, Stage, Verdict, assert_accepted, assert_refused,
};
use tokio::time::{sleep, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::permit::Count;
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn profiles() -> [MtaProfile; 4] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::stalwart(),
        MtaProfile::version_2(),
    ]
}

fn client(ip: &str) -> Connect {
    let ip: IpAddr = ip.parse().unwrap();
    Mail::new().client_ip(ip).connection()
}

/// Answers the events of a stage so, and takes an hour for those of another.
fn filter(
    answers: Option<(Stage, Response)>,
    hangs: Option<Stage>,
) -> impl Service<Request, Response = Response, Error = BoxError, Future: Send> + Clone + Send + use<>
{
    service_fn(move |request: Request| {
        let stage = request.event().stage();
        let answer = match &answers {
            Some((at, answer)) if Some(*at) == stage => answer.clone(),
            _ => Response::proceed(),
        };
        async move {
            if stage.is_some() && stage == hangs {
                sleep(HOUR).await;
            }
            Ok(answer)
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_connection_too_many_is_told_to_go() {
    for profile in profiles() {
        let layer = ConcurrencyLimitLayer::new(2);
        let mut mta = MockMta::with_profile(profile, layer.layer(filter(None, None)));
        let mut sessions = Vec::new();
        for _ in 0..2 {
            let mut session = mta.open().await;
            assert_accepted!(session.deliver(Mail::new()).await);
            sessions.push(session);
        }
        assert_eq!(layer.in_progress(), 2);
        for _ in 0..3 {
            let done = mta.deliver(Mail::new()).await;
            assert_eq!(done.ended_at, Some(Stage::Connect), "{done}");
            assert!(
                matches!(&done.fate, Fate::Refused(reply) if reply.code() == 421),
                "{done}"
            );
            assert!(done.failures.is_empty(), "{done}");
            assert_eq!(layer.in_progress(), 2);
        }
        sessions.pop().unwrap().quit().await;
        assert_accepted!(mta.deliver(Mail::new()).await);
        sessions.pop().unwrap().lose().await;
        assert_eq!(layer.in_progress(), 0);
    }
}

/// With a tempfail the client may stay, for nothing; and it does not count.
#[tokio::test(start_paused = true)]
async fn a_connection_too_many_may_stay() {
    for profile in [MtaProfile::postfix(), MtaProfile::version_2()] {
        let layer = ConcurrencyLimitLayer::new(1).verdict(SmtpReply::tempfail("busy"));
        let mut mta = MockMta::with_profile(profile, layer.layer(filter(None, None)));
        let mut first = mta.open().await;
        assert_accepted!(first.deliver(Mail::new()).await);
        let mut second = mta.open().await;
        assert!(second.deliver(Mail::new()).await.is_refused());
        first.quit().await;
        assert_eq!(layer.in_progress(), 0);
        // It was refused when it came.
        assert!(second.deliver(Mail::new()).await.is_refused());
        assert_eq!(layer.in_progress(), 0);
        assert_accepted!(mta.deliver(Mail::new()).await);
    }
}

async fn begin(mta: &mut MockMta) -> (SmtpSession, bool) {
    let mut session = mta.open().await;
    session.connect(Mail::new().connection()).await;
    session.helo("client.example").await;
    let answer = session.mail("a@b.example").await;
    let is_in = answer.reply.is_none();
    if let Some(reply) = answer.reply {
        assert_eq!(reply.code(), 451);
        assert!(reply.to_string().contains("Too many messages"), "{reply}");
    }
    (session, is_in)
}

#[tokio::test(start_paused = true)]
async fn messages_count_until_they_are_over() {
    for profile in profiles() {
        let is_stalwart = profile.name() == "Stalwart";
        let layer = ConcurrencyLimitLayer::new(2).counts(Counts::Messages);
        let mut mta = MockMta::with_profile(profile, layer.layer(filter(None, None)));
        let (mut first, is_in) = begin(&mut mta).await;
        assert!(is_in);
        let (second, is_in) = begin(&mut mta).await;
        assert!(is_in);
        let (mut third, is_in) = begin(&mut mta).await;
        assert!(!is_in);
        assert_eq!(layer.in_progress(), 2);
        // An end, and a loss.
        first.rcpt("c@d.example").await;
        first.data().await;
        assert!(first.end().await.is_accepted());
        assert_eq!(layer.in_progress(), 1);
        if !is_stalwart {
            assert!(third.mail("a@b.example").await.reply.is_none());
            assert_eq!(layer.in_progress(), 2);
        }
        second.lose().await;
        third.quit().await;
        assert_eq!(layer.in_progress(), 0);
        // A session between its messages has none.
        assert!(first.mail("a@b.example").await.reply.is_none());
        assert_eq!(layer.in_progress(), 1);
        first.abort().await;
        first.helo("client.example").await;
        assert_eq!(layer.in_progress(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_filter_is_done_with_counts_no_more() {
    for profile in profiles() {
        for answer in [
            Response::accept(),
            Response::discard(),
            SmtpReply::reject("no").into(),
        ] {
            for stage in [
                Stage::Mail,
                Stage::Rcpt,
                Stage::EndOfHeaders,
                Stage::EndOfMessage,
            ] {
                let layer = ConcurrencyLimitLayer::new(1).counts(Counts::Messages);
                let filter = filter(Some((stage, answer.clone())), None);
                let mut mta = MockMta::with_profile(profile.clone(), layer.layer(filter));
                let mut session = mta.open().await;
                for _ in 0..2 {
                    let done = session.deliver(Mail::new()).await;
                    assert!(!done.to_string().contains("Too many"), "{done}");
                    if *answer.verdict() == Verdict::Accept {
                        // Nor does the MTA send what nobody wants.
                        assert_eq!(done.answers.last().map(|last| last.stage), Some(stage));
                    }
                }
                session.quit().await;
                assert_eq!(layer.in_progress(), 0, "{stage}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_key_has_its_own_number() {
    for profile in profiles() {
        let layer = ConcurrencyLimitLayer::per_client_ip(1);
        let mut mta = MockMta::with_profile(profile, layer.layer(Router::new()));
        let mut sessions = Vec::new();
        for (ip, is_in) in [
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", false),
            ("192.0.2.2", true),
            ("2001:db8::1", true),
            ("2001:db8::2:1:1:1", false),
            ("2001:db8:0:1::1", true),
        ] {
            let mut session = mta.open().await;
            let answer = session.connect(client(ip)).await;
            assert_eq!(answer.reply.is_none(), is_in, "{ip}");
            sessions.push(session);
        }
        assert_eq!((layer.in_progress(), layer.keys()), (4, 4));
        // Without an address there is no limit.
        for _ in 0..3 {
            let mut session = mta.open().await;
            let unix = Connect::new("localhost", ClientAddr::Unix("/run/x".into()));
            assert!(session.connect(unix).await.reply.is_none());
            sessions.push(session);
        }
        for session in sessions {
            session.quit().await;
        }
        assert_eq!((layer.in_progress(), layer.keys()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn networks_and_functions_are_keys() {
    let layer = ConcurrencyLimitLayer::per_network(8, 32, 1);
    let mut mta = MockMta::postfix(layer.layer(Router::new()));
    let mut first = mta.open().await;
    assert!(first.connect(client("10.0.0.1")).await.reply.is_none());
    let mut second = mta.open().await;
    assert!(second.connect(client("10.9.9.9")).await.reply.is_some());

    let by_user = |session: &Session| session.auth()?.user.map(|user| user.to_string());
    let layer = ConcurrencyLimitLayer::by(by_user, 1).counts(Counts::Messages);
    let mut mta = MockMta::postfix(layer.layer(filter(None, Some(Stage::Data))));
    let of = |user| Mail::new().auth("PLAIN", user);
    let mut session = mta.open().await;
    let slow = tokio::spawn(async move { session.deliver(of("alice")).await });
    sleep(Duration::from_secs(1)).await;
    assert_refused!(mta.deliver(of("alice")).await, 451, "Too many messages");
    assert_eq!((layer.in_progress(), layer.keys()), (1, 1));
    assert!(slow.await.unwrap().is_refused(), "the hour is too long");
    assert_eq!((layer.in_progress(), layer.keys()), (0, 0));
}

/// Wherever a connection is lost, and whatever it was waiting for.
#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_connection_that_is_lost() {
    for profile in profiles() {
        for counts in [Counts::Connections, Counts::Messages] {
            for hangs in Stage::ALL {
                let layer = ConcurrencyLimitLayer::per_client_ip(1).counts(counts);
                let filter = layer.layer(filter(None, Some(hangs)));
                let mut mta = MockMta::with_profile(profile.clone(), filter);
                for _ in 0..2 {
                    let mut session = mta.open().await;
                    let mail = Mail::new().unknown_command("NONSENSE");
                    let time = Duration::from_secs(1);
                    if timeout(time, session.deliver(&mail)).await.is_ok() {
                        // Not every MTA has them.
                        assert!(matches!(hangs, Stage::Data | Stage::Unknown), "{hangs}");
                    } else if hangs != Stage::Unknown {
                        let has_begun = counts == Counts::Connections || hangs.is_of_message();
                        assert_eq!(layer.in_progress(), usize::from(has_begun), "{hangs}");
                    }
                    session.lose().await;
                    assert_eq!((layer.in_progress(), layer.keys()), (0, 0), "{hangs}");
                }
            }
        }
    }
}

/// A service that is dropped takes its place with it; a clone has none.
#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_service_that_is_dropped() {
    let layer = ConcurrencyLimitLayer::new(2);
    let mut service = layer.layer(filter(None, Some(Stage::Connect)));
    let session = Session::new(Peer::new(1, PeerAddr::Other), None);
    let connect = Event::Connect(Arc::new(client("192.0.2.1")));
    let request = |event| Request::new(event, session.clone());
    let call = service
        .ready()
        .await
        .unwrap()
        .call(request(connect.clone()));
    assert_eq!(layer.in_progress(), 1);
    let copy = service.clone();
    drop(call);
    assert_eq!(layer.in_progress(), 1);
    drop(service);
    assert_eq!(layer.in_progress(), 0);

    // Two sessions on one connection.
    let mut service = copy;
    for _ in 0..2 {
        drop(
            service
                .ready()
                .await
                .unwrap()
                .call(request(connect.clone())),
        );
        assert_eq!(layer.in_progress(), 1);
        let end = service
            .ready()
            .await
            .unwrap()
            .call(request(Event::SessionEnd));
        drop(end.await.unwrap());
        assert_eq!(layer.in_progress(), 0);
    }
}

#[test]
fn no_more_threads_get_in_than_may() {
    for key in [None, Some(Key::from("a"))] {
        let count = Arc::new(Count::new(3));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (count, key) = (Arc::clone(&count), key.clone());
                std::thread::spawn(move || {
                    for _ in 0..2000 {
                        let one = count.enter(key.clone());
                        let other = count.enter(key.clone());
                        assert!(count.in_progress() <= 3);
                        drop((one, other));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!((count.in_progress(), count.keys()), (0, 0));
    }
}

#[test]
fn none_gets_in_where_none_may() {
    let none = Arc::new(Count::new(0));
    assert!(none.enter(None).is_none() && none.enter(Some("a".into())).is_none());
    assert_eq!((none.in_progress(), none.keys()), (0, 0));
}

/// The filter is asked for what it wants, but for where the layer answers.
#[tokio::test(start_paused = true)]
async fn asks_for_replies_where_it_answers() {
    for (counts, stage) in [
        (Counts::Connections, Stage::Connect),
        (Counts::Messages, Stage::Mail),
    ] {
        let layer = ConcurrencyLimitLayer::new(1).counts(counts);
        let filter = service_fn(async |request: Request| {
            Ok::<_, BoxError>(match request.event() {
                Event::Negotiate(_) => Response::needs(Needs::none()),
                _ => Response::proceed(),
            })
        });
        let session = MockMta::postfix(layer.layer(filter)).open().await;
        let agreed = session.agreement();
        for of in [Stage::Connect, Stage::Mail, Stage::Rcpt] {
            assert_eq!(agreed.delivers(of), of == stage);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bears_what_mails_bring() {
    for counts in [Counts::Connections, Counts::Messages] {
        let layer = ConcurrencyLimitLayer::per_client_ip(1).counts(counts);
        survives(layer.layer(Router::new())).await;
        assert_eq!((layer.in_progress(), layer.keys()), (0, 0));
    }
}
