use super::*;
use crate::flags::DataSize;
use crate::macros::MacroStage;
use crate::modification::Modification;
use crate::stage::Stage;

fn offer(version: u32, actions: u32, steps: u32) -> Offer {
    Offer {
        version,
        actions: Actions::from_bits_retain(actions),
        steps: Steps::from_bits_retain(steps),
    }
}

#[test]
fn c10_short_offers_and_old_versions_are_refused() {
    for payload in [
        &b""[..],
        b"\0\0\0\x06",
        b"\0\0\0\x06\0\0\0\x01\0\0\0",
        b"\0\0\0\x01\0\0\0\x01\0\0\0\x01",
    ] {
        assert!(Offer::parse(payload).is_err(), "{payload:?}");
    }
    assert!(Offer::parse(b"\0\0\0\x02\0\0\0\x01\0\0\0\x01").is_ok());
}

#[test]
fn c11_the_lower_version_is_spoken() {
    for (offered, agreed) in [(2, 2), (5, 5), (6, 6), (99, 6), (u32::MAX, 6)] {
        assert_eq!(
            negotiate(&offer(offered, 0x1ff, 0x1f_ffff), &Needs::all())
                .unwrap()
                .version(),
            agreed
        );
    }
}

#[test]
fn c12_empty_words_stand_for_the_oldest_ones() {
    let agreement = negotiate(&offer(2, 0, 0), &Needs::all()).unwrap();
    assert_eq!(agreement.actions().bits(), 0x0f);
    let agreement = negotiate(&offer(2, 0, 0), &Needs::none()).unwrap();
    assert_eq!(agreement.steps().bits(), 0x3f);
}

#[test]
fn c13_nothing_is_agreed_that_was_not_offered() {
    let needs = [
        Needs::all()
            .skip()
            .leading_space()
            .rejected_recipients()
            .data_size(DataSize::Mib1),
        Needs::none().optional_action(Actions::CHANGES),
        Stage::ALL.into_iter().fold(Needs::none(), Needs::record),
    ];
    for needs in &needs {
        for bit in 0..32 {
            let offered = offer(6, 1 << bit, 1 << bit);
            let agreement = negotiate(&offered, needs).unwrap();
            assert_eq!(agreement.actions().bits() & !offered.actions.bits(), 0);
            assert_eq!(agreement.steps().bits() & !offered.steps.bits(), 0);
        }
    }
}

