//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use milter_examples::color::Color;
use milter_tower::testing::{Mail, MtaProfile};
use milter_tower::{Address, ClientAddr, MacroStage};

use crate::ending::Expected;

/// Plays a mail server, sends a mail through a milter, and shows what the milter does with it
#[derive(Debug, Parser)]
#[command(name = "milter-check", version, after_help = HELP, after_long_help = LONG_HELP)]
pub(crate) struct Args {
    /// Where the milter listens: inet:PORT@HOST, inet:HOST:PORT, HOST:PORT, unix:PATH or /PATH
    pub(crate) address: Address,
    /// Mails to send (.eml), one after the other; - is standard input. Without one, a short letter
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) client: Client,
    #[command(flatten)]
    pub(crate) envelope: Envelope,
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(flatten)]
    pub(crate) output: Show,
    #[command(flatten)]
    pub(crate) load: Load,
}

/// Who sends the mail.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The client that sends the mail")]
pub(crate) struct Client {
    /// Its address: an IP address, IP:PORT, `unknown`, or the path of a socket
    #[arg(id = "client", long, value_name = "ADDRESS", value_parser = client)]
    at: Option<ClientAddr>,
    /// Its host name, as the mail server found it
    #[arg(id = "client_name", long = "client-name", value_name = "NAME")]
    name: Option<String>,
    /// The name that it greets with
    #[arg(long, value_name = "NAME")]
    helo: Option<String>,
    /// It does not greet
    #[arg(long, conflicts_with = "helo")]
    no_helo: bool,
    /// It uses TLS of this version: TLSv1.3
    #[arg(long, value_name = "VERSION")]
    tls: Option<String>,
    /// The cipher of TLS
    #[arg(
        long,
        value_name = "NAME",
        requires = "tls",
        default_value = "TLS_AES_256_GCM_SHA384"
    )]
    cipher: String,
    /// The bits of the cipher's key
    #[arg(long, value_name = "BITS", requires = "tls", default_value_t = 256)]
    cipher_bits: u32,
    /// The subject of its certificate
    #[arg(long, value_name = "NAME", requires = "tls")]
    cert_subject: Option<String>,
    /// The issuer of its certificate
    #[arg(long, value_name = "NAME", requires = "cert_subject")]
    cert_issuer: Option<String>,
    /// It authenticated as this user
    #[arg(long, value_name = "USER")]
    auth: Option<String>,
    /// By this SASL mechanism
    #[arg(long, value_name = "NAME", requires = "auth", default_value = "PLAIN")]
    auth_mechanism: String,
}

/// Whom the mail is from and to.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The envelope")]
pub(crate) struct Envelope {
    /// The sender, maybe with ESMTP arguments behind it; <> for a bounce. Without it, the address in
    /// the header From
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) from: Option<String>,
    /// A recipient; can be given several times. Without it, the addresses in the headers To and Cc
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) to: Vec<String>,
}

/// The mail server that is played.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The mail server that is played")]
pub(crate) struct Server {
    /// Which one
    #[arg(long, visible_alias = "profile", value_enum, default_value = "postfix")]
    mta: Mta,
    /// A macro: NAME=VALUE, known from the connection on, or STAGE:NAME=VALUE, where STAGE is
    /// connect, helo, mail, rcpt, data, eoh or eom; can be given several times
    #[arg(long = "macro", value_name = "MACRO", value_parser = given_macro)]
    macros: Vec<GivenMacro>,
    /// How long it waits for the connection and for each answer. Without it, as long as the mail
    /// server would
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Sends each mail so many times
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "bench",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,
    /// Opens a connection for each mail instead of one for all
    #[arg(long, conflicts_with = "bench")]
    pub(crate) new_connection: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mta {
    Postfix,
    Sendmail,
    Stalwart,
    /// Postfix with `milter_protocol = 2`
    #[value(name = "version-2")]
    Version2,
}

/// What is shown.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What is shown")]
pub(crate) struct Show {
    /// Whole messages and long lines, where otherwise only what is around a change is shown
    #[arg(long)]
    pub(crate) full: bool,
    /// An object of JSON for each mail, one a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Nothing but errors: the exit code tells
    #[arg(long, short, conflicts_with = "json")]
    pub(crate) quiet: bool,
    /// Whether to write in colours. auto: on a terminal, unless the variable `NO_COLOR` is set
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub(crate) color: Color,
    /// Exits with 0 if each mail ends so, and with 1 if not
    #[arg(long, value_name = "END", value_enum)]
    pub(crate) expect: Option<Expected>,
}

/// A load test.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct Load {
    /// Sends so many messages as fast as it goes, and shows how long they took
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) bench: Option<u64>,
    /// Over so many connections at the same time
    #[arg(long, short = 'c', value_name = "M", default_value_t = 1, requires = "bench",
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) connections: u32,
    /// Each connection carries so many messages, then a new one takes its place
    #[arg(long, value_name = "K", default_value_t = 100, requires = "bench",
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) per_connection: u64,
}

const HELP: &str = "\
Examples:
  milter-check inet:8891@127.0.0.1
  milter-check unix:/run/opendkim/opendkim.sock letter.eml --from alice@example.org
  milter-check 127.0.0.1:10025 --client 192.0.2.7 --to spamtrap@example.net
  milter-check 127.0.0.1:10025 --quiet --expect reject virus.eml
  milter-check 127.0.0.1:10025 --bench 10000 -c 8

