//! What layers have in common that edit the headers of mail on its way out.

mod future;
#[cfg(any(feature = "add-auth-results", feature = "strip-auth-results"))]
mod results;
#[cfg(all(
    test,
    any(feature = "add-auth-results", feature = "strip-auth-results")
))]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use milter_tower::gate::{Entry, Gate};
use milter_tower::{
    Agreement, Event, Header, Modification, ModificationKind, Needs, Request, Response, Session,
    Stage,
};
use tower_service::Service;

use self::future::After;
pub use self::future::ResponseFuture;
#[cfg(any(feature = "add-auth-results", feature = "strip-auth-results"))]
pub(crate) use self::results::Ours;

/// What a layer does to the headers of mail that passes.
pub(crate) trait Edits: fmt::Debug + Send + Sync {
    /// What it has to see, and what it does.
    fn needs(&self) -> &Needs;

    /// Looks at a header of the message at hand.
    fn note(&self, header: &Header, seen: &mut Seen);

    /// Adds to the answer of the service within to the end of a message, which lets it pass.
    fn edit(&self, response: Response, session: &Session, seen: &Seen) -> Response;
}

/// What a layer has seen of the message's headers of the name that it edits.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How many there are.
    pub(crate) count: u32,
    /// Those that are to go, where not all are, from the first to the last: indices from 1.
    #[cfg(any(feature = "add-auth-results", feature = "strip-auth-results"))]
    pub(crate) unwanted: Vec<u32>,
}

/// A service within, and what the layer does to the mail that it lets pass.
#[derive(Debug)]
pub(crate) struct Outgoing<S> {
    pub(crate) inner: S,
    edits: Arc<dyn Edits>,
    gate: Gate,
    seen: Seen,
}

impl<S> Outgoing<S> {
    pub(crate) fn new(inner: S, edits: Arc<dyn Edits>) -> Self {
        Self {
            inner,
            edits,
            gate: Gate::new(),
            seen: Seen::default(),
        }
    }
}

/// A clone serves another connection: it has seen nothing.
impl<S: Clone> Clone for Outgoing<S> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.edits))
    }
}

impl<S> Service<Request> for Outgoing<S>
where
    S: Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match request.event() {
            Event::Header(header) => self.edits.note(header, &mut self.seen),
            // Some layers lose ends.
            Event::MessageEnd(_) | Event::Mail(_) => self.seen = Seen::default(),
            _ => {}
        }
        let (turn, request, is_alone) = match self.gate.enter(request) {
            Entry::Ask(turn, request) => (turn, request, false),
            Entry::Alone(turn, request) => (turn, request, true),
            Entry::Answer(response) => return ResponseFuture::answer(response),
        };
        if turn.is_negotiation() {
            let widens = After::Widens(Arc::clone(&self.edits));
            return ResponseFuture::asks(turn.call(&mut self.inner, request), Some(widens));
        }
        let end = (turn.stage() == Some(Stage::EndOfMessage)).then(|| End {
            edits: Arc::clone(&self.edits),
            session: request.session().clone(),
            seen: std::mem::take(&mut self.seen),
        });
        if !is_alone {
            let inner = turn.call(&mut self.inner, request);
            return ResponseFuture::asks(inner, Some(After::Of(turn, end)));
        }
        // The service within has nothing against the mail and wants no more of it.
        let skips = || request.session().agreement().is_some_and(Agreement::skip);
        ResponseFuture::answer(match (end, turn.stage()) {
            (Some(end), _) => end.edit(Response::accept()),
            (None, Some(Stage::Body)) if turn.has_reply() && skips() => Response::skip(),
            (None, _) => Response::proceed(),
        })
    }
}

/// The end of a message.
#[derive(Debug)]
struct End {
    edits: Arc<dyn Edits>,
    session: Session,
    seen: Seen,
}

impl End {
    fn edit(&self, response: Response) -> Response {
        self.edits.edit(response, &self.session, &self.seen)
    }
}

/// Deletes the headers of a name that have these indices.
pub(crate) fn delete(
    indices: impl Iterator<Item = u32>,
    name: &[u8],
    response: Response,
) -> Response {
    // The name was checked when the layer was made.
    let deletes = indices.map(|index| Modification::delete_header(name, index));
    deletes.fold(response, Response::try_edit)
}

/// Whether it is a change to headers of that name.
pub(crate) fn names(edit: &Modification, wanted: &[u8]) -> bool {
    match edit.kind() {
        ModificationKind::AddHeader { name, .. }
        | ModificationKind::InsertHeader { name, .. }
        | ModificationKind::ChangeHeader { name, .. }
        | ModificationKind::DeleteHeader { name, .. } => name.eq_ignore_ascii_case(wanted),
        _ => false,
    }
}

/// The service that a layer makes which has [`Edits`].
macro_rules! outgoing_service {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name<S> {
            outgoing: $crate::outgoing::Outgoing<S>,
        }

        impl<S> $name<S> {
            pub(super) fn new(
                inner: S,
                edits: std::sync::Arc<dyn $crate::outgoing::Edits>,
            ) -> Self {
                let outgoing = $crate::outgoing::Outgoing::new(inner, edits);
                Self { outgoing }
            }

            /// The service within.
            pub fn get_ref(&self) -> &S {
                &self.outgoing.inner
            }

            /// The service within, to be changed.
            pub fn get_mut(&mut self) -> &mut S {
                &mut self.outgoing.inner
            }

            /// The service within.
            pub fn into_inner(self) -> S {
                self.outgoing.inner
            }
        }

        impl<S> tower_service::Service<milter_tower::Request> for $name<S>
        where
            S: tower_service::Service<milter_tower::Request, Response = milter_tower::Response>,
        {
            type Response = milter_tower::Response;
            type Error = S::Error;
            type Future = $crate::outgoing::ResponseFuture<S::Future>;

            fn poll_ready(
                &mut self,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Result<(), S::Error>> {
                self.outgoing.poll_ready(cx)
            }

            fn call(&mut self, request: milter_tower::Request) -> Self::Future {
                self.outgoing.call(request)
            }
        }
    };
}
pub(crate) use outgoing_service;
