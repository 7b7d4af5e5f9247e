//! Negotiation, whatever is offered and whatever is needed.

use bytes::BytesMut;
use milter_core::{
    Actions, Agreement, DataSize, FilterCodec, MacroStage, Modification, MtaCodec, Needs,
    NegotiationError, Offer, Reply, ReplyMode, Stage, Steps, negotiate,
};
use proptest::collection;
use proptest::prelude::*;
use proptest::sample::select;
use tokio_util::codec::{Decoder, Encoder};

fn offer() -> impl Strategy<Value = Offer> {
    let actions = prop_oneof![Just(0x1ff), Just(0x3f), Just(0), 0..0x200_u32, any::<u32>()];
    let steps = prop_oneof![
        Just(0x1f_ffff),
        Just(0x7f),
        Just(0),
        0..0x20_0000_u32,
        any::<u32>()
    ];
    let version = prop_oneof![2..8_u32, Just(u32::MAX)];
    (version, actions, steps).prop_map(|(version, actions, steps)| Offer {
        version,
        actions: Actions::from_bits_retain(actions),
        steps: Steps::from_bits_retain(steps),
    })
}

/// One bit, one that has a name in most cases.
fn action() -> impl Strategy<Value = Actions> {
    prop_oneof![9 => 0..9_u32, 1 => 9..32_u32].prop_map(|n| Actions::from_bits_retain(1 << n))
}

/// Something that may be asked for, and has no effect on what the filter is shown in headers or
/// recipients.
fn wish() -> impl Strategy<Value = fn(Needs, Wish) -> Needs> {
    select(
        &[
            (|needs: Needs, wish: Wish| needs.event(wish.stage)) as fn(Needs, Wish) -> Needs,
            |needs, wish| needs.record(wish.stage),
            |needs, wish| needs.without(wish.stage),
            |needs, wish| needs.action(wish.action),
            |needs, wish| needs.optional_action(wish.action),
            |needs, wish| needs.data_size(wish.size),
            |needs, wish| needs.macros(wish.at, wish.names),
            |needs, wish| needs.macros_exact(wish.at, wish.names),
            |needs, _| needs.join(&Needs::all()),
            |needs, _| needs.skip(),
        ][..],
    )
}

fn ability() -> impl Strategy<Value = fn(Needs, Wish) -> Needs> {
    select(
        &[
            (|needs: Needs, _| needs.leading_space()) as fn(Needs, Wish) -> Needs,
            |needs, _| needs.require_leading_space(),
            |needs, _| needs.rejected_recipients(),
        ][..],
    )
}

#[derive(Clone, Debug)]
struct Wish {
    stage: Stage,
    action: Actions,
    size: DataSize,
    at: MacroStage,
    names: Vec<String>,
}

fn parts() -> impl Strategy<Value = Wish> {
    let sizes = &[DataSize::Kib64, DataSize::Kib256, DataSize::Mib1][..];
    // Some names that cannot be asked for among those that can.
    let name = prop_oneof![20 => "[ij]", 20 => "\\{?[a-z_]{2,9}\\}?", 1 => "[ ,}]"];
    (
        select(&Stage::ALL[..]),
        action(),
        select(sizes),
        select(&MacroStage::ALL[..]),
        collection::vec(name, 0..4),
    )
        .prop_map(|(stage, action, size, at, names)| Wish {
            stage,
            action,
            size,
            at,
            names,
        })
}

fn needs_of(
    wishes: impl Strategy<Value = fn(Needs, Wish) -> Needs>,
) -> impl Strategy<Value = Needs> {
    let start = select(vec![Needs::none(), Needs::all()]);
    (start, collection::vec((wishes, parts()), 0..8)).prop_map(|(start, wishes)| {
        wishes
            .into_iter()
            .fold(start, |needs, (wish, parts)| wish(needs, parts))
    })
}

fn needs() -> impl Strategy<Value = Needs> {
    needs_of(prop_oneof![8 => wish(), 1 => ability()])
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

fn check(offer: &Offer, needs: &Needs, agreement: &Agreement) -> Result<(), TestCaseError> {
    // What an empty word stands for is offered as well (C12).
    let offered = offer.normalized();
    prop_assert!(offered.actions.contains(agreement.actions()), "C13");
    prop_assert!(offered.steps.contains(agreement.steps()), "C13");
    prop_assert_eq!(agreement.version(), offer.version.min(6), "C11");
    prop_assert!(
        agreement.actions().contains(needs.required_actions()),
        "C14"
    );
    prop_assert!(agreement.serves(needs));
    for stage in Stage::ALL {
        let has = |bit: Option<Steps>| bit.is_some_and(|bit| agreement.steps().contains(bit));
        prop_assert_eq!(agreement.delivers(stage), needs.wants(stage));
        prop_assert!(!(needs.wants(stage) && has(stage.declining())), "{}", stage);
        let mode = agreement.reply_mode(stage);
        let judges = needs.wants(stage) && !needs.is_silent(stage);
        prop_assert_eq!(mode == ReplyMode::Verdict, judges, "{}", stage);
        prop_assert_eq!(
            mode == ReplyMode::Silent,
            has(stage.silencing()),
            "C15 {}",
            stage
        );
    }
    let macros = agreement.macros();
    prop_assert!(macros.is_empty() || agreement.actions().contains(Actions::REQUEST_MACROS));
    prop_assert_eq!(
        macros.get(MacroStage::EndOfMessage).is_some(),
        macros.get(MacroStage::EndOfHeaders).is_some(),
        "C19"
    );
    for (action, change) in changes() {
        prop_assert_eq!(
            agreement.permits(&change).is_ok(),
            agreement.actions().contains(action),
            "C75 {:?}",
            change
        );
    }
    let reply = Reply::Negotiate(agreement.to_reply());
    let mut wire = BytesMut::new();
    FilterCodec::new().encode(&reply, &mut wire).expect("small");
    let read = MtaCodec::new().decode(&mut wire).expect("whole");
    prop_assert_eq!(read, Some(reply), "C18");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn c13_nothing_is_agreed_that_was_not_offered(offer in offer(), needs in needs()) {
        match negotiate(&offer, &needs) {
            Ok(agreement) => check(&offer, &needs, &agreement)?,
            Err(NegotiationError::NotOffered { .. }) => {
                let offered = offer.normalized();
                let spaced = needs.abilities().contains(Steps::LEADING_SPACE)
                    && !offered.steps.contains(Steps::LEADING_SPACE);
                prop_assert!(spaced || !offered.actions.contains(needs.required_actions()), "C14");
            }
            Err(error) => prop_assert!(matches!(error, NegotiationError::Macros(_))),
        }
    }

    #[test]
    fn what_serves_both_serves_each(one in needs_of(wish()), other in needs_of(wish())) {
        let both = one.clone().join(&other);
        let everything = Offer {
            actions: Actions::all(),
            ..Offer::V6
        };
        if let Ok(agreement) = negotiate(&everything, &both) {
            prop_assert!(agreement.serves(&one) && agreement.serves(&other));
        }
    }
}
