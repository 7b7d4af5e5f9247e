use bytes::Bytes;

use super::*;
use crate::codec::MtaCodec;
use crate::{
    Actions, ClientAddr, CodecError, Command, Connect, DataSize, Header, Helo, MacroStage,
    Modification, Needs, Offer, OfferReply, Recipient, Reply, Sender, SmtpReply, Stage, Stages,
    Steps, UnknownCommand, Verdict, negotiate,
};

fn command(letter: u8) -> Command {
    match letter {
        b'C' => Command::Connect(Connect::new("client.example", ClientAddr::Unknown)),
        b'H' => Command::Helo(Helo::new("client.example")),
        b'M' => Command::Mail(Sender::new("<a@example.org>", [""; 0])),
        b'R' => Command::Rcpt(Recipient::new("<b@example.net>", [""; 0])),
        b'T' => Command::Data,
        b'U' => Command::Unknown(UnknownCommand::new("XYZZY")),
        b'L' => Command::Header(Header::new("Subject", "hello")),
        b'N' => Command::EndOfHeaders,
        b'B' => Command::Body("text\r\n".into()),
        b'E' => Command::EndOfMessage(Bytes::new()),
        other => panic!("no command: {other}"),
    }
}

fn answer(offer: Offer, needs: &Needs) -> OfferReply {
    negotiate(&offer, needs).expect("agreed").to_reply()
}

/// A session that a filter with these needs has agreed to.
fn agreed(config: Config, needs: &Needs) -> Session {
    let mut session = Session::new(config);
    let Ok(Command::Negotiate(offer)) = session.offer() else {
        panic!("no offer")
    };
    let heard = session.receive(Reply::Negotiate(answer(offer, needs)));
    assert_eq!(heard, Ok(Heard::Agreed));
    session
}

fn all() -> Session {
    agreed(Config::new(), &Needs::all().skip())
}

/// Sends a command of that letter, and gives the letters of its frames.
fn send(session: &mut Session, letter: u8) -> Result<String, SendError> {
    let frames = session.send(command(letter), |_| None)?;
    let letters = frames.into_iter().map(|frame| char::from(frame.code()));
    Ok(letters.collect())
}

/// Sends commands, answers `c` where that is due, and gives the letters of all frames.
fn run(session: &mut Session, letters: &[u8]) -> String {
    let mut sent = String::new();
    for letter in letters {
        sent += &send(session, *letter).unwrap();
        if session.awaited().is_some() {
            session.receive(Reply::Continue).unwrap();
        }
    }
    sent
}

fn verdict(session: &mut Session, reply: Reply) -> Verdict {
    match session.receive(reply) {
        Ok(Heard::Answer(answer)) => answer.verdict,
        other => panic!("no answer: {other:?}"),
    }
}

/// What comes of an answer to the offer.
fn answered(config: Config, change: impl FnOnce(&mut OfferReply)) -> Result<Heard, Failure> {
    let mut session = Session::new(config);
    session.offer().unwrap();
    let mut reply = answer(Offer::V6, &Needs::all());
    change(&mut reply);
    session.receive(Reply::Negotiate(reply))
}

#[test]
fn c22_actions_that_were_not_offered_are_refused() {
    let poor = Offer {
        actions: Actions::ADD_HEADERS,
        ..Offer::V6
    };
    let more = |reply: &mut OfferReply| reply.actions = Actions::ADD_HEADERS | Actions::QUARANTINE;
    let failed = answered(Config::new().offer(poor), more).unwrap_err();
    assert!(failed.to_string().contains("QUARANTINE"), "{failed}");
    assert!(answered(Config::new(), more).is_ok());
    // An offer of nothing stands for the oldest set (C12).
    let none = Offer {
        actions: Actions::empty(),
        ..Offer::V6
    };
    let old = |reply: &mut OfferReply| reply.actions = Actions::from_bits_retain(0x0f);
    assert!(answered(Config::new().offer(none), old).is_ok());
}

#[test]
fn c22_steps_that_were_not_offered_are_for_the_setting() {
    let poor = Offer {
        steps: Steps::NO_HELO,
        ..Offer::V6
    };
    let more = |reply: &mut OfferReply| reply.steps = Steps::NO_HELO | Steps::NR_HEADER;
    let config = Config::new().offer(poor);
    assert!(answered(config.clone(), more).is_ok());
    let failed = answered(config.strict(true), more).unwrap_err();
    assert!(failed.to_string().contains("NR_HEADER"), "{failed}");
}

