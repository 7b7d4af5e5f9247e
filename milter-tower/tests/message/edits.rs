//! Edits of a message, as two MTAs are told them.

use std::time::Duration;

use milter_core::edit::Profile;
use milter_core::{Header, Reply};
use milter_tower::message::{Message, MessageFilter, message};
use milter_tower::{
    Actions, Headers, IntoResponse, Offer, OnFailure, Settings, SmtpReply, Steps, Verdict, at,
};

use crate::server::{Letter, Seen, Server, lines};

/// A filter that does this to each message, and returns it.
fn editing(edit: impl Fn(&mut Message) + Clone + Send + Sync + 'static) -> MessageFilter {
    message(move |mut mail: Message| {
        edit(&mut mail);
        async move { mail }
    })
}

#[tokio::test(start_paused = true)]
async fn edits_come_to_the_same_on_both_mtas() {
    let filter = editing(|mail| {
        let headers = mail.headers_mut();
        headers.prepend("X-Top", "t");
        assert!(headers.replace(("X-Old", 2), "two"));
        assert!(headers.remove("Received"));
        assert!(headers.insert_after("Subject", "X-In", "i"));
        headers.append("X-End", "e");
        mail.set_sender("s@example.org");
        mail.add_recipient("c@example.net");
        assert!(mail.remove_recipient("b@example.net"));
        mail.set_body("new\r\n");
        mail.quarantine("why");
    });
    let letter = Letter::new();
    for (mut server, profile) in [
        (Server::new(filter.clone()).await, Profile::postfix()),
        (Server::sendmail(filter).await, Profile::sendmail()),
    ] {
        let done = server.deliver(&letter).await;
        assert_eq!(done.verdict, Reply::Accept);
        assert_eq!(done.edits.len(), 10, "{:?}", done.edits());
        let mail = server.delivered(&letter, &done, profile);
        let expected = [
            "X-Top: t",
            "Subject: hello",
            "X-In: i",
            "X-Old: 1",
            "Received: from b",
            "X-Old: two",
            "X-End: e",
        ];
        assert_eq!(lines(&mail), expected);
        assert_eq!(mail.sender().address(), "<s@example.org>");
        let to: Vec<_> = mail.recipients().iter().map(|to| to.mailbox()).collect();
        assert_eq!(to, ["c@example.net"]);
        assert_eq!(mail.body(), &b"new\r\n"[..]);
        assert_eq!(mail.quarantine().unwrap(), "why");
        server.quit().await;
    }
}

