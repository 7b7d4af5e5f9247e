//! A `Router` behind the server: what goes over the wire, and what handlers see.

use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use milter_core::{Command, Reply};
use milter_tower::router::ClientIp;
use milter_tower::verdict::Skip;
use milter_tower::{
    BoxError, Header, Offer, Outcome, Recipient, Response, Router, Sender, Session, SmtpReply,
    Steps,
};

use crate::common::{connect, ended, eom, helo, mail, proceeding, rcpt, start};

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// A handler without arguments that writes down that it ran.
    fn noting(
        &self,
        what: &'static str,
    ) -> impl Fn() -> std::future::Ready<()> + Send + Sync + 'static {
        let seen = self.clone();
        move || {
            seen.add(what);
            ready(())
        }
    }
}

fn listed(to: &Recipient, session: &Session) -> Option<SmtpReply> {
    let is_listed = session.client_ip().is_some_and(|ip| ip.is_ipv4());
    (is_listed && to.mailbox() == "bob@example.net").then(|| SmtpReply::reject("listed"))
}

/// An MTA that can leave nothing out.
const OLD: Offer = Offer {
    steps: Steps::NO_CONNECT,
    ..Offer::V6
};

#[tokio::test(start_paused = true)]
async fn only_what_is_handled_is_asked_for_and_what_is_recorded_gets_no_reply() {
    let filter =
        Router::new().on_rcpt(|to: Recipient, session: Session| ready(listed(&to, &session)));
    let (mut mta, run) = start(filter);
    let agreed = mta.negotiate().await;
    assert_eq!(
        agreed.steps,
        Steps::NR_CONNECT
            | Steps::NR_HELO
            | Steps::NR_MAIL
            | Steps::NO_DATA
            | Steps::NO_UNKNOWN
            | Steps::NO_HEADERS
            | Steps::NO_END_OF_HEADERS
            | Steps::NO_BODY
    );
    mta.send_all([connect(), helo(), mail()]).await;
    assert_eq!(mta.ask(rcpt("<a@example.net>")).await, Reply::Continue);
    let reply = mta.ask(rcpt("<bob@example.net>")).await;
    assert_eq!(reply, Reply::Smtp(SmtpReply::reject("listed")));
    assert_eq!(mta.ask(eom()).await, Reply::Continue);
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn an_old_mta_is_answered_for_events_without_a_handler() {
    let seen = Seen::default();
    let filter = Router::new()
        .on_mail(seen.noting("mail"))
        .on_end_of_headers(|| ready(Response::proceed()))
        .on_body(seen.noting("body"));
    let (mut mta, run) = start(filter);
    mta.offer(OLD).await;
    assert_eq!(mta.ask(connect()).await, Reply::Continue);
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    mta.quit(run).await;
    assert_eq!(seen.all(), ["mail", "body"]);
}

#[tokio::test(start_paused = true)]
async fn a_layer_outside_may_ask_for_more() {
    // As a layer does that has everything sent.
    let widened = tower::util::MapResponseLayer::new(|response: Response| {
        let is_needs = response.needs_asked().is_some();
        if is_needs {
            response.widen(&milter_tower::Needs::all())
        } else {
            response
        }
    });
    let seen = Seen::default();
    let filter = Router::new().on_mail(seen.noting("mail"));
    let (mut mta, run) = start(tower::Layer::layer(&widened, filter));
    mta.greet().await;
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    mta.quit(run).await;
    assert_eq!(seen.all(), ["mail"]);
}

fn ends(seen: &Seen) -> Router {
    Router::new()
        .on_abort(seen.noting("abort"))
        .on_close(seen.noting("close"))
}

#[tokio::test(start_paused = true)]
async fn d5_ends_are_told_once() {
    type Judge = fn() -> Result<Response, BoxError>;
    let cases: [(&str, Judge, &[Command], &[&str]); 6] = [
        ("accepted", || Ok(Response::proceed()), &[], &["close"]),
        ("refused", || Ok(Response::reject()), &[], &["close"]),
        ("failed", || Err("failed".into()), &[], &["abort", "close"]),
        (
            "an answer that cannot be sent",
            || Ok(Response::accept().add_header("X-A", "not asked for")),
            &[],
            &["abort", "close"],
        ),
        (
            "a verdict that the end does not know",
            || Ok(Response::skip()),
            &[],
            &["abort", "close"],
        ),
        (
            "aborted after the end",
            || Ok(Response::accept()),
            &[Command::Abort, Command::Abort],
            &["close"],
        ),
    ];
    for (context, judge, after, expected) in cases {
        let seen = Seen::default();
        let filter = ends(&seen).on_end_of_message(move || ready(judge()));
        let (mut mta, run) = start(filter);
        mta.negotiate().await;
        mta.send(mail()).await;
        mta.ask(eom()).await;
        mta.send_all(after.to_vec()).await;
        mta.quit(run).await;
        assert_eq!(seen.all(), expected, "{context}");
    }
}

#[tokio::test(start_paused = true)]
async fn d5_a_message_that_is_given_up_is_an_abort_however_it_ends() {
    for ending in [
        vec![Command::Abort],
        vec![helo()],
        vec![Command::QuitNewConnection],
        vec![mail(), Command::Abort],
        vec![],
    ] {
        let seen = Seen::default();
        let (mut mta, run) = start(ends(&seen).on_helo(|| ready(())).on_message_end({
            let seen = seen.clone();
            move |outcome: Outcome| {
                seen.add(format!("{outcome:?}"));
                ready(())
            }
        }));
        mta.negotiate().await;
        let begun = 1 + ending
            .iter()
            .filter(|c| matches!(c, Command::Mail(_)))
            .count();
        mta.send(mail()).await;
        mta.send_all(ending).await;
        mta.quit(run).await;
        let mut expected = ["abort", "Aborted"].repeat(begun);
        expected.push("close");
        assert_eq!(seen.all(), expected);
    }
    let seen = Seen::default();
    let (mut mta, run) = start(ends(&seen));
    mta.negotiate().await;
    mta.send(mail()).await;
    drop(mta);
    assert!(ended(run).await.is_err());
    assert_eq!(seen.all(), ["abort", "close"]);
}

#[tokio::test(start_paused = true)]
async fn d6_a_handler_that_panics_fails_its_message_only() {
    // Has panics that are expected not shown.
    drop(proceeding());
    let panics = Arc::new(AtomicBool::new(true));
    let filter = Router::new().on_header(move |_: Header| {
        let panics = Arc::clone(&panics);
        async move {
            assert!(!panics.swap(false, Ordering::SeqCst), "expected");
            Response::proceed()
        }
    });
    let (mut mta, run) = start(filter);
    let agreed = mta.negotiate().await;
    assert!(agreed.steps.contains(Steps::NO_MAIL));
    assert_eq!(mta.ask(crate::common::header()).await, Reply::TempFail);
    mta.send(Command::Abort).await;
    assert_eq!(mta.ask(crate::common::header()).await, Reply::Continue);
    assert_eq!(mta.ask(eom()).await, Reply::Continue);
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn d6_an_illegal_answer_fails_closed() {
    let filter = Router::new()
        .on_connect(|| ready(Response::discard()))
        .on_mail(|| ready(Response::accept().add_header("X-A", "b")))
        .on_unknown(|| ready(Response::accept()));
    let (mut mta, run) = start(filter);
    mta.negotiate().await;
    assert_eq!(mta.ask(connect()).await, Reply::TempFail);
    assert_eq!(mta.ask(mail()).await, Reply::TempFail);
    assert_eq!(mta.ask(crate::common::unknown()).await, Reply::TempFail);
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_is_an_answer_or_a_failure() {
    async fn judge(from: Sender) -> Result<(), BoxError> {
        match from.mailbox().to_str()? {
            "bad@example.org" => Err(SmtpReply::reject("bad"))?,
            "broken@example.org" => Err("broken")?,
            _ => Ok(()),
        }
    }
    let (mut mta, run) = start(Router::new().on_mail(judge));
    mta.negotiate().await;
    for (from, reply) in [
        ("<good@example.org>", Reply::Continue),
        ("<bad@example.org>", Reply::Smtp(SmtpReply::reject("bad"))),
        ("<broken@example.org>", Reply::TempFail),
    ] {
        let mail = Command::Mail(Sender::new(from, [""; 0]));
        assert_eq!(mta.ask(mail).await, reply);
        mta.send(Command::Abort).await;
    }
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn d6_what_cannot_be_had_without_a_reply_fails_the_message() {
    let filter = Router::new().on_header(|_: ClientIp| ready(()));
    let (mut mta, run) = start(filter);
    // This MTA told of no client.
    mta.negotiate().await;
    mta.send(crate::common::header()).await;
    assert_eq!(mta.ask(eom()).await, Reply::TempFail);
    mta.send_all([connect(), crate::common::header()]).await;
    assert_eq!(mta.ask(eom()).await, Reply::Continue);
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_is_skipped_once_on_every_mta() {
    for offer in [Offer::V6, OLD] {
        let seen = Seen::default();
        let filter = Router::new().on_body({
            let seen = seen.clone();
            move |body: Bytes| {
                seen.add(String::from_utf8_lossy(&body));
                ready(Skip)
            }
        });
        let (mut mta, run) = start(filter);
        let can = mta.offer(offer).await.steps.contains(Steps::SKIP);
        for _ in 0..2 {
            if !can {
                mta.ask(mail()).await;
            }
            let reply = mta.ask(crate::common::body("one")).await;
            assert_eq!(reply, if can { Reply::Skip } else { Reply::Continue });
            let reply = mta.ask(crate::common::body("two")).await;
            assert_eq!(reply, Reply::Continue);
            assert_eq!(mta.ask(eom()).await, Reply::Continue);
        }
        mta.quit(run).await;
        assert_eq!(seen.all(), ["one", "one"]);
    }
}

#[tokio::test(start_paused = true)]
async fn values_of_the_message_are_gone_with_it() {
    #[derive(Clone, Copy, Default)]
    struct Headers(usize);
    let filter = Router::new()
        .on_header(|session: Session| {
            let data = session.message_data();
            data.with_default(|headers: &mut Headers| headers.0 += 1);
            ready(())
        })
        .on_end_of_message(|session: Session| {
            let seen = session.message_data().get().unwrap_or(Headers(0)).0;
            ready((seen != 1).then(|| SmtpReply::reject(format!("{seen}"))))
        });
    let (mut mta, run) = start(filter);
    mta.negotiate().await;
    for _ in 0..2 {
        mta.send_all([mail(), crate::common::header()]).await;
        assert_eq!(mta.ask(eom()).await, Reply::Continue);
        mta.send_all([mail(), crate::common::header(), Command::Abort])
            .await;
    }
    mta.quit(run).await;
}
