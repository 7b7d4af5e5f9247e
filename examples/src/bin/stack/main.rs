#![doc = include_str!("README.md")]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use milter_examples::Listen;
use milter_middleware::set_header::SetHeaderLayer;
use milter_tower::message::{Message, OnLarge, message};
use milter_tower::{
    Actions, BoxError, Chain, Condition, Headers, Member, OnMemberFailure, Recipient, Response,
    Router, SmtpReply, serve,
};
use tower::ServiceBuilder;

/// A block list, a policy for headers and a footer, one after the other
#[derive(Parser)]
#[command(name = "stack", version)]
struct Args {
    #[command(flatten)]
    listen: Listen,
    /// A network whose clients are refused, 192.0.2.0/24; can be given several times
    #[arg(long, value_name = "NETWORK")]
    block: Vec<String>,
    /// The line that is added to the mail of users
    #[arg(long, value_name = "TEXT", default_value = "Sent from example.org")]
    footer: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    milter_examples::init_log();
    milter_examples::exit_code(run(Args::parse()).await)
}

async fn run(args: Args) -> Result<(), BoxError> {
    let chain = chain(&args.block, args.footer)?;
    chain.check().await?;
    serve(args.listen.bind().await?, chain)
        .notify_systemd()
        .with_graceful_shutdown(milter_examples::stop_signal())
        .await?;
    Ok(())
}

fn chain(networks: &[String], line: String) -> Result<Chain, BoxError> {
    let blocked = Condition::client_in(networks.iter().map(String::as_str))?;
    let users = Condition::authenticated();

    let block_list = Router::new()
        .on_rcpt(async |_: Recipient| SmtpReply::reject("Your network is on our block list"));

    let header_policy = ServiceBuilder::new()
        .layer(SetHeaderLayer::overriding("X-Checked-By", "stack")?)
        // No more messages at a time than there is memory for.
        .concurrency_limit(100)
        .service(
            message(async |mail: Message| check_headers(mail)).actions(Actions::CHANGE_HEADERS),
        );

    let footer = ServiceBuilder::new()
        .timeout(Duration::from_secs(30))
        .service(
            message(move |mail: Message| add_footer(mail, line.clone()))
                .actions(Actions::CHANGE_BODY)
                .body_limit(10 * 1024 * 1024, OnLarge::Omit),
        );

    Ok(Chain::new()
        .with_when("block list", blocked & !users.clone(), block_list)
        .with("header policy", header_policy)
        .with_member(
            Member::new("footer", footer)
                .when(users)
                // It is no reason to keep mail back.
                .on_failure(OnMemberFailure::leave_out()),
        ))
}

/// Refuses mail without an author, or with several who may each be shown.
// RFC 5322 section 3.6: exactly one From
fn check_headers(mut mail: Message) -> Response {
    match mail.headers().get_all("From").count() {
        0 => return mail.reply(SmtpReply::reject("Mail needs a From header")),
        1 => {}
        _ => return mail.reply(SmtpReply::reject("Mail has one From header, not several")),
    }
    mail.headers_mut().remove_all("X-Internal");
    mail.accept()
}

/// Adds a line to plain text. A program that has more to do with mails is `disclaimer`.
async fn add_footer(mut mail: Message, line: String) -> Result<Response, BoxError> {
    if is_plain(mail.headers()) && !mail.body().is_cut() {
        let mut body = mail.body().bytes().await?.to_vec();
        if !body.is_empty() && !body.ends_with(b"\n") {
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("\r\n{line}\r\n").as_bytes());
        mail.set_body(body);
    }
    Ok(mail.accept())
}

/// Whether the body is text as it stands, and nobody signed it.
fn is_plain(headers: &Headers) -> bool {
    let is = |name: &str, value: &str| {
        let field = headers.get_str(name).unwrap_or(value);
        field.trim().to_ascii_lowercase().starts_with(value)
    };
    is("Content-Type", "text/plain")
        && is("Content-Transfer-Encoding", "7bit")
        && !headers.contains("DKIM-Signature")
}

#[cfg(test)]
mod tests;
