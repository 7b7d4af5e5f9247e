//! What mails and deliveries say of themselves, and what failing assertions say.

use std::panic::{AssertUnwindSafe, catch_unwind};

use milter_core::edit::{self, Profile};
use milter_core::{Header, MacroStage, Modification, Recipient, Sender, SmtpReply, Stage, Verdict};

use proptest::prelude::*;
use tower::service_fn;

use super::*;
use crate::{
    BoxError, Event, Request, Response, assert_accepted, assert_body, assert_discarded,
    assert_header, assert_no_header, assert_quarantined, assert_recipients, assert_refused,
};

fn recipient(address: &'static str) -> Recipient {
    Recipient::new(address, [""; 0])
}

/// What Postfix would hold of a letter to two people.
fn model() -> edit::Mail {
    let mail = edit::Mail::new(Profile::postfix())
        .with_sender(Sender::new("<a@example.org>", ["SIZE=9"]))
        .with_recipient(recipient("<b@example.net>"))
        .with_recipient(recipient("<c@example.net>"))
        .with_body("one\r\ntwo\r\nthree\r\n");
    let headers = [("Subject", " hi"), ("X-Spam", " NO"), ("To", " b,\n\tc")];
    headers.into_iter().fold(mail, |mail, (name, value)| {
        mail.with_header(Header::new(name, value))
    })
}

fn delivery() -> Delivery {
    let mut done = Delivery::new(model());
    done.end(Stage::EndOfMessage, Fate::Accepted);
    done
}

#[test]
fn a_mail_whose_recipients_are_all_refused_is_refused() {
    let mut done = Delivery::new(model());
    for (to, text) in [("<b@example.net>", "First"), ("<c@example.net>", "Last")] {
        let answer = Answer::new(Stage::Rcpt, Verdict::Reply(SmtpReply::reject(text)));
        done.answers.push(answer.with_recipient(recipient(to)));
    }
    assert!(!done.is_refused());
    assert_eq!(done.reply(), None);
    done.end(Stage::Rcpt, Fate::NoRecipients);
    assert!(done.is_refused());
    assert_refused!(done, 550, "Last");
}

/// What an assertion that fails says.
fn failure(assertion: impl FnOnce()) -> String {
    let failed = catch_unwind(AssertUnwindSafe(assertion)).expect_err("it holds");
    *failed.downcast::<String>().expect("a message")
}

#[test]
fn an_untouched_mail_can_be_delivered() {
    let mail = Mail::new();
    assert_eq!(mail.recipients().len(), 1);
    for name in ["From", "To", "Date", "Message-ID", "Subject"] {
        assert!(mail.headers().contains(name), "{name}");
    }
    assert!(mail.content().ends_with(b"\r\n"));
    assert_eq!(mail.headers().get_str("From"), Some("alice@example.org"));
}

#[test]
fn what_is_given_takes_the_usual_place() {
    let mail = Mail::new()
        .from("a@b")
        .to("<c@d>")
        .to("e@f")
        .header("subject", "one\r\ntwo\n three")
        .header("Subject", "again");
    assert_eq!(mail.sender().address(), "<a@b>");
    let to: Vec<_> = mail
        .recipients()
        .iter()
        .map(|to| to.address().to_string())
        .collect();
    assert_eq!(to, ["<c@d>", "<e@f>"]);
    let headers = mail.headers();
    assert_eq!(headers.get_all("Subject").count(), 2);
    assert_eq!(headers.get("Subject").unwrap().raw(), " one\n\ttwo\n three");
    assert_eq!(headers.get_str("From"), Some("a@b"));
    assert_eq!(headers.get_str("To"), Some("c@d"));
    let bounce = Mail::new().from("");
    assert!(bounce.sender().is_null());
    assert_eq!(bounce.sender().address(), "<>");
    assert_eq!(mail.without_headers().headers().len(), 0);
}

