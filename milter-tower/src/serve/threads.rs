//! A server on threads of its own, each with a runtime of its own.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::pin::{Pin, pin};
use std::thread;

use tower_service::Service;

use super::{Report, Serve, serve_make};
use crate::error::BoxError;
use crate::listener::BoundListener;
use crate::request::Request;
use crate::response::Response;
use crate::session::Peer;

/// A server on several threads about to run; see [`Serve::threads`]. It does nothing unless
/// awaited.
#[must_use = "a server runs only when it is awaited"]
pub struct ServeThreads<M> {
    pub(super) serve: Serve<BoundListener, M>,
    pub(super) threads: NonZeroUsize,
}

impl<M> fmt::Debug for ServeThreads<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeThreads")
            .field("serve", &self.serve)
            .field("threads", &self.threads)
            .finish()
    }
}

impl<M, S> IntoFuture for ServeThreads<M>
where
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
        Box::pin(run_threads(self))
    }
}

async fn run_threads<M, S>(server: ServeThreads<M>) -> io::Result<Report>
where
    M: Service<Peer, Response = S> + Clone + Send + 'static,
    M::Error: Into<BoxError>,
    M::Future: Send,
    S: Service<Request, Response = Response> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let ServeThreads {
        serve:
            Serve {
                listener,
                make,
                settings,
                shutdown,
                grace,
            },
        threads,
    } = server;
    let (stop, stopped) = tokio::sync::watch::channel(());
    let (done, mut reports) = tokio::sync::mpsc::unbounded_channel();
    for n in 0..threads.get() {
        let duplicate = listener.duplicate()?;
        let (make, settings, mut stopped, done) = (
            make.clone(),
            settings.clone(),
            stopped.clone(),
            done.clone(),
        );
        thread::Builder::new()
            .name(format!("milter-{n}"))
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                let report = runtime.and_then(|runtime| {
                    runtime.block_on(async {
                        let signal = async move {
                            // An error means that nobody is left to tell: the same.
                            let _ = stopped.changed().await;
                        };
                        serve_make(duplicate.register()?, make)
                            .settings(settings)
                            .with_graceful_shutdown(signal)
                            .grace_period(grace)
                            .await
                    })
                });
                // Nobody waits any more if the server's future was dropped.
                let _ = done.send(report);
            })?;
    }
    drop((listener, done));
    let mut shutdown = pin!(async {
        match shutdown {
            Some(signal) => signal.await,
            None => std::future::pending().await,
        }
        drop(stop);
    });
    let mut whole = Report::default();
    let mut running = true;
    let mut next_report = std::future::poll_fn(|cx| {
        if running && shutdown.as_mut().poll(cx).is_ready() {
            running = false;
        }
        reports.poll_recv(cx)
    });
    let mut ended = 0;
    while let Some(report) = (&mut next_report).await {
        let report = report?;
        ended += 1;
        whole.accepted += report.accepted;
        whole.cut += report.cut;
    }
    if ended < threads.get() {
        return Err(io::Error::other("a thread of the server panicked"));
    }
    Ok(whole)
}
