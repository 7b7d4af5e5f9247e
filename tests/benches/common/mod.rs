//! A mail server without sockets, as light as can be: it is polled in the server's own task,
//! hands out slices that were made before, and looks at nothing but the reply's end.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use milter_tests::session::{Part, Session, Shape};
use milter_tower::{
    Actions, Chain, Event, IntoResponse, Message, Needs, Request, Response, Router, Stage, at,
    message, serve_connection,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tower::{ServiceExt, service_fn};

/// What the filter does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Answers every event.
    Noop,
    /// The same, and adds a header.
    AddHeader,
    /// Answers the end of the message alone.
    NoReply,
    /// The same, by a filter that sees whole messages.
    Message,
    /// Answers every event, by a router.
    Router,
    /// Answers the end of the message alone, by a router.
    SilentRouter,
    /// Three that answer every event, one after the other.
    Chain,
    /// Three that answer the end of the message alone.
    SilentChain,
}

/// What is measured: name, mode, bytes of the body.
pub(crate) type Scenario = (&'static str, Mode, usize);

/// All of them.
pub(crate) const SCENARIOS: [Scenario; 9] = [
    ("noop", Mode::Noop, 4096),
    ("addheader", Mode::AddHeader, 4096),
    ("nr", Mode::NoReply, 4096),
    ("body 1 MiB", Mode::Noop, 1 << 20),
    ("router", Mode::Router, 4096),
    ("router, nr", Mode::SilentRouter, 4096),
    ("message", Mode::Message, 4096),
    ("chain", Mode::Chain, 4096),
    ("chain, nr", Mode::SilentChain, 4096),
];

/// The session of a scenario.
pub(crate) fn session((_, mode, body): Scenario) -> Session {
    let no_reply = matches!(
        mode,
        Mode::NoReply | Mode::Message | Mode::SilentRouter | Mode::SilentChain
    );
    Session::new(Shape { no_reply, body })
}

/// How many for one.
#[allow(dead_code, reason = "not all benchmarks divide")]
#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn per(all: u64, number: u64) -> f64 {
    all as f64 / number as f64
}

/// A runtime for [`serve`] and [`floor`].
pub(crate) fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().build().expect("a runtime")
}

/// Serves one connection with so many messages.
pub(crate) async fn serve(mode: Mode, session: &'static Session, messages: u64) {
    let mta = Mta::new(session, messages);
    let result = match mode {
        Mode::Message => {
            let filter = message(async |mail: Message| mail.accept());
            // The mail server sends all, whatever is asked for.
            let filter = filter.map_response(|response| match response.needs_asked() {
                Some(_) => response.widen(&all_recorded()),
                None => response,
            });
            serve_connection(mta, filter).await
        }
        Mode::Router => serve_connection(mta, router(Response::proceed)).await,
        Mode::SilentRouter => serve_connection(mta, router(|| ())).await,
        Mode::Noop | Mode::AddHeader | Mode::NoReply => {
            let filter = service_fn(move |request: Request| async move {
                Ok::<_, Infallible>(answer(mode, &request))
            });
            serve_connection(mta, filter).await
        }
        Mode::Chain | Mode::SilentChain => {
            let filter = service_fn(move |request: Request| async move {
                Ok::<_, Infallible>(answer(mode, &request))
            });
            let members = ["a", "b", "c"].into_iter();
            let chain = members.fold(Chain::new(), |chain, name| chain.with(name, filter));
            serve_connection(mta, chain).await
        }
    };
    result.expect("the session goes well");
}

/// A router with a handler for every event.
fn router<A>(go_on: fn() -> A) -> Router
where
    A: Send + 'static,
    A: IntoResponse<at::Connect> + IntoResponse<at::Helo> + IntoResponse<at::Unknown>,
    A: IntoResponse<at::Mail> + IntoResponse<at::Rcpt> + IntoResponse<at::Data>,
    A: IntoResponse<at::Header> + IntoResponse<at::EndOfHeaders> + IntoResponse<at::Body>,
{
    Router::new()
        .on_connect(move || async move { go_on() })
        .on_helo(move || async move { go_on() })
        .on_mail(move || async move { go_on() })
        .on_rcpt(move || async move { go_on() })
        .on_data(move || async move { go_on() })
        .on_header(move || async move { go_on() })
        .on_end_of_headers(move || async move { go_on() })
        .on_body(move || async move { go_on() })
        .on_unknown(move || async move { go_on() })
        .on_end_of_message(async || Response::accept())
}