#[test]
fn bodies_are_as_mtas_show_them_unless_they_are_raw() {
    for (given, sent) in [
        ("", ""),
        ("hi", "hi\r\n"),
        ("a\nb\r\nc\rd\n\n", "a\r\nb\r\nc\rd\r\n\r\n"),
        ("\0.\n.", "\0.\r\n.\r\n"),
    ] {
        assert_eq!(Mail::new().body(given).content(), sent);
        assert_eq!(Mail::new().raw_body(given).content(), given);
    }
}

#[test]
fn macros_are_those_of_their_stage() {
    let mail = Mail::new()
        .tls("TLSv1.3", "TLS_AES_128_GCM_SHA256", 128)
        .auth("PLAIN", "alice")
        .macro_at(MacroStage::Mail, "auth_authen", "bob");
    let macros: Vec<_> = mail
        .macros(MacroStage::Mail)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(macros, ["{auth_type}=PLAIN", "auth_authen=bob"]);
    assert_eq!(mail.macros(MacroStage::Helo).count(), 3);
    assert_eq!(mail.macros(MacroStage::Connect).count(), 0);
}

#[test]
fn mails_are_shown_for_people() {
    let mail = Mail::new()
        .helo("x\n")
        .tls("TLSv1.3", "AES", 256)
        .unknown_command("XFOO 1")
        .mail_from("a@b", ["SIZE=9", "BODY=8BITMIME"])
        .without_headers()
        .raw_header("X", b" caf\xe9 \xc3\xa9\n\t\"two\"\x1b")
        .raw_body(&b"a\r\nb\nc\0"[..]);
    assert_eq!(
        format!("{mail:?}"),
        r#"client client.example [192.0.2.1]
helo x\n
macro {tls_version} at helo: TLSv1.3
macro {cipher} at helo: AES
macro {cipher_bits} at helo: 256
unknown XFOO 1
from <a@b> SIZE=9 BODY=8BITMIME
to <bob@example.net>
| X: caf\xe9 é
| \t"two"\u{1b}
|
| a
| b\n
| c\0 (no line end)
"#
    );
}

#[test]
fn deliveries_are_shown_for_people_and_snapshots() {
    let mut done = delivery();
    done.answers = vec![
        Answer::new(Stage::Mail, Verdict::Continue),
        Answer::new(Stage::Rcpt, SmtpReply::reject("no\u{7}"))
            .with_recipient(recipient("<x@example.net>")),
        Answer::new(Stage::Rcpt, Verdict::TempFail)
            .with_recipient(recipient("<Y@example.net>"))
            .with_reply(SmtpReply::tempfail("later")),
    ];
    done.edits = vec![
        Modification::insert_header(0, "X-A", "1\n2").unwrap(),
        Modification::delete_header("X-B", 2).unwrap(),
        Modification::replace_body("new"),
        Modification::add_recipient_with_args("d@e", "NOTIFY=NEVER").unwrap(),
    ];
    let shown = r"accepted at end of message
answers:
  mail: continue
  rcpt <x@example.net>: reject (550 5.7.1 no )
  rcpt <Y@example.net>: tempfail (451 4.7.1 later)
edits:
  insert header at 0 X-A: 1\n\t2
  delete header X-B[2]
  replace body, 3 bytes
  add recipient <d@e> NOTIFY=NEVER
message:
  from <a@example.org> SIZE=9
  to <b@example.net>
  to <c@example.net>
  | Subject: hi
  | X-Spam: NO
  | To: b,
  | \tc
  |
  | one
  | two
  | three
";
    assert_eq!(done.to_string(), shown);
    assert_eq!(format!("{done:?}"), shown);

    let refused: Vec<_> = done
        .refused_recipients()
        .map(|to| to.address().to_string())
        .collect();
    assert_eq!(refused, ["<x@example.net>", "<Y@example.net>"]);
    assert_eq!(
        done.answer_to("<y@EXAMPLE.net>").unwrap().verdict,
        Verdict::TempFail
    );
    assert!(done.answer_to("b@example.net").is_none());
    assert_eq!(
        done.answer_at(Stage::Rcpt).unwrap().verdict,
        Verdict::TempFail
    );
}

