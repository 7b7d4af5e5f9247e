//! What is counted where, by what, and what becomes of it.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use milter_tower::macros::names;
use milter_tower::testing::{Fate, Mail, MockMta, survives};
use milter_tower::{
    Chain, ClientAddr, MacroStage, Peer, PeerAddr, ReplyMode, Router, Sender, Session, SmtpReply,
    assert_accepted, assert_header, assert_no_header, assert_recipients, assert_refused,
};
use tokio::time::advance;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::{Layer, ServiceExt};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn refuses_messages_at_mail() {
    for profile in profiles() {
        let log = Log::default();
        let layer = RateLimitLayer::per_client_ip(Quota::per_minute(60).burst(2));
        let filter = layer.layer(log.filter(Needs::none().event(Stage::Rcpt), None));
        let mut mta = MockMta::with_profile(profile, filter);
        for _ in 0..2 {
            assert_accepted!(mta.deliver(Mail::new()).await);
        }
        log.take();
        for _ in 0..3 {
            let done = mta.deliver(Mail::new()).await;
            assert_refused!(done, 450, "Too much in a short time");
            assert_eq!(done.ended_at, Some(Stage::Mail));
            assert!(done.failures.is_empty(), "{done}");
            let saw = log.take();
            assert!(
                !saw.contains(&"rcpt") && !saw.contains(&"message end"),
                "{saw:?}"
            );
        }
        // Another one is not concerned.
        let other = Mail::new().client_ip(ip("198.51.100.7"));
        assert_accepted!(mta.deliver(other).await);
        advance(SECOND).await;
        assert_accepted!(mta.deliver(Mail::new()).await);
        assert!(mta.deliver(Mail::new()).await.is_refused());
    }
}

