//! Whether a filter survives the nasty mails.

use std::fmt::Write;

use tower_service::Service;

use super::{Delivery, Fate, MockMta, MtaProfile, nasty_mails};
use crate::{BoxError, Request, Response};

/// Runs all [nasty mails](nasty_mails) over a filter, behind Postfix and behind Sendmail, and
/// asserts that it survives them: it does not panic or fail, answers in time and with nothing that
/// its stage does not allow, and so there is a verdict for each.
///
/// Which verdict it is does not matter. Mails [past the server's
/// limits](super::NastyMail::is_past_limits) need none of the filter's: the server answers them.
///
/// ```
/// # use std::convert::Infallible;
/// # use milter_tower::{Event, Request, Response};
/// # use tower::service_fn;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let filter = service_fn(async |request: Request| {
///     Ok::<_, Infallible>(match request.event() {
///         Event::EndOfMessage(_) => Response::accept().add_header("X-Seen", "yes"),
///         _ => Response::proceed(),
///     })
/// });
/// milter_tower::testing::survives(filter).await;
/// # }
/// ```
///
/// With paused time (`start_paused`) a filter that hangs is found without waiting.
///
/// # Panics
///
/// If the filter does not survive, with the names of the mails and what happened. Each can be had
/// alone from [`nasty_mails`], to look into it.
pub async fn survives<S>(filter: S)
where
    S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
{
    let mut text = String::new();
    let (mut bad, mut all) = (0, 0);
    for nasty in nasty_mails() {
        for profile in [MtaProfile::postfix(), MtaProfile::sendmail()] {
            let mta = profile.name().to_owned();
            let done = MockMta::with_profile(profile, filter.clone())
                .deliver(&nasty.mail)
                .await;
            all += 1;
            if let Some(what) = harm(&done) {
                bad += 1;
                let _ = write!(text, "\n  {} ({mta}): {what}", nasty.name);
            }
        }
    }
    assert!(
        bad == 0,
        "the filter does not survive {bad} of {all} deliveries:{text}"
    );
}

/// What went wrong with a mail.
fn harm(done: &Delivery) -> Option<String> {
    if let Some(failure) = done.failures.first() {
        return Some(failure.clone());
    }
    match &done.fate {
        Fate::Accepted | Fate::Discarded | Fate::Refused(_) | Fate::NoRecipients => None,
        Fate::Failed(why) => Some(format!("no verdict: {why}")),
        Fate::Aborted => Some("no verdict: it was aborted".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use futures::FutureExt;
    use tower::service_fn;

    use super::*;
    use crate::{Event, SmtpReply, assert_refused};

    /// What `survives` says of a filter that does not.
    async fn faults<F, R>(filter: F) -> Vec<String>
    where
        F: Fn(Request) -> R + Clone + Send + 'static,
        R: Future<Output = Result<Response, BoxError>> + Send,
    {
        let ordeal = AssertUnwindSafe(survives(service_fn(filter)));
        let failed = ordeal.catch_unwind().await.expect_err("it survives");
        let text = failed.downcast::<String>().expect("a text");
        text.lines()
            .map(|line| line.trim_start().to_owned())
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_filter_that_looks_and_changes_survives() {
        survives(service_fn(async |request: Request| {
            Ok::<_, BoxError>(match request.event() {
                Event::Rcpt(to) if to.mailbox().contains("user7@") => {
                    SmtpReply::reject("not you").into()
                }
                Event::EndOfMessage(_) => Response::accept().add_header("X-Seen", "yes"),
                _ => Response::proceed(),
            })
        }))
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn mails_past_the_limits_get_their_verdict() {
        let filter = service_fn(async |_: Request| Ok::<_, BoxError>(Response::proceed()));
        for nasty in nasty_mails().filter(|nasty| nasty.is_past_limits) {
            let done = MockMta::sendmail(filter).deliver(&nasty.mail).await;
            assert_refused!(done, 552, "Headers too large");
            let done = MockMta::postfix(filter).deliver(&nasty.mail).await;
            if nasty.name == "a header line of 2 MB" {
                let subject = done.message.headers().get("Subject").unwrap();
                assert!(
                    done.is_accepted() && subject.raw().len() < 100_000,
                    "{done}"
                );
            } else {
                assert_refused!(done, 552, "Message headers too large");
            }
            assert!(done.failures.is_empty(), "{done}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn panics_are_told_with_their_mails() {
        let faults = faults(async |request: Request| {
            if let Event::Mail(sender) = request.event() {
                sender.domain().expect("a domain");
            }
            Ok(Response::proceed())
        })
        .await;
        let told = "mail: the service panicked: a domain";
        for mail in ["null sender", "addresses without a domain"] {
            for mta in ["Postfix", "Sendmail"] {
                assert!(
                    faults.contains(&format!("{mail} ({mta}): {told}")),
                    "{faults:#?}"
                );
            }
        }
        assert!(
            !faults.iter().any(|line| line.starts_with("no HELO")),
            "{faults:#?}"
        );
        assert!(faults[0].starts_with(&format!(
            "the filter does not survive {} of",
            faults.len() - 1
        )));
    }

    #[tokio::test(start_paused = true)]
    async fn errors_and_silence_are_told() {
        let faults = faults(async |request: Request| {
            match request.event() {
                Event::Header(header) => _ = header.value().to_str()?,
                Event::Body(piece) if piece.contains(&0) => std::future::pending().await,
                _ => {}
            }
            Ok(Response::proceed())
        })
        .await;
        let has = |start: &str| faults.iter().any(|line| line.starts_with(start));
        assert!(
            has("8-bit headers that are not UTF-8 (Postfix): header: invalid utf-8"),
            "{faults:#?}"
        );
        assert!(
            has("NUL bytes in the body (Sendmail): body: the deadline passed"),
            "{faults:#?}"
        );
        assert!(!has("UTF-8 headers"), "{faults:#?}");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_cannot_be_given_are_told() {
        let faults = faults(async |request: Request| {
            Ok(match request.event() {
                Event::Unknown(_) => Response::accept(),
                Event::EndOfMessage(_) => {
                    let sender = request.session().sender().map(|sender| sender.address());
                    Response::accept().change_sender(sender.unwrap_or_default())
                }
                _ => Response::proceed(),
            })
        })
        .await;
        let has = |start: &str| faults.iter().any(|line| line.starts_with(start));
        assert!(
            has("commands of other protocols (Postfix): unknown command: "),
            "{faults:#?}"
        );
        assert!(
            has("null sender without brackets (Postfix): end of message: "),
            "{faults:#?}"
        );
        assert!(!has("null sender ("), "{faults:#?}");
    }
}
