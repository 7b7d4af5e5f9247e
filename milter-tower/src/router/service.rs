//! A router as a service.

use std::task::{Context, Poll};

use milter_core::Stage;
use tower_service::Service;

use super::Router;
use super::routes::{Slot, slot};
use crate::error::BoxError;
use crate::last_word::takes_all;
use crate::request::{Event, Request};
use crate::response::Response;
use crate::response_future::ResponseFuture;

impl<T> Router<T> {
    /// Asks the handler of a stage.
    fn judge(&mut self, stage: Stage, request: &Request) -> ResponseFuture {
        let routes = &*self.routes;
        let session = request.session();
        let asked = self.said.asked();
        let hears_aborts = stage.is_of_message() && routes.route(Slot::Abort).is_some();
        let takes_all = takes_all(stage, session);
        if takes_all && self.said.skips() {
            return ResponseFuture::ready(Response::proceed());
        }
        let is_watched = hears_aborts || takes_all || asked.is_overruled(stage, session);
        let watch = is_watched.then(|| self.said.watch(stage, session));
        let route = routes.route(slot(stage));
        if let Some(route) = route.filter(|_| asked.wants(stage)) {
            return route.handler.run(request, &routes.state, watch);
        }
        let response = Response::proceed();
        ResponseFuture::ready(match watch {
            Some(watch) => watch.heard(response),
            None => response,
        })
    }

    /// Tells the handlers that a message ended.
    fn end_message(&self, request: &Request) -> ResponseFuture {
        let Event::MessageEnd(outcome) = request.event() else {
            return ResponseFuture::ready(Response::proceed());
        };
        let decided = self.said.decided(outcome);
        self.said.forget();
        let abort = if decided {
            None
        } else {
            self.routes.run(Slot::Abort, request)
        };
        match (abort, self.routes.run(Slot::MessageEnd, request)) {
            (None, None) => ResponseFuture::ready(Response::proceed()),
            (Some(one), None) | (None, Some(one)) => one,
            (Some(first), Some(second)) => ResponseFuture::runs(async move {
                // The second one hears of the end also if the first one failed.
                let first = first.await;
                let second = second.await;
                first.and(second)
            }),
        }
    }
}

impl<T> Service<Request> for Router<T> {
    type Response = Response;
    type Error = BoxError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> ResponseFuture {
        match request.event() {
            Event::Negotiate(_) => self.routes.negotiate(request, &mut self.said),
            Event::MessageEnd(_) => self.end_message(&request),
            Event::Close => {
                let handler = self.routes.run(Slot::Close, &request);
                handler.unwrap_or_else(|| ResponseFuture::ready(Response::proceed()))
            }
            event => match event.stage() {
                None => ResponseFuture::ready(Response::proceed()),
                Some(stage) => self.judge(stage, &request),
            },
        }
    }
}
