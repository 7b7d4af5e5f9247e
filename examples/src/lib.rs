//! What the example programs share: logging, stopping, telling how to use them, and what those that
//! show mails show them with.

use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use milter_tower::{Address, BoxError, ListenOptions, Listeners, Modification};
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;
use tracing_subscriber::EnvFilter;

use crate::color::Color;
use crate::text::Shown;

pub mod color;
pub mod dial;
pub mod diff;
pub mod edits;
pub mod letter;
pub mod text;

/// Where a program listens, as options of its command line.
#[derive(Args, Clone, Debug)]
pub struct Listen {
    /// Where to listen: inet:PORT@HOST, HOST:PORT or unix:PATH; can be given several times. By
    /// default at the sockets that systemd passes, or else at inet:10025@127.0.0.1
    #[arg(
        long = "listen",
        value_name = "ADDRESS",
        env = "MILTER_LISTEN",
        value_delimiter = ','
    )]
    addresses: Vec<Address>,
    /// The permissions of a unix socket, in octal: 660
    #[arg(long, value_name = "MODE", env = "MILTER_SOCKET_MODE", value_parser = octal)]
    socket_mode: Option<u32>,
    /// The group of a unix socket: the one that the MTA is in
    #[arg(long, value_name = "GROUP", env = "MILTER_SOCKET_GROUP")]
    socket_group: Option<String>,
}

impl Listen {
    /// Listens there, and says so; on a terminal, also how a mail is sent through the filter.
    ///
    /// # Errors
    ///
    /// Why it is not possible to listen at one of the addresses.
    pub async fn bind(self) -> Result<Listeners, BoxError> {
        let may_connect = self.socket_mode.is_some() && self.socket_group.is_some();
        let listeners = self.listen().await?;
        for address in listeners.addresses() {
            let mut text = format!("Listening at {address}, until Ctrl-C.\n");
            // A log has no use for it.
            if io::stdout().is_terminal() {
                text.push_str(&setup(&address, may_connect));
            }
            // Mail is filtered whether anybody reads this or not.
            let _ = io::stdout().write_all(text.as_bytes());
        }
        Ok(listeners)
    }

    /// Listens there without a word.
    ///
    /// # Errors
    ///
    /// Why it is not possible to listen at one of the addresses.
    pub async fn listen(self) -> Result<Listeners, BoxError> {
        let mut listeners = Listeners::from_systemd()?;
        let mut addresses = self.addresses;
        if addresses.is_empty() && listeners.is_empty() {
            addresses.push(Address::inet("127.0.0.1", 10025));
        }
        let mut options = ListenOptions::new();
        if let Some(mode) = self.socket_mode {
            options = options.mode(mode);
        }
        if let Some(group) = self.socket_group {
            options = options.group(group);
        }
        for address in &addresses {
            listeners.extend([options.bind(address).await?]);
        }
        Ok(listeners)
    }
}

/// Refuses to pass on to one of these addresses.
///
/// # Errors
///
/// It listens there itself: each connection would make another one.
pub fn not_to_itself(listeners: &Listeners, to: &Address) -> Result<(), BoxError> {
    if listeners.addresses().any(|address| address == *to) {
        return Err(format!("{to} is where this listens: it would pass on to itself").into());
    }
    Ok(())
}

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "permissions are three octal digits, such as 660".into())
}

/// Logs to standard error; `RUST_LOG` says what, by default everything from `info` on.
///
/// Colours only on a terminal, and not if `NO_COLOR` is set. Where nobody reads the log any more, the
/// program goes on.
pub fn init_log() {
    let log = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(Color::Auto.is_on(&io::stderr()))
        // They would be written to the same place, by what panics if it is closed.
        .log_internal_errors(false);
    match EnvFilter::try_from_default_env() {
        Ok(filter) => log.with_env_filter(filter).init(),
        // A filter of any kind has its share in each event: a proxy's is a twentieth.
        Err(_) => log.with_max_level(Level::INFO).init(),
    }
}

/// The exit code of a program that ends like this: 0, or 1 after its error was told. What is wrong
/// with the command line ends it with 2 before.
pub fn exit_code(result: Result<(), BoxError>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let mut text = format!("error: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    // It may name a file, or have part of it.
    tell(Shown(text.as_bytes()));
    ExitCode::FAILURE
}

/// Tells who runs the program, on standard error. Where that is closed there is no other place, and
/// the program goes on.
pub fn tell(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
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

/// The name of a header, from a command line.
///
/// # Errors
///
/// It is none that a header can have.
pub fn header_name(text: &str) -> Result<String, String> {
    let header = Modification::add_header(text, "");
    header.map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// The value of a header, from a command line.
///
/// # Errors
///
/// It is none that a header can have.
pub fn header_value(text: &str) -> Result<String, String> {
    let header = Modification::add_header("X", text);
    header.map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// A domain, from a command line or a file.
///
/// # Errors
///
/// It is written as something else.
pub fn domain(text: &str) -> Result<String, String> {
    let is_other = |c: char| matches!(c, '@' | '*' | '<' | '>') || c.is_whitespace();
    if text.is_empty() || text.starts_with('.') || text.contains(is_other) {
        return Err(format!("{text:?} is no domain: write it as example.org"));
    }
    Ok(text.to_owned())
}

/// How a mail is sent through the filter, and who must be able to connect unless it was told.
fn setup(address: &Address, may_connect: bool) -> String {
    let address = reachable(address);
    let milter = address.for_postfix();
    let mut text = format!(
        "\
To see it work, with a Postfix for tests, as root:
    postconf -e 'smtpd_milters = {milter}' && postfix reload
    printf 'Subject: hi\\r\\n\\r\\nhello\\r\\n' | curl -sS smtp://localhost \\
        --mail-from root@localhost --mail-rcpt root@localhost -T -
and read root's mail. To take it out again:
    postconf -X smtpd_milters && postfix reload
For Sendmail, in sendmail.mc:
    INPUT_MAIL_FILTER(`example', `S={address}, F=T, T=C:10s;S:10s;R:10s;E:5m')
"
    );
    let Address::Unix(path) = &address else {
        return text;
    };
    if !may_connect {
        text.push_str(
            "\
The user postfix must be able to write to the socket: give it --socket-group
postfix and --socket-mode 660, or the like.
",
        );
    }
    if !path.starts_with("/var/spool/postfix") {
        text.push_str("Where smtpd is chrooted, it sees only what is below /var/spool/postfix.\n");
    }
    if let Some(open) = open_to_all(path) {
        let open = open.display();
        let _ = writeln!(
            text,
            "Sendmail takes no socket there: anyone can write to {open}."
        );
    }
    text
}

/// The first folder above a socket that anyone can write to, if there is one.
// sendmail's libsmutil/safefile.c safedirpath, SFF_SAFEDIRPATH
fn open_to_all(path: &Path) -> Option<&Path> {
    path.ancestors().skip(1).find(|folder| {
        let mode = folder.metadata().map(|data| data.permissions().mode());
        mode.is_ok_and(|mode| mode & 0o002 != 0)
    })
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