#[test]
fn c23_a_higher_version_is_refused() {
    let at = |offered, version| {
        let offer = Offer {
            version: offered,
            ..Offer::V6
        };
        answered(Config::new().offer(offer), |reply| reply.version = version)
    };
    assert_eq!(
        at(6, 7),
        Err(Failure::Version {
            offered: 6,
            answered: 7
        })
    );
    assert!(at(2, 3).is_err() && at(6, 1).is_err() && at(6, 0).is_err());
    assert!(at(6, 6).is_ok() && at(6, 2).is_ok() && at(2, 2).is_ok());
}

#[test]
fn c23_c80_an_old_filter_gets_neither_data_nor_unknown_commands() {
    for (version, sent) in [
        (2, "CHMRLNBE"),
        (3, "CHUMRLNBE"),
        (4, "CHUMRTLNBE"),
        (6, "CHUMRTLNBE"),
    ] {
        let mut session = Session::new(Config::new());
        session.offer().unwrap();
        let reply = OfferReply {
            version,
            actions: Actions::empty(),
            steps: Steps::empty(),
            macros: crate::MacroLists::default(),
        };
        session.receive(Reply::Negotiate(reply)).unwrap();
        assert_eq!(run(&mut session, b"CHUMRTLNBE"), sent, "{version}");
    }
}

fn with_macros(config: Config, wanted: &Needs) -> Vec<(u8, Vec<String>)> {
    let mut session = agreed(config, wanted);
    let mut sets = Vec::new();
    for letter in *b"CHMR" {
        let known = |name: crate::Text<'_>| (name != "{unknown}").then(|| Bytes::from("x"));
        for frame in session.send(command(letter), known).unwrap() {
            if let Command::Macros(set) = frame {
                let names = set.iter().map(|(name, _)| name.to_string()).collect();
                sets.push((set.command_code(), names));
            }
        }
        session.receive(Reply::Continue).unwrap();
    }
    sets
}

#[test]
fn c24_c25_the_macros_are_those_that_were_asked_for() {
    let config = Config::new()
        .macros(MacroStage::Connect, ["j", "v", "{unknown}"])
        .macros(MacroStage::Mail, ["i"])
        .macros(MacroStage::Rcpt, ["{unknown}"]);
    let needs = Needs::all().macros_exact(MacroStage::Mail, ["{auth_type}", "{unknown}"]);
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    // Its own for MAIL, the MTA's elsewhere; no frame where nothing is known.
    assert_eq!(
        with_macros(config, &needs),
        [(b'C', names(&["j", "v"])), (b'M', names(&["{auth_type}"]))]
    );
}

#[test]
fn c24_lists_for_unknown_stages_are_skipped_and_later_ones_used() {
    let mut codec = MtaCodec::new();
    let mut bytes = bytes::BytesMut::from(
        &b"\0\0\0\x1dO\0\0\0\x06\0\0\x01\0\0\0\0\0\0\0\0\x09y\0\0\0\0\x02i x\0"[..],
    );
    bytes[3] = u8::try_from(bytes.len() - 4).unwrap();
    let reply = tokio_util::codec::Decoder::decode(&mut codec, &mut bytes);
    let mut session = Session::new(Config::new());
    session.offer().unwrap();
    session.receive(reply.unwrap().unwrap()).unwrap();
    let names: Vec<String> = session
        .macro_names(MacroStage::Mail)
        .map(|name| name.to_string())
        .collect();
    assert_eq!(names, ["i", "x"]);
}

#[test]
fn c25_an_empty_list_is_none_or_the_mtas_own() {
    for (means, count) in [(EmptyList::Nothing, 0), (EmptyList::MtasOwn, 2)] {
        let config = Config::new()
            .macros(MacroStage::Helo, ["{cipher}", "{tls_version}"])
            .empty_list(means);
        let mut session = Session::new(config);
        session.offer().unwrap();
        let mut bytes =
            bytes::BytesMut::from(&b"\0\0\0\x12O\0\0\0\x06\0\0\x01\0\0\0\0\0\0\0\0\x01\0"[..]);
        let reply = tokio_util::codec::Decoder::decode(&mut MtaCodec::new(), &mut bytes);
        session.receive(reply.unwrap().unwrap()).unwrap();
        assert_eq!(session.macro_names(MacroStage::Helo).count(), count);
    }
}

