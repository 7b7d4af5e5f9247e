//! The command line, and the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use milter_examples::Listen;
use milter_tower::{Address, OnMemberFailure};

/// A filter with all that a filter in production has around it: limits, time-outs, a policy for
/// failures, logs, metrics, health
#[derive(Debug, Parser)]
#[command(name = "production", version, after_help = HELP)]
pub(crate) struct Args {
    #[command(flatten, next_help_heading = "Where it listens")]
    pub(crate) listen: Listen,
    #[command(flatten)]
    pub(crate) filter: Filter,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) failing: Failing,
    #[command(flatten)]
    pub(crate) told: Told,
}

const HELP: &str = "\
Each option can be given by the variable of the environment that is named with it; several values
are then separated by commas. What is given on the command line counts.

Signals:
  TERM, INT  stop: no new connections, messages in progress have the grace period
  HUP        read the file of --recipients again; if it cannot be used, the old rules stay

Exit codes:
  0  it was told to stop
  1  a file cannot be used, or an address cannot be listened at
  2  the command line or the environment is wrong";

/// What the filter does.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "What it does with mail")]
pub(crate) struct Filter {
    /// The name of this host in headers; by default the system's
    #[arg(long, value_name = "NAME", env = "MILTER_HOSTNAME", value_parser = milter_examples::domain)]
    pub(crate) hostname: Option<String>,
    /// Who may write to whom: a file of lines such as `staff@example.net users` and
    /// `old@example.net 550 5.1.1 Bob has left`
    #[arg(long, value_name = "FILE", env = "MILTER_RECIPIENTS")]
    pub(crate) recipients: Option<PathBuf>,
    /// A header that is removed from mail of clients that did not authenticate; can be given several
    /// times
    #[arg(long, value_name = "HEADER", env = "MILTER_STRIP_HEADERS", value_delimiter = ',',
        value_parser = milter_examples::header_name)]
    pub(crate) strip_header: Vec<String>,
    /// A milter elsewhere that is asked too: `dkim=inet:8891@127.0.0.1`; several are asked in order
    #[arg(long, value_name = "NAME=ADDRESS", env = "MILTER_REMOTES", value_delimiter = ',',
        value_parser = remote)]
    pub(crate) remote: Vec<(String, Address)>,
    /// For which part of the messages the rules for recipients and headers are only tried, and what
    /// they would do is logged: from 0, none, to 1, all
    #[arg(long, value_name = "SHARE", env = "MILTER_DRY_RUN", default_value_t = 0.0,
        value_parser = share)]
    pub(crate) dry_run: f64,
}

/// How much it takes.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// The bytes of a message
    #[arg(long, value_name = "BYTES", env = "MILTER_MAX_SIZE", default_value_t = 25 * 1024 * 1024,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_size: u64,
    /// The recipients of a message
    #[arg(long, value_name = "N", env = "MILTER_MAX_RECIPIENTS", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_recipients: u32,
    /// The headers of a message
    #[arg(long, value_name = "N", env = "MILTER_MAX_HEADERS", default_value_t = 500,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_headers: u32,
    /// The bytes of all headers of a message
    #[arg(long, value_name = "BYTES", env = "MILTER_MAX_HEADER_BYTES", default_value_t = 256 * 1024,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_header_bytes: u32,
    /// The messages in progress at the same time
    #[arg(long, value_name = "N", env = "MILTER_MAX_MESSAGES", default_value_t = 500,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_messages: u32,
    /// The connections that a client has at the same time
    #[arg(long, value_name = "N", env = "MILTER_MAX_SESSIONS_PER_CLIENT", default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_sessions_per_client: u32,
    /// The messages a minute of a client that did not authenticate; 0 is no limit
    #[arg(
        long,
        value_name = "N",
        env = "MILTER_CLIENT_RATE",
        default_value_t = 300
    )]
    pub(crate) client_rate: u32,
    /// The recipients an hour of a user who authenticated; 0 is no limit
    #[arg(
        long,
        value_name = "N",
        env = "MILTER_USER_RATE",
        default_value_t = 500
    )]
    pub(crate) user_rate: u32,
}

