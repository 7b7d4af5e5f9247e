//! Messages that end in other ways than by their verdict: nothing of one is seen in the next.

use std::time::Duration;

use milter_core::{Command, Reply};
use milter_tower::message::{DecideAt, Message, MessageError, MessageFilter, message};
use milter_tower::{Event, Header, Peer, PeerAddr, Progress, Request, Response, Sender, Session};
use tower::{Service, ServiceExt};

use crate::common::{body, ended, helo, proceeding};
use crate::server::{Letter, Seen, Server};

/// Tells what it log. A message to many panics, one to two never ends.
fn telling(seen: &Seen) -> MessageFilter {
    let log = seen.clone();
    message(move |mail: Message| {
        let recipients = mail.recipients().count();
        log.add(format!(
            "{recipients} {} {}",
            mail.headers().len(),
            mail.body().len()
        ));
        async move {
            if recipients == 2 {
                std::future::pending::<()>().await;
            }
            if recipients > 2 {
                std::panic::panic_any("expected");
            }
            mail
        }
    })
}

const TWO: &[&str] = &["<b@example.net>", "<c@example.net>"];
const THREE: &[&str] = &["<b@example.net>", "<c@example.net>", "<d@example.net>"];

/// A letter is delivered as if nothing had been before.
async fn check_fresh(server: &mut Server, seen: &Seen) {
    let done = server.deliver(&Letter::new()).await;
    assert_eq!(done.answer(), "Accept");
    assert_eq!(seen.take(), ["1 5 7"]);
    server.abort().await;
}

#[tokio::test(start_paused = true)]
async fn an_aborted_message_leaves_nothing() {
    let seen = Seen::default();
    let mut server = Server::new(telling(&seen).memory_limit(10)).await;
    for ending in [Command::Abort, helo()] {
        server.begin(&Letter::new().to(TWO)).await;
        server.tell(Command::EndOfHeaders).await;
        server.tell(body(vec![b'x'; 100])).await;
        server.mta.send(ending).await;
        check_fresh(&mut server, &seen).await;
    }
    // Another MAIL ends it too.
    server.begin(&Letter::new().to(TWO)).await;
    server.tell(body(vec![b'x'; 100])).await;
    check_fresh(&mut server, &seen).await;
    server.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_middle_of_the_handler() {
    let seen = Seen::default();
    for at in [DecideAt::EndOfHeaders, DecideAt::EndOfMessage] {
        let mut server = Server::new(telling(&seen).decide_at(at)).await;
        let done = server.deliver(&Letter::new().to(TWO)).await;
        assert_eq!(done.answer(), "TempFail");
        assert_eq!(seen.take().len(), 1);
        server.abort().await;
        let done = server.deliver(&Letter::new()).await;
        assert_eq!(done.answer(), "Accept");
        assert_eq!(seen.take().len(), 1);
        server.abort().await;
        server.quit().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_handler() {
    proceeding();
    let seen = Seen::default();
    let mut server = Server::new(telling(&seen)).await;
    let done = server.deliver(&Letter::new().to(THREE)).await;
    assert_eq!(done.answer(), "TempFail");
    seen.take();
    check_fresh(&mut server, &seen).await;
    server.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_drops_the_handler() {
    struct Dropped(Seen);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.add("dropped");
        }
    }

    let seen = Seen::default();
    let log = seen.clone();
    let filter = message(move |_: Message| {
        let dropped = Dropped(log.clone());
        async move {
            let _dropped = dropped;
            std::future::pending::<()>().await;
        }
    });
    let mut server = Server::new(filter).await;
    server.begin(&Letter::new()).await;
    server.mta.send(crate::common::eom()).await;
    server.mta.silence(Duration::from_millis(10)).await;
    drop(server.mta);
    assert!(ended(server.run).await.is_err());
    assert_eq!(seen.take(), ["dropped"]);
}

/// A connection in the middle of a body, in a file, is closed.
#[tokio::test(start_paused = true)]
async fn a_lost_connection_in_the_body() {
    let seen = Seen::default();
    let mut server = Server::new(telling(&seen).memory_limit(10)).await;
    server.begin(&Letter::new()).await;
    server.tell(body(vec![b'x'; 100])).await;
    drop(server.mta);
    assert!(ended(server.run).await.is_err());
    assert_eq!(seen.take(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn refused_recipients_leave_a_message_without_any() {
    let seen = Seen::default();
    let filter = telling(&seen).check_rcpt(async |_, _| milter_tower::verdict::Reject);
    let mut server = Server::new(filter).await;
    server.begin(&Letter::new()).await;
    server.abort().await;
    let done = server.deliver(&Letter::new()).await;
    assert_eq!(
        (done.verdict, seen.take()),
        (Reply::Accept, vec!["0 5 7".to_owned()])
    );
    server.quit().await;
}

/// Whoever drops a call and goes on with the message all the same does not let it pass.
#[tokio::test]
async fn a_dropped_call_is_not_forgotten() {
    let session = Session::new(Peer::new(1, PeerAddr::Other), None);
    let at = |event| Request::new(event, session.clone());
    let mut filter = message(async |_: Message| std::future::pending::<()>().await)
        .decide_at(DecideAt::EndOfHeaders);
    drop(filter.call(at(Event::EndOfHeaders)));
    let error = filter
        .call(at(Event::EndOfMessage(Progress::default())))
        .await;
    let error = error.unwrap_err().downcast::<MessageError>().unwrap();
    assert!(matches!(*error, MessageError::Stopped));
}

/// Without a server, and so without a negotiation: the handler is simply called.
#[tokio::test]
async fn a_filter_without_a_server() {
    let session = Session::new(Peer::new(1, PeerAddr::Other), None);
    let filter = message(async |mut mail: Message| {
        mail.headers_mut().append("X-A", "b");
        mail
    });
    let end = Request::new(Event::EndOfMessage(Progress::default()), session);
    let response = filter.oneshot(end).await.unwrap();
    assert_eq!(response, Response::accept().add_header("X-A", "b"));
}

/// A message begins with its sender, whoever forgot to tell the end of the last.
#[tokio::test]
async fn mail_begins_anew() {
    let session = Session::new(Peer::new(1, PeerAddr::Other), None);
    let at = |event| Request::new(event, session.clone());
    let seen = Seen::default();
    let mut filter = telling(&seen);
    let header = || Event::Header(Header::new("Subject", "hello"));
    for event in [
        header(),
        header(),
        Event::Mail(Sender::new("<>", [""; 0])),
        header(),
        Event::EndOfMessage(Progress::default()),
    ] {
        let _ = filter.call(at(event)).await.unwrap();
    }
    assert_eq!(seen.take(), ["0 1 0"]);
}
