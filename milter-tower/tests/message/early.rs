//! Decisions before the end of the message, and about single recipients.

use milter_core::{Command, Reply};
use milter_tower::message::{DecideAt, Message, MessageFilter, message};
use milter_tower::{Offer, Recipient, Session, Settings, SmtpReply, Stage, Steps, verdict};

use crate::common::rcpt;
use crate::server::{Done, Letter, Seen, Server};

/// A filter that tells what it log, and adds headers if there are two recipients. It refuses
/// mail to bad ones.
fn deciding(at: DecideAt, seen: &Seen) -> MessageFilter {
    let log = seen.clone();
    message(move |mut mail: Message| {
        let to: Vec<_> = mail
            .recipients()
            .map(|to| to.mailbox().to_string())
            .collect();
        let (headers, body) = (mail.headers().len(), mail.body().len());
        log.add(format!("{} {headers} {body}", to.join(",")));
        async move {
            if mail.has_recipient("bad@example.net") {
                return Err(SmtpReply::reject("bad"));
            }
            if mail.recipients().count() == 2 {
                mail.headers_mut().prepend("X-Top", "t");
                mail.headers_mut().append("Received", "end");
            }
            Ok(mail)
        }
    })
    .decide_at(at)
}

const TWO: &[&str] = &["<b@example.net>", "<c@example.net>"];

#[tokio::test(start_paused = true)]
async fn an_early_decision_is_given_early() {
    for (at, letter_of, saw) in [
        (DecideAt::Data, 'T', "b@example.net 0 0"),
        (DecideAt::EndOfHeaders, 'N', "b@example.net 5 0"),
        (DecideAt::EndOfMessage, 'E', "b@example.net 5 7"),
    ] {
        let seen = Seen::default();
        let mut server = Server::new(deciding(at, &seen)).await;
        for _ in 0..2 {
            let done = server.deliver(&Letter::new()).await;
            assert_eq!((done.at, done.answer().as_str()), (letter_of, "Accept"));
            assert_eq!(seen.take(), [saw]);
            server.abort().await;
        }
        let done = server
            .deliver(&Letter::new().to(&["<bad@example.net>"]))
            .await;
        assert_eq!(
            (done.at, done.answer().as_str()),
            (letter_of, "550 5.7.1 bad")
        );
        server.abort().await;
        server.quit().await;
    }
}

/// Edits wait for the end, and are right though other headers were not seen.
#[tokio::test(start_paused = true)]
async fn edits_of_an_early_decision_wait_for_the_end() {
    use milter_core::edit::Profile;

    for at in [DecideAt::Data, DecideAt::EndOfHeaders] {
        let filter = deciding(at, &Seen::default());
        for (mut server, profile) in [
            (Server::new(filter.clone()).await, Profile::postfix()),
            (Server::sendmail(filter.clone()).await, Profile::sendmail()),
        ] {
            let letter = Letter::new().to(TWO);
            let done = server.deliver(&letter).await;
            assert_eq!((done.at, done.answer().as_str()), ('E', "Accept"));
            assert_eq!(done.pieces, 0);
            let mail = server.delivered(&letter, &done, profile);
            let lines = crate::server::lines(&mail);
            assert_eq!(lines.len(), 7);
            assert_eq!(
                (lines[0].as_str(), lines[6].as_str()),
                ("X-Top: t", "Received: end")
            );
            server.quit().await;
        }
    }
}

