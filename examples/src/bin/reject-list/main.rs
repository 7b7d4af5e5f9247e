#![doc = include_str!("README.md")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use milter_examples::Listen;
use milter_tower::router::State;
use milter_tower::{BoxError, Recipient, Router, Sender, Session, SmtpReply, serve};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::list::{List, ListError};

mod list;

/// Refuses mail of clients, of senders and for recipients that are on a list
#[derive(Parser)]
#[command(name = "reject-list", version, after_help = HELP)]
struct Args {
    #[command(flatten)]
    listen: Listen,
    /// The list; SIGHUP has it read again
    #[arg(long, value_name = "FILE")]
    list: PathBuf,
    /// Only read the list, and say whether it can be used
    #[arg(long)]
    check: bool,
}

const HELP: &str = "\
Lines of the list:
  client        192.0.2.0/24
  client        192.0.2.7          ok
  client        2001:db8::/32      550 5.7.1 Your network is on our block list
  sender        news@example.org   No more news, thank you
  sender-domain example.org        450 4.7.1 Come back tomorrow
  recipient     old@example.net    550 5.1.1 Bob has left
The most specific line decides; `ok` is an exception from a wider one. Clients that
authenticated are not looked up by their network.";

#[tokio::main]
async fn main() -> ExitCode {
    milter_examples::init_log();
    milter_examples::exit_code(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<(), BoxError> {
    if args.check {
        return check_list(&args.list);
    }
    let list = read(&args.list).await?;
    if list.len() == 0 {
        warn!("the list is empty: nothing is refused");
    }
    // From here on SIGHUP does not end the program.
    let mut hangup = signal(SignalKind::hangup())?;
    let server = serve(args.listen.bind().await?, filter(list));
    let handle = server.handle();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match read(&args.list).await {
                Ok(list) => {
                    info!(entries = list.len(), "the new list holds");
                    handle.replace(filter(list));
                    handle.renew();
                }
                Err(error) => error!(%error, "the old list stays"),
            }
        }
    });
    server
        .notify_systemd()
        .with_graceful_shutdown(milter_examples::stop_signal())
        .await?;
    Ok(())
}

/// Says whether a list can be used, and each line that cannot.
fn check_list(path: &Path) -> Result<(), BoxError> {
    let file = path.display();
    match List::read(path) {
        Ok(list) => {
            match list.len() {
                0 => println!("{file}: no entries, nothing is refused"),
                1 => println!("{file}: 1 entry"),
                len => println!("{file}: {len} entries"),
            }
            Ok(())
        }
        Err(ListError::Lines { told, more }) => {
            for line in &told {
                eprintln!("{file}: {line}");
            }
            Err(match told.len() + more {
                1 => format!("{file}: 1 line cannot be used").into(),
                count => format!("{file}: {count} lines cannot be used").into(),
            })
        }
        Err(error @ ListError::File(_)) => Err(format!("{file}: {error}").into()),
    }
}

/// Reads the list where that holds up nobody.
async fn read(path: &Path) -> Result<List, BoxError> {
    let file = path.to_owned();
    let list = tokio::task::spawn_blocking(move || List::read(&file)).await?;
    list.map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Decides at RCPT only: what was known before is recorded, without holding the MTA up, and the
/// log says what was refused for whom.
fn filter(list: List) -> Router<Arc<List>> {
    Router::with_state(Arc::new(list)).on_rcpt(check)
}

async fn check(
    recipient: Recipient,
    sender: Sender,
    session: Session,
    State(list): State<Arc<List>>,
) -> Option<SmtpReply> {
    let (sender, recipient) = (sender.mailbox(), recipient.mailbox());
    let client = match session.auth() {
        Some(_) => None,
        None => session.client_ip(),
    };
    let reply = client
        .and_then(|ip| list.client(ip))
        .or_else(|| list.sender(sender))
        .or_else(|| list.recipient(recipient))?;
    let (from, to) = (sender.escape_ascii(), recipient.escape_ascii());
    info!(?client, %from, %to, %reply, "refused");
    Some(reply.clone())
}

#[cfg(test)]
mod tests;
