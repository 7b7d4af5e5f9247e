//! The filter that is attacked: it tells the sum of what it saw, and breaks where it is told to.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use milter_tests::sum::Sum;
use milter_tower::{Actions, BoxError, Event, Needs, Request, Response, Stage};
use tower_service::Service;

/// How large a body it makes.
pub(crate) const FILL: usize = 1 << 20;
/// How long it takes when it is slow.
const SLOW: Duration = Duration::from_millis(30);

/// What a sender `FAULT.STAGE@HOST` orders.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Error,
    Panic,
    Slow,
    Hang,
    Refuse,
    Fill,
}

/// The filter; a clone serves a connection.
#[derive(Debug, Default)]
pub(crate) struct Summing {
    sum: Sum,
    order: Option<(Fault, Stage)>,
}

impl Clone for Summing {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Summing {
    /// Takes a note of the event, and finds the fault that is to happen at it.
    fn take(&mut self, event: &Event) -> Option<Fault> {
        match event {
            Event::Mail(sender) => {
                let address = sender.mailbox();
                self.sum = Sum::default();
                self.sum.add(b'M', &[address.as_bytes()]);
                self.order = order(address.as_bytes());
            }
            Event::Rcpt(to) => self.sum.add(b'R', &[to.mailbox().as_bytes()]),
            Event::Header(header) => {
                let fields = [header.name().as_bytes(), header.value().as_bytes()];
                self.sum.add(b'L', &fields);
            }
            Event::Body(piece) => self.sum.add_body(piece),
            _ => {}
        }
        let here = event.stage()?;
        self.order
            .take_if(|(_, stage)| *stage == here)
            .map(|(fault, _)| fault)
    }
}

impl Service<Request> for Summing {
    type Response = Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let fault = self.take(request.event());
        let proceed = match request.event() {
            Event::Negotiate(_) => Response::needs(needs()),
            Event::EndOfMessage(_) => Response::accept().add_header("X-Sum", self.sum.text()),
            _ => Response::proceed(),
        };
        Box::pin(async move {
            match fault {
                Some(Fault::Error) => return Err(io::Error::other("as ordered").into()),
                Some(Fault::Panic) => panic!("as ordered"),
                Some(Fault::Slow) => tokio::time::sleep(SLOW).await,
                Some(Fault::Hang) => std::future::pending().await,
                Some(Fault::Refuse) => return Ok(Response::reject()),
                Some(Fault::Fill) => return Ok(proceed.replace_body(vec![b'x'; FILL])),
                None => {}
            }
            Ok(proceed)
        })
    }
}

/// Every event; headers and body without replies where the MTA offers that.
fn needs() -> Needs {
    Needs::none()
        .events(Stage::ALL)
        .without(Stage::Header)
        .record(Stage::Header)
        .without(Stage::Body)
        .record(Stage::Body)
        .optional_action(Actions::CHANGES)
}

fn order(sender: &[u8]) -> Option<(Fault, Stage)> {
    let (orders, _) = std::str::from_utf8(sender).ok()?.split_once('@')?;
    let (fault, stage) = orders.split_once('.')?;
    let fault = match fault {
        "error" => Fault::Error,
        "panic" => Fault::Panic,
        "slow" => Fault::Slow,
        "hang" => Fault::Hang,
        "refuse" => Fault::Refuse,
        "fill" => Fault::Fill,
        _ => return None,
    };
    let stage = match stage {
        "mail" => Stage::Mail,
        "rcpt" => Stage::Rcpt,
        "header" => Stage::Header,
        "body" => Stage::Body,
        "eom" => Stage::EndOfMessage,
        _ => return None,
    };
    Some((fault, stage))
}
