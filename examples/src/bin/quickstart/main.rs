#![doc = include_str!("README.md")]

mod show;

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use milter_examples::color::Color;
use milter_examples::letter;
use milter_middleware::set_header::SetHeaderLayer;
use milter_tower::message::{Message, message};
use milter_tower::testing::{Mail, MockMta};
use milter_tower::{BoxError, Chain, Recipient, Request, Response, Router, SmtpReply};
use tower::util::BoxCloneService;
use tower::{ServiceBuilder, ServiceExt};

/// Shows what a filter does with some mails, without a mail server
#[derive(Parser)]
#[command(name = "quickstart", version)]
struct Args {
    /// Which mail server to play
    #[arg(long, value_enum, default_value_t)]
    mta: Mta,
    /// Mails of your own, as files, in place of the built-in ones; From, To and Cc say whom each is
    /// from and to
    #[arg(value_name = "FILE.eml")]
    files: Vec<PathBuf>,
    /// Whether to write in colours. auto: on a terminal, unless the variable `NO_COLOR` is set
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    color: Color,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Mta {
    #[default]
    Postfix,
    Sendmail,
}

/// A filter: any type of this shape, whatever it is made of.
type Filter = BoxCloneService<Request, Response, BoxError>;

/// The filter that is shown: two parts, and layers around both.
fn filter() -> Result<Filter, BoxError> {
    // Handlers of single events: here the mail server only asks about recipients.
    let recipients = Router::new().on_rcpt(async |to: Recipient| {
        to.is("nobody@example.net")
            .then(|| SmtpReply::reject("There is no such user here"))
    });

    // One function for a whole message: edits are made as one thinks of them.
    let spam = message(async |mut mail: Message| {
        let subject = mail.headers().get("Subject");
        if subject.is_some_and(|subject| subject.decoded().contains("You have won")) {
            mail.headers_mut().append("X-Spam-Flag", "YES");
            mail.quarantine("it looks like spam");
        }
        mail
    });

    // As many as one likes run one after the other, in one process.
    let chain = Chain::new()
        .with("recipients", recipients)
        .with("spam", spam);

    let service = ServiceBuilder::new()
        .layer(SetHeaderLayer::overriding("X-Filtered-By", "quickstart")?)
        .timeout(Duration::from_secs(5))
        .service(chain);
    Ok(service.boxed_clone())
}

/// The mails that are sent unless others are given, and what each is to show.
fn mails() -> Vec<(String, Mail)> {
    let letter = Mail::new()
        .from("alice@example.org")
        .to("bob@example.net")
        .header("X-Filtered-By", "a client that pretends");
    let typo = Mail::new()
        .from("alice@example.org")
        .to("bob@example.net")
        .to("nobody@example.net")
        .header("Subject", "Lunch");
    let spam = Mail::new()
        .from("lottery@example.com")
        .to("bob@example.net")
        .header("Subject", "=?utf-8?q?You_have_won_=E2=82=AC_1=2C000?=")
        .body("Send us your password.\n");
    [
        (
            "A letter, with a header that only the filter may set",
            letter,
        ),
        ("One of two recipients does not exist", typo),
        ("Spam", spam),
    ]
    .map(|(what, mail)| (what.to_owned(), mail))
    .into()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    milter_examples::exit_code(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<(), BoxError> {
    let mut mails = mails();
    if !args.files.is_empty() {
        mails = args.files.iter().map(read).collect::<Result<_, _>>()?;
    }
    let filter = filter()?;
    let mut mta = match args.mta {
        Mta::Postfix => MockMta::postfix(filter),
        Mta::Sendmail => MockMta::sendmail(filter),
    };
    let out = args.color.on(io::stdout()).lock();
    match show_all(out, &mut mta, &mails).await {
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        shown => Ok(shown?),
    }
}

async fn show_all(
    mut out: impl Write,
    mta: &mut MockMta,
    mails: &[(String, Mail)],
) -> io::Result<()> {
    show::filter(&mut out, mta.profile().name())?;
    for (number, (what, mail)) in (1..).zip(mails) {
        // `cargo test` sends mails to filters in the same way.
        let done = mta.deliver(mail).await;
        show::delivery(&mut out, &format!("{number}. {what}"), mail, &done)?;
    }
    show::next(&mut out)
}

fn read(file: &PathBuf) -> Result<(String, Mail), BoxError> {
    let name = file.display().to_string();
    let eml = std::fs::read(file).map_err(|error| format!("cannot read {name}: {error}"))?;
    Ok((name, letter::of_file(&eml, None, &[])))
}

#[cfg(test)]
mod tests;
