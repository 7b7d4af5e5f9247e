//! The filter as a service.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use milter_tower::{
    ClientAddr, Connect, EsmtpArg, EsmtpArgs, Event, Header, Offer, Outcome, Request, Response,
    Stage, Text,
};
use tower::Service;

use crate::callback::Callback;
use crate::rules::{Orders, Rule};
use crate::trace::Trace;

/// How much of a piece of the body is traced.
const TRACED: usize = 48;

/// The filter. A clone of the one that was made serves one connection.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    file: Arc<Path>,
    trace: Trace,
    rules: Vec<Rule>,
    /// How many of the rules are from the file; the others came with the message.
    of_file: usize,
    /// How many pieces of the message's body have come.
    pieces: usize,
}

impl Control {
    pub(crate) fn new(file: PathBuf, trace: PathBuf) -> Self {
        Self {
            file: file.into(),
            trace: Trace::new(trace),
            rules: Vec::new(),
            of_file: 0,
            pieces: 0,
        }
    }

    /// Writes down that the MTA negotiates, and reads what to answer.
    fn negotiate(&mut self, offer: &Offer) -> Response {
        let orders = Orders::read(&self.file);
        self.of_file = orders.rules.len();
        self.rules = orders.rules;
        let actions = format!("{:x}", offer.actions.bits());
        let steps = format!("{:x}", offer.steps.bits());
        self.trace.line(["negotiate", &actions, &steps]);
        orders.needs.map_or_else(Response::refuse, Response::needs)
    }

    /// Writes down what happened, and finds what to do about it.
    fn take(&mut self, stage: Stage, request: &Request) -> Vec<Rule> {
        let number;
        let trace = &self.trace;
        let key = match request.event() {
            Event::Connect(client) => {
                trace_connect(trace, client);
                client.host()
            }
            Event::Helo(helo) => {
                trace.line([b"helo", helo.name().as_bytes()]);
                helo.name()
            }
            Event::Mail(sender) => {
                trace_path(trace, "mail", sender.address(), sender.args());
                self.rules.truncate(self.of_file);
                sender.mailbox()
            }
            Event::Rcpt(recipient) => {
                trace_path(trace, "rcpt", recipient.address(), recipient.args());
                recipient.mailbox()
            }
            Event::Unknown(command) => {
                trace.line([b"unknown", command.line().as_bytes()]);
                command.line()
            }
            Event::Header(header) => {
                let (name, value) = (header.name(), header.value());
                trace.line([b"header", name.as_bytes(), value.as_bytes()]);
                self.rules.extend(rule_in(header));
                name
            }
            Event::Body(piece) => {
                let size = piece.len().to_string();
                let begin = &piece[..piece.len().min(TRACED)];
                trace.line([b"body", size.as_bytes(), begin]);
                self.pieces += 1;
                number = self.pieces.to_string();
                Text::new(number.as_bytes())
            }
            _ => {
                trace.line([match stage {
                    Stage::Data => "data",
                    Stage::EndOfHeaders => "eoh",
                    _ => "eom",
                }]);
                let sender = request.session().sender();
                sender.map_or_else(Text::default, |sender| sender.mailbox())
            }
        };
        let fitting = self.rules.iter().filter(|rule| rule.fits(stage, &key));
        fitting.cloned().collect()
    }

    /// Writes down that something ended.
    fn end(&mut self, event: &Event) {
        match event {
            Event::MessageEnd(outcome) => {
                self.pieces = 0;
                if matches!(outcome, Outcome::Aborted | Outcome::ConnectionLost) {
                    self.trace.line(["abort"]);
                }
            }
            Event::Close => self.trace.line(["close"]),
            _ => {}
        }
    }
}

impl Service<Request> for Control {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Some(stage) = request.event().stage() else {
            let response = if let Event::Negotiate(offer) = request.event() {
                self.negotiate(offer)
            } else {
                self.end(request.event());
                Response::proceed()
            };
            return Box::pin(async { Ok(response) });
        };
        let rules = self.take(stage, &request);
        let callback = Callback::new(stage, request, self.trace.clone());
        Box::pin(async { Ok(callback.run(rules).await) })
    }
}

fn trace_connect(trace: &Trace, client: &Connect) {
    let ip = client.client().ip();
    let family = match client.client() {
        ClientAddr::Inet(address) if address.is_ipv4() => "inet",
        ClientAddr::Inet(_) => "inet6",
        ClientAddr::Unix(_) => "other",
        _ => "unknown",
    };
    let address = ip.map(|ip| ip.to_string().into_bytes());
    let words = [b"connect", client.host().as_bytes(), family.as_bytes()];
    trace.line(words.map(<[u8]>::to_vec).into_iter().chain(address));
}

fn trace_path(trace: &Trace, event: &str, address: Text<'_>, args: EsmtpArgs<'_>) {
    let words = [event.as_bytes(), address.as_bytes()];
    let args = args.iter().map(EsmtpArg::raw).map(Text::as_bytes);
    trace.line(words.into_iter().chain(args));
}

/// The rule that comes in a header `X-Test`.
fn rule_in(header: &Header) -> Option<Rule> {
    if !header.name().eq_ignore_ascii_case("X-Test") {
        return None;
    }
    let value = header.value().as_bytes();
    let begin = value.iter().position(|byte| !b" \t".contains(byte))?;
    Rule::parse(&value[begin..])
}
