#![doc = include_str!("README.md")]

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use clap::Parser;
use milter_examples::Listen;
use milter_tower::message::{Body, Message, MessageFilter, OnLarge, blocking, message};
use milter_tower::{Actions, BoxError, Headers, serve};
use tracing::{info, warn};

use crate::add::add;
use crate::footer::Footer;
use crate::policy::{Policy, What};

mod add;
mod charset;
mod footer;
mod mime;
mod policy;
mod transfer;

/// Adds a footer to the text of mails
#[derive(Parser)]
#[command(name = "disclaimer", version)]
struct Args {
    #[command(flatten)]
    listen: Listen,
    /// The footer, in UTF-8
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// The footer for HTML; else made of the text
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Changes mail of senders in this domain only; can be given several times
    #[arg(long = "sender-domain", value_name = "DOMAIN", value_parser = milter_examples::domain)]
    domains: Vec<String>,
    /// Also changes mail that is left alone otherwise; can be given several times
    #[arg(long, value_name = "WHAT")]
    also: Vec<What>,
    /// The header that says that a mail has its footer
    #[arg(
        long, value_name = "NAME", default_value = "X-Disclaimer",
        value_parser = milter_examples::header_name
    )]
    marker: String,
    /// Larger bodies are left alone, in MiB
    #[arg(
        long, value_name = "MIB", default_value_t = 25,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    max_size: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    milter_examples::init_log();
    milter_examples::exit_code(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<(), BoxError> {
    let footer = read_footer(&args.text, args.html.as_deref())?;
    let policy = Policy::new(args.domains, args.also, args.marker);
    let filter =
        filter(policy, footer).body_limit(u64::from(args.max_size) * 1024 * 1024, OnLarge::Omit);
    serve(args.listen.bind().await?, filter)
        .notify_systemd()
        .with_graceful_shutdown(milter_examples::stop_signal())
        .await?;
    Ok(())
}

fn filter(policy: Policy, footer: Footer) -> MessageFilter {
    message(blocking(move |mail| finish(mail, &policy, &footer)))
        .actions(Actions::ADD_HEADERS | Actions::CHANGE_HEADERS | Actions::CHANGE_BODY)
}

fn read_footer(text: &Path, html: Option<&Path>) -> Result<Footer, BoxError> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let html_text = html.map(read).transpose()?;
    Footer::new(&read(text)?, html_text.as_deref()).map_err(|error| {
        let file = if error.is_in_html { html } else { Some(text) };
        let file = file.unwrap_or(text).display();
        format!("the footer, {file}: {}", error.what).into()
    })
}

/// Adds the footer, unless the mail is to be left alone. A mail is never refused.
fn finish(mut mail: Message, policy: &Policy, footer: &Footer) -> io::Result<Message> {
    if let Some(reason) = policy.leaves_alone(&mail) {
        info!(reason, "left alone");
        return Ok(mail);
    }
    let body = read(mail.body())?;
    match add(&mime_fields(mail.headers()), &body, footer) {
        Ok(changed) => {
            if let Some(reason) = changed.partly {
                warn!(%reason, "an alternative has no footer");
            }
            mail.set_body(changed.body);
            let headers = mail.headers_mut();
            if !changed.fields.is_empty() && !headers.contains("MIME-Version") {
                headers.append("MIME-Version", "1.0");
            }
            for (name, value) in changed.fields {
                headers.set(name, value);
            }
            headers.append(policy.marker(), "added");
        }
        Err(reason) => info!(%reason, "left alone"),
    }
    Ok(mail)
}

fn read(body: &Body) -> io::Result<Bytes> {
    if let Some(bytes) = body.in_memory() {
        return Ok(bytes.clone());
    }
    let mut bytes = Vec::new();
    body.blocking_reader().read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

/// The fields that say what the body is, as lines.
fn mime_fields(headers: &Headers) -> Vec<u8> {
    let mut lines = Vec::new();
    for field in headers {
        let name = field.name();
        let start = name.get(..8).unwrap_or_default();
        if start.eq_ignore_ascii_case(b"Content-") {
            lines.extend_from_slice(&[&name, &b":"[..], &field.raw(), b"\r\n"].concat());
        }
    }
    lines
}

#[cfg(test)]
mod tests;
