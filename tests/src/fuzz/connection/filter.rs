//! A filter that does as it is told and writes down what it is asked.

use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use milter_core::{Needs, SmtpReply, Verdict};
use milter_tower::{BoxError, Event, Outcome, Progress, Request, Response};
use tokio::time::Sleep;
use tower_service::Service;

use super::super::input::Choices;
use super::edits;
use super::plan::Plan;
use super::trace::{Effect, Entry, Trace};

/// The letters of the acts. Those of `poll_ready` stand before the act of the call.
const ACTS: &[u8] = b"cartdsyfe!?hwWbBmMnpNRP";
/// Less than any call may take.
const A_WHILE: Duration = Duration::from_secs(1);
/// More than a call may take by some settings, and less than by others.
const LONG: Duration = Duration::from_secs(10);

/// The filter. Clones count from 1; 0 is the prototype.
pub(super) struct Scripted {
    clone: usize,
    trace: Trace,
    shared: Arc<Shared>,
    /// What `poll_ready` has found to be done in the call.
    next: Option<u8>,
    /// It is not ready before that.
    busy: Option<Pin<Box<Sleep>>>,
}

struct Shared {
    needs: Option<Needs>,
    /// What clones need that replace a broken one.
    needs_later: Option<Needs>,
    state: Mutex<State>,
}

struct State {
    clones: usize,
    acts: Vec<u8>,
    /// How many of them are done.
    done: usize,
    /// Of an earlier end of a message.
    progress: Option<Progress>,
}

impl State {
    /// Takes choices; when all are taken there are only zeros.
    fn choose<T>(&mut self, choose: impl FnOnce(&mut Choices<'_>) -> T) -> T {
        let mut left = Choices::new(&self.acts[self.done..]);
        let chosen = choose(&mut left);
        self.done = self.acts.len() - left.rest().len();
        chosen
    }
}

impl Scripted {
    pub(super) fn new(plan: &Plan, trace: Trace) -> Self {
        let needs_later = if plan.unfit {
            Some(Needs::all().rejected_recipients())
        } else {
            plan.needs.clone()
        };
        Self::made(plan.needs.clone(), needs_later, plan.acts.clone(), trace)
    }

    fn made(needs: Option<Needs>, needs_later: Option<Needs>, acts: Vec<u8>, trace: Trace) -> Self {
        Self {
            clone: 0,
            trace,
            shared: Arc::new(Shared {
                needs,
                needs_later,
                state: Mutex::new(State {
                    clones: 0,
                    acts,
                    done: 0,
                    progress: None,
                }),
            }),
            next: None,
            busy: None,
        }
    }

    /// One of a chain: all its clones need the same.
    pub(super) fn with(needs: Option<Needs>, acts: &[u8], trace: Trace) -> Self {
        Self::made(needs.clone(), needs, acts.to_vec(), trace)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let state = self.shared.state.lock();
        change(&mut state.unwrap_or_else(PoisonError::into_inner))
    }

    fn needs(&self) -> Option<Needs> {
        let needs = if self.clone == 1 {
            &self.shared.needs
        } else {
            &self.shared.needs_later
        };
        needs.clone()
    }

    /// What the letter makes of the call.
    fn act(&self, letter: u8, event: &Event) -> (Act, Effect) {
        let says = |response: Response| (Act::Answer(response.clone()), Effect::Says(response));
        let plain = |verdict: Verdict| says(verdict.into());
        let introduces = matches!(event, Event::Negotiate(_));
        match letter {
            b'a' if introduces => says(self.introduction(Response::accept())),
            b'a' => plain(Verdict::Accept),
            b'r' => plain(Verdict::Reject),
            b't' => plain(Verdict::TempFail),
            b'd' => plain(Verdict::Discard),
            b's' => plain(Verdict::Skip),
            b'y' => says(self.change(|state| state.choose(smtp_reply)).into()),
            b'f' => (Act::Answer(Response::refuse()), Effect::Refuses),
            b'e' => (Act::Fail, Effect::Fails),
            b'!' => (Act::Panic, Effect::Breaks),
            b'?' => (Act::PanicLater, Effect::Breaks),
            b'h' => (Act::Hang, Effect::Fails),
            b'w' => {
                let response = self.introduction(Response::proceed());
                (Act::After(A_WHILE, response), Effect::SaysLate)
            }
            b'W' => (Act::After(LONG, Response::reject()), Effect::SaysLate),
            b'b' => (Act::Bomb(Some(Response::proceed())), Effect::Breaks),
            b'B' => (Act::Bomb(None), Effect::Breaks),
            b'm' => says(self.change(|s| s.choose(|input| edits::add(Response::accept(), input)))),
            b'M' => says(self.change(|s| {
                s.choose(|input| {
                    let verdict =
                        input.pick(&[Response::proceed, Response::reject, Response::skip]);
                    edits::add(verdict(), input)
                })
            })),
            b'n' => says(Response::needs(Needs::all())),
            b'p' => {
                if let Event::EndOfMessage(progress) = event {
                    progress.send();
                    let old = self.change(|state| state.progress.replace(progress.clone()));
                    if let Some(old) = old {
                        old.send();
                    }
                }
                let response = self.introduction(Response::proceed());
                (Act::After(A_WHILE, response), Effect::SaysLate)
            }
            _ => says(self.introduction(Response::proceed())),
        }
        .within(introduces)
    }

