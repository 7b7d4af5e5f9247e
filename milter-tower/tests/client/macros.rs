//! Which macros a milter is sent, and with which values.

use milter_core::{Command, MacroStage, Needs};
use milter_tower::client::{EmptyList, MacroScope};
use milter_tower::{Recipient, SmtpReply};

use crate::peer::{Act, client, connected, go, host, recipient, sender, up_to_body};

#[tokio::test]
async fn c24_the_lists_are_the_mtas_or_the_milters() {
    let own = client()
        .macros(MacroStage::Mail, ["{own}", "i", "none"])
        .macros(MacroStage::Helo, [""; 0]);
    for (needs, mail) in [
        (Needs::all(), "{own}=1 i=2"),
        (
            Needs::all().macros_exact(MacroStage::Mail, ["i", "{asked}"]),
            "i=2 {asked}=3",
        ),
    ] {
        let (mut milter, trace) = connected(own.clone(), needs, go).await;
        for (name, value) in [
            ("own", "1"),
            ("{i}", "2"),
            ("asked", "3"),
            ("{cipher}", "4"),
        ] {
            milter.set_macro(name, value);
        }
        up_to_body(&mut milter).await;
        assert_eq!(trace.macros(b'M'), [mail]);
        assert!(trace.macros(b'H').is_empty());
    }
}

#[tokio::test]
async fn c25_an_empty_list() {
    for (means, sets) in [(EmptyList::Nothing, 0), (EmptyList::MtasOwn, 1)] {
        // The answer of a milter that wants everything, and no macros at MAIL.
        let answer = b"\0\0\0\x12O\0\0\0\x06\0\0\x01\0\0\0\0\0\0\0\0\x02\0";
        let act = |frame: &Command| match frame {
            Command::Negotiate(_) => Act::Bytes(answer),
            _ => Act::Go,
        };
        let (mut milter, trace) = connected(client().empty_list(means), Needs::all(), act).await;
        milter.set_macro("i", "1");
        up_to_body(&mut milter).await;
        assert_eq!(trace.macros(b'M').len(), sets, "{means:?}");
    }
}

#[tokio::test]
async fn values_hold_as_long_as_they_are_to() {
    let lists = MacroStage::ALL.into_iter().fold(client(), |client, stage| {
        client.macros(stage, ["i", "j", "x"])
    });
    let (mut milter, trace) = connected(lists, Needs::all(), go).await;
    milter.set_macro("j", "host");
    milter.set_macro("x", "session");
    milter.connect(host()).await.unwrap();
    for id in ["1", "2"] {
        milter.set_macro_in(MacroScope::Message, "i", id);
        milter.set_macro_in(MacroScope::Message, "x", "message");
        milter.mail(sender()).await.unwrap();
        milter.set_macro_in(MacroScope::Step, "x", "step");
        milter.rcpt(recipient()).await.unwrap();
        milter.rcpt(recipient()).await.unwrap();
        milter.abort().await.unwrap();
    }
    milter.unset_macro("x");
    milter.helo("client.example").await.unwrap();
    milter.quit().await.unwrap();
    assert_eq!(trace.macros(b'C'), ["j=host x=session"]);
    assert_eq!(
        trace.macros(b'M'),
        ["i=1 j=host x=message", "i=2 j=host x=message"]
    );
    let step = ["i=1 j=host x=step", "i=1 j=host x=message"];
    assert_eq!(trace.macros(b'R')[..2], step);
    assert_eq!(trace.macros(b'H'), ["j=host"]);
}

#[tokio::test]
async fn what_the_steps_say_is_known() {
    let names = [
        "_",
        "{client_addr}",
        "{client_name}",
        "{client_port}",
        "mail_addr",
        "rcpt_addr",
    ];
    let lists = MacroStage::ALL
        .into_iter()
        .fold(client(), |client, stage| client.macros(stage, names));
    let (mut milter, trace) = connected(lists, Needs::all(), go).await;
    up_to_body(&mut milter).await;
    let client = "_=client.example [192.0.2.1] {client_addr}=192.0.2.1 \
                  {client_name}=client.example {client_port}=50025";
    assert_eq!(trace.macros(b'C'), [client]);
    let mail = format!("{client} mail_addr=alice@example.org");
    assert_eq!(trace.macros(b'M'), [&*mail]);
    assert_eq!(
        trace.macros(b'R'),
        [format!("{mail} rcpt_addr=bob@example.net")]
    );
    assert_eq!(trace.macros(b'T'), [mail]);
}

#[tokio::test]
async fn recipients_that_the_mta_refuses() {
    let reply: SmtpReply = "550 5.1.1 No such user".parse().unwrap();
    let nobody = Recipient::new("<nobody@example.net>", [""; 0]);
    for (needs, recipients) in [(Needs::all(), 1), (Needs::all().rejected_recipients(), 2)] {
        let (mut milter, trace) = connected(client(), needs, go).await;
        milter.connect(host()).await.unwrap();
        milter.mail(sender()).await.unwrap();
        milter.rejected_rcpt(nobody.clone(), &reply).await.unwrap();
        milter.rcpt(recipient()).await.unwrap();
        assert_eq!(trace.of(b'R').len(), recipients);
        let macros = trace.macros(b'R');
        assert_eq!(macros.last().unwrap(), "{rcpt_addr}=bob@example.net");
        if recipients == 2 {
            let refused = "{rcpt_addr}=No such user {rcpt_host}=5.1.1 {rcpt_mailer}=error";
            assert_eq!(macros[0], refused);
        }
    }
}

/// What was said of a refused recipient is not said of the next one.
#[tokio::test]
async fn a_refused_recipient_that_cannot_be_told_leaves_nothing_behind() {
    let needs = Needs::all().rejected_recipients();
    let (mut milter, trace) = connected(client(), needs, go).await;
    milter.connect(host()).await.unwrap();
    milter.mail(sender()).await.unwrap();
    let reply = SmtpReply::reject("No such user");
    let long = Recipient::new(vec![b'x'; 70_000], [""; 0]);
    let error = milter.rejected_rcpt(long, &reply).await.unwrap_err();
    assert!(!error.is_fatal(), "{error}");
    milter.rcpt(recipient()).await.unwrap();
    assert_eq!(trace.macros(b'R'), ["{rcpt_addr}=bob@example.net"]);
}
