//! Whether a filter survives the nasty mails.

use std::fmt::Write;

use tower_service::Service;

use super::{Answer, Delivery, Fate, Mail, MockMta, MtaProfile, SmtpSession, nasty_mails};
use crate::{BoxError, Request, Response, Stage};

/// Runs all [nasty mails](nasty_mails) over a filter, behind Postfix and behind Sendmail, and
/// asserts that it survives them: it does not panic or fail, answers in time and with nothing that
/// its stage does not allow, and so there is a verdict for each.
///
/// It has to survive nasty clients, too: they give a mail up behind each of its parts, or go away,
/// or greet again in the middle; and a good mail then follows in the same session, where there is
/// one.
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
/// If the filter does not survive, with what happened, how often, and the names of the first mails
/// that it happened with. Each can be had alone from [`nasty_mails`], to look into it; what clients do, a [`SmtpSession`] can do too.
pub async fn survives<S>(filter: S)
where
    S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
{
    let (faults, all) = ordeal(filter).await;
    assert!(faults.is_empty(), "{}", report(&faults, all));
}

/// A delivery that the filter did not survive.
#[derive(Clone, Debug)]
struct Fault {
    delivery: String,
    cause: String,
}

/// What the filter does not survive, and how much it was put through.
async fn ordeal<S>(filter: S) -> (Vec<Fault>, usize)
where
    S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
{
    let (mut faults, mut all) = (Vec::new(), 0);
    let mut note = |name: &str, mta: &MockMta, harm: Option<String>| {
        all += 1;
        faults.extend(harm.map(|cause| Fault {
            delivery: format!("{name} ({})", mta.profile().name()),
            cause,
        }));
    };
    let mta = |profile| MockMta::with_profile(profile, filter.clone());
    for nasty in nasty_mails() {
        for profile in [MtaProfile::postfix(), MtaProfile::sendmail()] {
            let mut mta = mta(profile);
            let done = mta.deliver(&nasty.mail).await;
            note(nasty.name, &mta, harm(&done));
        }
    }
    for (last, leaves) in flows() {
        for profile in [MtaProfile::postfix(), MtaProfile::sendmail()] {
            let mut mta = mta(profile);
            let harm = bear(&mut mta, last, leaves).await;
            note(&format!("{} behind {last}", leaves.name()), &mta, harm);
        }
    }
    (faults, all)
}

/// So many causes are told, each with so many of its deliveries.
const CAUSES: usize = 20;
const DELIVERIES: usize = 4;

/// What went wrong, by cause: one fault of a filter shows in most of the deliveries.
fn report(faults: &[Fault], all: usize) -> String {
    let mut causes: Vec<(&str, Vec<&str>)> = Vec::new();
    for fault in faults {
        let known = causes.iter_mut().find(|(cause, _)| *cause == fault.cause);
        match known {
            Some((_, deliveries)) => deliveries.push(&fault.delivery),
            None => causes.push((&fault.cause, vec![&fault.delivery])),
        }
    }
    let mut text = format!(
        "the filter does not survive {} of {all} deliveries:",
        faults.len()
    );
    for (cause, deliveries) in causes.iter().take(CAUSES) {
        let _ = write!(text, "\n  {cause}\n    {}× ", deliveries.len());
        let named = deliveries.iter().take(DELIVERIES);
        text.push_str(&named.copied().collect::<Vec<_>>().join(", "));
        if deliveries.len() > DELIVERIES {
            text.push_str(", …");
        }
    }
    if causes.len() > CAUSES {
        let _ = write!(text, "\n  and {} other causes", causes.len() - CAUSES);
    }
    text
}

/// How a client leaves a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    GivesUp,
    GreetsAgain,
    IsLost,
}

impl Leaves {
    const fn name(self) -> &'static str {
        match self {
            Self::GivesUp => "a mail given up",
            Self::GreetsAgain => "HELO again",
            Self::IsLost => "the connection lost",
        }
    }
}

/// The parts of a mail, in order.
const PARTS: [Stage; 9] = [
    Stage::Connect,
    Stage::Helo,
    Stage::Mail,
    Stage::Rcpt,
    Stage::Data,
    Stage::Header,
    Stage::EndOfHeaders,
    Stage::Body,
    Stage::EndOfMessage,
];

/// Where clients leave, and how. They cannot greet within the content.
fn flows() -> impl Iterator<Item = (Stage, Leaves)> {
    let ways = [Leaves::GivesUp, Leaves::GreetsAgain, Leaves::IsLost];
    let all = PARTS
        .into_iter()
        .flat_map(move |part| ways.map(|leaves| (part, leaves)));
    all.filter(|(part, leaves)| {
        *leaves != Leaves::GreetsAgain || *part <= Stage::Data || *part == Stage::EndOfMessage
    })
}