#[test]
fn c26_what_is_declined_is_not_sent_and_what_is_silent_not_waited_for() {
    let needs = Needs::none()
        .event(Stage::Rcpt)
        .record(Stage::Mail)
        .record(Stage::Header);
    let mut session = agreed(Config::new().macros(MacroStage::Helo, ["j"]), &needs);
    for (letter, sent, awaited) in [
        (b'C', "", None),
        (b'H', "", None),
        (b'M', "M", None),
        (b'R', "R", Some(Awaited::Verdict(Stage::Rcpt))),
        (b'T', "", None),
        (b'L', "L", None),
        (b'N', "", None),
        (b'B', "", None),
        (b'E', "E", Some(Awaited::Verdict(Stage::EndOfMessage))),
    ] {
        assert_eq!(send(&mut session, letter).unwrap(), sent);
        assert_eq!(session.awaited(), awaited);
        if awaited.is_some() {
            session.receive(Reply::Continue).unwrap();
        }
    }
}

#[test]
fn c26_what_is_declined_may_be_left_out() {
    let mut session = agreed(Config::new(), &Needs::none());
    assert_eq!(run(&mut session, b"E"), "E");
    let mut session = agreed(Config::new(), &Needs::none().event(Stage::Rcpt));
    assert!(matches!(
        send(&mut session, b'E'),
        Err(SendError::OutOfOrder { .. })
    ));
    assert_eq!(run(&mut session, b"RE"), "RE");
}

#[test]
fn c76_frames_that_are_not_final_are_told_as_such() {
    let mut session = all();
    assert_eq!(session.awaited(), None);
    for (letter, timeout) in b"CHMRTLNBE".iter().zip([
        Timeout::Command,
        Timeout::Command,
        Timeout::Command,
        Timeout::Command,
        Timeout::Command,
        Timeout::Content,
        Timeout::Content,
        Timeout::Content,
        Timeout::EndOfMessage,
    ]) {
        send(&mut session, *letter).unwrap();
        assert_eq!(session.awaited().map(Awaited::timeout), Some(timeout));
        // As Postfix, anywhere.
        assert_eq!(session.receive(Reply::Progress), Ok(Heard::Progress));
        if *letter != b'E' {
            session.receive(Reply::Continue).unwrap();
        }
    }
    let edit = Modification::add_header("X-A", "b").unwrap();
    let heard = session.receive(Reply::Modify(edit.clone()));
    assert_eq!(heard, Ok(Heard::Edit));
    assert_eq!(session.receive(Reply::Progress), Ok(Heard::Progress));
    let Ok(Heard::Answer(answer)) = session.receive(Reply::Accept) else {
        panic!("no answer")
    };
    assert_eq!(
        (answer.verdict, answer.edits),
        (Verdict::Accept, vec![edit])
    );
}

#[test]
fn c77_a_frame_that_cannot_be_read_fails_the_filter() {
    let mut session = all();
    send(&mut session, b'C').unwrap();
    let failure = session.fail(&CodecError::UnknownCode { code: b'?' });
    assert!(matches!(failure, Failure::Unreadable(_)), "{failure}");
    assert_eq!(session.awaited(), None);
    // And it stays so, for the first reason.
    assert_eq!(session.fail(Failure::ConnectionLost), failure);
    assert_eq!(session.failure(), Some(&failure));
    assert_eq!(session.receive(Reply::Continue), Err(failure.clone()));
    let failed = Err(SendError::Failed(failure));
    assert_eq!(send(&mut session, b'H'), failed);
    assert!(session.quit().is_err() && session.abort().is_err());
}

#[test]
fn c77_replies_where_none_is_due() {
    let mut session = all();
    let failure = session.receive(Reply::Continue).unwrap_err();
    assert_eq!(failure, Failure::NothingDue { code: b'c' });
    // libmilter answers an end with data twice (Q26).
    let mut session = all();
    run(&mut session, b"CHMRTNE");
    assert!(session.receive(Reply::Continue).is_err());
    // No answer to the offer, and one too many.
    let mut session = Session::new(Config::new());
    session.offer().unwrap();
    let failure = session.receive(Reply::Continue).unwrap_err();
    assert_eq!(failure, Failure::NoAgreement { code: b'c' });
    let mut session = all();
    send(&mut session, b'C').unwrap();
    let again = Reply::Negotiate(answer(Offer::V6, &Needs::all()));
    assert!(session.receive(again).is_err());
}

