//! What goes over the wire, in each MTA's habits.

use milter_core::{Command, Needs, Reply, SmtpReply, Stage};
use milter_tower::MacroStage;
use milter_tower::testing::{Mail, MtaProfile};

use crate::profiles;
use crate::raw::{Trace, answering, asking, go_on};

/// A mail with one header and a body.
fn small() -> Mail {
    Mail::new().without_headers().header("Subject", "hello")
}

async fn delivered(profile: MtaProfile, needs: Needs, mail: Mail) -> Trace {
    let (mut mta, trace) = answering(profile, needs, go_on);
    let done = mta.deliver(mail).await;
    assert!(done.is_accepted(), "{done}");
    settled().await;
    trace
}

/// Lets the other side read what was sent.
async fn settled() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn c96_c97_whole_sessions() {
    let session = |profile, needs| delivered(profile, needs, small());
    let postfix = session(MtaProfile::postfix(), Needs::all()).await;
    assert_eq!(postfix.letters(), "ODCDHDMDRDTDLDNDBDEAAQ");
    // No macros at DATA, at the end of the headers and at the body.
    let sendmail = session(MtaProfile::sendmail(), Needs::all()).await;
    assert_eq!(sendmail.letters(), "ODCDHDMDRTLNBDEQ");
    let stalwart = session(MtaProfile::stalwart(), Needs::all()).await;
    assert_eq!(stalwart.letters(), "ODCDHDMDRTLNBEQ");
    let old = session(MtaProfile::version_2(), Needs::all()).await;
    assert_eq!(old.letters(), "ODCDHDMDRDLDNDBDEAAQ");
}

#[tokio::test]
async fn q2_macros_go_out_for_what_was_declined() {
    let postfix = delivered(MtaProfile::postfix(), Needs::none(), small()).await;
    assert_eq!(postfix.letters(), "ODDDDDDEAAQ");
    let sendmail = delivered(MtaProfile::sendmail(), Needs::none(), small()).await;
    assert_eq!(sendmail.letters(), "ODDDDDEQ");
}

#[tokio::test]
async fn q1_q23_macros_of_each_stage() {
    let trace = delivered(
        MtaProfile::postfix(),
        Needs::all(),
        small().to("b@example.net").to("c@example.net"),
    )
    .await;
    assert_eq!(
        trace.macros(b'C'),
        [["j", "{daemon_name}", "{daemon_addr}", "v", "_"]]
    );
    // No TLS, nobody authenticated, and no queue id before the first recipient.
    assert_eq!(trace.macros(b'H'), [[""; 0]]);
    assert_eq!(
        trace.macros(b'M'),
        [["{mail_addr}", "{mail_host}", "{mail_mailer}"]]
    );
    assert_eq!(
        trace.macros(b'R'),
        [
            vec!["{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}"],
            vec!["i", "{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}"]
        ]
    );
    for code in *b"TLNBE" {
        assert_eq!(trace.macros(code), [["i"]], "{}", char::from(code));
    }
    let mail = small().header("Message-ID", "<1@x>").auth("PLAIN", "alice");
    let trace = delivered(MtaProfile::sendmail(), Needs::all(), mail).await;
    assert_eq!(
        trace.macros(b'M'),
        [[
            "i",
            "{auth_type}",
            "{auth_authen}",
            "{mail_mailer}",
            "{mail_host}",
            "{mail_addr}"
        ]]
    );
    assert_eq!(trace.macros(b'E'), [["{msg_id}"]]);
}

#[tokio::test]
async fn macros_that_a_filter_asks_for_and_that_a_test_sets() {
    let mail = || small().macro_at(MacroStage::Connect, "{client_country}", "NL");
    for profile in [MtaProfile::postfix(), MtaProfile::sendmail()] {
        let own = delivered(profile.clone(), Needs::all(), mail()).await;
        assert_eq!(own.macros(b'C')[0].last().unwrap(), "{client_country}");
        let needs = Needs::all().macros_exact(MacroStage::Connect, ["{client_addr}", "i"]);
        let asked = delivered(profile.clone(), needs, mail()).await;
        assert_eq!(asked.macros(b'C'), [["{client_addr}"]]);
        let needs = Needs::all().macros_exact(MacroStage::Connect, ["{client_country}"]);
        let asked = delivered(profile, needs, mail()).await;
        assert_eq!(asked.macros(b'C'), [["{client_country}"]]);
    }
}