#[test]
fn what_is_long_is_cut() {
    let long = "é".repeat(1_000_000);
    let mail = (0..200).fold(Mail::new().header("Long", &long), |mail, n| {
        mail.header("X", n.to_string())
    });
    let shown = format!("{:?}", mail.body("line\n".repeat(1000)));
    assert!(shown.len() < 10_000, "{} bytes", shown.len());
    assert!(shown.contains("éé… (1999842 more bytes)\n"), "{shown}");
    assert!(shown.contains("| … (106 more headers)\n"), "{shown}");
    assert!(
        shown.contains("| … (976 more lines, 6000 bytes in all)\n"),
        "{shown}"
    );
}

#[test]
fn assertions_hold() {
    let mut done = delivery();
    assert_header!(done, "x-spam", "NO");
    assert_header!(done, "X-Spam", b" NO".trim_ascii());
    assert_header!(done, "To", "b,\tc");
    assert_header!(done, String::from("To"), [String::from("b,\n\tc")]);
    assert_header!(&done, "Subject");
    assert_no_header!(done, "X-Virus");
    assert_body!(done, "one\ntwo\nthree");
    assert_recipients!(done, ["b@example.net", "<c@example.net>"]);
    assert_accepted!(done);
    done.end(Stage::Body, Fate::Discarded);
    assert_discarded!(done);
    done.refuse(Stage::Data, SmtpReply::tempfail("come later"));
    assert_refused!(done);
    assert_refused!(done, 451);
    assert_refused!(done, 451, "later");
    let mut held = model();
    held.apply(
        &[Modification::quarantine("looks like spam").unwrap()],
        false,
    )
    .unwrap();
    let done = Delivery::new(held);
    assert_accepted!(done);
    assert_quarantined!(done);
    assert_quarantined!(done, "spam");
    assert!(
        done.to_string()
            .starts_with("accepted\nheld back: looks like spam\n")
    );
}

#[test]
fn a_wrong_header_is_shown_among_the_others() {
    let done = delivery();
    assert_eq!(
        failure(|| assert_header!(done, "x-spam", "YES")),
        "not the expected header x-spam; the mail was accepted at end of message
  Subject: hi
- x-spam: YES
+ X-Spam: NO
  To: b,
  \\tc
"
    );
    assert_eq!(
        failure(|| assert_header!(done, "X-Spam", ["NO", "YES"])),
        "not the expected header X-Spam; the mail was accepted at end of message
  Subject: hi
  X-Spam: NO
  To: b,
  \\tc
- X-Spam: YES
"
    );
    assert_eq!(
        failure(|| assert_no_header!(done, "To")),
        "there is a header To; the mail was accepted at end of message
  Subject: hi
  X-Spam: NO
+ To: b,
+ \\tc
"
    );
}

#[test]
fn one_header_too_many_does_not_pass() {
    let mail = model().with_header(Header::new("X-Spam", "\tNO "));
    let done = Delivery::new(mail);
    let text = failure(|| assert_header!(done, "X-Spam", "NO"));
    assert!(
        text.ends_with("  X-Spam: NO\n  To: b,\n  \\tc\n+ X-Spam:\\tNO \n"),
        "{text}"
    );
    assert_header!(done, "X-Spam", ["NO", "NO"]);
    let text = failure(|| assert_header!(done, "X-Spam", ["NO", "YES"]));
    assert!(
        text.ends_with("\n- X-Spam: YES\n+ X-Spam:\\tNO \n"),
        "{text}"
    );
}