/// Sends a mail as far as this part, leaves it so, and sends another one where that is possible.
async fn bear(mta: &mut MockMta, last: Stage, leaves: Leaves) -> Option<String> {
    let mut client = mta.open().await;
    let (mut failures, mut what) = (Vec::new(), None);
    for part in PARTS.into_iter().take_while(|part| *part <= last) {
        if part == Stage::EndOfMessage {
            let done = client.end().await;
            what = what.or(harm(&done));
        } else if send(&mut client, part).await.reply.is_some() {
            break;
        }
    }
    match leaves {
        Leaves::GivesUp => failures.extend(client.abort().await.failures),
        Leaves::GreetsAgain => drop(client.helo("again.example").await),
        Leaves::IsLost => return what.or(client.lose().await.into_iter().next()),
    }
    what = what.or(harm(&client.deliver(Mail::new()).await));
    failures.extend(client.quit().await);
    failures.into_iter().next().or(what)
}

/// Sends a part of a mail.
async fn send(client: &mut SmtpSession, part: Stage) -> Answer {
    match part {
        Stage::Connect => client.connect(Mail::new().connection()).await,
        Stage::Helo => client.helo("client.example").await,
        Stage::Mail => client.mail("alice@example.org").await,
        Stage::Rcpt => client.rcpt("bob@example.net").await,
        Stage::Data => client.data().await,
        Stage::Header => client.header("Subject", "Hello").await,
        Stage::EndOfHeaders => client.end_of_headers().await,
        _ => client.body("Hello Bob!\r\n").await,
    }
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

    /// What a filter does not survive.
    async fn faults<F, R>(filter: F) -> Vec<String>
    where
        F: Fn(Request) -> R + Clone + Send + 'static,
        R: Future<Output = Result<Response, BoxError>> + Send,
    {
        let (faults, _) = ordeal(service_fn(filter)).await;
        assert!(!faults.is_empty(), "it survives");
        let text = |fault: Fault| format!("{}: {}", fault.delivery, fault.cause);
        faults.into_iter().map(text).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_wrong_is_told_by_cause() {
        let filter = service_fn(async |request: Request| {
            if let Event::Mail(sender) = request.event() {
                sender.domain().expect("a domain");
            }
            Ok::<_, BoxError>(Response::proceed())
        });
        let failed = AssertUnwindSafe(survives(filter)).catch_unwind().await;
        let said = failed.expect_err("it survives");
        let said = said.downcast::<String>().expect("a text");
        let lines: Vec<&str> = said.lines().collect();
        let [first, cause, deliveries] = lines[..] else {
            panic!("{said}");
        };
        let count = deliveries.trim().split('×').next().expect("a count");
        assert!(first.starts_with(&format!("the filter does not survive {count} of ")));
        assert_eq!(cause, "  mail: the service panicked: a domain");
        assert!(deliveries.contains("× null sender (Postfix), null sender (Sendmail), "));
        assert!(deliveries.ends_with(", …"), "{said}");
    }

    #[test]
    fn many_causes_are_not_all_told() {
        let fault = |n: usize| Fault {
            delivery: "a mail".to_owned(),
            cause: n.to_string(),
        };
        let faults: Vec<Fault> = (0..CAUSES + 5).map(fault).collect();
        let said = report(&faults, 100);
        assert!(
            said.ends_with("\n  19\n    1× a mail\n  and 5 other causes"),
            "{said}"
        );
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
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_wrong_at_ends_is_told() {
        let faults = faults(async |request: Request| {
            use crate::Outcome::{Aborted, ConnectionLost};
            if let Event::MessageEnd(Aborted | ConnectionLost) = request.event() {
                panic!("in the middle");
            }
            Ok(Response::proceed())
        })
        .await;
        let told = "end: the service panicked: in the middle";
        for flow in [
            "a mail given up behind rcpt (Postfix)",
            "a mail given up behind body (Sendmail)",
            "HELO again behind mail (Postfix)",
            "HELO again behind data (Sendmail)",
            "the connection lost behind header (Postfix)",
        ] {
            assert!(faults.contains(&format!("{flow}: {told}")), "{faults:#?}");
        }
        assert!(!faults.iter().any(|line| line.contains("behind helo")));
        assert!(
            !faults
                .iter()
                .any(|line| line.contains("behind end of message"))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_wrong_with_a_second_mail_is_told() {
        #[derive(Clone)]
        struct Seen;
        let faults = faults(async |request: Request| {
            if let Event::Mail(_) = request.event() {
                let seen = request.session().connection_data().insert(Seen);
                assert!(seen.is_none(), "once is enough");
            }
            Ok(Response::proceed())
        })
        .await;
        let told = "HELO again behind end of message (Sendmail): mail: the service panicked: once";
        assert!(
            faults.iter().any(|line| line.starts_with(told)),
            "{faults:#?}"
        );
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
