#![doc = include_str!("README.md")]

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use milter_examples::Listen;
use milter_tower::message::{Incoming, Message, MessageFilter, message_streaming};
use milter_tower::{BoxError, Response, SmtpReply, Text, serve};
use tracing::{error, info};

use crate::maildir::{Draft, Maildir};

mod maildir;

/// Keeps a copy of every mail that is accepted, in a maildir
#[derive(Parser)]
#[command(name = "archive", version)]
struct Args {
    #[command(flatten)]
    listen: Listen,
    /// The maildir; it is made if it is not there, but not the folder that it lies in
    #[arg(long, value_name = "FOLDER")]
    maildir: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    milter_examples::init_log();
    milter_examples::exit_code(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<(), BoxError> {
    let maildir = Maildir::open(&args.maildir)
        .map_err(|error| format!("{}: {error}", args.maildir.display()))?;
    serve(args.listen.bind().await?, filter(maildir))
        .notify_systemd()
        .with_graceful_shutdown(milter_examples::stop_signal())
        .await?;
    Ok(())
}

fn filter(maildir: Maildir) -> MessageFilter<Incoming> {
    message_streaming(move |mail| archive(mail, maildir.clone()))
        // What the mail server takes is kept, however large it is.
        .without_body_limit()
        .read_only()
}

/// Accepts a mail once it is on the disk. Dropped before, it leaves nothing there.
async fn archive(mut mail: Message<Incoming>, maildir: Maildir) -> Result<Response, SmtpReply> {
    match keep(&mut mail, &maildir).await {
        Ok(path) => {
            info!(file = %path.display(), "kept");
            Ok(mail.accept())
        }
        Err(error) => {
            error!(%error, "not kept, the client is to try again");
            Err(refusal(&error))
        }
    }
}

async fn keep(mail: &mut Message<Incoming>, maildir: &Maildir) -> io::Result<PathBuf> {
    let mut draft = maildir.begin().await?;
    write_head(mail, &mut draft).await?;
    while let Some(piece) = mail.body_mut().piece().await? {
        draft.write(&piece).await?;
    }
    draft.keep().await
}

/// The envelope, as mail servers write it when they deliver, and the headers.
async fn write_head(mail: &Message<Incoming>, draft: &mut Draft) -> io::Result<()> {
    let mut head = Vec::new();
    push_line(&mut head, b"Return-Path: <", mail.sender().mailbox());
    for recipient in mail.recipients() {
        push_line(&mut head, b"X-Original-To: <", recipient.mailbox());
    }
    for field in mail.headers() {
        // All that is behind the colon, lines ended by LF.
        head.extend_from_slice(&[&field.name(), &b":"[..], &field.raw(), b"\n"].concat());
    }
    head.push(b'\n');
    draft.write(&head).await
}

fn push_line(head: &mut Vec<u8>, start: &[u8], address: Text<'_>) {
    head.extend_from_slice(start);
    // Nothing that a client says begins another line.
    let printable = |byte: &u8| if byte.is_ascii_control() { b'?' } else { *byte };
    head.extend(address.iter().map(printable));
    head.extend_from_slice(b">\n");
}

/// What the client is told: RFC 3463 3.4, the mail system is full or cannot be used.
fn refusal(error: &io::Error) -> SmtpReply {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let (code, text) = match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => (452, "4.3.1 The archive is full"),
        _ => (451, "4.3.0 The archive cannot be written to"),
    };
    let reply = SmtpReply::builder(code).line(text).build();
    reply.unwrap_or_else(|_| SmtpReply::tempfail(text))
}

#[cfg(test)]
mod tests;
