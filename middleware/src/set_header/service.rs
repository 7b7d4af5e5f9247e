use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use milter_tower::{
    Agreement, Event, Modification, ModificationKind, Request, Response, Session, Stage, Verdict,
};
use tower_service::Service;

use super::ResponseFuture;
use super::layer::HeaderToSet;

/// Adds a header to every mail that the service within lets pass; see the [module](super).
#[derive(Debug)]
pub struct SetHeader<S> {
    inner: S,
    header: Arc<HeaderToSet>,
    accepted: Accepted,
    /// How many headers of the name the message has.
    present: u32,
    /// The service within has seen something of the message.
    seen: bool,
}

impl<S> SetHeader<S> {
    pub(super) fn new(inner: S, header: Arc<HeaderToSet>) -> Self {
        Self {
            inner,
            header,
            accepted: Accepted::default(),
            present: 0,
            seen: false,
        }
    }

    inner_service!();

    fn answer(&self, stage: Option<Stage>, session: &Session) -> Answer {
        Answer {
            stage,
            header: Arc::clone(&self.header),
            accepted: self.accepted.clone(),
            present: self.present,
            spaced: session.agreement().is_some_and(Agreement::leading_space),
        }
    }
}

/// A clone serves another connection: it has seen nothing.
impl<S: Clone> Clone for SetHeader<S> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.header))
    }
}

impl<S> Service<Request> for SetHeader<S>
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
        let stage = match request.event() {
            Event::Negotiate(_) => {
                let needs = Arc::clone(&self.header);
                return ResponseFuture::negotiate(self.inner.call(request), needs);
            }
            Event::MessageEnd(_) => {
                self.accepted.end_message();
                self.present = 0;
                if !std::mem::take(&mut self.seen) {
                    // Of a message that it did not see begin it hears no end.
                    return ResponseFuture::ready(Response::proceed());
                }
                None
            }
            Event::SessionEnd | Event::Close => {
                self.accepted.end_session();
                None
            }
            Event::Header(header) => {
                self.present += u32::from(header.name().eq_ignore_ascii_case(&self.header.name));
                Some(Stage::Header)
            }
            event => event.stage(),
        };
        let answer = self.answer(stage, request.session());
        if stage.is_some() && self.accepted.is_set() {
            // The service within has nothing against the mail and wants no more of it.
            return ResponseFuture::ready(answer.to(Response::accept()));
        }
        self.seen |= stage.is_some_and(Stage::is_of_message);
        ResponseFuture::answer(self.inner.call(request), answer)
    }
}

/// What becomes of the response of the service within.
#[derive(Debug)]
pub(super) struct Answer {
    stage: Option<Stage>,
    header: Arc<HeaderToSet>,
    accepted: Accepted,
    present: u32,
    /// Values keep their leading space: this one needs one of its own.
    spaced: bool,
}

impl Answer {
    pub(super) fn to(&self, response: Response) -> Response {
        match (self.stage, response.verdict()) {
            (Some(Stage::EndOfMessage), Verdict::Continue | Verdict::Accept) => {
                self.set_header(response)
            }
            (Some(stage), Verdict::Accept) => {
                self.accepted.set(stage);
                response.with_verdict(Verdict::Continue)
            }
            _ => response,
        }
    }

    fn set_header(&self, response: Response) -> Response {
        let add = if self.spaced {
            &self.header.add_spaced
        } else {
            &self.header.add
        };
        if !self.header.overrides {
            return response.edit(add.clone());
        }
        let name = &self.header.name;
        let response = response.retain_edits(|edit| !names(edit, name));
        // The name was checked when the header was made.
        let deletes = (1..=self.present)
            .rev()
            .map(|index| Modification::delete_header(name, index));
        deletes.fold(response, Response::try_edit).edit(add.clone())
    }
}

fn names(edit: &Modification, wanted: &[u8]) -> bool {
    match edit.kind() {
        ModificationKind::AddHeader { name, .. }
        | ModificationKind::InsertHeader { name, .. }
        | ModificationKind::ChangeHeader { name, .. }
        | ModificationKind::DeleteHeader { name, .. } => name.eq_ignore_ascii_case(wanted),
        _ => false,
    }
}

/// What the service within has accepted, shared with the future that finds out.
#[derive(Clone, Debug, Default)]
pub(super) struct Accepted(Arc<AtomicU8>);

const NOTHING: u8 = 0;
const MESSAGE: u8 = 1;
const SESSION: u8 = 2;

impl Accepted {
    fn set(&self, stage: Stage) {
        let what = if stage.is_of_message() {
            MESSAGE
        } else {
            SESSION
        };
        self.0.fetch_max(what, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != NOTHING
    }

    fn end_message(&self) {
        if self.0.load(Ordering::Relaxed) == MESSAGE {
            self.end_session();
        }
    }

    fn end_session(&self) {
        self.0.store(NOTHING, Ordering::Relaxed);
    }
}

impl HeaderToSet {
    pub(super) fn widen(&self, response: Response) -> Response {
        response.widen(&self.needs)
    }
}
