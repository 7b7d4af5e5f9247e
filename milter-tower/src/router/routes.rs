//! The handlers of a router, and what they need.

use std::borrow::Cow;
use std::sync::Arc;

use milter_core::{MacroStage, Needs, Stage};

use super::facts::Derived;
use super::handler::Run;
use super::said::Said;
use crate::request::Request;
use crate::response::Response;
use crate::response_future::ResponseFuture;

/// What all clones share.
#[derive(Clone)]
pub(super) struct Routes<T> {
    pub(super) handlers: [Option<Route<T>>; Slot::COUNT],
    /// Asked for in words.
    pub(super) needs: Needs,
    /// Lists of macros that stay as they are: to join them with other needs would widen them.
    pub(super) exact: Vec<(MacroStage, Vec<Cow<'static, str>>)>,
    pub(super) state: T,
}

/// A handler, and what has to be asked of the MTA for it.
pub(super) struct Route<T> {
    pub(super) handler: Arc<dyn Run<T>>,
    pub(super) needs: Needs,
}

/// Where a handler stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slot {
    Negotiate,
    Connect,
    Helo,
    Mail,
    Rcpt,
    Data,
    Header,
    EndOfHeaders,
    Body,
    EndOfMessage,
    Unknown,
    Abort,
    MessageEnd,
    Close,
}

impl Slot {
    pub(super) const COUNT: usize = Self::Close as usize + 1;
}

impl<T> Routes<T> {
    pub(super) fn route(&self, slot: Slot) -> Option<&Route<T>> {
        self.handlers.get(slot as usize)?.as_ref()
    }

    pub(super) fn needs(&self) -> Needs {
        let handlers = self.handlers.iter().flatten();
        let needs = handlers.fold(self.needs.clone(), |needs, route| needs.join(&route.needs));
        self.exact.iter().fold(needs, |needs, (stage, names)| {
            needs.macros_exact(*stage, names.iter().cloned())
        })
    }

    pub(super) fn run(&self, slot: Slot, request: &Request) -> Option<ResponseFuture> {
        let route = self.route(slot)?;
        Some(route.handler.run(request, &self.state, None))
    }

    pub(super) fn negotiate(&self, mut request: Request, said: &mut Said) -> ResponseFuture {
        let needs = self.needs();
        if self.route(Slot::Negotiate).is_some() {
            request.extensions_mut().insert(Derived(needs.clone()));
        }
        let Some(handler) = self.run(Slot::Negotiate, &request) else {
            return ResponseFuture::ready(Response::needs(needs));
        };
        let asking = said.asking();
        ResponseFuture::runs(async move {
            let answer = handler.await?.or_needs(needs);
            if let Some(needs) = answer.needs_asked() {
                asking.asks(needs);
            }
            Ok(answer)
        })
    }
}

/// What takes the request of an event with a stage.
pub(super) const fn slot(stage: Stage) -> Slot {
    match stage {
        Stage::Connect => Slot::Connect,
        Stage::Helo => Slot::Helo,
        Stage::Mail => Slot::Mail,
        Stage::Rcpt => Slot::Rcpt,
        Stage::Data => Slot::Data,
        Stage::Unknown => Slot::Unknown,
        Stage::Header => Slot::Header,
        Stage::EndOfHeaders => Slot::EndOfHeaders,
        Stage::Body => Slot::Body,
        Stage::EndOfMessage => Slot::EndOfMessage,
    }
}

impl<T> Clone for Route<T> {
    fn clone(&self) -> Self {
        Self {
            handler: Arc::clone(&self.handler),
            needs: self.needs.clone(),
        }
    }
}
