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

/// Waits for SIGINT (Ctrl-C) or SIGTERM. A second one then ends the process at once.
///
/// Where a signal cannot be waited for, it keeps its usual effect.
pub async fn stop_signal() {
    next_signal().await;
    tokio::spawn(async {
        next_signal().await;
        std::process::exit(130);
    });
}

async fn next_signal() {
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

/// Says where the filter listens and how a mail is sent through it.
pub fn print_setup(address: &Address) {
    let address = reachable(address);
    let milter = address.for_postfix();
    println!(
        "Listening at {address}, until Ctrl-C. To see it work, with a Postfix for tests, as root:"
    );
    println!("    postconf -e 'smtpd_milters = {milter}' && postfix reload");
    println!("    printf 'Subject: hi\\r\\n\\r\\nhello\\r\\n' | curl -sS smtp://localhost \\");
    println!("        --mail-from root@localhost --mail-rcpt root@localhost -T -");
    println!("and read root's mail. To take it out again:");
    println!("    postconf -X smtpd_milters && postfix reload");
    println!("For Sendmail, in sendmail.mc: INPUT_MAIL_FILTER(`example', `S={address}, F=T')");
    if matches!(address, Address::Unix(_)) {
        println!("The user postfix must be able to write to the socket, also from smtpd's chroot:");
        println!("start with umask 0, below /var/spool/postfix where smtpd is chrooted.");
    }
}

/// An address to connect to on this machine.
fn reachable(address: &Address) -> Address {
    match address {
        Address::Inet { host, port } => match host.as_str() {
            "0.0.0.0" => Address::inet("127.0.0.1", *port),
            "::" => Address::inet("::1", *port),
            _ => address.clone(),
        },
        // Postfix would look for a relative path below its queue.
        Address::Unix(path) => {
            std::path::absolute(path).map_or_else(|_| address.clone(), Address::unix)
        }
        _ => address.clone(),
    }
}