Exit codes: 0 accepted, 1 rejected, 2 usage, 3 tempfailed, 4 discarded, 5 quarantined, and
66 to 76 for what went wrong; see --help.";

const LONG_HELP: &str = "\
Examples:
  What does the milter at this port do with a mail?
      milter-check inet:8891@127.0.0.1
  With mine, from this sender?
      milter-check unix:/run/opendkim/opendkim.sock letter.eml --from alice@example.org
  From a client with a bad reputation, to a spam trap, as Sendmail would ask?
      milter-check 127.0.0.1:10025 --mta sendmail --client 192.0.2.7 --to spamtrap@example.net
  From a user who logged in over TLS?
      milter-check 127.0.0.1:10025 --tls TLSv1.3 --auth alice
  For monitoring: is this still refused?
      milter-check 127.0.0.1:10025 --quiet --timeout 5 --expect reject virus.eml
  How fast is it?
      milter-check 127.0.0.1:10025 --bench 10000 -c 8

Exit codes:
   0  the mail was accepted, changed or not; with --expect: it ended so
   1  it was rejected, or all of its recipients were; with --expect: it ended otherwise
   2  the command line is wrong
   3  it was refused for now (tempfail)
   4  it was discarded
   5  it was quarantined
  66  a file with a mail cannot be read
  69  the milter cannot be connected to
  74  what is to be shown cannot be written
  75  the milter did not answer in time
  76  the milter broke the protocol, or closed the connection
Of several mails the highest code counts. With --bench it is 0 if each message got a verdict,
whichever it is unless --expect says one.";

impl Args {
    /// The mail server that is played.
    pub(crate) fn profile(&self) -> MtaProfile {
        let profile = match self.server.mta {
            Mta::Postfix => MtaProfile::postfix(),
            Mta::Sendmail => MtaProfile::sendmail(),
            Mta::Stalwart => MtaProfile::stalwart(),
            Mta::Version2 => MtaProfile::version_2(),
        };
        let Some(time) = self.server.timeout else {
            return profile;
        };
        profile
            .command_timeout(time)
            .content_timeout(time)
            .end_of_message_timeout(time)
    }

    /// How long connecting may take.
    // Postfix milter_connect_timeout
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.server.timeout.unwrap_or(Duration::from_secs(30))
    }

    /// The mail as this client sends it, through this server.
    pub(crate) fn send(&self, mut mail: Mail) -> Mail {
        let client = &self.client;
        if let Some(at) = &client.at {
            mail = mail.client_addr(at.clone());
        }
        if let Some(name) = &client.name {
            mail = mail.client_name(name);
        }
        if let Some(name) = &client.helo {
            mail = mail.helo(name);
        }
        if client.no_helo {
            mail = mail.without_helo();
        }
        if let Some(version) = &client.tls {
            mail = mail.tls(version, &client.cipher, client.cipher_bits);
        }
        if let Some(subject) = &client.cert_subject {
            let issuer = client.cert_issuer.as_deref().unwrap_or_default();
            mail = mail.tls_cert(subject, issuer);
        }
        if let Some(user) = &client.auth {
            mail = mail.auth(&client.auth_mechanism, user);
        }
        for given in &self.server.macros {
            mail = mail.macro_at(given.stage, &given.name, &given.value);
        }
        mail
    }
}

/// A macro of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct GivenMacro {
    stage: MacroStage,
    name: String,
    value: String,
}

fn given_macro(text: &str) -> Result<GivenMacro, String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("a macro is written NAME=VALUE or STAGE:NAME=VALUE")?;
    let (stage, name) = match name.split_once(':') {
        Some((stage, name)) => (macro_stage(stage)?, name),
        None => (MacroStage::Connect, name),
    };
    // Names of more than one letter stand in braces; shells make these a nuisance.
    let bare = name.trim_start_matches('{').trim_end_matches('}');
    if bare.is_empty() || !bare.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{name:?} is no name of a macro"));
    }
    let name = if bare.len() == 1 {
        bare.to_owned()
    } else {
        format!("{{{bare}}}")
    };
    Ok(GivenMacro {
        stage,
        name,
        value: value.to_owned(),
    })
}

fn macro_stage(name: &str) -> Result<MacroStage, String> {
    Ok(match name {
        "connect" => MacroStage::Connect,
        "helo" => MacroStage::Helo,
        "mail" => MacroStage::Mail,
        "rcpt" => MacroStage::Rcpt,
        "data" => MacroStage::Data,
        "eoh" => MacroStage::EndOfHeaders,
        "eom" => MacroStage::EndOfMessage,
        _ => {
            return Err(format!(
                "{name:?} is no stage: connect, helo, mail, rcpt, data, eoh, eom"
            ));
        }
    })
}

fn client(text: &str) -> Result<ClientAddr, String> {
    if text == "unknown" {
        return Ok(ClientAddr::Unknown);
    }
    if text.starts_with('/') {
        return Ok(ClientAddr::Unix(text.to_owned().into()));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address.into());
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        // Any port above those of servers does.
        Ok(ip) => Ok(SocketAddr::new(ip, 50_025).into()),
        Err(_) => Err("a client is an IP address, IP:PORT, unknown, or a path".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0.0);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| time.as_secs() <= 86_400)
        .ok_or_else(|| "a time is a number of seconds, at most a day: 10, 0.5".into())
}

#[cfg(test)]
mod tests;
