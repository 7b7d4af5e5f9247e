//! Each verdict at each stage, and what the client hears.

use std::convert::Infallible;

use milter_tower::testing::{Fate, Mail, MockMta, MtaProfile};
use milter_tower::{Request, Response, SmtpReply, Stage, Verdict};
use tower::service_fn;

use crate::common::{Act, answering};
use crate::profiles;

/// An MTA before a filter that says so at a stage, and goes on at others.
fn saying(profile: MtaProfile, stage: Stage, verdict: &Verdict) -> MockMta {
    let verdict = verdict.clone();
    let (filter, _) = answering(stage.name(), move || {
        Act::Answer(Response::from(verdict.clone()))
    });
    MockMta::with_profile(profile, filter)
}

/// Those of a mail that is sent as a whole.
const STAGES: [Stage; 9] = [
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

#[tokio::test]
async fn each_verdict_at_each_stage() {
    let own = SmtpReply::reject("Not today");
    let later = SmtpReply::tempfail("Tomorrow");
    for profile in profiles() {
        for stage in STAGES {
            for verdict in [
                Verdict::Continue,
                Verdict::Accept,
                Verdict::Reject,
                Verdict::TempFail,
                own.clone().into(),
                later.clone().into(),
                Verdict::Discard,
            ] {
                let is_old = profile.name().ends_with("(version 2)");
                if !verdict.is_allowed_at(stage) || is_old && stage == Stage::Data {
                    continue;
                }
                let mut mta = saying(profile.clone(), stage, &verdict);
                let mail = Mail::new().header("X-A", "b").body("text");
                let done = mta.deliver(mail).await;
                let shown = format!("{} {verdict:?} at {stage}:\n{done}", profile.name());
                let is_stalwart = profile.name() == "Stalwart";
                if verdict.is_refusal() && stage == Stage::Rcpt && !is_stalwart {
                    assert_eq!(done.fate, Fate::NoRecipients, "{shown}");
                    assert_eq!(done.refused_recipients().count(), 1, "{shown}");
                    continue;
                }
                assert_eq!(done.is_refused(), verdict.is_refusal(), "{shown}");
                assert_eq!(done.is_discarded(), verdict == Verdict::Discard, "{shown}");
                let said = verdict != Verdict::Continue;
                let decided = if said { stage } else { Stage::EndOfMessage };
                assert_eq!(done.ended_at, Some(decided), "{shown}");
                if said {
                    assert_eq!(done.answer_at(stage).unwrap().verdict, verdict, "{shown}");
                }
                if let Some(reply) = done.reply() {
                    let code = reply.code();
                    let permanent =
                        !matches!(verdict, Verdict::TempFail) && verdict != later.clone().into();
                    assert_eq!(code >= 500, permanent, "{shown}");
                    if let Verdict::Reply(own) = &verdict {
                        let is_kept = !(profile.name() == "Sendmail" && stage == Stage::Connect);
                        assert_eq!(reply == own, is_kept, "{shown}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn words_of_the_mtas_own() {
    for (profile, stage, verdict, words) in [
        (
            MtaProfile::postfix(),
            Stage::Mail,
            Verdict::Reject,
            "550 5.7.1 Command rejected",
        ),
        (
            MtaProfile::postfix(),
            Stage::EndOfMessage,
            Verdict::TempFail,
            "451 4.7.1 Service unavailable - try again later",
        ),
        (
            MtaProfile::sendmail(),
            Stage::Mail,
            Verdict::Reject,
            "550 5.7.1 Command rejected",
        ),
        (
            MtaProfile::sendmail(),
            Stage::Body,
            Verdict::Reject,
            "554 5.7.1 Command rejected",
        ),
        (
            MtaProfile::sendmail(),
            Stage::Header,
            Verdict::TempFail,
            "451 4.3.2 Please try again later",
        ),
    ] {
        let done = saying(profile, stage, &verdict).deliver(Mail::new()).await;
        assert_eq!(done.reply().unwrap().to_string(), words);
    }
}

#[tokio::test]
async fn a_refused_recipient_gets_nothing() {
    let filter = service_fn(async |request: Request| {
        Ok::<_, Infallible>(match request.event() {
            milter_tower::Event::Rcpt(rcpt) if rcpt.mailbox() == "no@example.net" => {
                SmtpReply::reject("not he").into()
            }
            _ => Response::proceed(),
        })
    });
    for profile in profiles() {
        let is_stalwart = profile.name() == "Stalwart";
        let mail = Mail::new()
            .to("bob@example.net")
            .to("no@example.net")
            .to("carol@example.net");
        let done = MockMta::with_profile(profile, filter).deliver(mail).await;
        if is_stalwart {
            assert_eq!(done.ended_at, Some(Stage::Rcpt), "{done}");
            assert_eq!(done.reply().unwrap().code(), 550);
            continue;
        }
        assert!(done.is_accepted(), "{done}");
        let to: Vec<String> = done
            .message
            .recipients()
            .iter()
            .map(|to| to.mailbox().to_string())
            .collect();
        assert_eq!(to, ["bob@example.net", "carol@example.net"]);
        assert_eq!(
            done.answer_to("no@example.net")
                .unwrap()
                .reply
                .as_ref()
                .unwrap()
                .code(),
            550
        );
        assert_eq!(done.answer_to("bob@example.net").unwrap().reply, None);
    }
}

#[tokio::test]
async fn a_reply_421_ends_the_session() {
    let gone = SmtpReply::builder(421).line("gone").build().unwrap();
    for profile in profiles() {
        let mut client = saying(profile, Stage::Rcpt, &gone.clone().into())
            .open()
            .await;
        let done = client
            .deliver(Mail::new().to("b@example.net").to("c@example.net"))
            .await;
        assert_eq!(done.reply(), Some(&gone), "{done}");
        assert_eq!(done.ended_at, Some(Stage::Rcpt));
        // Nothing else will do in this session.
        let next = client.deliver(Mail::new()).await;
        assert_eq!(next.reply(), Some(&gone), "{next}");
        client.quit().await;
    }
}

#[tokio::test]
async fn a_refused_session_takes_no_mail() {
    for stage in [Stage::Connect, Stage::Helo] {
        for profile in profiles() {
            let mut client = saying(profile, stage, &Verdict::Reject).open().await;
            for _ in 0..2 {
                let done = client.deliver(Mail::new()).await;
                assert!(done.is_refused(), "{done}");
            }
            client.quit().await;
        }
    }
}

#[tokio::test]
async fn unknown_commands() {
    let (filter, log) = answering("unknown command", || {
        Act::Answer(SmtpReply::reject("what?").into())
    });
    let done = MockMta::postfix(filter.twin())
        .deliver(Mail::new().unknown_command("XYZZY now"))
        .await;
    assert!(done.is_accepted(), "{done}");
    assert_eq!(
        done.answer_at(Stage::Unknown)
            .unwrap()
            .reply
            .as_ref()
            .unwrap()
            .code(),
        550
    );
    assert_eq!(log.count("unknown command"), 1);
    let old = MockMta::version_2(filter)
        .deliver(Mail::new().unknown_command("XYZZY"))
        .await;
    assert_eq!(old.answer_at(Stage::Unknown), None);
    assert_eq!(log.count("unknown command"), 1);
    // DATA is as old as unknown commands.
    assert_eq!(log.count("data"), 1);
}

/// Sendmail srvrsmtp.c and Postfix smtpd.c hang up: nothing comes of the client after that.
#[tokio::test]
async fn after_421_the_filter_is_asked_no_more() {
    for profile in profiles() {
        let gone = SmtpReply::builder(421).line("gone").build().unwrap();
        let (filter, log) = answering("rcpt", move || Act::Answer(Response::from(gone.clone())));
        let mut client = MockMta::with_profile(profile, filter).open().await;
        client.connect(Mail::new().connection()).await;
        client.helo("client.example").await;
        client.mail("a@example.org").await;
        client.rcpt("b@example.net").await;
        assert_eq!(client.data().await.reply.unwrap().code(), 421);
        client.header("Subject", "hello").await;
        client.end_of_headers().await;
        client.body("text\r\n").await;
        let done = client.end().await;
        assert_eq!(
            (done.reply().unwrap().code(), done.ended_at),
            (421, Some(Stage::Rcpt))
        );
        client.helo("again.example").await;
        client.quit().await;
        for (what, count) in [("helo", 1), ("rcpt", 1), ("data", 0), ("end of message", 0)] {
            assert_eq!(log.count(what), count, "{what}");
        }
        assert_eq!(log.all().last().unwrap(), "close");
    }
}
