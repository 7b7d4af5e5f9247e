//! Whole mails in one call.

use milter_core::{Command, Modification, Needs, Reply};
use milter_tower::client::{DefaultAction, Fate, Mail};
use milter_tower::{Stage, Verdict, edit};

use crate::peer::{Act, client, connected, go, say};

fn all() -> Needs {
    Needs::all()
}

#[tokio::test]
async fn mails_of_one_client() {
    let (mut milter, trace) = connected(client(), all(), go).await;
    let mail = Mail::new().header("X-Long", "x").body("hello");
    for _ in 0..2 {
        let done = milter.deliver(&mail).await;
        assert!(done.is_accepted() && done.failure.is_none(), "{done}");
        assert_eq!(done.ended_at, Some(Stage::EndOfMessage));
        assert_eq!(*done.message.headers(), mail.headers());
        assert_eq!(done.message.body(), "hello\r\n");
        assert_eq!(
            done.answer_at(Stage::Mail).unwrap().verdict,
            Verdict::Continue
        );
    }
    milter.quit().await.unwrap();
    let letters = trace.all_letters().await.replace('D', "");
    assert_eq!(letters, "OCHMRTLLLLLLNBEMRTLLLLLLNBEQ");
}

#[tokio::test]
async fn refusals() {
    let own = || Reply::Smtp("552 5.3.4 Too large".parse().unwrap());
    for (letter, reply, stage, code) in [
        (b'C', Reply::Reject, Stage::Connect, 550),
        (b'H', Reply::TempFail, Stage::Helo, 451),
        (b'M', own(), Stage::Mail, 552),
        (b'T', Reply::Reject, Stage::Data, 550),
        (b'L', own(), Stage::Header, 552),
        (b'N', Reply::Shutdown, Stage::EndOfHeaders, 421),
        (b'B', Reply::TempFail, Stage::Body, 451),
        (b'E', own(), Stage::EndOfMessage, 552),
    ] {
        let (mut milter, _) = connected(client(), all(), say(letter, reply)).await;
        // The second one is refused too, by whom the session was refused without being asked.
        for _ in 0..2 {
            let done = milter.deliver(Mail::new()).await;
            assert_eq!(done.reply().unwrap().code(), code, "{done}");
            assert_eq!(done.ended_at, Some(stage), "{done}");
            assert!(done.failure.is_none(), "{done}");
        }
    }
}

#[tokio::test]
async fn recipients_one_by_one() {
    let picky = |frame: &Command| match frame {
        Command::Rcpt(to) if to.mailbox().starts_with(b"no") => Act::Say(vec![Reply::Reject]),
        Command::Rcpt(to) if to.mailbox().starts_with(b"bye") => {
            Act::Say(vec![Reply::Smtp("421 4.7.0 Bye".parse().unwrap())])
        }
        _ => Act::Go,
    };
    let mail = Mail::new()
        .to("a@example.net")
        .to("no@example.net")
        .to("b@example.net");
    let (mut milter, trace) = connected(client(), all(), picky).await;
    let done = milter.deliver(&mail).await;
    assert!(done.is_accepted(), "{done}");
    assert_eq!(done.message.recipients().len(), 2);
    let refused: Vec<_> = done.refused_recipients().collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].mailbox(), "no@example.net");
    let none = milter.deliver(Mail::new().to("no@example.net")).await;
    assert_eq!(none.fate, Fate::NoRecipients);
    assert!(trace.all_letters().await.ends_with('A'));
    let done = milter
        .deliver(Mail::new().to("bye@example.net").to("b@example.net"))
        .await;
    assert_eq!(done.reply().unwrap().code(), 421, "{done}");
}

#[tokio::test]
async fn verdicts_before_the_end() {
    for (letter, reply) in [
        (b'M', Reply::Accept),
        (b'R', Reply::Accept),
        (b'N', Reply::Accept),
    ] {
        let (mut milter, trace) = connected(client(), all(), say(letter, reply)).await;
        let mail = Mail::new().to("a@example.net").to("b@example.net");
        let done = milter.deliver(&mail).await;
        assert!(done.is_accepted(), "{done}");
        assert_eq!(done.message.recipients().len(), 2);
        assert!(!trace.letters().contains(['E', 'A']), "{}", trace.letters());
    }
    let (mut milter, trace) = connected(client(), all(), say(b'B', Reply::Discard)).await;
    let done = milter.deliver(Mail::new()).await;
    assert!(done.is_discarded(), "{done}");
    assert!(trace.letters().ends_with('B'), "{}", trace.letters());
    // A skip is no verdict.
    let (mut milter, trace) = connected(client(), all().skip(), say(b'B', Reply::Skip)).await;
    let long = Mail::new().body("x\r\n".repeat(60_000));
    let done = milter.deliver(long).await;
    assert!(done.is_accepted(), "{done}");
    assert!(trace.letters().ends_with("NBE") || trace.letters().ends_with("NBDE"));
}