#[tokio::test]
async fn q3_q4_a_message_that_is_given_up() {
    for (profile, silent, seen) in [
        (MtaProfile::postfix(), false, "OCHMRAMRLNEAAQ"),
        (MtaProfile::sendmail(), false, "OCHMRAMRLNEQ"),
        // Sendmail does not tell where MAIL is not answered.
        (MtaProfile::postfix(), true, "OCHMRAMRLNEAAQ"),
        (MtaProfile::sendmail(), true, "OCHMRMRLNEQ"),
        (MtaProfile::stalwart(), false, "OCHMRMRLNEQ"),
    ] {
        let needs = if silent {
            Needs::none()
                .events([Stage::Connect, Stage::Helo, Stage::Rcpt])
                .events([Stage::Header, Stage::EndOfHeaders])
                .record(Stage::Mail)
        } else {
            Needs::all().without(Stage::Data)
        };
        let (mut mta, trace) = answering(profile, needs, go_on);
        let mut client = mta.open().await;
        client.connect(Mail::new().connection()).await;
        client.helo("client.example").await;
        client.mail("a@example.org").await;
        client.rcpt("b@example.net").await;
        client.abort().await;
        client.mail("a@example.org").await;
        client.rcpt("b@example.net").await;
        client.header("X-A", "b").await;
        client.end_of_headers().await;
        assert!(client.end().await.is_accepted());
        client.quit().await;
        settled().await;
        let letters = trace.letters().replace(['D', 'T'], "");
        assert_eq!(letters, seen);
    }
}

#[tokio::test]
async fn q5_helo_in_the_middle_of_a_message() {
    for (profile, seen) in [
        (MtaProfile::postfix(), "OCHMHAAAQ"),
        (MtaProfile::sendmail(), "OCHMAHQ"),
    ] {
        let (mut mta, trace) = answering(profile, Needs::all(), go_on);
        let mut client = mta.open().await;
        client.connect(Mail::new().connection()).await;
        client.helo("client.example").await;
        client.mail("a@example.org").await;
        client.helo("other.example").await;
        client.quit().await;
        settled().await;
        assert_eq!(trace.letters().replace('D', ""), seen);
    }
}

#[tokio::test]
async fn c99_q6_how_a_session_ends_that_was_refused_or_accepted() {
    for (profile, letter, reply, seen) in [
        (MtaProfile::postfix(), b'C', Reply::Reject, "OC"),
        (MtaProfile::postfix(), b'C', Reply::Accept, "OC"),
        (MtaProfile::postfix(), b'H', Reply::TempFail, "OCH"),
        (MtaProfile::sendmail(), b'C', Reply::Reject, "OCQ"),
        (MtaProfile::sendmail(), b'C', Reply::Accept, "OCQ"),
        (MtaProfile::sendmail(), b'H', Reply::Reject, "OCHQ"),
        (MtaProfile::stalwart(), b'M', Reply::Reject, "OCHM"),
        (MtaProfile::postfix(), b'M', Reply::Reject, "OCHMAAQ"),
        (MtaProfile::sendmail(), b'M', Reply::Reject, "OCHMQ"),
        (MtaProfile::postfix(), b'R', Reply::Discard, "OCHMRAAQ"),
        (MtaProfile::sendmail(), b'R', Reply::Discard, "OCHMRAQ"),
        (MtaProfile::sendmail(), b'T', Reply::TempFail, "OCHMRTAQ"),
        (MtaProfile::postfix(), b'N', Reply::Reject, "OCHMRTLNAAQ"),
        (MtaProfile::sendmail(), b'N', Reply::Accept, "OCHMRTLNQ"),
    ] {
        let shown = format!("{} {reply:?} at {}", profile.name(), char::from(letter));
        let (mut mta, trace) = answering(profile, Needs::all(), move |frame| {
            let answer = if frame.code() == letter {
                reply.clone()
            } else {
                Reply::Continue
            };
            vec![answer]
        });
        mta.deliver(small()).await;
        settled().await;
        assert_eq!(trace.letters().replace('D', ""), seen, "{shown}");
    }
}

#[tokio::test]
async fn headers_as_they_are_shown() {
    let values = |trace: &Trace| -> Vec<String> {
        let of = trace.of(b'L').into_iter();
        of.map(|frame| match frame {
            Command::Header(header) => header.value().to_string(),
            other => panic!("{other:?}"),
        })
        .collect()
    };
    let mail = || {
        Mail::new()
            .without_headers()
            .raw_header("A", " one")
            .raw_header("B", "\t two \n three ")
            .raw_header("C", "")
    };
    let plain = ["one", "\t two \n three ", ""];
    let exact = [" one", "\t two \n three ", ""];
    for profile in [MtaProfile::postfix(), MtaProfile::sendmail()] {
        let trace = delivered(profile.clone(), Needs::all(), mail()).await;
        assert_eq!(values(&trace), plain);
        let trace = delivered(profile, Needs::all().leading_space(), mail()).await;
        assert_eq!(values(&trace), exact);
    }
    let trace = delivered(MtaProfile::stalwart(), Needs::all().leading_space(), mail()).await;
    assert_eq!(values(&trace), ["one", "two \n three", ""]);
}

