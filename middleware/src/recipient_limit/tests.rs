use milter_tower::testing::{Mail, MockMta, MtaProfile, survives};
use milter_tower::{BoxError, Event, Recipient, Response, Router, SmtpReply, assert_accepted};
use tower::{Layer, service_fn};

use super::*;

/// Without Stalwart, which takes the refusal of a recipient for that of the session.
fn profiles() -> [MtaProfile; 3] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::version_2(),
    ]
}

fn mail(recipients: usize) -> Mail {
    (0..recipients).fold(Mail::new(), |mail, n| mail.to(format!("{n}@example.net")))
}

#[tokio::test]
async fn refuses_those_beyond_it() {
    for profile in profiles() {
        // It refuses the second one itself, which does not count.
        let router = Router::new().on_rcpt(async |to: Recipient| {
            (to.mailbox() == "1@example.net").then(|| SmtpReply::reject("no such user"))
        });
        let filter = RecipientLimitLayer::new(2).layer(router);
        let mut session = MockMta::with_profile(profile.clone(), filter).open().await;
        for _ in 0..2 {
            let done = session.deliver(mail(5)).await;
            assert_accepted!(done);
            assert_eq!(
                done.message.recipients().len(),
                2,
                "{}: {done}",
                profile.name()
            );
            let reply = done.answer_to("4@example.net").unwrap().reply.as_ref();
            assert_eq!(reply.unwrap().to_string(), "452 4.5.3 Too many recipients");
            let reply = done.answer_to("1@example.net").unwrap().reply.as_ref();
            assert_eq!(reply.unwrap().to_string(), "550 5.7.1 no such user");
        }
    }
}

/// It counts on, though the filter accepted early and wants no more of the message.
#[tokio::test]
async fn counts_behind_one_that_accepts() {
    for profile in profiles() {
        let filter = service_fn(async |request: milter_tower::Request| {
            Ok::<_, BoxError>(match request.event() {
                Event::Mail(_) => Response::accept(),
                Event::Rcpt(_) | Event::EndOfMessage(_) => panic!("it is asked no more"),
                _ => Response::proceed(),
            })
        });
        let reply = SmtpReply::tempfail("one at a time");
        let filter = RecipientLimitLayer::new(1).verdict(reply).layer(filter);
        let mut session = MockMta::with_profile(profile, filter).open().await;
        for _ in 0..2 {
            let done = session.deliver(mail(3)).await;
            assert_accepted!(done);
            assert_eq!(done.message.recipients().len(), 1);
            assert!(done.failures.is_empty(), "{done}");
        }
    }
}

#[tokio::test]
async fn bears_what_mails_bring() {
    survives(RecipientLimitLayer::new(2).layer(Router::new())).await;
}