/// Who accepted the sender did not accept recipients that come later.
#[tokio::test(start_paused = true)]
async fn an_accepted_sender_leaves_recipients_to_be_checked() {
    let filter = message(async |_: Message| {})
        .decide_at(DecideAt::Mail)
        .check_rcpt(async |_: Recipient, _: Session| SmtpReply::reject("nobody"));
    let mut server = Server::new(filter).await;
    assert_eq!(server.begin(&Letter::new()).await, Reply::Continue);
    let refused = server.tell(rcpt("<c@example.net>")).await;
    assert_eq!(refused, Reply::Smtp(SmtpReply::reject("nobody")));
    let (edits, verdict) = server.mta.end().await;
    assert_eq!((edits.len(), verdict), (0, Reply::Accept));
    server.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_decision_at_mail() {
    let filter = message(|mail: Message| async move {
        assert_eq!(mail.recipients().count(), 0);
        assert_eq!(mail.sender().mailbox(), "a@example.org");
        mail.reply(SmtpReply::reject("not you"))
    })
    .decide_at(DecideAt::Mail);
    let mut server = Server::new(filter).await;
    for stage in [
        Stage::Rcpt,
        Stage::Data,
        Stage::Header,
        Stage::EndOfHeaders,
        Stage::Body,
    ] {
        assert!(server.is_declined(stage), "{stage}");
    }
    let done = server.deliver(&Letter::new()).await;
    assert_eq!(
        (done.at, done.answer().as_str()),
        ('M', "550 5.7.1 not you")
    );
    server.quit().await;
}

/// RFC 5321 lets a client give DATA again after it was refused; the transaction is open (Q24).
#[tokio::test(start_paused = true)]
async fn q24_a_repeated_data_is_decided_again() {
    let seen = Seen::default();
    let mut server = Server::new(deciding(DecideAt::Data, &seen)).await;
    let bad = Letter::new().to(&["<bad@example.net>"]);
    assert_eq!(server.deliver(&bad).await.at, 'T');
    let done = Done {
        at: 'T',
        verdict: server.tell(Command::Data).await,
        edits: Vec::new(),
        pieces: 0,
    };
    assert_eq!(done.answer(), "550 5.7.1 bad");
    assert_eq!(seen.take().len(), 2);
    server.abort().await;
    server.quit().await;
}

/// An MTA that sends no DATA, as those that speak version 2.
#[tokio::test(start_paused = true)]
async fn a_stage_that_does_not_come_is_made_up_for() {
    let seen = Seen::default();
    let filter = deciding(DecideAt::Data, &seen);
    let offer = Offer {
        version: 2,
        steps: Steps::from_bits_retain(0x7f),
        ..Offer::V6
    };
    let mut server = Server::with(filter, offer, "8.13", Settings::new()).await;
    let letter = Letter::new();
    server.begin(&letter).await;
    let done = Done {
        at: 'T',
        verdict: Reply::Continue,
        edits: Vec::new(),
        pieces: 0,
    };
    let done = server.content(&letter, done).await;
    assert_eq!((done.at, done.answer().as_str()), ('E', "Accept"));
    assert_eq!(seen.take(), ["b@example.net 0 0"]);
    server.quit().await;
}

#[tokio::test(start_paused = true)]
async fn single_recipients_are_refused() {
    let seen = Seen::default();
    let filter = deciding(DecideAt::EndOfMessage, &seen).check_rcpt(
        |to: Recipient, session: Session| async move {
            assert!(session.sender().is_some());
            (to.mailbox() == "no@example.net").then(|| SmtpReply::reject("not him"))
        },
    );
    let mut server = Server::new(filter).await;
    assert!(!server.is_silent(Stage::Rcpt));
    server.begin(&Letter::new()).await;
    let refused = server.tell(rcpt("<no@example.net>")).await;
    assert_eq!(refused, Reply::Smtp(SmtpReply::reject("not him")));
    let done = Done {
        at: 'T',
        verdict: Reply::Continue,
        edits: Vec::new(),
        pieces: 0,
    };
    let done = server.content(&Letter::new(), done).await;
    assert_eq!(done.answer(), "Accept");
    assert_eq!(seen.take(), ["b@example.net 5 7"]);
    server.quit().await;
}

/// To accept a recipient is not to let the message pass unseen.
#[tokio::test(start_paused = true)]
async fn an_accepted_recipient_is_no_accepted_message() {
    let seen = Seen::default();
    let filter = deciding(DecideAt::EndOfMessage, &seen)
        .check_rcpt(async |_: Recipient, _: Session| verdict::Accept);
    let mut server = Server::new(filter).await;
    assert_eq!(server.begin(&Letter::new()).await, Reply::Continue);
    let second = server.tell(rcpt("<c@example.net>")).await;
    assert_eq!(second, Reply::Continue);
    let done = Done {
        at: 'T',
        verdict: Reply::Continue,
        edits: Vec::new(),
        pieces: 0,
    };
    let done = server.content(&Letter::new(), done).await;
    assert_eq!((done.at, seen.take().len()), ('E', 1));
    server.quit().await;
}