/// What becomes of mail that it cannot judge.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "When something fails")]
pub(crate) struct Failing {
    /// What becomes of mail when the filter fails, or takes too long
    #[arg(
        long,
        value_name = "WHAT",
        env = "MILTER_ON_FAILURE",
        value_enum,
        default_value = "tempfail"
    )]
    pub(crate) on_failure: OnFailure,
    /// What becomes of mail when a milter elsewhere does
    #[arg(
        long,
        value_name = "WHAT",
        env = "MILTER_ON_REMOTE_FAILURE",
        value_enum,
        default_value = "tempfail"
    )]
    pub(crate) on_remote_failure: OnRemote,
    /// How long an answer may take, in seconds
    #[arg(long, value_name = "SECONDS", env = "MILTER_TIMEOUT", default_value = "20",
        value_parser = seconds)]
    pub(crate) timeout: Duration,
    /// How long the answer to the end of a message may take, in seconds
    #[arg(long, value_name = "SECONDS", env = "MILTER_END_TIMEOUT", default_value = "120",
        value_parser = seconds)]
    pub(crate) end_timeout: Duration,
    /// How long messages in progress may take when it is told to stop, in seconds
    #[arg(long, value_name = "SECONDS", env = "MILTER_GRACE", default_value = "60",
        value_parser = seconds)]
    pub(crate) grace: Duration,
}

/// What it tells of itself.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Logs, metrics, health")]
pub(crate) struct Told {
    /// How lines are written: those of messages go to standard output, others to standard error
    #[arg(
        long,
        value_name = "FORMAT",
        env = "MILTER_LOG_FORMAT",
        value_enum,
        default_value = "json"
    )]
    pub(crate) log_format: LogFormat,
    /// What is logged besides messages: a level, or levels for modules
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    pub(crate) log: String,
    /// What is shown of mail addresses in the line of a message
    #[arg(
        long,
        value_name = "WHAT",
        env = "MILTER_LOG_ADDRESSES",
        value_enum,
        default_value = "full",
        requires_if("hash", "log_key")
    )]
    pub(crate) log_addresses: Shown,
    /// The file with the key for hashed addresses: random bytes, at least 16
    #[arg(long, value_name = "FILE", env = "MILTER_LOG_KEY")]
    pub(crate) log_key: Option<PathBuf>,
    /// Where /metrics, /healthz and /readyz are asked for: IP:PORT, or `off`
    #[arg(long, value_name = "ADDRESS", env = "MILTER_STATUS", default_value = "127.0.0.1:9100",
        value_parser = status)]
    pub(crate) status: StatusAt,
}

/// Where the status is asked for, if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StatusAt(pub(crate) Option<SocketAddr>);

/// What becomes of mail that the filter could not judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnFailure {
    /// Refuse for now
    Tempfail,
    /// Refuse for good
    Reject,
    /// Let it pass
    Accept,
    /// Close the connection: the mail server does what it does without the filter
    Close,
}

/// What becomes of mail that a milter elsewhere could not judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnRemote {
    /// Refuse for now
    Tempfail,
    /// Refuse for good
    Reject,
    /// Let it pass
    Accept,
}

impl From<OnRemote> for OnMemberFailure {
    fn from(failing: OnRemote) -> Self {
        match failing {
            OnRemote::Tempfail => Self::tempfail(),
            OnRemote::Reject => Self::reject(),
            OnRemote::Accept => Self::leave_out(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// An object of JSON a line
    Json,
    /// `name=value`, and words
    Text,
}

/// What is shown of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shown {
    /// All
    Full,
    /// The domain
    Domain,
    /// A hash
    Hash,
    /// Nothing
    Hidden,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err("a number of seconds, at least 1".into()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a number from 0 to 1".into())
}

fn remote(text: &str) -> Result<(String, Address), String> {
    let (name, address) = text.split_once('=').unwrap_or(("", text));
    if name.is_empty() {
        return Err("a name and an address, such as dkim=inet:8891@127.0.0.1".into());
    }
    let address = address
        .parse::<Address>()
        .map_err(|error| error.to_string())?;
    Ok((name.to_owned(), address))
}

fn status(text: &str) -> Result<StatusAt, String> {
    if text == "off" {
        return Ok(StatusAt(None));
    }
    let address = text
        .parse()
        .map_err(|_| "an address such as 127.0.0.1:9100, or off")?;
    Ok(StatusAt(Some(address)))
}