#[test]
fn c77_what_sendmail_calls_bogus_is_for_the_setting() {
    for reply in [Reply::Progress, Reply::Skip, Reply::Shutdown] {
        for (strict, ok) in [(false, true), (true, false)] {
            let mut session = agreed(Config::new().strict(strict), &Needs::all());
            run(&mut session, b"C");
            send(&mut session, b'H').unwrap();
            assert_eq!(session.receive(reply.clone()).is_ok(), ok, "{reply:?}");
        }
    }
    // Verdicts that would switch filtering off mean `continue`, or a failure (Q11, Q13).
    for (letters, reply) in [(&b"C"[..], Reply::Discard), (b"CU", Reply::Accept)] {
        let (last, before) = letters.split_last().unwrap();
        for strict in [false, true] {
            let mut session = agreed(Config::new().strict(strict), &Needs::all());
            run(&mut session, before);
            send(&mut session, *last).unwrap();
            if strict {
                assert!(session.receive(reply.clone()).is_err());
            } else {
                assert_eq!(verdict(&mut session, reply.clone()), Verdict::Continue);
                assert_eq!(session.decided(), None);
            }
        }
    }
    let mut session = all();
    send(&mut session, b'C').unwrap();
    assert!(session.receive(Reply::ConnectionFailed).is_err());
}

#[test]
fn progress_where_the_mta_bears_it() {
    let config = Config::new().progress_at(Stages::from(Stage::Body));
    let mut session = agreed(config, &Needs::all());
    run(&mut session, b"CHMRTN");
    send(&mut session, b'B').unwrap();
    assert_eq!(session.receive(Reply::Progress), Ok(Heard::Progress));
    session.receive(Reply::Continue).unwrap();
    send(&mut session, b'E').unwrap();
    assert_eq!(session.receive(Reply::Progress), Ok(Heard::Progress));
    session.receive(Reply::Continue).unwrap();
    send(&mut session, b'M').unwrap();
    assert!(session.receive(Reply::Progress).is_err());
}

#[test]
fn c78_edits_before_the_end_are_an_error() {
    let edits = [
        Modification::add_header("X-A", "b").unwrap(),
        Modification::quarantine("spam").unwrap(),
        Modification::replace_body("x"),
    ];
    for edit in edits {
        let mut session = all();
        run(&mut session, b"CHMRTN");
        send(&mut session, b'B').unwrap();
        let failure = session.receive(Reply::Modify(edit)).unwrap_err();
        assert!(
            matches!(
                failure,
                Failure::NotHere {
                    stage: Stage::Body,
                    ..
                }
            ),
            "{failure}"
        );
    }
}

#[test]
fn c75_edits_that_were_not_agreed_on_are_an_error() {
    let mut session = agreed(Config::new(), &Needs::none().action(Actions::ADD_HEADERS));
    run(&mut session, b"CHMRTN");
    send(&mut session, b'E').unwrap();
    let allowed = Modification::insert_header(0, "X-A", "b").unwrap();
    assert!(session.receive(Reply::Modify(allowed)).is_ok());
    let other = Modification::delete_header("X-A", 1).unwrap();
    let failure = session.receive(Reply::Modify(other)).unwrap_err();
    assert!(matches!(failure, Failure::NotAgreed(_)), "{failure}");
}

#[test]
fn edits_are_bounded() {
    let config = Config::new().max_edit_bytes(1000);
    let mut session = agreed(config, &Needs::all());
    run(&mut session, b"CH");
    for _ in 0..2 {
        run(&mut session, b"MRTN");
        send(&mut session, b'E').unwrap();
        let piece = Modification::replace_body(vec![b'x'; 400]);
        for _ in 0..2 {
            session.receive(Reply::Modify(piece.clone())).unwrap();
        }
        // Counted for each message anew.
        let mut other = session.clone();
        let failure = other.receive(Reply::Modify(piece)).unwrap_err();
        assert_eq!(failure, Failure::TooManyEdits { max: 1000 });
        session.receive(Reply::Continue).unwrap();
    }
}