#[tokio::test(start_paused = true)]
async fn counts_each_message_of_a_session_once() {
    for profile in smtp_profiles() {
        let layer = RateLimitLayer::per_client_ip(Quota::per_hour(3))
            .over(Over::refuse(SmtpReply::reject("enough")));
        let filter = layer.layer(Log::default().filter(Needs::all(), None));
        let mut session = MockMta::with_profile(profile, filter).open().await;
        let mail = Mail::new().to("a@b.example").to("c@d.example");
        for _ in 0..3 {
            assert_accepted!(session.deliver(&mail).await);
        }
        for _ in 0..2 {
            assert_refused!(session.deliver(&mail).await, 550, "enough");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn refuses_connections_from_connect_on() {
    for profile in profiles() {
        let log = Log::default();
        let layer = RateLimitLayer::per_client_ip(Quota::per_minute(2)).counts(Counts::Connections);
        let filter = layer.layer(log.filter(Needs::all(), None));
        let mut mta = MockMta::with_profile(profile.clone(), filter);
        for _ in 0..2 {
            let mut session = mta.open().await;
            assert_accepted!(session.deliver(Mail::new()).await);
            if profile.name() != "Stalwart" {
                assert_accepted!(session.deliver(Mail::new()).await);
            }
            session.quit().await;
        }
        log.take();
        let done = mta.deliver(Mail::new()).await;
        assert_eq!(done.ended_at, Some(Stage::Connect), "{done}");
        assert!(
            matches!(&done.fate, Fate::Refused(reply) if reply.is_transient()),
            "{done}"
        );
        assert_eq!(log.take(), ["negotiate", "close"]);
        advance(30 * SECOND).await;
        assert_accepted!(mta.deliver(Mail::new()).await);
    }
}

#[tokio::test(start_paused = true)]
async fn refuses_single_recipients() {
    for profile in smtp_profiles() {
        let log = Log::default();
        let layer = RateLimitLayer::per_client_ip(Quota::per_minute(60).burst(2))
            .counts(Counts::Recipients)
            .over(Over::temp_fail("slower"));
        // The replies at RCPT are the layer's own wish.
        let filter = layer.layer(log.filter(Needs::none().record(Stage::Rcpt), None));
        let mut session = MockMta::with_profile(profile, filter).open().await;
        let mail = Mail::new()
            .to("a@x.example")
            .to("b@x.example")
            .to("c@x.example");
        let done = session.deliver(&mail).await;
        assert_recipients!(done, ["a@x.example", "b@x.example"]);
        let answer = done.answer_to("c@x.example").unwrap();
        let reply = answer.reply.as_ref().unwrap().to_string();
        assert_eq!(reply, "450 4.7.1 slower");
        assert_eq!(log.count("rcpt"), 2);
        advance(SECOND).await;
        let done = session.deliver(&mail).await;
        assert_recipients!(done, ["a@x.example"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_mta_refuses_does_not_count() {
    let log = Log::default();
    let needs = Needs::none().event(Stage::Rcpt).rejected_recipients();
    let layer = RateLimitLayer::per_client_ip(Quota::per_hour(1)).counts(Counts::Recipients);
    let mut session = MockMta::postfix(layer.layer(log.filter(needs, None)))
        .open()
        .await;
    session.connect(Mail::new().connection()).await;
    session.mail("a@b.example").await;
    let unknown = SmtpReply::reject("unknown");
    for _ in 0..3 {
        session.refused_rcpt("x@y.example", unknown.clone()).await;
    }
    assert_eq!(log.count("rcpt"), 3);
    assert!(session.rcpt("c@d.example").await.reply.is_none());
    assert!(session.rcpt("e@f.example").await.reply.is_some());
}

#[tokio::test(start_paused = true)]
async fn counts_bytes_by_what_is_announced_and_by_what_came() {
    for profile in smtp_profiles() {
        let log = Log::default();
        let layer = RateLimitLayer::per_client_ip(Quota::per_second(1000).burst(10_000))
            .counts(Counts::Bytes);
        let filter = layer.layer(log.filter(Needs::none(), None));
        let mut session = MockMta::with_profile(profile, filter).open().await;
        let of = |announced: Option<u64>, bytes: usize| {
            let args = announced.map(|size| format!("SIZE={size}"));
            let mail = Mail::new().mail_from("a@b.example", args).without_headers();
            // `A: b` and the empty line have eight.
            mail.header("A", "b")
                .raw_body("x".repeat(bytes - 10) + "\r\n")
        };
        assert_accepted!(session.deliver(of(None, 4000)).await);
        // Too much at its end.
        let done = session.deliver(of(None, 6001)).await;
        assert_refused!(done, 450);
        assert_eq!(done.ended_at, Some(Stage::EndOfMessage));
        // Before it came.
        let done = session.deliver(of(Some(6001), 6001)).await;
        assert_refused!(done, 450);
        assert_eq!(done.ended_at, Some(Stage::Mail));
        // Both cost nothing. What is announced is not counted again, what is beyond is.
        assert_accepted!(session.deliver(of(Some(3000), 2000)).await);
        assert_accepted!(session.deliver(of(Some(1000), 3000)).await);
        assert!(session.deliver(of(None, 100)).await.is_refused());
        // A message with more than there can be passes if all is there.
        advance(9 * SECOND).await;
        assert!(session.deliver(of(None, 20_000)).await.is_refused());
        advance(SECOND).await;
        assert_accepted!(session.deliver(of(None, 20_000)).await);
        assert!(session.deliver(of(None, 100)).await.is_refused());
    }
}

/// A layer, mails that share a bucket, and mails that are not limited.
type Apart = (&'static str, RateLimitLayer, Vec<Vec<Mail>>, Vec<Mail>);

/// Those in a list share a bucket, others have their own; some are not limited.
#[tokio::test(start_paused = true)]
async fn keeps_apart_what_is_not_the_same() {
    let from = |address: &str| Mail::new().from(address);
    let client = |address: &str| Mail::new().client_ip(ip(address));
    let user = |name: &str| Mail::new().auth("PLAIN", name);
    let to = |address: &str| Mail::new().to(address);
    let once = Quota::per_hour(1);
    let tests: Vec<Apart> = vec![
        (
            "client",
            RateLimitLayer::per_client_ip(once),
            vec![
                vec![client("192.0.2.1"), client("::ffff:192.0.2.1")],
                vec![client("192.0.2.2")],
                vec![client("2001:db8::1"), client("2001:db8::2:0:0:1")],
                vec![client("2001:db8:0:1::1")],
            ],
            vec![
                Mail::new().client_addr(ClientAddr::Unknown),
                Mail::new().client_addr(ClientAddr::Unix("/run/x".into())),
            ],
        ),
        (
            "network",
            RateLimitLayer::per_network(24, 48, once),
            vec![
                vec![client("192.0.2.1"), client("192.0.2.255")],
                vec![client("192.0.3.1")],
                vec![client("2001:db8::1"), client("2001:db8:0:1::1")],
                vec![client("2001:db8:1::1")],
            ],
            vec![],
        ),
        (
            "sender",
            RateLimitLayer::per_sender(once),
            vec![
                vec![
                    from("a@b\u{fc}cher.example"),
                    from("<A@xn--bcher-kva.EXAMPLE>"),
                ],
                vec![from("b@b\u{fc}cher.example")],
                vec![from("root")],
            ],
            vec![from("<>")],
        ),
        (
            "domain",
            RateLimitLayer::per_sender_domain(once),
            vec![
                vec![from("a@example.org"), from("b@EXAMPLE.org.")],
                vec![from("a@www.example.org")],
            ],
            vec![from("<>"), from("root")],
        ),
        (
            "user",
            RateLimitLayer::per_user(once),
            vec![
                vec![user("alice"), user("Alice")],
                vec![user("alice@example.org"), user("alice@Example.org")],
            ],
            vec![Mail::new()],
        ),
        (
            "recipient",
            RateLimitLayer::per_recipient(once).counts(Counts::Connections),
            vec![
                vec![to("a@example.org"), to("A@example.org")],
                vec![to("b@example.org")],
            ],
            vec![],
        ),
    ];
    for (name, layer, groups, free) in tests {
        for profile in profiles() {
            // Its own buckets.
            let layer = layer.clone().max_keys(100);
            let mut mta = MockMta::with_profile(profile, layer.layer(Router::new()));
            for group in &groups {
                for (n, mail) in group.iter().enumerate() {
                    let done = mta.deliver(mail).await;
                    assert_eq!(done.is_accepted(), n == 0, "{name}: {done} {mail:?}");
                }
            }
            assert_eq!(layer.get_store().keys(), groups.len(), "{name}");
            for mail in free.iter().cycle().take(4) {
                assert_accepted!(mta.deliver(mail).await);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn counts_sessions_of_a_user_at_the_first_mail() {
    let layer = RateLimitLayer::per_user(Quota::per_hour(1)).counts(Counts::Connections);
    let mut mta = MockMta::postfix(layer.layer(Router::new()));
    let mail = Mail::new().auth("PLAIN", "alice");
    let mut session = mta.open().await;
    for _ in 0..2 {
        assert_accepted!(session.deliver(&mail).await);
    }
    assert_refused!(mta.deliver(&mail).await, 450);
}

/// A session that is over the limit does not get in by trying again.
#[tokio::test(start_paused = true)]
async fn refuses_a_session_also_where_it_is_counted_late() {
    for profile in smtp_profiles() {
        let layer = RateLimitLayer::per_sender(Quota::per_hour(1)).counts(Counts::Connections);
        let mut mta = MockMta::with_profile(profile, layer.layer(Router::new()));
        let mail = Mail::new().from("alice@example.org");
        assert_accepted!(mta.deliver(&mail).await);
        let mut session = mta.open().await;
        for _ in 0..3 {
            assert_refused!(session.deliver(&mail).await, 450);
        }
        session.quit().await;
        assert_accepted!(mta.deliver(Mail::new().from("bob@example.org")).await);
    }
}

#[tokio::test(start_paused = true)]
async fn goes_by_a_function() {
    let by_name = |session: &Session| Some(session.helo()?.to_string());
    for profile in profiles() {
        let layer = RateLimitLayer::by(by_name, Quota::per_hour(1));
        let mut mta = MockMta::with_profile(profile, layer.layer(Router::new()));
        let of = |name| Mail::new().helo(name);
        assert_accepted!(mta.deliver(of("a")).await);
        assert!(mta.deliver(of("a")).await.is_refused());
        assert_accepted!(mta.deliver(of("b")).await);
        for _ in 0..2 {
            assert_accepted!(mta.deliver(Mail::new().without_helo()).await);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn marks_messages() {
    for profile in profiles() {
        for accepts in [
            None,
            Some(Stage::Mail),
            Some(Stage::Connect),
            Some(Stage::EndOfMessage),
        ] {
            let over = Over::header("X-Rate", "over").unwrap();
            let layer = RateLimitLayer::per_client_ip(Quota::per_hour(2)).over(over);
            let filter = Log::default().filter(Needs::all(), accepts);
            let mut mta = MockMta::with_profile(profile.clone(), layer.layer(filter));
            for n in 0..4 {
                let done = mta.deliver(Mail::new()).await;
                assert_accepted!(done);
                if n < 2 {
                    assert_no_header!(done, "X-Rate");
                } else {
                    assert_header!(done, "X-Rate", "over");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn marks_each_message_of_a_session_and_only_messages_that_are_over() {
    for profile in smtp_profiles() {
        let over = Over::header("X-Rate", "over").unwrap();
        let one = RateLimitLayer::per_client_ip(Quota::per_hour(1)).over(over);
        let filter = one.clone().counts(Counts::Connections).layer(Router::new());
        let mut mta = MockMta::with_profile(profile.clone(), filter);
        assert_no_header!(mta.deliver(Mail::new()).await, "X-Rate");
        let mut session = mta.open().await;
        for _ in 0..2 {
            assert_header!(session.deliver(Mail::new()).await, "X-Rate", "over");
        }
        let layer = one.max_keys(10).counts(Counts::Recipients);
        let mut session = MockMta::with_profile(profile, layer.layer(Router::new()))
            .open()
            .await;
        let two = Mail::new().to("a@b.example").to("c@d.example");
        assert_header!(session.deliver(&two).await, "X-Rate", "over");
        advance(3600 * SECOND).await;
        assert_no_header!(session.deliver(Mail::new()).await, "X-Rate");
    }
}

/// Nobody waits for an answer that says nothing.
#[tokio::test(start_paused = true)]
async fn only_logs_without_having_the_mta_wait() {
    let over = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&over);
    let layer = RateLimitLayer::per_client_ip(Quota::per_minute(1))
        .over(Over::log())
        .on_over(move |over| {
            let retry = over.retry_after.as_secs();
            let line = format!("{} {} {retry} {:?}", over.key, over.cost, over.stage);
            told.lock().unwrap().push(line);
        });
    let ip = Mail::new().connection().client().ip().unwrap();
    let mut session = MockMta::postfix(layer.layer(Router::new())).open().await;
    assert_eq!(
        session.agreement().reply_mode(Stage::Mail),
        ReplyMode::Silent
    );
    for _ in 0..3 {
        assert_accepted!(session.deliver(Mail::new()).await);
    }
    let line = format!("{ip} 1 60 Some(Mail)");
    assert_eq!(*over.lock().unwrap(), [line.clone(), line]);
}

/// The limit holds though the filter wants no more of a client's mail.
#[tokio::test(start_paused = true)]
async fn counts_what_the_filter_accepts_early() {
    for profile in profiles() {
        for (counts, most) in [
            (Counts::Messages, 1),
            (Counts::Recipients, 1),
            (Counts::Bytes, 2000),
        ] {
            for accepts in [Stage::Connect, Stage::Helo, Stage::Mail] {
                let log = Log::default();
                let layer = RateLimitLayer::per_client_ip(Quota::per_hour(most)).counts(counts);
                let filter = layer.layer(log.filter(Needs::all(), Some(accepts)));
                let mut mta = MockMta::with_profile(profile.clone(), filter);
                let mail = Mail::new().body("x".repeat(1200));
                assert_accepted!(mta.deliver(&mail).await);
                assert_eq!(log.count("rcpt"), 0);
                let done = mta.deliver(&mail).await;
                assert!(!done.is_accepted(), "{counts:?} {accepts}: {done}");
                assert_eq!(
                    log.count("message end"),
                    usize::from(accepts == Stage::Mail)
                        + usize::from(accepts == Stage::Mail && counts != Counts::Messages)
                );
            }
        }
    }
}

/// Connections at the same time, and services of one layer, have the same buckets.
#[tokio::test(start_paused = true)]
async fn all_connections_count_together() {
    let layer = RateLimitLayer::per_client_ip(Quota::per_hour(5));
    let accepted = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for n in 0..10 {
        let mut mta = if n % 2 == 0 {
            MockMta::postfix(layer.layer(Router::new()))
        } else {
            MockMta::sendmail(layer.clone().layer(Router::new()).clone())
        };
        let accepted = Arc::clone(&accepted);
        tasks.push(tokio::spawn(async move {
            let done = mta.deliver(Mail::new()).await;
            accepted.fetch_add(u64::from(done.is_accepted()), Ordering::Relaxed);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 5);
}

/// One who had too much gets no more by going on in the same session, and is not charged for it.
#[tokio::test(start_paused = true)]
async fn what_is_refused_costs_nothing() {
    let layer = RateLimitLayer::per_client_ip(Quota::per_minute(60).burst(1));
    let mut session = MockMta::postfix(layer.layer(Router::new())).open().await;
    session.connect(Mail::new().connection()).await;
    session.mail("a@b.example").await;
    session.abort().await;
    for _ in 0..20 {
        assert!(session.mail("a@b.example").await.reply.is_some());
    }
    advance(SECOND).await;
    assert!(session.mail("a@b.example").await.reply.is_none());
    session.quit().await;
}

#[tokio::test(start_paused = true)]
async fn macros_of_stalwart_tell_the_user() {
    let layer = RateLimitLayer::per_user(Quota::per_hour(1));
    let mut mta = MockMta::stalwart(layer.layer(Router::new()));
    let mail = Mail::new().macro_at(MacroStage::Mail, names::AUTH_AUTHEN, "alice");
    assert_accepted!(mta.deliver(&mail).await);
    assert!(mta.deliver(&mail).await.is_refused());
}

#[tokio::test(start_paused = true)]
async fn bears_what_mails_bring() {
    for counts in [
        Counts::Connections,
        Counts::Messages,
        Counts::Recipients,
        Counts::Bytes,
    ] {
        let layer = RateLimitLayer::per_sender(Quota::per_second(5)).counts(counts);
        survives(layer.layer(Router::new())).await;
    }
    let over = Over::header("X-Rate", "over").unwrap();
    let layer = RateLimitLayer::per_recipient(Quota::per_hour(1)).over(over);
    survives(layer.layer(Router::new())).await;
}

#[test]
fn texts_become_replies() {
    let text = |over: Over| over.reply.to_string();
    assert_eq!(text(Over::temp_fail("slow\ndown")), "450 4.7.1 slow / down");
    assert_eq!(text(Over::temp_fail("")), "450 4.7.1");
    let reply = SmtpReply::reject("never");
    assert_eq!(text(Over::delay(SECOND).reply(reply)), "550 5.7.1 never");
    assert!(Over::header("X Rate", "a").is_err());
}

/// What tower's limit gave a permit to in `poll_ready` keeps it until it is called. A client that was
/// refused and stays would have one: not so if the limit is around this layer, or a chain within it.
#[tokio::test(start_paused = true)]
async fn who_is_refused_takes_no_place_of_towers_limit() {
    let limit = || GlobalConcurrencyLimitLayer::new(1);
    let rate = || RateLimitLayer::per_sender(Quota::per_hour(1));
    let around = limit().layer(rate().layer(Router::new()));
    let within = rate().layer(Chain::new().with("filter", limit().layer(Router::new())));
    let naive = rate().layer(limit().layer(Router::new()));
    refused_and_idle(around, true).await;
    refused_and_idle(within, true).await;
    refused_and_idle(naive, false).await;
}

async fn refused_and_idle<S>(filter: S, is_free: bool)
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let mut mta = MockMta::postfix(filter);
    let mail = Mail::new().from("alice@example.org");
    assert_accepted!(mta.deliver(&mail).await);
    let mut idle = mta.open().await;
    assert_refused!(idle.deliver(&mail).await, 450);
    let done = mta.deliver(Mail::new().from("bob@example.org")).await;
    assert_eq!(done.is_accepted(), is_free, "{done}");
    idle.quit().await;
}

/// Some layers lose the end of a message: the next one counts all the same.
#[tokio::test(start_paused = true)]
async fn a_message_counts_also_if_nobody_told_the_end_of_the_last() {
    let layer = RateLimitLayer::by(|_| Some("all"), Quota::per_hour(1));
    let mut service = layer.layer(Router::new());
    let session = Session::new(Peer::new(1, PeerAddr::Other), None);
    let mut verdicts = Vec::new();
    for _ in 0..2 {
        let mail = Event::Mail(Sender::new("<a@example.org>", [""; 0]));
        let request = Request::new(mail, session.clone());
        let response = service.ready().await.unwrap().call(request).await;
        verdicts.push(response.unwrap().verdict().is_refusal());
    }
    assert_eq!(verdicts, [false, true]);
}
