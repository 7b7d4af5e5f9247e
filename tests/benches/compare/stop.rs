//! An orderly end when the user wants one: what was started is stopped on the way out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

static STOP: AtomicBool = AtomicBool::new(false);

/// Listens to signals from now on. The second one ends the process at once.
pub(crate) fn listen() {
    thread::spawn(|| {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let [mut interrupt, mut end, mut hang_up] = [
                SignalKind::interrupt(),
                SignalKind::terminate(),
                SignalKind::hangup(),
            ]
            .map(|kind| signal(kind).expect("a signal's handler"));
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = end.recv() => {}
                    _ = hang_up.recv() => {}
                }
                if STOP.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
            }
        });
    });
}

/// An error once the user wants to stop.
pub(crate) fn check() -> Result<(), String> {
    if STOP.load(Ordering::Relaxed) {
        return Err("stopped".to_owned());
    }
    Ok(())
}