#[test]
fn c14_missing_actions_end_the_negotiation_and_are_named() {
    let needs = Needs::all().action(Actions::CHANGE_SENDER | Actions::CHANGE_BODY);
    let error = negotiate(&offer(2, 0x3f, 0x7f), &needs).unwrap_err();
    let NegotiationError::NotOffered {
        missing,
        offered,
        wished,
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(missing, "CHANGE_SENDER");
    assert!(
        offered.contains("CHANGE_BODY") && offered.contains("NO_BODY"),
        "{offered}"
    );
    assert!(
        wished.contains("CHANGE_SENDER") && wished.contains("CHANGE_BODY"),
        "{wished}"
    );

    let error = negotiate(
        &offer(6, 0x1ff, 0x7f),
        &Needs::all().require_leading_space(),
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("does not offer LEADING_SPACE"),
        "{error}"
    );
}

#[test]
fn c15_replies_that_cannot_be_left_out_are_made_up_for() {
    let needs = Needs::none().record(Stage::Mail).event(Stage::Rcpt);
    let full = negotiate(&Offer::V6, &needs).unwrap();
    assert_eq!(full.reply_mode(Stage::Mail), ReplyMode::Silent);
    assert_eq!(full.reply_mode(Stage::Rcpt), ReplyMode::Verdict);
    assert_eq!(full.reply_mode(Stage::EndOfMessage), ReplyMode::Verdict);
    let old = negotiate(&offer(2, 0x3f, 0x7f), &needs).unwrap();
    assert_eq!(old.reply_mode(Stage::Mail), ReplyMode::Continue);
    // Stalwart offers two of the declining bits only: the rest comes, and is answered here.
    let stalwart = negotiate(&offer(6, 0xff, 0x42), &needs).unwrap();
    assert_eq!(stalwart.steps(), Steps::NO_HELO | Steps::NO_END_OF_HEADERS);
    assert!(!stalwart.delivers(Stage::Body));
    assert_eq!(stalwart.reply_mode(Stage::Body), ReplyMode::Continue);
}

#[test]
fn c16_declined_stages_that_the_version_lacks_fall_away() {
    let agreement = negotiate(&offer(2, 0x3f, 0x7f), &Needs::none()).unwrap();
    assert_eq!(agreement.steps().bits(), 0x7f);
    assert!(
        !agreement.steps().contains(Steps::NO_DATA)
            && !agreement.steps().contains(Steps::NO_UNKNOWN)
    );
}

#[test]
fn c17_abilities_are_granted_where_offered() {
    let needs = Needs::all().skip().rejected_recipients().leading_space();
    let agreement = negotiate(&Offer::V6, &needs).unwrap();
    assert!(agreement.skip() && agreement.rejected_recipients() && agreement.leading_space());
    let agreement = negotiate(&offer(4, 0x1ff, 0x37f), &needs).unwrap();
    assert!(!agreement.skip() && !agreement.rejected_recipients() && !agreement.leading_space());
    let agreement = negotiate(&Offer::V6, &Needs::all()).unwrap();
    assert_eq!(
        agreement.steps(),
        Steps::empty(),
        "the top asks for no ability"
    );
}

#[test]
fn c20_larger_frames_only_where_offered_and_wished() {
    for (offered, wished, agreed) in [
        (0x2000_0000, DataSize::Mib1, DataSize::Mib1),
        (0x1000_0000, DataSize::Mib1, DataSize::Kib256),
        (0x3000_0000, DataSize::Kib256, DataSize::Kib256),
        (0x2000_0000, DataSize::Kib256, DataSize::Kib64),
        (0x2000_0000, DataSize::Kib64, DataSize::Kib64),
        (0, DataSize::Mib1, DataSize::Kib64),
    ] {
        let agreement = negotiate(
            &offer(6, 0x1ff, 0x1f_ffff | offered),
            &Needs::all().data_size(wished),
        )
        .unwrap();
        assert_eq!(agreement.max_payload(), agreed.max_payload());
        assert_eq!(agreement.steps().bits() & 0x7000_0000, agreed.bit().bits());
    }
}

#[test]
fn c18_macros_are_asked_for_only_where_that_is_offered() {
    let needs = Needs::all().macros(MacroStage::Rcpt, ["{client_addr}"]);
    let agreement = negotiate(&Offer::V6, &needs).unwrap();
    assert!(agreement.actions().contains(Actions::REQUEST_MACROS));
    let names: Vec<_> = agreement
        .macros()
        .get(MacroStage::Rcpt)
        .unwrap()
        .map(|n| n.to_string())
        .collect();
    assert_eq!(
        names,
        [
            "i",
            "{rcpt_mailer}",
            "{rcpt_host}",
            "{rcpt_addr}",
            "{client_addr}"
        ]
    );
    assert!(agreement.macros().get(MacroStage::Mail).is_none());
    let agreement = negotiate(&offer(6, 0xff, 0x1f_ffff), &needs).unwrap();
    assert!(agreement.macros().is_empty() && agreement.to_reply().macros.is_empty());
    let agreement = negotiate(&Offer::V6, &Needs::all()).unwrap();
    assert!(!agreement.actions().contains(Actions::REQUEST_MACROS));
}

#[test]
fn c75_modifications_are_held_to_the_agreement() {
    let agreement = negotiate(&Offer::V6, &Needs::none().action(Actions::ADD_HEADERS)).unwrap();
    let add = Modification::add_header("X-A", "b").unwrap();
    assert!(agreement.permits(&add).is_ok());
    let error = agreement
        .permits(&Modification::delete_header("X-A", 1).unwrap())
        .unwrap_err();
    let said = error.to_string();
    assert!(said.contains("CHANGE_HEADERS was not negotiated"), "{said}");
    assert!(
        said.contains("`Needs::action(Actions::CHANGE_HEADERS)`"),
        "{said}"
    );
}

#[test]
fn c6_what_does_not_fit_into_a_frame_is_refused() {
    let agreement = negotiate(&Offer::V6, &Needs::all()).unwrap();
    let fits = Modification::add_header("X", vec![b'a'; 65_535 - 3]).unwrap();
    assert!(agreement.permits(&fits).is_ok());
    let large = Modification::add_header("X", vec![b'a'; 65_535 - 2]).unwrap();
    assert_eq!(
        agreement.permits(&large),
        Err(NotAgreed::Size {
            size: 65_536,
            max: 65_535
        })
    );
    assert!(
        agreement
            .permits(&Modification::replace_body(vec![b'a'; 100_000]))
            .is_ok()
    );
}

#[test]
fn c21_what_follows_an_offer_is_ignored() {
    let twelve = b"\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff";
    assert_eq!(Offer::parse(twelve), Ok(Offer::V6));
    for rest in [&b"\0"[..], b"\0\0\0\x02i\0", &[0xff; 100]] {
        assert_eq!(Offer::parse(&[twelve, rest].concat()), Ok(Offer::V6));
    }
}

#[test]
fn a_successor_must_fit() {
    let needs = Needs::none()
        .event(Stage::Rcpt)
        .record(Stage::Mail)
        .action(Actions::ADD_HEADERS);
    let agreement = negotiate(&Offer::V6, &needs).unwrap();
    assert!(agreement.serves(&needs) && agreement.serves(&Needs::none()));
    for wider in [
        needs.clone().event(Stage::Mail),
        needs.clone().event(Stage::Body),
        needs.clone().action(Actions::CHANGE_BODY),
        needs.clone().require_leading_space(),
    ] {
        assert!(!agreement.serves(&wider), "{wider:?}");
    }
    let spaced = negotiate(&Offer::V6, &needs.clone().leading_space()).unwrap();
    assert!(!spaced.serves(&needs));
}

#[test]
fn offers_are_shown_by_name() {
    let shown = offer(6, 0x201, 0x2).to_string();
    assert_eq!(
        shown,
        "version 6, actions ADD_HEADERS, 0x200, steps NO_HELO"
    );
    assert_eq!(
        offer(6, 0, 0).to_string(),
        "version 6, actions nothing, steps nothing"
    );
}

#[test]
fn what_a_filter_agreed_to_can_be_asked_for_in_its_place() {
    let all = Needs::all()
        .optional_action(Actions::CHANGES)
        .skip()
        .leading_space()
        .rejected_recipients()
        .data_size(DataSize::Mib1)
        .macros_exact(MacroStage::Mail, ["i", "{auth_type}"])
        .macros_exact(MacroStage::Helo, [""; 0]);
    let silent = Stage::ALL.into_iter().fold(Needs::none(), Needs::record);
    for needs in [all, silent, Needs::none(), Needs::all()] {
        for offered in [
            Offer::V6,
            offer(6, 0x1ff, 0x301f_ffff),
            offer(2, 0x3f, 0x7f),
            offer(4, 0x1ff, 0x37f),
        ] {
            let answer = negotiate(&offered, &needs).unwrap().to_reply();
            let heard = Agreement::from_answer(&offered, &answer);
            let again = negotiate(&offered, &heard.needs()).unwrap();
            assert_eq!(again.to_reply(), answer, "{offered}");
            assert!(again.serves(&heard.needs()), "{offered}");
        }
    }
}

#[test]
fn c24_names_that_cannot_be_passed_on_are_left_out() {
    let names: Vec<String> = (0..60).map(|i| format!("{{m{i}}}")).collect();
    let raw = [
        b"\0\0\0\x02i,{a-b} {auth_type}\0\0\0\0\x01".as_slice(),
        names.join(" ").as_bytes(),
        b"\0\0\0\0\x09x\0",
    ]
    .concat();
    let answer = OfferReply {
        version: 6,
        actions: Actions::REQUEST_MACROS,
        steps: Steps::empty(),
        macros: MacroLists::parse(Bytes::from(raw)).unwrap(),
    };
    let heard = Agreement::from_answer(&Offer::V6, &answer);
    let again = negotiate(&Offer::V6, &heard.needs()).unwrap();
    let count = |stage| again.macros().get(stage).map(Iterator::count);
    assert_eq!(count(MacroStage::Mail), Some(2));
    assert_eq!(count(MacroStage::Helo), Some(50));
    assert_eq!(again.macros().iter().count(), 2);
}
