//! What the example programs share: logging, stopping, and telling how to use them.

use std::io::IsTerminal;

use milter_tower::Address;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Logs to standard error; `RUST_LOG` says what, by default everything from `info` on.
///
/// Colours only on a terminal.
pub fn init_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// Waits for SIGINT (Ctrl-C) or SIGTERM.
///
/// Where a signal cannot be waited for, it keeps its usual effect.
pub async fn stop_signal() {
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = wait(SignalKind::interrupt()) => {}
        _ = wait(SignalKind::terminate()) => {}
    }
}

/// Says where the filter listens and how an MTA is pointed at it.
pub fn print_setup(address: &Address) {
    let postfix = address.for_postfix();
    println!("Listening at {address}. To see it work through Postfix, as root:");
    println!("    postconf -e 'smtpd_milters = {postfix}' && postfix reload");
    println!("    printf 'Subject: hi\\n\\nhello\\n' | sendmail -bs ...");
    println!("Stop with Ctrl-C.");
}
