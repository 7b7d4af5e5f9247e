//! An offer and needs.
//!
//! The input is two lines: the needs, and the offer as twelve bytes, of which four lines' worth of
//! usual ones can be said by a letter.

use bytes::BytesMut;
use milter_core::{
    Actions, Agreement, DataSize, FilterCodec, MacroStage, Modification, MtaCodec, Needs,
    NegotiationError, Offer, Reply, ReplyMode, Stage, Steps, negotiate,
};
use tokio_util::codec::{Decoder, Encoder};

use super::input::Choices;

/// Whatever is offered and whatever is needed: what is agreed on is within the offer, has all
/// that is needed, says so on the wire, and there is an agreement whenever there can be one.
///
/// # Panics
///
/// If something is wrong.
pub fn negotiation(data: &[u8]) {
    let mut input = Choices::new(data);
    let needs = needs(&mut Choices::new(input.line()));
    let other = self::needs(&mut Choices::new(input.line()));
    let offer = offer(&mut input);
    let agreement = negotiated(&offer, &needs);
    negotiated(&offer, &other);
    let both = needs.clone().join(&other);
    assert!(both.wanted() == needs.wanted().union(other.wanted()));
    assert!(both.required_actions() == needs.required_actions() | other.required_actions());
    if let Some(both) = negotiated(&offer, &both) {
        // What is needed together can be had alone, too.
        let alone = agreement.expect("less is needed");
        for stage in Stage::ALL {
            let silent = |agreement: &Agreement| agreement.reply_mode(stage) == ReplyMode::Silent;
            assert!(
                !silent(&both) || silent(&alone) || !needs.wants(stage),
                "{stage}"
            );
        }
    }
}

/// The agreement, if there is one, and if there should be one.
fn negotiated(offer: &Offer, needs: &Needs) -> Option<Agreement> {
    let offered = offer.normalized();
    let spaced = needs.abilities().contains(Steps::LEADING_SPACE)
        && !offered.steps.contains(Steps::LEADING_SPACE);
    let lacks = !offered.actions.contains(needs.required_actions());
    match negotiate(offer, needs) {
        Ok(agreement) => {
            assert!(!lacks);
            check(offer, needs, &agreement);
            Some(agreement)
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(lacks || spaced || matches!(error, NegotiationError::Macros(_)));
            None
        }
    }
}

fn check(offer: &Offer, needs: &Needs, agreement: &Agreement) {
    let offered = offer.normalized();
    assert!(offered.actions.contains(agreement.actions()));
    assert!(offered.steps.contains(agreement.steps()));
    assert_eq!(agreement.version(), offer.version.min(6));
    assert!(agreement.actions().contains(needs.required_actions()));
    let asked = needs.required_actions() | needs.optional_actions() | Actions::REQUEST_MACROS;
    assert!(asked.contains(agreement.actions()));
    assert!(
        needs
            .abilities()
            .contains(agreement.steps() & Steps::ABILITIES)
    );
    assert!(agreement.serves(needs));
    for stage in Stage::ALL {
        stage_is_right(stage, &offered, needs, agreement);
    }
    let macros = agreement.macros();
    assert!(macros.is_empty() || agreement.actions().contains(Actions::REQUEST_MACROS));
    for (number, names) in macros.iter() {
        assert!(MacroStage::from_number(number).is_some());
        assert!((1..=60).contains(&names.count()));
    }
    // Sendmail looks for one of them in the list of the other.
    assert_eq!(
        macros.get(MacroStage::EndOfMessage).is_some(),
        macros.get(MacroStage::EndOfHeaders).is_some()
    );
    for (action, change) in changes() {
        let permitted = agreement.permits(&change).is_ok();
        assert_eq!(
            permitted,
            agreement.actions().contains(action),
            "{change:?}"
        );
    }
    let reply = Reply::Negotiate(agreement.to_reply());
    let mut wire = BytesMut::new();
    FilterCodec::new().encode(&reply, &mut wire).expect("fits");
    let read = MtaCodec::new().decode(&mut wire).expect("readable");
    assert_eq!(read, Some(reply));
    // Asked again, it is the same.
    assert_eq!(negotiate(offer, needs).as_ref(), Ok(agreement));
}

