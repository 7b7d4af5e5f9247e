//! A filter that does what a file tells it to do, and writes down what it saw.
//!
//! With it a mail server, or a library for filters, is tested from outside: behind real servers,
//! by other people's clients, and against other filters that obey the same file.
//!
//! ```text
//! control --listen inet:10025@127.0.0.1 --control rules --trace trace
//! ```
//!
//! Both files are lines of words, see [`words`]. The control file is read anew for each
//! connection of an MTA; a missing one is an empty one.
//!
//! ```text
//! # what is negotiated: steps, actions, macros, or refuse
//! option steps nobody nr_header
//! # a rule: STAGE[:SELECTOR] ACTION WORD...
//! rcpt:nobody@example.net reply 550 5.1.1 No%20such%20user
//! eom addheader X-Seen by%20control
//! ```
//!
//! STAGE is one of `connect helo mail rcpt data header eoh body eom unknown`. At each callback
//! the rules that fit run in the order of the file, and the first verdict (`continue accept
//! reject tempfail discard skip reply`) ends it. The other actions are `setreply addheader
//! insheader chgheader delheader addrcpt delrcpt chgfrom replbody replfill quarantine progress
//! macro sleep`. A header `X-Test` is a rule for its own message: `X-Test: eom reject`.
//!
//! What the library refuses to do is traced as `failed ACTION`, and the rules go on.

use clap::Parser;
use milter_tower::{Address, BoxError, serve};
use std::path::PathBuf;
use std::time::Duration;

use crate::filter::Control;

mod callback;
mod filter;
mod rules;
mod trace;
mod words;

/// Does what a file tells it to do, and writes down what it saw
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where to listen: inet:PORT@HOST, HOST:PORT or unix:PATH
    #[arg(long, default_value = "inet:10025@127.0.0.1")]
    listen: Address,
    /// The file with the rules, read anew for each connection; a missing one is empty
    #[arg(long, value_name = "FILE")]
    control: PathBuf,
    /// The file to which a line is appended for each event
    #[arg(long, value_name = "FILE")]
    trace: PathBuf,
}

/// How long messages in progress may take when the filter is told to stop.
const GRACE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    milter_examples::init_log();
    let args = Args::parse();
    let listener = args.listen.bind().await?;
    milter_examples::print_setup(&listener.address());
    serve(listener, Control::new(args.control, args.trace))
        .with_graceful_shutdown(milter_examples::stop_signal())
        .grace_period(GRACE)
        .await?;
    Ok(())
}
