use std::future::pending;

use futures::FutureExt;
use milter_core::{SmtpReply, Stage, Verdict};
use tower::ServiceExt;
use tower_service::Service;

use super::*;
use crate::request::Event;
use crate::session::{PeerAddr, Session};

/// Counts recipients, and refuses the third one.
#[derive(Default)]
struct Counts {
    aborts: usize,
}

impl Filter for Counts {
    type Message = u32;

    fn needs(&self) -> Needs {
        Needs::none().event(Stage::Rcpt).event(Stage::Header)
    }

    async fn rcpt(
        &mut self,
        count: &mut u32,
        recipient: &Recipient,
        _: &Request,
    ) -> Result<Response, BoxError> {
        *count += 1;
        if *count > 2 {
            Err(SmtpReply::reject(recipient.mailbox()))?;
        }
        Ok(Response::proceed())
    }

    async fn header(&mut self, _: &mut u32, _: &Header, _: &Request) -> Result<Response, BoxError> {
        pending().await
    }

    async fn abort(&mut self, _: &mut u32, _: &Request) -> Result<(), BoxError> {
        self.aborts += 1;
        Err(format!("abort {}", self.aborts))?
    }

    async fn data(&mut self, _: &mut u32, _: &Request) -> Result<Response, BoxError> {
        Ok(Response::reject())
    }
}

fn request(event: Event) -> Request {
    let peer = crate::session::Peer::new(1, PeerAddr::Other);
    Request::new(event, Session::new(peer, None))
}

fn rcpt() -> Request {
    request(Event::Rcpt(Recipient::new("<b@example.net>", [""; 0])))
}

fn header() -> Request {
    request(Event::Header(Header::new("A", "b")))
}

fn mail() -> Request {
    request(Event::Mail(Sender::new("<>", [""; 0])))
}

/// The answer, which must come at once.
fn ask(service: &mut FilterService<Counts>, request: Request) -> Result<Response, BoxError> {
    service.call(request).now_or_never().expect("an answer")
}

#[test]
fn the_negotiation_tells_what_is_needed() {
    let mut service = filter(Counts::default);
    // Everything reaches it before it was asked.
    let early = ask(&mut service, request(Event::Data)).unwrap();
    assert_eq!(early, Response::reject());
    let answer = ask(&mut service, request(Event::Negotiate(Offer::V6))).unwrap();
    assert_eq!(answer.needs_asked(), Some(&Counts::default().needs()));
    assert!(!service.call(request(Event::Data)).is_boxed());
    let late = ask(&mut service, request(Event::Data)).unwrap();
    assert_eq!(late, Response::proceed());
}

#[test]
fn a_message_begins_afresh_even_if_nobody_told_the_end_of_the_last() {
    let mut service = filter(Counts::default);
    for last in [
        Some(Event::MessageEnd(Outcome::Verdict(Verdict::Accept))),
        None,
        Some(Event::SessionEnd),
        None,
        None,
    ] {
        assert!(ask(&mut service, mail()).is_ok());
        for refused in [false, false, true] {
            let response = ask(&mut service, rcpt()).unwrap();
            assert_eq!(response.verdict().is_refusal(), refused, "{last:?}");
        }
        if let Some(last) = last {
            // It ends on a refused recipient, which is an abort.
            let _ = ask(&mut service, request(last));
        }
    }
}

#[test]
fn the_last_word_is_that_of_one_message() {
    let mut service = filter(Counts::default);
    let progress = Progress::default();
    assert!(ask(&mut service, request(Event::EndOfMessage(progress))).is_ok());
    let decided = Event::MessageEnd(Outcome::Verdict(Verdict::Accept));
    assert!(ask(&mut service, request(decided)).is_ok());
    let aborted = || request(Event::MessageEnd(Outcome::Aborted));
    let error = ask(&mut service, aborted()).unwrap_err();
    assert_eq!(error.to_string(), "abort 1");
}

