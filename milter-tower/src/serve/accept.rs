//! Accepts connections, for ever.

use std::fs::File;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, FutureExt, select};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tower_service::Service;
use tracing::{debug, error, warn};

use super::control::Control;
use super::next_peer;
use super::pace::{Backoff, Gate};
use crate::connection;
use crate::error::BoxError;
use crate::guard::guard;
use crate::listener::{Accepted, Listener};
use crate::request::Request;
use crate::response::Response;
use crate::session::Peer;
use crate::settings::Settings;

/// How many connections are turned away at a time; further ones wait to be accepted.
const TURNED_AWAY_AT_ONCE: usize = 1000;
/// How long an MTA that is turned away may take to hear of it. Both begin at once.
const TURN_AWAY_TIME: Duration = Duration::from_secs(2);
/// The same, when there is only the descriptor in reserve for it.
const TURN_AWAY_TIME_ALONE: Duration = Duration::from_secs(1);

/// Accepts connections and has them served.
pub(super) struct Acceptor<M> {
    pub(super) make: M,
    pub(super) settings: Arc<Settings>,
    pub(super) control: Arc<Control>,
    pub(super) tasks: TaskTracker,
    turning_away: Arc<Semaphore>,
    /// Kept open, so that one connection can be accepted when no descriptor is left.
    reserve: Option<File>,
    backoff: Backoff,
    failures: Gate,
    refusals: Gate,
}

impl<M> Acceptor<M> {
    pub(super) fn new(make: M, settings: Arc<Settings>, control: Arc<Control>) -> Self {
        Self {
            make,
            settings,
            control,
            tasks: TaskTracker::new(),
            turning_away: Arc::new(Semaphore::new(TURNED_AWAY_AT_ONCE)),
            reserve: spare(),
            backoff: Backoff::default(),
            failures: Gate::default(),
            refusals: Gate::default(),
        }
    }

    /// Accepts connections until `stopping` is ready.
    pub(super) async fn run<L, S>(
        &mut self,
        listener: &mut L,
        mut stopping: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) where
        L: Listener,
        M: Service<Peer, Response = S> + Clone + Send + 'static,
        M::Error: Into<BoxError>,
        M::Future: Send,
        S: Service<Request, Response = Response> + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        loop {
            let accepted = match select(stopping.as_mut(), pin!(listener.accept())).await {
                Either::Left(_) => return,
                Either::Right((accepted, _)) => accepted,
            };
            match accepted {
                Ok(accepted) => {
                    self.backoff.reset();
                    let Some(io) = self.serve(accepted) else {
                        continue;
                    };
                    // To close it would let its mail pass unfiltered. Until it has its turn the
                    // next ones wait in the listener's queue.
                    let free = pin!(Arc::clone(&self.turning_away).acquire_owned());
                    let Either::Right((permit, _)) = select(stopping.as_mut(), free).await else {
                        return;
                    };
                    let away = tokio::time::timeout(TURN_AWAY_TIME, self.turn_away(io));
                    self.tasks.spawn(away.map(move |_| drop(permit)));
                }
                Err(error) if is_of_the_client(&error) => {
                    debug!(%error, "a client left");
                    // A listener may say so without ever waiting.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    if let Some(held_back) = self.failures.pass() {
                        let open = self.control.stats().open;
                        warn!(%error, open, held_back, "cannot accept a connection");
                    }
                    let recover = pin!(self.recover(listener, &error));
                    if let Either::Left(_) = select(stopping.as_mut(), recover).await {
                        return;
                    }
                }
            }
        }
    }

    /// Serves a connection, or gives it back to be turned away.
    fn serve<Io, S>(&mut self, accepted: Accepted<Io>) -> Option<Io>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        M: Service<Peer, Response = S> + Clone + Send + 'static,
        M::Error: Into<BoxError>,
        M::Future: Send,
        S: Service<Request, Response = Response> + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        let Accepted { io, peer, listener } = accepted;
        let place = match self.control.admit(&peer, &self.settings) {
            Ok(place) => place,
            Err(full) => {
                if let Some(held_back) = self.refusals.pass() {
                    warn!(%peer, held_back, "connection turned away: {full}");
                }
                return Some(io);
            }
        };
        // The user's code: the server must outlive it.
        let make = match guard(|| self.make.clone()) {
            Ok(make) => make,
            Err(panic) => {
                error!(%peer, error = %panic, "no service can be made: connection turned away");
                return Some(io);
            }
        };
        let peer = next_peer(peer, listener);
        let id = peer.connection_id();
        let address = peer.address().clone();
        let (settings, control) = (Arc::clone(&self.settings), Arc::clone(&self.control));
        let connection = connection::run(io, make, peer, settings, control);
        // Not within another `async` block, which would hold the connection twice.
        self.tasks.spawn(connection.map(move |ended| {
            match ended {
                Ok(()) => debug!(connection = id, peer = %address, "connection closed"),
                Err(error) => {
                    warn!(connection = id, peer = %address, %error, "connection ended");
                    place.note(&error);
                }
            }
            drop(place);
        }));
        None
    }

    fn turn_away<Io>(&self, io: Io) -> impl Future<Output = ()> + use<Io, M>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        connection::turn_away(io, Arc::clone(&self.settings), Arc::clone(&self.control))
    }

    /// Waits until it makes sense to try again. What waits is answered meanwhile, if the
    /// descriptor in reserve is of use.
    async fn recover<L: Listener>(&mut self, listener: &mut L, error: &io::Error) {
        if is_out_of_descriptors(error) && self.reserve.take().is_some() {
            let waiting = listener.accept().now_or_never();
            if let Some(Ok(accepted)) = waiting {
                self.control.turned_away();
                let away = self.turn_away(accepted.io);
                let _ = tokio::time::timeout(TURN_AWAY_TIME_ALONE, away).await;
                self.reserve = spare();
                // Another one may wait, and the next pause is not for it.
                return;
            }
        }
        self.reserve = self.reserve.take().or_else(spare);
        tokio::time::sleep(self.backoff.next()).await;
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Whether accepting failed for something that concerns one client alone.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// Whether the process or the system has no descriptor left (EMFILE, ENFILE).
fn is_out_of_descriptors(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EMFILE | Errno::ENFILE))
}