#[tokio::test]
async fn edits_are_applied_as_the_profile_does() {
    let delete = |frame: &Command| match frame {
        Command::EndOfMessage(_) => Act::Say(
            [1, 2]
                .map(|n| Reply::Modify(Modification::delete_header("X-Old", n).unwrap()))
                .into_iter()
                .chain([Reply::Continue])
                .collect(),
        ),
        _ => Act::Go,
    };
    let mail = || {
        let mail = Mail::new().without_headers();
        mail.header("X-Old", "1")
            .header("X-Old", "2")
            .header("X-Old", "3")
    };
    for (profile, left) in [
        (edit::Profile::postfix(), "2"),
        (edit::Profile::sendmail(), "3"),
    ] {
        let (mut milter, _) = connected(client().edits(profile), all(), delete).await;
        let done = milter.deliver(mail()).await;
        assert_eq!(
            done.message.headers().get_str("X-Old"),
            Some(left),
            "{done}"
        );
        assert_eq!(done.edits.len(), 2);
    }
}

#[tokio::test]
async fn macros_of_the_mail() {
    let (mut milter, trace) = connected(client(), all(), go).await;
    let mail = Mail::new()
        .tls("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
        .auth("PLAIN", "alice");
    milter.deliver(mail).await;
    milter.deliver(Mail::new()).await;
    assert!(trace.macros(b'H')[0].contains("{tls_version}=TLSv1.3"));
    let mail = trace.macros(b'M');
    assert!(mail[0].contains("{auth_authen}=alice"), "{mail:?}");
    assert!(!mail[1].contains("auth"), "{mail:?}");
}

/// A mail server that waits no longer has not lost the milter with that, nor the mails after it.
#[tokio::test(start_paused = true)]
async fn a_mail_that_was_dropped_is_given_up_before_the_next() {
    use futures::{SinkExt, StreamExt};
    for slow in *b"CMRLNE" {
        let (mta, io) = tokio::io::duplex(64 * 1024);
        let seen = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let trace = std::sync::Arc::clone(&seen);
        tokio::spawn(async move {
            let mut framed = tokio_util::codec::Framed::new(io, milter_core::FilterCodec::new());
            let mut is_slow = true;
            while let Some(Ok(frame)) = framed.next().await {
                if frame.code() != b'D' {
                    trace.lock().unwrap().push(char::from(frame.code()));
                }
                if frame.code() == slow && std::mem::take(&mut is_slow) {
                    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
                }
                let reply = match &frame {
                    Command::Negotiate(offer) => {
                        let agreed = milter_core::negotiate(offer, &Needs::all()).unwrap();
                        Reply::Negotiate(agreed.to_reply())
                    }
                    frame if frame.stage().is_some() => Reply::Continue,
                    _ => continue,
                };
                if framed.send(reply).await.is_err() {
                    return;
                }
            }
        });
        let client = client().on_failure(DefaultAction::Accept);
        let mut milter = client.over(mta).await.unwrap();
        let second = std::time::Duration::from_secs(1);
        let dropped = tokio::time::timeout(second, milter.deliver(Mail::new())).await;
        assert!(dropped.is_err());
        let done = milter.deliver(Mail::new()).await;
        assert!(done.is_accepted() && done.failure.is_none(), "{done}");
        milter.quit().await.unwrap();
        tokio::task::yield_now().await;
        let seen = seen.lock().unwrap().clone();
        assert_eq!(seen.matches('C').count(), 1, "{seen}");
        let aborts = usize::from(!matches!(slow, b'C' | b'E'));
        assert_eq!(seen.matches('A').count(), aborts, "{seen}");
        assert!(seen.ends_with("NBEQ"), "{seen}");
    }
}
