//! A server on threads of its own, each with a runtime of its own.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::thread;

use futures::future::{Either, select};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tower_service::Service;
use tracing::error;

use super::{Control, Report, Serve, StopAtDrop, run_part};
use crate::error::BoxError;
use crate::guard::guard;
use crate::listener::Split;
use crate::request::Request;
use crate::response::Response;
use crate::session::Peer;
use crate::stop::Level;

/// A server on several threads about to run; see [`Serve::threads`]. It does nothing unless
/// awaited.
#[must_use = "a server runs only when it is awaited"]
pub struct ServeThreads<L, M> {
    pub(super) serve: Serve<L, M>,
    pub(super) threads: NonZeroUsize,
}

impl<L, M> fmt::Debug for ServeThreads<L, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeThreads")
            .field("serve", &self.serve)
            .field("threads", &self.threads)
            .finish()
    }
}

impl<L, M, S> IntoFuture for ServeThreads<L, M>
where
    L: Split,
    M: Service<Peer, Response = S> + Clone + Send + 'static,
    M::Error: Into<BoxError>,
    M::Future: Send,
    S: Service<Request, Response = Response> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    type Output = io::Result<Report>;
    type IntoFuture = Pin<Box<dyn Future<Output = io::Result<Report>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        #[cfg(feature = "systemd")]
        if self.serve.notify_systemd {
            let control = Arc::clone(&self.serve.control);
            return Box::pin(super::systemd::tell(control, run_threads(self)));
        }
        Box::pin(run_threads(self))
    }
}

async fn run_threads<L, M, S>(server: ServeThreads<L, M>) -> io::Result<Report>
where
    L: Split,
    M: Service<Peer, Response = S> + Clone + Send + 'static,
    M::Error: Into<BoxError>,
    M::Future: Send,
    S: Service<Request, Response = Response> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let threads = server.threads.get();
    let (part, listener, shutdown) = server.serve.into_parts();
    let control = Arc::clone(&part.control);
    // The threads end with this future, whatever ends it.
    let _stop = StopAtDrop(Arc::clone(&control));
    let (done, ended) = unbounded_channel();
    for n in 0..threads {
        let duplicate = listener.duplicate()?;
        let (part, done) = (part.clone(), done.clone());
        thread::Builder::new()
            .name(format!("milter-{n}"))
            .spawn(move || {
                let outcome = guard(|| -> io::Result<()> {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()?;
                    runtime.block_on(async {
                        let listener = L::register(duplicate)?;
                        run_part(part, listener, std::future::pending()).await;
                        Ok(())
                    })
                });
                let broken = |panic| Err(io::Error::other(format!("a thread ended: {panic}")));
                // Nobody waits any more if the server's future was dropped.
                let _ = done.send(outcome.unwrap_or_else(broken));
            })?;
    }
    drop((listener, part, done));
    let ends = pin!(all_of(ended, &control));
    match select(ends, shutdown).await {
        Either::Left((ended, _)) => ended?,
        Either::Right(((), ends)) => {
            control.stop.raise(Level::Drain);
            ends.await?;
        }
    }
    Ok(Report::new(&control))
}

/// Waits for all threads. The first that fails ends the others, which may end their messages.
async fn all_of(mut ended: UnboundedReceiver<io::Result<()>>, control: &Control) -> io::Result<()> {
    let mut result = Ok(());
    while let Some(of_one) = ended.recv().await {
        if let Err(error) = &of_one {
            error!(%error, "a thread of the server ended: the server stops");
            control.stop.raise(Level::Drain);
        }
        result = result.and(of_one);
    }
    result
}