/// Whether the abort of a message is told after these commands and this reply to the last.
fn abort_after(letters: &[u8], reply: Reply) -> bool {
    let mut session = all();
    let (last, before) = letters.split_last().unwrap();
    run(&mut session, before);
    send(&mut session, *last).unwrap();
    session.receive(reply).unwrap();
    let owed = session.owes_abort();
    assert_eq!(session.abort().unwrap().is_some(), owed);
    assert_eq!(session.abort().unwrap(), None, "told once");
    owed
}

#[test]
fn c79_an_abort_ends_what_the_filter_did_not() {
    for letters in [
        &b"CHM"[..],
        b"CHMR",
        b"CHMRT",
        b"CHMRTL",
        b"CHMRTLN",
        b"CHMRTLNB",
    ] {
        assert!(abort_after(letters, Reply::Continue));
        let accepted = abort_after(letters, Reply::Accept);
        let discarded = abort_after(letters, Reply::Discard);
        assert!(!accepted && !discarded);
        // A refused recipient or DATA leaves the message open.
        let leaves_open = matches!(letters.last(), Some(b'R' | b'T'));
        assert_eq!(abort_after(letters, Reply::Reject), leaves_open);
    }
    // Postfix milter8.c milter8_event closes the connection after `4`.
    for letters in [&b"CHM"[..], b"CHMR", b"CHMRT", b"CHMRTL", b"CHMRTLNBE"] {
        assert!(!abort_after(letters, Reply::Shutdown));
    }
    // HELO ends a message (Q5), and this one the session.
    for refused in [Reply::Reject, Reply::Accept, Reply::Shutdown] {
        assert!(!abort_after(b"CHMRH", refused));
    }
    assert!(abort_after(b"CHMRH", Reply::Continue));
    assert!(!abort_after(b"CH", Reply::Continue));
    assert!(!abort_after(b"CHMRTLNBE", Reply::Continue));
    assert!(!abort_after(b"CHMRTLNBE", Reply::TempFail));
}

#[test]
fn c79_no_abort_for_a_message_of_which_the_filter_saw_nothing() {
    let mut session = agreed(Config::new(), &Needs::none().event(Stage::Body));
    run(&mut session, b"CHMRTN");
    assert_eq!(session.abort().unwrap(), None);
    run(&mut session, b"MRTNB");
    assert_eq!(session.abort().unwrap(), Some(Command::Abort));
}

#[test]
fn c79_quit_at_the_end() {
    let letters = |frames: Frames| frames.iter().map(Command::code).collect::<Vec<_>>();
    let mut session = all();
    run(&mut session, b"CHMR");
    let mut as_sendmail = agreed(Config::new().abort_before_quit(false), &Needs::all());
    run(&mut as_sendmail, b"CHMR");
    assert_eq!(letters(session.quit().unwrap()), b"AQ");
    assert_eq!(letters(as_sendmail.quit().unwrap()), b"Q");
    assert_eq!(session.quit(), Err(SendError::Ended));
    assert_eq!(send(&mut session, b'M'), Err(SendError::Ended));
    let mut session = all();
    assert_eq!(letters(session.quit().unwrap()), b"Q");
    // In the midst of a question, too.
    let mut session = all();
    send(&mut session, b'C').unwrap();
    assert_eq!(letters(session.quit().unwrap()), b"Q");
}

#[test]
fn another_smtp_session_on_the_same_connection() {
    let mut session = all();
    run(&mut session, b"CHMR");
    let frames = session.quit_new_connection().unwrap();
    let letters: Vec<u8> = frames.iter().map(Command::code).collect();
    assert_eq!(letters, b"AK");
    assert_eq!(run(&mut session, b"CHMRTLNBE"), "CHMRTLNBE");
    // Also after the filter had accepted the session before.
    let mut session = all();
    send(&mut session, b'C').unwrap();
    session.receive(Reply::Accept).unwrap();
    assert_eq!(run(&mut session, b"HM"), "");
    let frames = session.quit_new_connection().unwrap();
    assert_eq!(frames.iter().count(), 1);
    assert_eq!(run(&mut session, b"CHM"), "CHM");
}

