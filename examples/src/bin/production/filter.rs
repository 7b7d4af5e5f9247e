//! What is done with mail: the rules of this program, and milters elsewhere.

use milter_middleware::add_auth_results::AuthResult;
use milter_middleware::dry_run::DryRunLayer;
use milter_tower::router::State;
use milter_tower::{
    Actions, BoxError, Chain, Member, Message, Recipient, Remote, Response, Router, Session,
    SmtpReply, message,
};
use tower::Layer;

use crate::args::{Failing, Filter};
use crate::policy::Rules;

/// The filters, one after the other.
pub(crate) fn chain(args: &Filter, failing: &Failing, rules: Rules) -> Chain {
    let trial = || DryRunLayer::new().share(args.dry_run);
    let strip = args.strip_header.clone();
    let headers = message(move |mail: Message| {
        let done = check_headers(mail, &strip);
        async move { done }
    });
    let headers = headers.actions(Actions::CHANGE_HEADERS).without_body();
    let chain = Chain::new()
        .with("authentication", Router::new().on_mail(note_user))
        .with("recipients", trial().layer(recipients(rules)))
        .with("headers", trial().layer(headers));
    args.remote.iter().fold(chain, |chain, (name, address)| {
        let remote = Remote::new(address.clone()).connect_timeout(failing.timeout / 2);
        // The chain's policy, not the remote's: so the failure counts as that member's.
        chain.with_member(Member::new(name.as_str(), remote).on_failure(failing.on_remote_failure))
    })
}

/// Who sent it, for `Authentication-Results` (RFC 8601 2.7.4).
async fn note_user(session: Session) -> Result<(), BoxError> {
    if let Some(user) = session.auth().and_then(|auth| auth.user) {
        AuthResult::new("auth", "pass")?
            .with_property("smtp.auth", user)?
            .add_to(&session);
    }
    Ok(())
}

fn recipients(rules: Rules) -> Router<Rules> {
    Router::with_state(rules).on_rcpt(
        async |to: Recipient, session: Session, State(rules): State<Rules>| {
            let is_user = session.auth().is_some();
            rules.get().refusal(to.mailbox().as_ref(), is_user).cloned()
        },
    )
}

/// Refuses mail without an author, or with several who may each be shown; what only our own may
/// write is removed from mail of others.
// RFC 5322 section 3.6: exactly one From
fn check_headers(mut mail: Message, strip: &[String]) -> Response {
    match mail.headers().get_all("From").count() {
        0 => return mail.reply(SmtpReply::reject("Mail needs a From header")),
        1 => {}
        _ => return mail.reply(SmtpReply::reject("Mail has one From header, not several")),
    }
    if mail.session().auth().is_none() {
        for name in strip {
            mail.headers_mut().remove_all(name);
        }
    }
    mail.accept()
}
