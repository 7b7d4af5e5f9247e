//! Tells systemd how the server does (feature `systemd`).

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures::future::{Either, select};
use sd_notify::NotifyState;
use tracing::warn;

use super::control::Control;
use crate::stop::Level;

/// Runs a server, and tells systemd about it meanwhile.
pub(super) async fn tell<R>(control: Arc<Control>, server: impl Future<Output = R>) -> R {
    let mut server = pin!(server);
    // It minds its signal to stop from its first poll on, and not before.
    let first = poll_fn(|cx| Poll::Ready(server.as_mut().poll(cx)));
    if let Poll::Ready(ended) = first.await {
        return ended;
    }
    notify(NotifyState::Ready);
    let told = AtomicBool::new(false);
    let stopping = || {
        if !told.swap(true, Ordering::Relaxed) {
            notify(NotifyState::Stopping);
        }
    };
    let telling = pin!(async {
        select(pin!(control.stop.reached(Level::Drain)), pin!(watchdog())).await;
        stopping();
        // Messages in progress may take their time.
        watchdog().await
    });
    let ended = match select(server, telling).await {
        Either::Left((ended, _)) => ended,
        Either::Right((never, _)) => match never {},
    };
    // A server that has nothing open ends at once.
    stopping();
    ended
}

/// Answers the watchdog at half its time, if there is one.
async fn watchdog() -> std::convert::Infallible {
    let Some(time) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    loop {
        notify(NotifyState::Watchdog);
        tokio::time::sleep(time / 2).await;
    }
}

fn notify(state: NotifyState<'_>) {
    let told: io::Result<()> = sd_notify::notify(&[state]);
    if let Err(error) = told {
        warn!(%error, "cannot tell systemd how the server does");
    }
}
