//! Services of every kind that do as they are told.

use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use milter_core::{Actions, Connect, Header, Helo, Needs, Recipient, Sender, SmtpReply, Stage};
use milter_tower::message::{DecideAt, Incoming, MessageFilter, message_streaming};
use milter_tower::{
    BoxError, Filter, Message, Outcome, Progress, Request, Response, Router, Session, message,
};

use crate::fuzz::input::Choices;

/// What is done at each call of the user's code, in order.
#[derive(Clone, Debug)]
pub(super) struct Acts(Arc<Mutex<(Vec<u8>, usize)>>);

/// The letters of the acts.
const ACTS: &[u8] = b"cartdseh!wm";

type Answered = Pin<Box<dyn Future<Output = Result<Response, BoxError>> + Send>>;

impl Acts {
    pub(super) fn new(letters: &[u8]) -> Self {
        Self(Arc::new(Mutex::new((letters.to_vec(), 0))))
    }

    fn next(&self) -> u8 {
        let mut acts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (letters, done) = &mut *acts;
        let Some(&letter) = letters.get(*done) else {
            return b'c';
        };
        *done += 1;
        Choices::new(&[letter]).letter(ACTS)
    }

    /// What a handler of an event does.
    fn act(&self) -> Answered {
        let letter = self.next();
        Box::pin(async move {
            Ok(match letter {
                b'a' => Response::accept(),
                b'r' => Response::reject(),
                b't' => Response::tempfail(),
                b'd' => Response::discard(),
                b's' => Response::skip(),
                b'e' => return Err("wanted".into()),
                b'h' => std::future::pending().await,
                b'!' => resume_unwind(Box::new("wanted")),
                b'w' => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    Response::proceed()
                }
                b'm' => Response::accept().add_header("X-Leaf", "yes"),
                _ => Response::proceed(),
            })
        })
    }

    /// What a handler of an end does.
    fn end(&self) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>> {
        let act = self.act();
        Box::pin(async { act.await.map(drop) })
    }
}

/// A router with a handler for every event, or for a few.
pub(super) fn router(number: usize, acts: &Acts) -> Router {
    let handler = || {
        let acts = acts.clone();
        move |_: Session| acts.act()
    };
    let ends = || {
        let acts = acts.clone();
        move |_: Session| acts.end()
    };
    let router = Router::new();
    let router = match number {
        0 => return router,
        1 => router.on_rcpt(handler()).on_end_of_message(handler()),
        2 => router
            .on_header(handler())
            .on_body(handler())
            .skip()
            .leading_space(),
        _ => router
            .on_connect(handler())
            .on_helo(handler())
            .on_mail(handler())
            .on_rcpt(handler())
            .on_data(handler())
            .on_header(handler())
            .on_end_of_headers(handler())
            .on_body(handler())
            .on_end_of_message(handler())
            .on_unknown(handler())
            .optional_actions(Actions::CHANGES),
    };
    router
        .on_abort(ends())
        .on_message_end(ends())
        .on_close(ends())
}

/// A filter with all methods.
pub(super) struct Methods {
    pub(super) needs: Needs,
    pub(super) acts: Acts,
}

/// That of a message: whether it is one that began, and did not end.
#[derive(Debug, Default)]
pub(super) struct Open(bool);

impl Filter for Methods {
    type Message = Open;

    fn needs(&self) -> Needs {
        self.needs.clone()
    }

    async fn connect(&mut self, _: &Connect, _: &Request) -> Result<Response, BoxError> {
        self.acts.act().await
    }

    async fn helo(&mut self, _: &Helo, _: &Request) -> Result<Response, BoxError> {
        self.acts.act().await
    }

    async fn mail(
        &mut self,
        message: &mut Open,
        _: &Sender,
        _: &Request,
    ) -> Result<Response, BoxError> {
        assert!(!message.0, "a message begins with what another one left");
        message.0 = true;
        self.acts.act().await
    }

    async fn rcpt(
        &mut self,
        _: &mut Open,
        _: &Recipient,
        _: &Request,
    ) -> Result<Response, BoxError> {
        self.acts.act().await
    }