#[tokio::test]
async fn c26_no_reply_is_waited_for_where_none_comes() {
    let needs = || {
        let stages = Stage::ALL.into_iter();
        stages.fold(Needs::none(), Needs::record)
    };
    let trace = delivered(MtaProfile::postfix(), needs(), small()).await;
    assert_eq!(trace.letters().replace('D', ""), "OCHMRTLNBEAAQ");
    let trace = delivered(MtaProfile::sendmail(), needs(), small()).await;
    assert_eq!(trace.letters().replace('D', ""), "OCHMRTLNBEQ");
}

#[tokio::test]
async fn a_large_body_goes_in_pieces_until_it_is_skipped() {
    let mail = || small().raw_body(vec![b'x'; 200_000]);
    let trace = delivered(MtaProfile::postfix(), Needs::all(), mail()).await;
    let sizes: Vec<usize> = trace
        .of(b'B')
        .iter()
        .map(|frame| match frame {
            Command::Body(piece) => piece.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sizes, [65_535, 65_535, 65_535, 3_395]);
    for profile in profiles() {
        let (mut mta, trace) = answering(profile, Needs::all().skip(), |frame| match frame {
            Command::Body(_) => vec![Reply::Skip],
            _ => vec![Reply::Continue],
        });
        let done = mta.deliver(mail()).await;
        assert!(done.is_accepted(), "{done}");
        assert_eq!(done.message.body().len(), 200_000);
        assert_eq!(trace.of(b'B').len(), 1);
    }
}

#[tokio::test]
async fn q14_sendmail_looks_at_the_wrong_list_for_the_end() {
    let at_end = async |profile: MtaProfile, lists| {
        let (mut mta, trace) = asking(profile, lists);
        let done = mta.deliver(small().header("Message-ID", "<1@x>")).await;
        assert!(done.is_accepted(), "{done}");
        trace.macros(b'E')
    };
    for (lists, postfix, sendmail) in [
        (
            &b"\0\0\0\x05j\0"[..],
            &[&["j"][..]][..],
            &[&["{msg_id}"][..]][..],
        ),
        (b"\0\0\0\x06j\0", &[&["i"]], &[]),
        (b"\0\0\0\x05j\0\0\0\0\x06i\0", &[&["j"]], &[&["j"]]),
    ] {
        assert_eq!(at_end(MtaProfile::postfix(), lists).await, postfix);
        assert_eq!(at_end(MtaProfile::sendmail(), lists).await, sendmail);
    }
}

#[tokio::test]
async fn c25_q15_an_empty_list() {
    // None, or the MTA's own.
    for (profile, sets) in [(MtaProfile::postfix(), 1), (MtaProfile::sendmail(), 0)] {
        let (mut mta, trace) = asking(profile, b"\0\0\0\0\0");
        let mut client = mta.open().await;
        client.connect(Mail::new().connection()).await;
        client.quit().await;
        settled().await;
        assert_eq!(trace.macros(b'C').len(), sets);
        assert!(trace.macros(b'C').iter().all(|names| names.len() == 5));
    }
}

#[tokio::test]
async fn recipients_that_the_mta_refuses() {
    let refusal = SmtpReply::reject("No such user");
    for (profile, wants, seen) in [
        (MtaProfile::postfix(), false, "CHMAAQ"),
        (MtaProfile::sendmail(), false, "CHMDQ"),
        (MtaProfile::postfix(), true, "CHMRAAQ"),
        (MtaProfile::sendmail(), true, "CHMRQ"),
    ] {
        let needs = if wants {
            Needs::all().rejected_recipients()
        } else {
            Needs::all()
        };
        let (mut mta, trace) = answering(profile, needs, go_on);
        let mut client = mta.open().await;
        client.connect(Mail::new().connection()).await;
        client.helo("client.example").await;
        client.mail("a@example.org").await;
        let before = trace.letters().len();
        let answer = client.refused_rcpt("x@example.net", refusal.clone()).await;
        assert_eq!(answer.reply, Some(refusal.clone()));
        client.quit().await;
        settled().await;
        let letters = trace.letters();
        let (start, rest) = letters.split_at(before);
        let rest = if wants {
            rest.replace('D', "")
        } else {
            rest.to_owned()
        };
        assert_eq!(start[1..].replace('D', "") + &rest, seen);
        let told = trace.of(b'D').into_iter().find_map(|frame| match frame {
            Command::Macros(set) if set.command_code() == b'R' => Some(set),
            _ => None,
        });
        let values = told.map(|set| -> Vec<String> {
            let pairs = set.iter().filter(|(name, _)| name.contains("rcpt"));
            pairs
                .map(|(name, value)| format!("{name} {value}"))
                .collect()
        });
        if let Some(mut values) = values {
            values.sort();
            assert_eq!(
                values,
                [
                    "{rcpt_addr} No such user",
                    "{rcpt_host} 5.7.1",
                    "{rcpt_mailer} error"
                ]
            );
        }
    }
}
