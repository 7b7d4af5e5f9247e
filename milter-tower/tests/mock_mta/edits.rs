//! Each modification, and the message that each MTA makes of it.

use milter_core::{Command, Modification, Reply};
use milter_tower::testing::{Delivery, Mail, MockMta, MtaProfile};
use milter_tower::{Event, Needs, Request, Response, Stage, assert_header};

use crate::common::{Act, Scripted, answering};
use crate::{profiles, raw};

/// A filter that answers so at the end.
fn ending(answer: fn() -> Response) -> Scripted {
    answering("end of message", move || Act::Answer(answer())).0
}

async fn edited(profile: MtaProfile, answer: fn() -> Response) -> Delivery {
    let mail = Mail::new()
        .without_headers()
        .header("X-A", "one")
        .header("Subject", "hello")
        .header("x-a", "two");
    let done = MockMta::with_profile(profile, ending(answer))
        .deliver(mail)
        .await;
    assert!(done.is_accepted(), "{done}");
    done
}

/// The headers but for the MTA's own.
fn headers(done: &Delivery) -> Vec<String> {
    let fields = done.message.headers().iter();
    let named = fields.map(|field| format!("{}:{}", field.name(), field.raw()));
    named
        .filter(|line| !line.starts_with("Received:"))
        .collect()
}

#[tokio::test]
async fn headers_are_added_where_each_mta_does() {
    let add = || Response::accept().add_header("X-A", "new");
    for profile in profiles() {
        let is_sendmail = profile.name() == "Sendmail";
        let done = edited(profile, add).await;
        let want = if is_sendmail {
            ["X-A: new", "X-A: one", "Subject: hello", "x-a: two"]
        } else {
            ["X-A: one", "Subject: hello", "x-a: two", "X-A: new"]
        };
        assert_eq!(headers(&done), want);
        assert_eq!(done.edits.len(), 1);
    }
}

#[tokio::test]
async fn headers_are_inserted_changed_and_deleted() {
    for profile in profiles() {
        let is_sendmail = profile.name() == "Sendmail";
        let done = edited(profile.clone(), || {
            Response::accept()
                .insert_header(0, "X-Top", "t")
                .change_header("x-A", 2, "changed")
                .delete_header("X-A", 1)
        })
        .await;
        // Sendmail keeps the name as it was.
        let changed = if is_sendmail {
            "x-a: changed"
        } else {
            "x-A: changed"
        };
        assert_eq!(headers(&done), ["X-Top: t", "Subject: hello", changed]);
        // At the top means above the MTA's own Received.
        let first = done.message.headers().iter().next().unwrap();
        assert_eq!(first.name(), "X-Top");
    }
}

#[tokio::test]
async fn leading_space_is_the_filters_with_the_negotiation() {
    let (filter, _) = Scripted::new(|request: &Request, _| {
        let response = match request.event() {
            Event::Negotiate(_) => Response::needs(Needs::all().leading_space()),
            Event::EndOfMessage(_) => Response::accept().add_header("X-B", "close"),
            _ => Response::proceed(),
        };
        response.into()
    });
    for (profile, raw) in [
        (MtaProfile::postfix(), "close"),
        (MtaProfile::sendmail(), "close"),
        // Which do not offer it.
        (MtaProfile::stalwart(), " close"),
        (MtaProfile::version_2(), " close"),
    ] {
        let mut mta = MockMta::with_profile(profile, filter.twin());
        let done = mta.deliver(Mail::new()).await;
        assert_eq!(
            done.message.headers().get("X-B").unwrap().raw(),
            raw,
            "{done}"
        );
    }
}

#[tokio::test]
async fn the_body_and_the_envelope() {
    for profile in profiles() {
        let is_sendmail = profile.name() == "Sendmail";
        let done = edited(profile, || {
            Response::accept()
                .replace_body("new\r\nbody")
                .change_sender("<other@example.org>")
                .add_recipient("carol@example.net")
                .delete_recipient("<BOB@example.net>")
        })
        .await;
        assert_eq!(done.message.body(), "new\r\nbody\r\n");
        assert_eq!(done.message.sender().mailbox(), "other@example.org");
        let to: Vec<String> = done
            .message
            .recipients()
            .iter()
            .map(|to| to.mailbox().to_string())
            .collect();
        // Q34: Postfix compares byte for byte.
        let want: &[&str] = if is_sendmail {
            &["carol@example.net"]
        } else {
            &["bob@example.net", "carol@example.net"]
        };
        assert_eq!(to, want);
        assert_header!(done, "Subject", "hello");
    }
}

#[tokio::test]
async fn a_large_new_body() {
    let done = edited(MtaProfile::postfix(), || {
        Response::accept().replace_body(vec![b'x'; 200_000])
    })
    .await;
    assert_eq!(done.message.body().len(), 200_002);
}

#[tokio::test]
async fn quarantine() {
    for profile in profiles() {
        let done = edited(profile, || Response::proceed().quarantine("looks odd")).await;
        assert_eq!(done.quarantine().unwrap(), "looks odd");
    }
}

/// What becomes of a mail if the filter sends all that at its end.
async fn ended(profile: MtaProfile, replies: Vec<Reply>) -> Delivery {
    let (mut mta, _) = raw::answering(profile, Needs::all(), move |frame| match frame {
        Command::EndOfMessage(_) => replies.clone(),
        other => raw::go_on(other),
    });
    mta.deliver(Mail::new()).await
}

#[tokio::test]
async fn a_refused_message_is_not_changed() {
    let add = Modification::add_header("X-B", "c").unwrap();
    for profile in profiles() {
        for verdict in [Reply::Reject, Reply::Discard] {
            let done = ended(profile.clone(), vec![Reply::Modify(add.clone()), verdict]).await;
            assert!(!done.is_accepted(), "{done}");
            assert!(done.message.headers().get("X-B").is_none(), "{done}");
            assert_eq!(done.edits, std::slice::from_ref(&add));
        }
    }
}

#[tokio::test]
async fn q17_a_body_in_two_runs() {
    let piece = || Reply::Modify(Modification::replace_body("x\r\n"));
    let add = Reply::Modify(Modification::add_header("X-B", "c").unwrap());
    let replies = vec![piece(), add, piece(), Reply::Accept];
    let done = ended(MtaProfile::postfix(), replies.clone()).await;
    assert_eq!(done.reply().unwrap().code(), 451, "{done}");
    assert_eq!(done.ended_at, Some(Stage::EndOfMessage));
    let done = ended(MtaProfile::sendmail(), replies).await;
    assert_eq!(done.message.body(), "x\r\nx\r\n");
}

#[tokio::test]
async fn the_message_is_delivered_as_it_was_sent() {
    let (filter, _) = crate::common::proceeding();
    for profile in profiles() {
        let mail = Mail::new()
            .mail_from("a@example.org", ["SIZE=9"])
            .rcpt_to("b@example.net", ["NOTIFY=NEVER"])
            .raw_header("X-Raw", "\t b \n\tc ")
            .raw_body(&b"a\0b\rc\r\n"[..]);
        let done = MockMta::with_profile(profile, filter.twin())
            .deliver(&mail)
            .await;
        assert_eq!(
            done.message.headers().get("X-Raw").unwrap().raw(),
            "\t b \n\tc "
        );
        assert_eq!(done.message.body(), mail.content());
        assert_eq!(*done.message.sender(), mail.sender());
        assert_eq!(done.message.recipients(), mail.recipients());
        assert!(done.message.headers().get("Received").is_some());
    }
}