    async fn data(&mut self, _: &mut Open, _: &Request) -> Result<Response, BoxError> {
        self.acts.act().await
    }

    async fn header(
        &mut self,
        _: &mut Open,
        _: &Header,
        _: &Request,
    ) -> Result<Response, BoxError> {
        self.acts.act().await
    }

    async fn end_of_headers(&mut self, _: &mut Open, _: &Request) -> Result<Response, BoxError> {
        self.acts.act().await
    }

    async fn body(&mut self, _: &mut Open, _: &Bytes, _: &Request) -> Result<Response, BoxError> {
        self.acts.act().await
    }

    async fn end_of_message(
        &mut self,
        _: &mut Open,
        _: &Progress,
        _: &Request,
    ) -> Result<Response, BoxError> {
        self.acts.act().await
    }

    async fn abort(&mut self, _: &mut Open, _: &Request) -> Result<(), BoxError> {
        self.acts.end().await
    }

    async fn message_end(
        &mut self,
        _: &mut Open,
        _: &Outcome,
        _: &Request,
    ) -> Result<(), BoxError> {
        self.acts.end().await
    }

    async fn close(&mut self, _: &Request) -> Result<(), BoxError> {
        self.acts.end().await
    }
}

/// What a handler of a message does with it.
async fn handle<B: Send>(mail: Message<B>, acts: Acts) -> Result<Message<B>, BoxError> {
    let letter = acts.next();
    let mut mail = mail;
    match letter {
        b'e' => return Err("wanted".into()),
        b'r' => return Err(SmtpReply::reject("no").into()),
        b't' => return Err(SmtpReply::tempfail("later").into()),
        b'h' => std::future::pending().await,
        b'!' => resume_unwind(Box::new("wanted")),
        b'w' => tokio::time::sleep(Duration::from_secs(1)).await,
        b'm' => mail.headers_mut().prepend("X-Leaf", "yes"),
        b's' => mail.headers_mut().set("Subject", "changed"),
        b'd' => _ = mail.headers_mut().remove("Subject"),
        _ => {}
    }
    Ok(mail)
}

/// A filter that sees whole messages.
pub(super) fn whole(number: usize, acts: &Acts) -> MessageFilter {
    let acts = acts.clone();
    let checks = acts.clone();
    let filter = message(move |mail: Message| handle(mail, acts.clone()));
    match number {
        1 => filter.without_body(),
        2 => filter.check_rcpt(move |_, _| checks.act()),
        3 => filter.decide_at(DecideAt::Mail),
        4 => filter.decide_at(DecideAt::EndOfHeaders),
        5 => filter.read_only(),
        _ => filter,
    }
}

/// One that sees them while they come.
pub(super) fn streaming(number: usize, acts: &Acts) -> MessageFilter<Incoming> {
    let acts = acts.clone();
    let filter = message_streaming(move |mut mail: Message<Incoming>| {
        let acts = acts.clone();
        async move {
            while let Some(_piece) = mail.body_mut().piece().await? {
                if acts.next() == b's' {
                    break;
                }
            }
            handle(mail, acts).await
        }
    });
    match number {
        1 => filter.early_verdicts(),
        2 => filter.read_only(),
        _ => filter,
    }
}

/// What a plain service needs; none for one that does not say.
pub(super) fn needs(number: usize) -> Option<Needs> {
    let content = [Stage::Header, Stage::EndOfHeaders, Stage::Body];
    let all = Needs::none().events(Stage::ALL);
    Some(match number {
        0 => all,
        1 => return None,
        2 => content
            .into_iter()
            .fold(Needs::none(), Needs::record)
            .optional_action(Actions::CHANGES),
        3 => Needs::all(),
        4 => Needs::none().events([Stage::Mail, Stage::Rcpt, Stage::Data]),
        5 => Stage::ALL
            .into_iter()
            .fold(Needs::none(), Needs::record)
            .optional_action(Actions::QUARANTINE),
        6 => Needs::none().events(content).skip().leading_space(),
        7 => Needs::none().event(Stage::Rcpt).rejected_recipients(),
        8 => Needs::none(),
        _ => all.optional_action(Actions::CHANGES).skip(),
    })
}