#[test]
fn a_filter_that_is_lent_is_not_called_and_comes_back_when_the_future_is_dropped() {
    let mut service = filter(Counts::default);
    let mut call = service.call(header());
    assert!((&mut call).now_or_never().is_none());
    let error = ask(&mut service, rcpt()).unwrap_err();
    assert!(error.to_string().contains("one at a time"), "{error}");
    drop(call);
    assert!(ask(&mut service, rcpt()).is_ok());
}

/// Refuses each sender, without a reply, and fails at the end.
#[derive(Default)]
struct Refuses {
    aborts: usize,
}

impl Filter for Refuses {
    type Message = ();

    fn needs(&self) -> Needs {
        Needs::none().record(Stage::Mail).event(Stage::Rcpt)
    }

    async fn mail(&mut self, (): &mut (), _: &Sender, _: &Request) -> Result<Response, BoxError> {
        Err(SmtpReply::reject("no"))?
    }

    async fn rcpt(
        &mut self,
        (): &mut (),
        _: &Recipient,
        _: &Request,
    ) -> Result<Response, BoxError> {
        Ok(Response::discard())
    }

    async fn end_of_message(
        &mut self,
        (): &mut (),
        _: &Progress,
        _: &Request,
    ) -> Result<Response, BoxError> {
        Err("broken")?
    }

    async fn abort(&mut self, (): &mut (), _: &Request) -> Result<(), BoxError> {
        self.aborts += 1;
        Err(format!("abort {}", self.aborts))?
    }
}

#[test]
fn a_verdict_that_was_lost_is_not_the_last_word() {
    let mut service = filter(Refuses::default);
    let ask = |service: &mut FilterService<Refuses>, request: Request| {
        service.call(request).now_or_never().expect("an answer")
    };
    assert!(ask(&mut service, request(Event::Negotiate(Offer::V6))).is_ok());
    let end = || Event::EndOfMessage(Progress::default());
    let failed = || Outcome::Verdict(Verdict::TempFail);
    let mut aborts = 0;
    for (event, outcome) in [
        (None, Outcome::Aborted),
        (None, failed()),
        (Some(end()), failed()),
        // A layer lets pass what is discarded.
        (Some(rcpt().event().clone()), Outcome::ConnectionLost),
    ] {
        // The server says that the verdict is lost.
        let lost = ask(&mut service, mail()).unwrap();
        assert!(lost.verdict().is_refusal());
        if let Some(event) = event {
            let _ = ask(&mut service, request(event));
        }
        aborts += 1;
        let told = ask(&mut service, request(Event::MessageEnd(outcome))).unwrap_err();
        assert_eq!(told.to_string(), format!("abort {aborts}"));
    }
    // A layer has the MTA wait: that changes nothing.
    let mut session = mail().session().clone();
    let agreement = milter_core::negotiate(&Offer::V6, &Needs::all()).unwrap();
    session.set_agreement(std::sync::Arc::new(agreement));
    let mut answered = |event| ask(&mut service, Request::new(event, session.clone())).unwrap();
    let sender = Event::Mail(Sender::new("<>", [""; 0]));
    assert_eq!(answered(sender), Response::proceed());
    assert_eq!(answered(rcpt().event().clone()), Response::discard());
}

#[tokio::test]
async fn a_clone_is_fresh() {
    let mut service = filter(Counts::default);
    for _ in 0..2 {
        assert!(ask(&mut service, rcpt()).is_ok());
    }
    let response = service.clone().oneshot(rcpt()).await.unwrap();
    assert_eq!(response, Response::proceed());
    assert!(ask(&mut service, rcpt()).unwrap().verdict().is_refusal());
    assert!(size_of::<FilterService<Counts>>() <= 3 * size_of::<usize>());
}

#[test]
fn ends_make_no_filter() {
    let mut service: FilterService<Counts> = filter(|| panic!("made"));
    for event in [
        Event::MessageEnd(Outcome::Aborted),
        Event::SessionEnd,
        Event::Close,
    ] {
        assert_eq!(
            ask(&mut service, request(event)).unwrap(),
            Response::proceed()
        );
    }
}