#[test]
fn c81_a_malformed_text_is_the_generic_one_of_its_class() {
    for (raw, want) in [
        (&b"550 a\0b\0"[..], Verdict::Reject),
        (b"5", Verdict::Reject),
        (b"4x0 later\0", Verdict::TempFail),
        (b"250 fine\0", Verdict::TempFail),
        (b"", Verdict::TempFail),
    ] {
        let mut session = all();
        run(&mut session, b"CHM");
        send(&mut session, b'R').unwrap();
        let reply = Reply::InvalidSmtp(Bytes::copy_from_slice(raw));
        assert_eq!(verdict(&mut session, reply), want);
    }
    let mut session = all();
    send(&mut session, b'C').unwrap();
    let reply = SmtpReply::reject("no");
    assert_eq!(
        verdict(&mut session, Reply::Smtp(reply.clone())),
        reply.into()
    );
}

#[test]
fn c82_larger_frames_are_read_to_a_bound() {
    use tokio_util::codec::{Decoder, Encoder};
    let large = Reply::Modify(Modification::add_header("X-A", vec![b'x'; 100_000]).unwrap());
    let mut filter = crate::FilterCodec::new();
    filter.set_max_write(200_000);
    let mut bytes = bytes::BytesMut::new();
    filter.encode(&large, &mut bytes).unwrap();
    let mut read = Config::new().codec().decode(&mut bytes.clone()).unwrap();
    assert_eq!(read.take(), Some(large));
    let error = Config::new().max_read(99_999).codec().decode(&mut bytes);
    assert!(matches!(error, Err(CodecError::TooLarge { .. })));
}

#[test]
fn c83_time_that_is_up_fails_the_filter() {
    let mut session = all();
    run(&mut session, b"CHMRTNB");
    send(&mut session, b'E').unwrap();
    let timeout = session.awaited().unwrap().timeout();
    let failure = session.fail(Failure::Timeout(timeout));
    assert_eq!(
        failure.to_string(),
        "the filter did not answer in time (of the end of the message)"
    );
    assert_eq!(send(&mut session, b'M'), Err(SendError::Failed(failure)));
}

#[test]
fn a_skip_leaves_out_the_rest_of_the_body() {
    let mut session = all();
    run(&mut session, b"CHMRTN");
    send(&mut session, b'B').unwrap();
    assert_eq!(verdict(&mut session, Reply::Skip), Verdict::Skip);
    assert_eq!(run(&mut session, b"BBBE"), "E");
    // Of this message only.
    assert_eq!(run(&mut session, b"MRTNBE"), "MRTNBE");
    // As Postfix: the rest of the headers, and not what follows.
    run(&mut session, b"MRT");
    send(&mut session, b'L').unwrap();
    session.receive(Reply::Skip).unwrap();
    assert_eq!(run(&mut session, b"LLNBE"), "NBE");
}

#[test]
fn nothing_more_is_sent_after_a_verdict() {
    for reply in [Reply::Accept, Reply::Reject, Reply::Discard] {
        for at in 0..4 {
            let mut session = all();
            run(&mut session, b"CH");
            let letters = b"MLNB";
            let before: &[u8] = [&b""[..], b"MRT", b"MRTL", b"MRTLN"][at];
            run(&mut session, before);
            send(&mut session, letters[at]).unwrap();
            let said = verdict(&mut session, reply.clone());
            assert_eq!(session.decided(), Some(&said));
            let rest: &[u8] = [&b"RTLNBE"[..], b"LNBE", b"BE", b"BE"][at];
            assert_eq!(run(&mut session, rest), "");
            // The next message comes whole.
            assert_eq!(run(&mut session, b"MRTLNBE"), "MRTLNBE");
        }
        // A verdict on the session, if it is one.
        let mut session = all();
        send(&mut session, b'C').unwrap();
        session.receive(reply.clone()).unwrap();
        let sent = run(&mut session, b"HMRTLNBE");
        assert_eq!(sent.is_empty(), reply != Reply::Discard);
    }
    // HELO may follow a message that the filter refused in its content.
    let mut session = all();
    run(&mut session, b"CHMRTLN");
    send(&mut session, b'B').unwrap();
    session.receive(Reply::Reject).unwrap();
    assert_eq!(run(&mut session, b"HMRTLNBE"), "HMRTLNBE");
}