fn all_recorded() -> Needs {
    Stage::ALL.into_iter().fold(Needs::none(), Needs::record)
}

pub(crate) fn answer(mode: Mode, request: &Request) -> Response {
    match request.event() {
        Event::Negotiate(_) => Response::needs(match mode {
            Mode::Noop | Mode::Chain => Needs::none().events(Stage::ALL),
            Mode::AddHeader => Needs::none()
                .events(Stage::ALL)
                .action(Actions::ADD_HEADERS),
            _ => all_recorded(),
        }),
        Event::EndOfMessage(_) if mode == Mode::AddHeader => {
            Response::accept().add_header("X-Bench", "seen")
        }
        Event::EndOfMessage(_) => Response::accept(),
        _ => Response::proceed(),
    }
}

/// The same connection without a server: what reads and writes cost by themselves.
#[allow(dead_code, reason = "not all benchmarks compare")]
pub(crate) async fn floor(session: &'static Session, messages: u64) {
    let mut mta = Mta::new(session, messages);
    let mut buffer = vec![0; 16 * 1024];
    loop {
        while mta.wants_reply() {
            let reply: &[u8] = if mta.ends_message() { ACCEPT } else { CONTINUE };
            mta.write_all(reply).await.expect("written");
        }
        if mta.read(&mut buffer).await.expect("read") == 0 {
            return;
        }
    }
}

const ACCEPT: &[u8] = b"\0\0\0\x01a";
const CONTINUE: &[u8] = b"\0\0\0\x01c";

/// The mail server's end.
pub(crate) struct Mta {
    session: &'static Session,
    part: &'static Part,
    messages: u64,
    step: usize,
    /// What was read of [`Part::bytes`].
    read: usize,
    waker: Option<Waker>,
}

impl fmt::Debug for Mta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mta").finish_non_exhaustive()
    }
}

impl Mta {
    pub(crate) fn new(session: &'static Session, messages: u64) -> Self {
        Self {
            session,
            part: &session.negotiation,
            messages,
            step: 0,
            read: 0,
            waker: None,
        }
    }

    fn wants_reply(&self) -> bool {
        let step = self.part.steps.get(self.step);
        step.is_some_and(|step| self.read == step.bytes.end)
    }

    fn ends_message(&self) -> bool {
        self.step + 1 == self.part.steps.len()
    }

    /// Takes what was written in one go: it holds the reply to the step.
    fn take_reply(&mut self, written: &[u8]) -> io::Result<()> {
        let in_step = self.wants_reply();
        // A verdict comes last and is one byte long; the negotiation's answer is known by its place.
        let negotiation = std::ptr::eq(self.part, &raw const self.session.negotiation);
        let wanted = if self.ends_message() {
            ACCEPT
        } else {
            CONTINUE
        };
        if !in_step || !negotiation && !written.ends_with(wanted) {
            return Err(io::Error::other("the server is out of step"));
        }
        self.step += 1;
        if self.step < self.part.steps.len() {
            return Ok(());
        }
        (self.step, self.read) = (0, 0);
        if negotiation {
            self.part = &self.session.first;
        } else {
            self.messages -= 1;
            self.part = &self.session.next;
        }
        Ok(())
    }
}

impl AsyncRead for Mta {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.messages == 0 {
            return Poll::Ready(Ok(()));
        }
        if self.wants_reply() {
            self.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let end = self.part.steps[self.step].bytes.end;
        let length = buf.remaining().min(end - self.read);
        buf.put_slice(&self.part.bytes[self.read..self.read + length]);
        self.read += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Mta {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.take_reply(buf)?;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
