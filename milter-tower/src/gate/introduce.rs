//! A fresh service in the place of one that broke.

use std::future::poll_fn;

use milter_core::{Offer, Stage, Verdict};
use tower_service::Service;

use crate::error::{BoxError, Failure};
use crate::member::needs_of;
use crate::request::{Event, Request};
use crate::response::Response;

/// Shows a fresh service what it has to know before it takes part in a connection that is under way:
/// the MTA's offer, the client and its greeting, as far as they belong to what was agreed on and
/// come before the request at hand.
///
/// A verdict of the service on the client is not the MTA's to hear any more: it holds for the
/// messages that are left, if there is one.
///
/// # Errors
///
/// The service fails, does not want to work on this connection, or needs what was not negotiated.
/// It has to hear of its [`Close`](Event::Close) then, unless it broke.
// D6; libmilter has no such thing: a callback that breaks takes the process with it
pub async fn introduce<S>(
    service: &mut S,
    offer: Offer,
    before: &Request,
) -> Result<Option<Verdict>, Failure>
where
    S: Service<Request, Response = Response>,
    S::Error: Into<BoxError>,
{
    let session = before.session();
    let response = ask(service, before, Event::Negotiate(offer)).await?;
    if response.is_refused() {
        return Err(Failure::Refuses);
    }
    let needs = needs_of(response)?;
    let agreement = session.agreement();
    if agreement.is_some_and(|agreed| !agreed.serves(&needs)) {
        return Err(Failure::Unfit);
    }
    let stage = before.event().stage().unwrap_or(Stage::Mail);
    let client = session.connect().filter(|_| stage != Stage::Connect);
    let client = client.map(|client| (Stage::Connect, Event::Connect(client)));
    let is_greeted = !matches!(stage, Stage::Connect | Stage::Helo);
    let greeting = session.greeting().filter(|_| is_greeted);
    let greeting = greeting.map(|helo| (Stage::Helo, Event::Helo(helo)));
    for (stage, event) in client.into_iter().chain(greeting) {
        if !needs.wanted().contains(stage) {
            continue;
        }
        let verdict = ask(service, before, event).await?.verdict().clone();
        if verdict != Verdict::Continue && !needs.is_silent(stage) {
            return Ok(Some(verdict));
        }
    }
    Ok(None)
}

async fn ask<S>(service: &mut S, before: &Request, event: Event) -> Result<Response, Failure>
where
    S: Service<Request, Response = Response>,
    S::Error: Into<BoxError>,
{
    let ready = poll_fn(|cx| service.poll_ready(cx)).await;
    ready.map_err(|error| Failure::NotReady(error.into()))?;
    let called = service.call(before.clone().with_event(event)).await;
    called.map_err(|error| Failure::Error(error.into()))
}