#[test]
fn q5_helo_within_a_message_goes_before_or_behind_its_abort() {
    let mut session = all();
    run(&mut session, b"CHMR");
    assert_eq!(run(&mut session, b"H"), "H");
    assert_eq!(send(&mut session, b'M'), Err(SendError::MessageOpen));
    assert_eq!(session.abort().unwrap(), Some(Command::Abort));
    assert_eq!(run(&mut session, b"M"), "M");
}

#[test]
fn q24_data_may_come_again_and_recipients_before_it() {
    let mut session = all();
    run(&mut session, b"CHMR");
    for _ in 0..2 {
        send(&mut session, b'T').unwrap();
        session.receive(Reply::TempFail).unwrap();
    }
    assert_eq!(run(&mut session, b"RTLNBE"), "RTLNBE");
}

#[test]
fn calls_out_of_order_are_refused_and_change_nothing() {
    let mut session = Session::new(Config::new());
    assert!(matches!(
        send(&mut session, b'C'),
        Err(SendError::NotNegotiated { .. })
    ));
    session.offer().unwrap();
    assert_eq!(session.offer(), Err(SendError::Renegotiation));
    let error = send(&mut session, b'C').unwrap_err();
    assert!(matches!(error, SendError::NotNegotiated { .. }), "{error}");

    for (before, wrong) in [
        (&b""[..], &b"HUMRTLNBE"[..]),
        (b"C", b"CRTLNBE"),
        (b"CHM", b"CMTLNBE"),
        (b"CHMR", b"CMBE"),
        (b"CHMRTL", b"CHUMRTBE"),
        (b"CHMRTLN", b"CHUMRTLN"),
    ] {
        let mut session = all();
        run(&mut session, before);
        for letter in wrong {
            let error = send(&mut session, *letter).unwrap_err();
            assert!(
                matches!(error, SendError::OutOfOrder { .. } | SendError::MessageOpen),
                "{error}"
            );
        }
        let rest = &b"CHMRTLNBE"[before.len()..];
        assert_eq!(run(&mut session, rest).as_bytes(), rest);
    }
    let mut session = all();
    send(&mut session, b'C').unwrap();
    let error = send(&mut session, b'H').unwrap_err();
    assert_eq!(
        error.to_string(),
        "helo comes before the filter has answered at connect: take its reply first"
    );
    assert!(session.abort().is_err() && session.quit_new_connection().is_err());
    let misplaced = session.send(Command::Abort, |_| None);
    assert!(matches!(misplaced, Err(SendError::NotAsked { code: b'A' })));
}

#[test]
fn c6_what_the_filter_would_not_read_is_not_sent() {
    let large = || Command::Header(Header::new("X", vec![b'x'; 65_535]));
    let steps = |session: &mut Session| run(session, b"CHMRT");
    let mut session = all();
    steps(&mut session);
    let refused = session.send(large(), |_| None);
    let (stage, size, max) = (Stage::Header, 65_538, 65_535);
    assert_eq!(refused, Err(SendError::TooLarge { stage, size, max }));
    assert_eq!(run(&mut session, b"L"), "L", "nothing has changed");

    // Nor are macros.
    let config = Config::new().macros(MacroStage::EndOfMessage, ["i"]);
    let mut session = agreed(config, &Needs::all());
    run(&mut session, b"CHMRTN");
    let refused = session.send(command(b'E'), |_| Some(vec![b'x'; 65_535].into()));
    assert!(matches!(
        refused,
        Err(SendError::TooLarge {
            stage: Stage::EndOfMessage,
            ..
        })
    ));
    assert_eq!(run(&mut session, b"E"), "E");

    // One that reads more, or is not told of it, is no obstacle.
    let needs = Needs::all().data_size(DataSize::Kib256);
    let steps_more = Offer::V6.steps | Steps::DATA_256K;
    let config = Config::new().offer(Offer {
        steps: steps_more,
        ..Offer::V6
    });
    let mut session = agreed(config, &needs);
    steps(&mut session);
    assert!(!session.send(large(), |_| None).unwrap().is_empty());
    let mut session = agreed(Config::new(), &Needs::none());
    assert!(session.send(large(), |_| None).unwrap().is_empty());
}