fn stage_is_right(stage: Stage, offered: &Offer, needs: &Needs, agreement: &Agreement) {
    let has = |steps: Steps, bit: Option<Steps>| bit.is_some_and(|bit| steps.contains(bit));
    let (wants, silent) = (needs.wants(stage), needs.is_silent(stage));
    assert!(!silent || wants, "{stage}");
    let declined = has(agreement.steps(), stage.declining());
    let can_decline = has(offered.steps, stage.declining());
    assert_eq!(declined, !wants && can_decline, "{stage}");
    assert_eq!(agreement.delivers(stage), wants, "{stage}");
    let no_reply = has(agreement.steps(), stage.silencing());
    let can_silence = has(offered.steps, stage.silencing());
    // Where an event that nobody wants comes all the same, its reply is spared at least.
    let wished = silent || !wants && !can_decline;
    assert_eq!(no_reply, wished && can_silence, "{stage}");
    let mode = match (no_reply, wants && !silent) {
        (true, _) => ReplyMode::Silent,
        (false, true) => ReplyMode::Verdict,
        (false, false) => ReplyMode::Continue,
    };
    assert_eq!(agreement.reply_mode(stage), mode, "{stage}");
}

/// One change for each action.
fn changes() -> [(Actions, Modification); 9] {
    let made = [
        (Actions::ADD_HEADERS, Modification::add_header("X", "y")),
        (
            Actions::ADD_HEADERS,
            Modification::insert_header(0, "X", "y"),
        ),
        (Actions::CHANGE_HEADERS, Modification::delete_header("X", 1)),
        (Actions::CHANGE_BODY, Ok(Modification::replace_body("b"))),
        (Actions::CHANGE_SENDER, Modification::change_sender("<>")),
        (Actions::ADD_RECIPIENTS, Modification::add_recipient("a@b")),
        (
            Actions::ADD_RECIPIENTS_WITH_ARGS,
            Modification::add_recipient_with_args("a@b", ""),
        ),
        (
            Actions::DELETE_RECIPIENTS,
            Modification::delete_recipient("a@b"),
        ),
        (Actions::QUARANTINE, Modification::quarantine("why")),
    ];
    made.map(|(action, change)| (action, change.expect("valid")))
}

/// An offer: a usual one by a letter, or three words.
pub(super) fn offer(input: &mut Choices<'_>) -> Offer {
    let steps = |version, actions, steps| Offer {
        version,
        actions: Actions::from_bits_retain(actions),
        steps: Steps::from_bits_retain(steps),
    };
    match input.letter(b"62n0wb") {
        b'6' => Offer::V6,
        b'2' => steps(2, 0x3f, 0x7f),
        // Without the replies that can be left out.
        b'n' => steps(6, 0x1ff, 0x3ff),
        b'0' => steps(2 + u32::from(input.byte() % 8), 0, 0),
        b'b' => steps(6, 0x1ff, 0x301f_ffff),
        _ => steps(input.word().max(2), input.word(), input.word()),
    }
}

/// Needs, from nothing upwards: a letter a wish.
pub(super) fn needs(input: &mut Choices<'_>) -> Needs {
    let mut needs = Needs::none();
    while !input.is_empty() {
        let letter = input.letter(b"0123456789abcdefghijASlLvQqoO mMzZk");
        needs = match letter {
            b'0'..=b'9' => needs.event(Stage::ALL[usize::from(letter - b'0')]),
            b'a'..=b'j' => needs.record(Stage::ALL[usize::from(letter - b'a')]),
            b'A' => needs.join(&Needs::all()),
            b'S' => needs.skip(),
            b'l' => needs.leading_space(),
            b'L' => needs.require_leading_space(),
            b'v' => needs.rejected_recipients(),
            b'Q' => needs.action(Actions::from_bits_retain(1 << (input.byte() % 32))),
            b'q' => needs.action(Actions::from_bits_retain(input.byte().into())),
            b'o' => needs.optional_action(Actions::from_bits_retain(input.byte().into())),
            b'O' => needs.optional_action(Actions::all()),
            b'm' => needs.macros(input.pick(&MacroStage::ALL), names(input)),
            b'M' => needs.macros_exact(input.pick(&MacroStage::ALL), names(input)),
            b'z' => needs.data_size(DataSize::Kib256),
            b'Z' => needs.data_size(DataSize::Mib1),
            b'k' => needs.without(input.pick(&Stage::ALL)),
            _ => needs,
        };
    }
    needs
}

/// Names of macros up to a full stop, separated by commas.
fn names(input: &mut Choices<'_>) -> Vec<String> {
    let mut text = Vec::new();
    while !input.is_empty() {
        match input.byte() {
            b'.' => break,
            byte => text.push(byte),
        }
    }
    let text = String::from_utf8_lossy(&text);
    let names = text.split(',').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}
