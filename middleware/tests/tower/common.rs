//! A filter that writes down what it sees, and mail servers before it.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use milter_tower::testing::{Delivery, Mail, MockMta, MtaProfile};
use milter_tower::{BoxError, Event, Request, Response, Stage, serve_make};
use tokio::net::TcpListener;
use tower::Service;

type Script = dyn Fn(&Request) -> BoxFuture<'static, Result<Response, BoxError>> + Send + Sync;

/// What each clone saw.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    clones: usize,
    events: Vec<(usize, &'static str)>,
}

impl Log {
    /// In order, with the number of the clone.
    fn all(&self) -> Vec<(usize, &'static str)> {
        self.0.lock().unwrap().events.clone()
    }

    /// By clone, in the order in which they were first called.
    pub(crate) fn apart(&self) -> Vec<Vec<&'static str>> {
        let mut apart: Vec<(usize, Vec<_>)> = Vec::new();
        for (id, seen) in self.all() {
            match apart.iter_mut().find(|(of, _)| *of == id) {
                Some((_, all)) => all.push(seen),
                None => apart.push((id, vec![seen])),
            }
        }
        apart.into_iter().map(|(_, seen)| seen).collect()
    }

    pub(crate) fn count(&self, what: &str) -> usize {
        self.all().iter().filter(|(_, seen)| *seen == what).count()
    }
}

pub(crate) struct Filter {
    log: Log,
    id: usize,
    script: Arc<Script>,
}

impl Filter {
    pub(crate) fn new<F>(script: impl Fn(&Request) -> F + Send + Sync + 'static) -> (Self, Log)
    where
        F: Future<Output = Result<Response, BoxError>> + Send + 'static,
    {
        let log = Log::default();
        let filter = Self {
            log: log.clone(),
            id: 0,
            script: Arc::new(move |request| Box::pin(script(request))),
        };
        (filter, log)
    }

    /// Goes on always.
    pub(crate) fn plain() -> (Self, Log) {
        Self::new(|_| std::future::ready(Ok(Response::proceed())))
    }

    /// Does not answer at a stage.
    pub(crate) fn hangs_at(at: Stage) -> (Self, Log) {
        Self::new(move |request| {
            let hangs = request.event().stage() == Some(at);
            async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                Ok(Response::proceed())
            }
        })
    }
}

impl Clone for Filter {
    fn clone(&self) -> Self {
        let id = {
            let mut log = self.log.0.lock().unwrap();
            log.clones += 1;
            log.clones
        };
        Self {
            log: self.log.clone(),
            id,
            script: Arc::clone(&self.script),
        }
    }
}

impl Service<Request> for Filter {
    type Response = Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let event = match request.event() {
            Event::Negotiate(_) => "negotiate",
            Event::MessageEnd(_) => "message end",
            Event::Close => "close",
            other => other.stage().map_or("session end", Stage::name),
        };
        self.log.0.lock().unwrap().events.push((self.id, event));
        (self.script)(&request)
    }
}

/// All mail servers of the test kit.
pub(crate) fn profiles() -> [MtaProfile; 4] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::stalwart(),
        MtaProfile::version_2(),
    ]
}

/// A server on a socket that makes the service of each connection, a mail from Postfix through it,
/// and what became of it.
pub(crate) async fn deliver_made<S>(make: impl Fn() -> S + Clone + Send + 'static) -> Delivery
where
    S: Service<Request, Response = Response, Error: Into<BoxError>, Future: Send> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let make = tower::service_fn(move |_| std::future::ready(Ok::<_, BoxError>(make())));
    let server = tokio::spawn(serve_make(listener, make).into_future());
    let address = format!("inet:{port}@127.0.0.1").parse().unwrap();
    let mut mta = MockMta::connect(MtaProfile::postfix(), address);
    let done = mta.deliver(Mail::new()).await;
    server.abort();
    done
}