#[test]
fn the_body_goes_in_pieces_that_fit() {
    let mut session = all();
    run(&mut session, b"CHMRTN");
    let large = Command::Body(vec![0; 65_536].into());
    assert!(matches!(
        session.send(large, |_| None),
        Err(SendError::BodyTooLarge { size: 65_536 })
    ));
    let fits = Command::Body(vec![0; 65_535].into());
    assert!(!session.send(fits, |_| None).unwrap().is_empty());
    session.receive(Reply::Continue).unwrap();
    let nothing = session.send(Command::Body(Bytes::new()), |_| None);
    assert!(nothing.unwrap().is_empty() && session.awaited().is_none());
}

#[test]
fn any_order_will_do_for_tests() {
    let mut session = agreed(Config::new().any_order(true), &Needs::all());
    assert_eq!(run(&mut session, b"MMHRNLCTUBRE"), "MMHRNLCTUBRE");
    assert_eq!(run(&mut session, b"MRTLNB"), "MRTLNB");
    assert_eq!(session.abort().unwrap(), Some(Command::Abort));
}

mod with_a_filter {
    //! The session against the filter's own state machine.

    use proptest::prelude::*;

    use super::*;
    use crate::state::{Ends, StateMachine, Step};

    fn verdicts() -> impl Strategy<Value = Verdict> {
        prop_oneof![
            4 => Just(Verdict::Continue),
            1 => Just(Verdict::Accept),
            1 => Just(Verdict::Reject),
            1 => Just(Verdict::TempFail),
            1 => Just(Verdict::Discard),
            1 => Just(Verdict::Skip),
            1 => Just(Verdict::from(SmtpReply::reject("no"))),
        ]
    }

    fn some_needs() -> impl Strategy<Value = Needs> {
        let how = proptest::collection::vec(0..4, Stage::ALL.len());
        how.prop_map(|how| {
            let stages = Stage::ALL.into_iter().zip(how);
            let needs = stages.fold(Needs::none().skip(), |needs, (stage, how)| match how {
                0 => needs,
                1 => needs.record(stage),
                _ => needs.event(stage),
            });
            needs.optional_action(Actions::CHANGES)
        })
    }

    /// What the filter makes of a frame: it must be what it expects.
    fn taken(filter: &mut StateMachine, frame: &Command) {
        let transition = filter.step(frame).expect("negotiated before");
        if let Some(stage) = frame.stage() {
            let is_fine = matches!(transition.step, Step::Deliver { .. });
            assert!(is_fine, "{stage}: {transition:?}");
        }
        if *frame == Command::Abort {
            // C79: never without an open message.
            assert_eq!(transition.ends, Some(Ends::Message));
        } else if !matches!(frame, Command::QuitNewConnection) {
            assert_eq!(transition.ends, None, "{frame:?}");
        }
    }

    proptest! {
        #[test]
        fn c79_both_sides_know_what_is_open(
            needs in some_needs(),
            steps in proptest::collection::vec(
                (prop::sample::select(&b"CHMMRRTULLNBBEEAAK"[..]), verdicts()),
                0..80,
            ),
        ) {
            let mut session = agreed(Config::new(), &needs);
            let mut filter = StateMachine::new();
            filter.step(&Command::Negotiate(Offer::V6)).expect("the first");
            for (letter, verdict) in steps {
                // Behind HELO the filter knows by itself.
                if letter == b'A' || letter == b'H' {
                    let owed = session.owes_abort();
                    let abort = session.abort().expect("no reply is due");
                    prop_assert_eq!(abort.is_some(), owed);
                    if let Some(abort) = &abort {
                        taken(&mut filter, abort);
                    }
                    prop_assert!(!filter.has_message());
                }
                if letter == b'A' {
                    continue;
                }
                if letter == b'K' {
                    let frames = session.quit_new_connection().expect("no reply is due");
                    for frame in frames {
                        taken(&mut filter, &frame);
                    }
                    continue;
                }
                let Ok(frames) = session.send(command(letter), |_| Some("x".into())) else {
                    continue;
                };
                for frame in frames {
                    taken(&mut filter, &frame);
                }
                let stage = command(letter).stage().expect("a stage");
                if session.awaited().is_none() {
                    continue;
                }
                let said = if verdict.is_allowed_at(stage) {
                    verdict
                } else {
                    Verdict::Continue
                };
                let heard = session.receive(said.to_reply());
                prop_assert!(matches!(heard, Ok(Heard::Answer(ref heard)) if heard.verdict == said));
                filter.settle(stage, &said);
                prop_assert_eq!(session.owes_abort(), filter.has_message());
            }
        }
    }
}
