#![doc = include_str!("README.md")]

use std::future::ready;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgGroup, Parser};
use milter_examples::Listen;
use milter_tower::message::{DecideAt, Message, MessageFilter, message};
use milter_tower::{BoxError, serve};

use crate::rules::{Name, NewHeader, Rules};

mod rules;

/// Adds, changes and removes header fields of every mail
#[derive(Parser)]
#[command(name = "add-headers", version, after_help = HELP)]
#[command(group(
    ArgGroup::new("what").required(true).multiple(true)
        .args(["remove", "set", "add", "prepend", "remove_forged", "rules"])
))]
struct Args {
    #[command(flatten)]
    listen: Listen,
    /// Removes all fields of that name; `*` at its end stands for anything
    #[arg(long, value_name = "NAME")]
    remove: Vec<Name>,
    /// Leaves one field of that name, with this value
    #[arg(long, value_name = "HEADER")]
    set: Vec<NewHeader>,
    /// Adds a field at the end
    #[arg(long, value_name = "HEADER")]
    add: Vec<NewHeader>,
    /// Adds a field on top
    #[arg(long, value_name = "HEADER")]
    prepend: Vec<NewHeader>,
    /// Removes Authentication-Results that claim to be this host's
    #[arg(long, value_name = "HOST", value_parser = rules::host)]
    remove_forged: Vec<String>,
    /// Does what the lines of a file say: an option without its dashes, and its value
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
}

const HELP: &str = "\
HEADER is written as in a mail: 'X-Seen-By: mx.example.org'. Each option can be given several
times. Fields are removed first, then set, then added.";

#[tokio::main]
async fn main() -> ExitCode {
    milter_examples::init_log();
    milter_examples::exit_code(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<(), BoxError> {
    let (listen, rules) = args.take_apart()?;
    if rules.is_empty() {
        return Err("nothing is to be done: the file has no rules".into());
    }
    serve(listen.bind().await?, filter(rules))
        .notify_systemd()
        .with_graceful_shutdown(milter_examples::stop_signal())
        .await?;
    Ok(())
}

/// Changes the headers, and does not look at the body, which is not sent then.
fn filter(rules: Rules) -> MessageFilter {
    let rules = Arc::new(rules);
    message(move |mut mail: Message| {
        rules.apply(mail.headers_mut());
        ready(mail)
    })
    .decide_at(DecideAt::EndOfHeaders)
}

impl Args {
    /// Where to listen, and all rules: the file's, then those of the command line.
    fn take_apart(self) -> Result<(Listen, Rules), BoxError> {
        let from_file = match self.rules {
            None => Rules::default(),
            Some(path) => {
                let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
                let rules = text.and_then(|text| Rules::parse(&text));
                rules.map_err(|error| format!("{}: {error}", path.display()))?
            }
        };
        let rules = from_file.join(Rules {
            remove: self.remove,
            set: self.set,
            add: self.add,
            prepend: self.prepend,
            forged: self.remove_forged,
        });
        Ok((self.listen, rules))
    }
}

#[cfg(test)]
mod tests;