/// The message remembers what came, whatever becomes of the list that was lent out.
#[tokio::test(start_paused = true)]
async fn another_list_may_take_the_place_of_the_headers() {
    let filter = editing(|mail| {
        let without = mail
            .headers()
            .iter()
            .filter(|field| !field.is_named("X-Old"));
        let mut other: Headers = without.map(|field| field.header().clone()).collect();
        other.prepend("X-Top", "t");
        other.append("X-End", "e");
        *mail.headers_mut() = other;
    });
    let gone = editing(|mail| drop(std::mem::take(mail.headers_mut())));
    let back = editing(|mail| {
        let taken = std::mem::take(mail.headers_mut());
        *mail.headers_mut() = taken;
    });
    let expected = [
        "X-Top: t",
        "Received: from a",
        "Subject: hello",
        "Received: from b",
        "X-End: e",
    ];
    let letter = Letter::new();
    for (filter, count, expected) in [(filter, 4, &expected[..]), (gone, 5, &[]), (back, 0, &[])] {
        for (mut server, profile) in [
            (Server::new(filter.clone()).await, Profile::postfix()),
            (Server::sendmail(filter.clone()).await, Profile::sendmail()),
        ] {
            let done = server.deliver(&letter).await;
            assert_eq!(done.verdict, Reply::Accept);
            assert_eq!(done.edits.len(), count, "{:?}", done.edits());
            if count > 0 {
                assert_eq!(lines(&server.delivered(&letter, &done, profile)), expected);
            }
            server.quit().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_leading_space_headers_are_the_same() {
    let filter = editing(|mail| {
        assert_eq!(mail.headers().get("Subject").unwrap().raw(), " hello");
        mail.headers_mut().set("Subject", "changed");
    });
    let offer = Offer {
        steps: Offer::V6.steps - Steps::LEADING_SPACE,
        ..Offer::V6
    };
    let mut server = Server::with(filter, offer, "Postfix 3.7.11", Settings::new()).await;
    let letter = Letter::new();
    let done = server.deliver(&letter).await;
    let mail = server.delivered(&letter, &done, Profile::postfix());
    assert_eq!(lines(&mail)[1], "Subject: changed");
    server.quit().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_undone_is_not_sent() {
    let filter = editing(|mail| {
        mail.add_recipient("<c@example.net>");
        assert!(mail.has_recipient("c@example.net"));
        assert!(mail.remove_recipient("c@example.net"));
        assert!(mail.remove_recipient("b@example.net") && !mail.has_recipient("b@example.net"));
        assert!(!mail.remove_recipient("b@example.net"));
        mail.add_recipient("b@example.net");
        mail.add_recipient("B@EXAMPLE.NET");
        mail.set_sender("x@example.org");
        mail.set_sender("a@example.org");
        mail.headers_mut().append("X-New", "n");
        assert_eq!(mail.headers_mut().remove_all("X-New"), 1);
    });
    let mut server = Server::new(filter).await;
    let done = server.deliver(&Letter::new()).await;
    assert_eq!(done.edits(), [""; 0]);
    assert_eq!(done.verdict, Reply::Accept);
    server.quit().await;
}

/// Each is found at once: to look through all of them for each takes minutes.
#[tokio::test(start_paused = true)]
async fn all_of_many_recipients_are_changed_in_no_time() {
    let to: Vec<&str> = (0..5000)
        .map(|n| &*format!("<User.{n}@example.net>").leak())
        .collect();
    let filter = editing(|mail| {
        let begun = std::time::Instant::now();
        for n in 0..5000 {
            assert!(mail.remove_recipient(format!("user.{n}@example.net")));
            mail.add_recipient(format!("new.{n}@example.net"));
        }
        for n in 0..4999 {
            assert!(mail.remove_recipient(format!("New.{n}@example.net")));
            mail.add_recipient(format!("user.{n}@example.net"));
        }
        assert_eq!(mail.recipients().count(), 5000);
        assert!(begun.elapsed() < Duration::from_secs(5));
    });
    let mut server = Server::new(filter).await;
    let done = server.deliver(&Letter::new().to(&to)).await;
    let expected = [
        "DeleteRecipient { address: \"<User.4999@example.net>\" }",
        "AddRecipient { address: \"<new.4999@example.net>\" }",
    ];
    assert_eq!(done.edits(), expected);
    server.quit().await;
}

/// Postfix compares with what the client wrote, byte for byte (Q34).
#[tokio::test(start_paused = true)]
async fn q34_recipients_are_removed_as_they_came() {
    let filter = editing(|mail| {
        assert_eq!(mail.recipients().count(), 3);
        assert!(mail.remove_recipient("bob@example.net"));
        let left: Vec<_> = mail
            .recipients()
            .map(|to| to.mailbox().to_string())
            .collect();
        assert_eq!(left, ["c@example.net"]);
    });
    let mut server = Server::new(filter).await;
    let letter = Letter::new().to(&["<bob@EXAMPLE.net>", "<c@example.net>", "<bob@example.NET>"]);
    let done = server.deliver(&letter).await;
    let delete = |address| format!("DeleteRecipient {{ address: {address:?} }}");
    assert_eq!(
        done.edits(),
        [delete("<bob@EXAMPLE.net>"), delete("<bob@example.NET>")]
    );
    server.quit().await;
}

/// What cannot be sent as an address can be left as it is, and put back.
#[tokio::test(start_paused = true)]
async fn odd_recipients() {
    let filter = editing(|mail| {
        let odd = mail.recipients().next().unwrap().address().to_vec();
        assert!(mail.remove_recipient(&odd));
        mail.add_recipient(&odd);
        mail.add_recipient(&odd);
        assert!(mail.remove_recipient("b@example.net"));
    });
    for odd in [
        "<@one.example:bob@example.net>",
        "bob@example.net>",
        "<\u{1}@x>",
    ] {
        let mut server = Server::new(filter.clone()).await;
        let letter = Letter::new().to(&[odd, "<b@example.net>", "<b@example.net>"]);
        let done = server.deliver(&letter).await;
        // The one that came twice goes at once.
        let delete = r#"DeleteRecipient { address: "<b@example.net>" }"#;
        assert_eq!(
            (done.answer().as_str(), done.edits()),
            ("Accept", vec![delete.into()])
        );
        server.quit().await;
    }
}

/// All that was taken out is put back: Sendmail would take them for one.
#[tokio::test(start_paused = true)]
async fn what_is_put_back_is_put_back_whole() {
    let filter = editing(|mail| {
        assert!(mail.remove_recipient("bob@example.net"));
        mail.add_recipient("bob@example.net");
        assert_eq!(mail.recipients().count(), 2);
        assert!(mail.remove_recipient("bob@example.net"));
        mail.add_recipient("bob@example.net");
    });
    let mut server = Server::new(filter).await;
    let letter = Letter::new().to(&["<bob@EXAMPLE.net>", "<Bob@example.net>"]);
    let done = server.deliver(&letter).await;
    assert_eq!((done.answer().as_str(), done.edits.len()), ("Accept", 0));
    server.quit().await;

    let filter = editing(|mail| {
        assert!(mail.remove_recipient("b@example.net"));
        mail.add_recipient_with_args("b@example.net", "NOTIFY=NEVER");
    });
    let mut server = Server::new(filter).await;
    assert_eq!(server.deliver(&Letter::new()).await.edits.len(), 2);
    server.quit().await;
}

#[tokio::test(start_paused = true)]
async fn arguments_go_along() {
    let filter = editing(|mail| {
        assert_eq!(mail.sender().args().size(), Some(7));
        // Without new ones the MTA keeps what came.
        mail.set_sender("s@example.org");
        assert_eq!(mail.sender().args().size(), Some(7));
        mail.set_sender_with_args("s@example.org", "RET=HDRS");
        mail.add_recipient_with_args("c@example.net", "NOTIFY=NEVER");
        assert!(mail.sender().args().size().is_none());
    });
    let mut server = Server::new(filter).await;
    let done = server.deliver(&Letter::new()).await;
    assert_eq!(
        done.edits(),
        [
            r#"ChangeSender { address: "<s@example.org>", args: Some("RET=HDRS") }"#,
            r#"AddRecipientWithArgs { address: "<c@example.net>", args: Some("NOTIFY=NEVER") }"#,
        ]
    );
    server.quit().await;
}

/// What a handler did to a message does not get lost unawares.
#[tokio::test(start_paused = true)]
async fn edits_that_are_not_given_back_fail_the_message() {
    let edit = |mail: &mut Message| mail.headers_mut().append("X-A", "b");
    let lets_go = message(move |mut mail: Message| async move { edit(&mut mail) });
    let accepts = message(move |mut mail: Message| async move {
        edit(&mut mail);
        Verdict::Accept
    });
    let forgets_response = message(move |mut mail: Message| async move {
        edit(&mut mail);
        drop(mail.accept());
        Verdict::Accept
    });
    let keeps = message(move |mut mail: Message| async move {
        edit(&mut mail);
        tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(mail);
        });
    });
    for wrong in [lets_go, accepts, forgets_response, keeps] {
        let mut server = Server::new(wrong).await;
        let done = server.deliver(&Letter::new()).await;
        assert_eq!(done.verdict, Reply::TempFail);
        assert_eq!(done.edits(), [""; 0]);
        server.quit().await;
    }
}

#[tokio::test(start_paused = true)]
async fn edits_that_came_to_nothing_may_be_let_go() {
    let filter = message(|mut mail: Message| async move {
        assert_eq!(mail.headers_mut().remove_all("X-None"), 0);
        mail.add_recipient("b@example.net");
    });
    let mut server = Server::new(filter).await;
    assert_eq!(
        server.deliver(&Letter::new()).await.verdict,
        Reply::Continue
    );
    server.quit().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_message_needs_no_edits() {
    let filter = message(|mut mail: Message| async move {
        mail.headers_mut().append("X-A", "b");
        Err::<(), _>(SmtpReply::reject("no"))
    });
    let mut server = Server::new(filter).await;
    let done = server.deliver(&Letter::new()).await;
    assert_eq!(done.answer(), "550 5.7.1 no");
    server.quit().await;
}

#[tokio::test(start_paused = true)]
async fn edits_that_cannot_be_made_fail_the_message() {
    let edits: [fn(&mut Message); 5] = [
        |mail| mail.headers_mut().append("no name", "x"),
        |mail| mail.set_sender("not an address, at all"),
        |mail| mail.add_recipient(""),
        |mail| mail.quarantine(" "),
        // A place that there is not without leading space.
        |mail| mail.headers_mut().append_raw("X-A", "b"),
    ];
    let offer = Offer {
        steps: Offer::V6.steps - Steps::LEADING_SPACE,
        ..Offer::V6
    };
    for edit in edits {
        let filter = editing(edit);
        let settings = Settings::new().on_failure(OnFailure::Reject);
        let mut server = Server::with(filter, offer, "Postfix 3", settings).await;
        let done = server.deliver(&Letter::new()).await;
        assert_eq!(done.verdict, Reply::Reject);
        assert_eq!(done.edits(), [""; 0]);
        server.quit().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_protocol_cannot_say_can_be_done_nearly() {
    use milter_tower::edit::Unplaceable;

    let filter = editing(|mail| mail.headers_mut().append_raw("X-A", "b"));
    let offer = Offer {
        steps: Offer::V6.steps - Steps::LEADING_SPACE,
        ..Offer::V6
    };
    let filter = filter.unplaceable(Unplaceable::Nearest);
    let mut server = Server::with(filter, offer, "Postfix 3", Settings::new()).await;
    let done = server.deliver(&Letter::new()).await;
    assert_eq!((done.verdict, done.edits.len()), (Reply::Accept, 1));
    server.quit().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_not_granted_fails_the_message() {
    let filter = editing(|mail| mail.headers_mut().append("X-A", "b"));
    let offer = Offer {
        actions: Actions::CHANGE_BODY,
        ..Offer::V6
    };
    let not_asked = filter.clone().read_only();
    for (filter, offer) in [(not_asked, Offer::V6), (filter, offer)] {
        let mut server = Server::with(filter, offer, "Postfix 3", Settings::new()).await;
        assert!(!server.actions.contains(Actions::ADD_HEADERS));
        let done = server.deliver(&Letter::new()).await;
        assert_eq!(done.verdict, Reply::TempFail);
        server.quit().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_profile_can_be_set() {
    let insert = |mail: &mut Message| {
        assert!(mail.headers_mut().insert_before(("X-Old", 2), "X-In", "i"));
    };
    let indices = |done: &crate::server::Done| -> Vec<String> { done.edits() };
    let filter = editing(insert);
    let mut all = Vec::new();
    let own = Profile::sendmail_with(["Return-Path", "Received", "Date"]);
    for mut server in [
        Server::new(filter.clone()).await,
        Server::new(filter.clone().profile(Profile::sendmail())).await,
        Server::sendmail(filter.clone()).await,
        Server::sendmail(filter.sendmail_profile(own)).await,
    ] {
        let done = server.deliver(&Letter::new()).await;
        all.extend(indices(&done));
        server.quit().await;
    }
    let insert = |index| format!(r#"InsertHeader {{ index: {index}, name: "X-In", value: " i" }}"#);
    assert_eq!(all, [insert(5), insert(12), insert(12), insert(6)]);
}

/// The handler log what the session knows, and the message as it came.
#[tokio::test(start_paused = true)]
async fn what_a_handler_sees() {
    let seen = Seen::default();
    let log = seen.clone();
    let filter = message(move |mail: Message| {
        let log = log.clone();
        async move {
            log.add(mail.client_ip().unwrap().to_string());
            log.add(mail.helo().unwrap().to_string());
            log.add(mail.sender().mailbox().to_string());
            for to in mail.recipients() {
                log.add(to.mailbox().to_string());
            }
            log.add(mail.headers().len().to_string());
            log.add(format!("{:?}", mail.body().in_memory().unwrap()));
            log.add(format!("{:?}", mail.to_bytes(1000).await.unwrap()));
            assert!(mail.to_bytes(40).await.is_err());
            assert!(mail.tls().is_none() && mail.auth().is_none() && mail.queue_id().is_none());
        }
    });
    let mut server = Server::new(filter).await;
    let mut letter = Letter::new();
    letter.headers = vec![("Subject", "hello\n\tworld"), ("X-A", "b")];
    let done = server.deliver(&letter).await;
    assert_eq!(done.verdict, Reply::Continue);
    assert_eq!(
        seen.take(),
        [
            "192.0.2.7",
            "client.example",
            "a@example.org",
            "b@example.net",
            "2",
            r#"b"hello\r\n""#,
            r#"b"Subject: hello\r\n\tworld\r\nX-A: b\r\n\r\nhello\r\n""#,
        ]
    );
    server.quit().await;
}

#[cfg(feature = "mail-parser")]
#[tokio::test(start_paused = true)]
async fn a_message_can_be_parsed() {
    let filter = message(|mut mail: Message| async move {
        assert!(mail.parse(10).await.is_err());
        mail.set_body("changed\r\n");
        let parsed = mail.parse(10_000).await.unwrap().unwrap();
        assert_eq!(parsed.subject(), Some("hello"));
        assert_eq!(parsed.body_text(0).unwrap(), "changed\r\n");
        mail.set_body("changed\r\n".repeat(10_000));
        let parsed = mail.parse(1_000_000).await.unwrap().unwrap();
        assert_eq!(parsed.body_text(0).unwrap().len(), 90_000);
        mail.accept()
    });
    let mut server = Server::new(filter).await;
    let done = server.deliver(&Letter::new()).await;
    assert_eq!(
        (done.verdict, done.edits.len()),
        (Reply::Accept, 2),
        "a body of two pieces"
    );
    server.quit().await;
}

/// The message is an answer by itself, also in a result.
#[test]
fn a_message_is_an_answer() {
    fn answers<T: IntoResponse<at::EndOfMessage>>() {}
    answers::<Message>();
    answers::<Result<Message, SmtpReply>>();
    answers::<Option<Message>>();
    let _ = Header::new("a", "b");
}