    /// The response, with the needs if there are some; they mean nothing but to an offer.
    fn introduction(&self, response: Response) -> Response {
        match self.needs() {
            Some(needs) => response.with_needs(needs),
            None => response,
        }
    }
}

/// Effects that are others where the needs are asked for.
trait Within {
    fn within(self, introduces: bool) -> Self;
}

impl Within for (Act, Effect) {
    fn within(self, introduces: bool) -> Self {
        match self {
            (Act::After(A_WHILE, response), _) if introduces => {
                let effect = Effect::Says(response.clone());
                (Act::After(A_WHILE, response), effect)
            }
            (act @ Act::After(..), _) if introduces => (act, Effect::Fails),
            (act, Effect::Says(response)) if response.edit_error().is_some() => {
                (act, Effect::Fails)
            }
            other => other,
        }
    }
}

fn smtp_reply(input: &mut Choices<'_>) -> SmtpReply {
    match input.below(4) {
        0 => SmtpReply::reject("no"),
        1 => SmtpReply::tempfail("100% full\r\nreally"),
        2 => SmtpReply::reject(vec![b'x'; 5_000]),
        _ => {
            let reply = SmtpReply::builder(421).lines(["bye", ""]).build();
            reply.expect("valid")
        }
    }
}

impl Clone for Scripted {
    fn clone(&self) -> Self {
        let clone = self.change(|state| {
            state.clones += 1;
            state.clones
        });
        Self {
            clone,
            trace: self.trace.clone(),
            shared: Arc::clone(&self.shared),
            next: None,
            busy: None,
        }
    }
}

/// A panic that is wanted: it is not told, and a fuzzer does not take it for a find.
fn panics() -> ! {
    resume_unwind(Box::new("wanted"))
}

impl Service<Request> for Scripted {
    type Response = Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if let Some(busy) = &mut self.busy {
            ready!(busy.as_mut().poll(cx));
            self.busy = None;
            return Poll::Ready(Ok(()));
        }
        let letter = self.change(|state| {
            let is_over = state.done == state.acts.len();
            if is_over {
                b'c'
            } else {
                state.choose(|input| input.letter(ACTS))
            }
        });
        self.next = Some(letter);
        let clone = self.clone;
        match letter {
            b'N' => {
                self.trace.add(Entry::NotReady { clone });
                self.busy = Some(Box::pin(tokio::time::sleep(LONG)));
                self.poll_ready(cx)
            }
            b'R' | b'P' => {
                self.trace.add(Entry::NeverReady { clone });
                if letter == b'P' {
                    panics()
                }
                Poll::Ready(Err("wanted".into()))
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let event = request.event();
        let letter = self.next.take().unwrap_or(b'c');
        let (act, effect) = self.act(letter, event);
        self.trace.add(Entry::Called {
            clone: self.clone,
            event: name(event),
            stage: event.stage(),
            effect,
        });
        match act {
            Act::Answer(response) => Box::pin(std::future::ready(Ok(response))),
            Act::After(time, response) => Box::pin(async move {
                // In steps, so that the server looks after its connection several times.
                for _ in 0..4 {
                    tokio::time::sleep(time / 4).await;
                }
                Ok(response)
            }),
            Act::Fail => Box::pin(std::future::ready(Err("wanted".into()))),
            Act::Panic => panics(),
            Act::PanicLater => Box::pin(async { panics() }),
            Act::Bomb(response) => Box::pin(Bomb(response)),
            Act::Hang => Box::pin(std::future::pending()),
        }
    }
}

/// What is done about a request.
enum Act {
    Answer(Response),
    After(Duration, Response),
    Fail,
    Panic,
    PanicLater,
    /// Answers, or never does, and panics when its future is dropped.
    Bomb(Option<Response>),
    Hang,
}

struct Bomb(Option<Response>);

impl Future for Bomb {
    type Output = Result<Response, BoxError>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let response = self.0.take();
        response.map_or(Poll::Pending, |response| Poll::Ready(Ok(response)))
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panics()
    }
}

/// A word for an event.
pub(super) fn name(event: &Event) -> &'static str {
    match event {
        Event::Negotiate(_) => "negotiate",
        Event::MessageEnd(Outcome::Verdict(verdict)) => match verdict.name() {
            "accept" => "end: accept",
            "discard" => "end: discard",
            "tempfail" => "end: tempfail",
            _ => "end: reject",
        },
        Event::MessageEnd(Outcome::Aborted) => "end: aborted",
        Event::MessageEnd(_) => "end: lost",
        Event::SessionEnd => "session end",
        Event::Close => "close",
        other => other.stage().expect("an event with a stage").name(),
    }
}