#[test]
fn a_missing_header_says_how_the_mail_ended() {
    let mut done = delivery();
    done.refuse(Stage::Rcpt, SmtpReply::reject("no such user"));
    let text = failure(|| assert_header!(done, "X-Spam-Score"));
    let first = text.lines().next();
    let expected =
        "there is no header X-Spam-Score; the mail was refused at rcpt: 550 5.7.1 no such user";
    assert_eq!(first, Some(expected));
}

#[test]
fn bodies_and_recipients_are_compared_line_by_line() {
    let done = delivery();
    assert_eq!(
        failure(|| assert_body!(done, "one\n2\n3\nthree\n")),
        "not the expected body; the mail was accepted at end of message
  one
- 2
- 3
+ two
  three
"
    );
    let done = Delivery::new(model().with_body("one\ntwo"));
    let text = failure(|| assert_body!(done, "one\ntwo"));
    assert!(
        text.ends_with("\n- one\n- two\n+ one\\n\n+ two (no line end)\n"),
        "{text}"
    );
    let text = failure(|| assert_recipients!(done, ["c@example.net"]));
    assert!(
        text.ends_with("\n+ b@example.net\n  c@example.net\n"),
        "{text}"
    );
    let long = "x".repeat(1000);
    let done = Delivery::new(model().with_body(format!("{long}1\r\n")));
    let text = failure(|| assert_body!(done, format!("{long}2")));
    assert!(text.contains("x2\n+ x") && text.ends_with("x1\n"), "{text}");
}

#[test]
fn the_wrong_end_shows_all_that_became_of_the_mail() {
    let mut done = delivery();
    for text in [
        failure(|| assert_refused!(done)),
        failure(|| assert_discarded!(done)),
        failure(|| assert_quarantined!(done, "spam")),
    ] {
        let (first, rest) = text.split_once('\n').unwrap();
        assert!(first.starts_with("expected: "), "{first}");
        assert_eq!(rest, done.to_string());
    }
    done.refuse(Stage::Mail, SmtpReply::reject("no"));
    let text = failure(|| assert_accepted!(done));
    assert!(
        text.starts_with("expected: accepted\nrefused at mail: 550 5.7.1 no\n"),
        "{text}"
    );
    let text = failure(|| assert_refused!(done, 451));
    assert!(text.starts_with("expected: refused with 451\n"), "{text}");
    let text = failure(|| assert_refused!(done, 550, "yes"));
    assert!(
        text.starts_with("expected: refused with 550 and \"yes\"\n"),
        "{text}"
    );
}

#[tokio::test]
async fn a_failure_is_told_with_its_mail() {
    let filter = service_fn(async |request: Request| match request.event() {
        Event::Mail(sender) if sender.is_null() => Err(BoxError::from("no\tidea")),
        _ => Ok(Response::proceed()),
    });
    let mut client = MockMta::postfix(filter).open().await;
    let failed = client.deliver(Mail::new().from("<>")).await;
    assert_refused!(failed, 451);
    assert_eq!(failed.failures, ["mail: no\tidea"]);
    assert!(
        failed
            .to_string()
            .contains("\nthe filter failed:\n  mail: no\\tidea\n"),
        "{failed}"
    );
    let text = failure(|| assert_header!(failed, "X"));
    assert!(
        text.contains("; the filter failed: mail: no\\tidea\n"),
        "{text}"
    );
    let good = client.deliver(Mail::new()).await;
    assert_accepted!(good);
    assert!(good.failures.is_empty(), "{good}");
    client.quit().await;
}

proptest! {
    #[test]
    fn whatever_is_in_a_mail_it_can_be_shown(
        name in prop::collection::vec(any::<u8>(), 0..300),
        value in prop::collection::vec(any::<u8>(), 0..300),
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mail = Mail::new()
            .client_name(&name)
            .helo(&value)
            .from(&value)
            .without_headers()
            .raw_header(&name, &value)
            .raw_body(body);
        let shown = format!("{mail:?}");
        prop_assert!(!shown.chars().any(|char| char.is_control() && char != '\n'), "{}", shown);
    }
}
