//! Opening backends: at the negotiation, and in the place of one that was lost.

use milter_core::client::Failure;
use milter_core::{Actions, Agreement, Needs, Offer, Stage};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::connector::{Connector, Target, known};
use super::error::{RemoteError, RemoteErrorKind};
use super::future::{Asks, Lent, Lost, Writes};
use super::macros::macros_fit;
use super::state::{Down, Next, State};
use crate::client::Connection;
use crate::clock::after;
use crate::error::BoxError;
use crate::request::{Event, Request};
use crate::response::Response;

/// Opens a backend, and says what it asks for.
pub(super) async fn negotiate<C: Connector>(
    mut lent: Lent<C>,
    request: Request,
    offer: Offer,
) -> Result<Response, RemoteError> {
    lent.offer = offer;
    let opened = open(&lent, &request).await;
    lent.done();
    match opened {
        Ok(backend) => {
            let needs = backend.agreement().needs();
            lent.put(backend);
            Ok(Response::needs(needs))
        }
        Err(kind) => {
            lent.down = Some(Down::UntilMessage);
            // One that comes back may want whatever is offered.
            let answer = lent.fail(kind, &request, None)?;
            Ok(answer.with_needs(Needs::all()))
        }
    }
}

/// Opens a backend in the place of one that is gone, shows it what it has to know, and asks it.
pub(super) async fn replace<C: Connector>(
    mut lent: Lent<C>,
    request: Request,
    stage: Stage,
) -> Result<Response, RemoteError> {
    lent.backend = None;
    if let Err((kind, down)) = introduce(&mut lent, &request, stage).await {
        lent.done();
        lent.down = Some(match down {
            Down::Message if !lent.in_message => Down::UntilMessage,
            down => down,
        });
        return lent.fail(kind, &request, Some(stage));
    }
    match lent.ask(&request, stage, false) {
        Next::Hear(rest) => {
            let mut asks = Asks::new(lent, request, stage, rest, false);
            let answer = std::future::poll_fn(|cx| asks.poll(cx)).await;
            // It replaces no second time.
            answer.unwrap_or_else(|Lost| Ok(Response::tempfail()))
        }
        Next::Write => {
            let mut writes = Writes::event(lent, request, stage);
            std::future::poll_fn(|cx| writes.poll(cx)).await
        }
        Next::Answer(answer) => {
            lent.done();
            answer
        }
        Next::Open => {
            lent.done();
            let lost = RemoteErrorKind::Failed(Failure::ConnectionLost);
            lent.fail(lost, &request, Some(stage))
        }
    }
}

/// Opens a connection, within the time that there is for it.
// No `async fn`: that would keep the state, which need not be `Sync`.
fn open<C: Connector>(
    state: &State<C>,
    request: &Request,
) -> impl Future<Output = Result<Connection<C::Io>, RemoteErrorKind>> + Send + use<C> {
    let settings = &state.settings;
    let limit = after(Instant::now(), settings.connect_timeout);
    let deadline = limit.min(Instant::from_std(request.deadline().instant()));
    let target = Target::new(known(state.offer), settings.times, deadline);
    let mut connector = state.connector.clone();
    let opening = async move {
        let ready = std::future::poll_fn(|cx| connector.poll_ready(cx)).await;
        ready.map_err(Into::into)?;
        connector.call(target).await.map_err(Into::into)
    };
    async move {
        let opened: Result<_, BoxError> = match timeout_at(deadline, opening).await {
            Ok(opened) => opened,
            Err(_) => Err("no connection is made in time".into()),
        };
        opened.map_err(RemoteErrorKind::Connect)
    }
}

/// Opens a backend for the rest of a session, and shows it who the client is. Why there is none,
/// and for how long.
async fn introduce<C: Connector>(
    own: &mut State<C>,
    request: &Request,
    stage: Stage,
) -> Result<(), (RemoteErrorKind, Down)> {
    let for_message = |kind| (kind, Down::Message);
    let mut backend = open(own, request).await.map_err(for_message)?;
    let agreed = request.session().agreement();
    if agreed.is_some_and(|agreed| !fits(agreed, backend.agreement())) {
        // Nobody waits for its going.
        if backend.link().quit().is_ok() {
            std::future::poll_fn(|cx| {
                let _ = backend.link().poll_flush(cx);
                std::task::Poll::Ready(())
            })
            .await;
        }
        return Err((RemoteErrorKind::Unfit, Down::ForGood));
    }
    debug!(backend = backend.name(), at = %stage, "a backend takes the place of another");
    own.put(backend);
    let session = request.session();
    let client = session.connect().map(Event::Connect);
    let greeting = session.greeting().map(Event::Helo);
    for event in client.into_iter().chain(greeting) {
        let Some(of) = event.stage().filter(|of| *of != stage) else {
            continue;
        };
        if of > stage {
            break;
        }
        show(own, &event, request, of).await.map_err(for_message)?;
    }
    Ok(())
}

/// Whether a backend that agreed to this can work under what was agreed on with the MTA.
fn fits(agreed: &Agreement, theirs: &Agreement) -> bool {
    let needs = theirs.needs().without_action(Actions::REQUEST_MACROS);
    // Which headers have their space is said by neither them nor its modifications.
    agreed.serves(&needs)
        && agreed.leading_space() == theirs.leading_space()
        && macros_fit(agreed.macros(), theirs.macros())
}

/// Shows a backend what it was not there for.
///
/// The MTA has its answer to that; a verdict that the backend has on the client now holds for what
/// comes, which the session with the backend keeps in mind.
async fn show<C: Connector>(
    own: &mut State<C>,
    event: &Event,
    request: &Request,
    stage: Stage,
) -> Result<(), RemoteErrorKind> {
    own.tell(event, request, stage)?;
    let Some(link) = own.backend.as_mut().map(Connection::link) else {
        return Err(RemoteErrorKind::Failed(Failure::ConnectionLost));
    };
    let deadline = Instant::from_std(request.deadline().instant());
    match timeout_at(deadline, link.hear(|_| ())).await {
        Ok(heard) => heard.map(|_| ()).map_err(RemoteErrorKind::Failed),
        Err(_) => Err(RemoteErrorKind::Deadline),
    }
}
