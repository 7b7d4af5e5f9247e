//! Calls out of order, and futures that are dropped.

use std::time::Duration;

use milter_core::{Command, Needs, Reply, Stage};
use milter_tower::client::{ClientErrorKind, SendError};
use milter_tower::{Header, Verdict};
use tokio::time::timeout;

use crate::peer::{Act, client, connected, go, host, recipient, say, sender, up_to_body};

#[tokio::test]
async fn steps_out_of_order_change_nothing() {
    let (mut milter, trace) = connected(client(), Needs::all(), go).await;
    let error = milter.mail(sender()).await.unwrap_err();
    assert!(!error.is_fatal());
    assert_eq!(error.stage(), Some(Stage::Mail));
    assert_eq!(
        error.to_string(),
        "milter without address at mail: mail cannot come here: the MTA is before the client's \
         connection"
    );
    milter.connect(host()).await.unwrap();
    assert!(milter.connect(host()).await.is_err());
    assert!(milter.rcpt(recipient()).await.is_err());
    milter.mail(sender()).await.unwrap();
    let error = milter.mail(sender()).await.unwrap_err();
    assert!(matches!(
        error.kind(),
        ClientErrorKind::Misused(SendError::MessageOpen)
    ));
    assert!(milter.data().await.is_err());
    milter.rcpt(recipient()).await.unwrap();
    assert!(milter.body("x").await.is_err() && milter.end().await.is_err());
    let large = Header::new("X", vec![b'x'; 70_000]);
    let error = milter.header(large).await.unwrap_err();
    assert!(error.to_string().contains("reads only 65535"), "{error}");
    milter.end_of_headers().await.unwrap();
    milter.end().await.unwrap();
    milter.quit().await.unwrap();
    assert_eq!(trace.all_letters().await.replace('D', ""), "OCMRNEQ");
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_was_not_waited_for_can_be_fetched() {
    let (mut milter, trace) = connected(client(), Needs::all(), say(b'C', Reply::Progress)).await;
    let second = Duration::from_secs(1);
    assert!(timeout(second, milter.connect(host())).await.is_err());
    let error = milter.helo("client.example").await.unwrap_err();
    assert!(
        error.to_string().contains("take its reply first"),
        "{error}"
    );
    assert!(milter.abort().await.is_err() && !milter.is_gone());
    assert!(timeout(second, milter.answer()).await.is_err());
    // The wait goes on where it was.
    let start = tokio::time::Instant::now();
    assert!(milter.answer().await.unwrap_err().is_fatal());
    assert_eq!(start.elapsed().as_secs(), 28);
    assert_eq!(trace.letters(), "ODC");

    let mut n = 0;
    let slow = move |frame: &Command| {
        n += 1;
        match frame {
            Command::Helo(_) if n < 4 => Act::Say(vec![]),
            Command::Unknown(_) => Act::Say(vec![Reply::Continue]),
            _ => Act::Go,
        }
    };
    let (mut milter, _) = connected(client(), Needs::all(), slow).await;
    milter.connect(host()).await.unwrap();
    assert_eq!(milter.answer().await.unwrap(), None, "nothing is due");
}

#[tokio::test]
async fn a_verdict_stays() {
    for (reply, verdict) in [
        (Reply::Accept, Verdict::Accept),
        (Reply::Discard, Verdict::Discard),
        (Reply::Reject, Verdict::Reject),
    ] {
        let (mut milter, trace) = connected(client(), Needs::all(), say(b'M', reply)).await;
        milter.connect(host()).await.unwrap();
        assert_eq!(milter.mail(sender()).await.unwrap().verdict, verdict);
        assert_eq!(milter.decided(), Some(&verdict));
        // An MTA that does not look goes on, and is told again.
        assert_eq!(milter.rcpt(recipient()).await.unwrap().verdict, verdict);
        milter.data().await.unwrap();
        milter.end_of_headers().await.unwrap();
        let nothing_is_read = tokio::io::empty();
        assert_eq!(
            milter.body_from(nothing_is_read).await.unwrap().verdict,
            verdict
        );
        assert_eq!(milter.end().await.unwrap().verdict, verdict);
        assert_eq!(milter.decided(), None);
        // The next message is one of its own.
        milter.mail(sender()).await.unwrap();
        assert_eq!(trace.letters().replace('D', ""), "OCMM");
    }
}

#[tokio::test]
async fn c79_ends() {
    let (mut milter, trace) = connected(client(), Needs::all(), go).await;
    up_to_body(&mut milter).await;
    milter.abort().await.unwrap();
    milter.abort().await.unwrap();
    milter.mail(sender()).await.unwrap();
    milter.quit_new_connection().await.unwrap();
    assert!(milter.mail(sender()).await.is_err());
    milter.connect(host()).await.unwrap();
    milter.mail(sender()).await.unwrap();
    milter.quit().await.unwrap();
    assert_eq!(
        trace.all_letters().await.replace('D', ""),
        "OCHMRTLNAMAKCMAQ"
    );
}
