//! Strategies for everything that can be said on the wire.

use bytes::Bytes;
use milter_core::{
    Actions, ClientAddr, Command, Connect, Header, Helo, MacroSet, MacroStage, Modification, Needs,
    Offer, OfferReply, Recipient, Reply, Sender, SmtpReply, Steps, UnknownCommand, negotiate,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Bytes without NUL, as all strings of the protocol are.
fn text() -> impl Strategy<Value = Vec<u8>> {
    vec(1..=u8::MAX, 0..30)
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn macro_stage() -> impl Strategy<Value = MacroStage> {
    select(&MacroStage::ALL[..])
}

fn client() -> impl Strategy<Value = ClientAddr> {
    let path = vec(1..=u8::MAX, 1..30).prop_map(Bytes::from);
    // What can be read as an address is one, so this begins with what no address has.
    let unreadable = (select(&b"46?"[..]), any::<u16>(), text());
    prop_oneof![
        Just(ClientAddr::Unknown),
        any::<([u8; 4], u16)>().prop_map(|at| ClientAddr::Inet(at.into())),
        any::<([u16; 8], u16)>().prop_map(|at| ClientAddr::Inet(at.into())),
        path.prop_map(ClientAddr::Unix),
        unreadable.prop_map(|(family, port, text)| ClientAddr::Unreadable {
            family,
            port,
            address: [b"!", &text[..]].concat().into(),
        }),
    ]
}

fn offer() -> impl Strategy<Value = Offer> {
    (2..=u32::MAX, any::<u32>(), any::<u32>()).prop_map(|(version, actions, steps)| Offer {
        version,
        actions: Actions::from_bits_retain(actions),
        steps: Steps::from_bits_retain(steps),
    })
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    let pairs = vec((text(), text()), 0..5);
    prop_oneof![
        offer().prop_map(Command::Negotiate),
        (macro_stage(), pairs).prop_map(|(at, pairs)| Command::Macros(MacroSet::new(at, pairs))),
        (text(), client()).prop_map(|(host, at)| Command::Connect(Connect::new(host, at))),
        text().prop_map(|name| Command::Helo(Helo::new(name))),
        (text(), vec(text(), 0..4)).prop_map(|(at, args)| Command::Mail(Sender::new(at, args))),
        (text(), vec(text(), 0..4)).prop_map(|(at, args)| Command::Rcpt(Recipient::new(at, args))),
        Just(Command::Data),
        text().prop_map(|line| Command::Unknown(UnknownCommand::new(line))),
        (text(), text()).prop_map(|(name, value)| Command::Header(Header::new(name, value))),
        Just(Command::EndOfHeaders),
        bytes().prop_map(Command::Body),
        bytes().prop_map(Command::EndOfMessage),
        Just(Command::Abort),
        Just(Command::Quit),
        Just(Command::QuitNewConnection),
    ]
}

fn offer_reply() -> impl Strategy<Value = OfferReply> {
    let names = vec("[a-z]|\\{[a-z0-9_]{2,9}\\}", 0..5);
    (offer(), vec((macro_stage(), names), 0..4)).prop_map(|(offer, lists)| {
        let needs = lists
            .into_iter()
            .fold(Needs::none(), |needs, (at, names)| needs.macros(at, names));
        let agreement = negotiate(&Offer::V6, &needs).expect("names that can be sent");
        OfferReply {
            version: offer.version,
            actions: offer.actions,
            steps: offer.steps,
            macros: agreement.to_reply().macros,
        }
    })
}

fn modification() -> impl Strategy<Value = Modification> {
    let name = || "[!-9;-~]{1,20}";
    let address = || "[a-z]{1,8}@[a-z.]{1,8}";
    let args = || "[A-Z= ]{0,12}";
    let index = || 1..=i32::MAX.unsigned_abs();
    prop_oneof![
        (name(), text()).prop_map(|(name, value)| Modification::add_header(name, value)),
        (index(), name(), text()).prop_map(|(at, n, v)| Modification::insert_header(at, n, v)),
        (name(), index(), text()).prop_map(|(n, at, v)| Modification::change_header(n, at, v)),
        (name(), index()).prop_map(|(name, at)| Modification::delete_header(name, at)),
        bytes().prop_map(|body| Ok(Modification::replace_body(body))),
        (address(), args()).prop_map(|(at, a)| Modification::change_sender_with_args(at, a)),
        address().prop_map(Modification::add_recipient),
        (address(), args()).prop_map(|(at, a)| Modification::add_recipient_with_args(at, a)),
        address().prop_map(Modification::delete_recipient),
        "[ -~]{0,20}x".prop_map(Modification::quarantine),
    ]
    .prop_map(|made| made.expect("valid parts"))
}

pub(crate) fn reply() -> impl Strategy<Value = Reply> {
    let smtp = (400..600_u16, vec("[ -~]{0,40}", 0..4), option::of(text()));
    prop_oneof![
        offer_reply().prop_map(Reply::Negotiate),
        select(
            &[
                Reply::Continue,
                Reply::Accept,
                Reply::Reject,
                Reply::TempFail,
                Reply::Discard,
                Reply::Skip,
                Reply::Progress,
                Reply::Shutdown,
                Reply::ConnectionFailed,
            ][..]
        ),
        smtp.prop_map(|(code, lines, text)| Reply::Smtp(match text {
            Some(text) => SmtpReply::reject(text),
            None => SmtpReply::builder(code)
                .lines(lines)
                .build()
                .expect("valid"),
        })),
        // No code begins with 2.
        bytes().prop_map(|text| Reply::InvalidSmtp([b"2", &text[..]].concat().into())),
        modification().prop_map(Reply::Modify),
    ]
}

/// Bytes like those on the wire: frames of known and unknown codes with any payload, lengths that
/// are wrong, and anything else.
pub(crate) fn wire() -> impl Strategy<Value = Vec<u8>> {
    let codes = &b"ODCHMRTULNBEAQKcartdsp4fyhimbe+2-q?"[..];
    let payload = || {
        vec(
            prop_oneof![Just(0), any::<u8>(), select(&b"45-. %"[..])],
            0..40,
        )
    };
    let frame = (select(codes), payload()).prop_map(|(code, payload)| {
        let length = u32::try_from(payload.len() + 1).expect("small");
        [&length.to_be_bytes()[..], &[code], &payload].concat()
    });
    let claim = (0..2_000_000_u32, payload())
        .prop_map(|(length, rest)| [&length.to_be_bytes()[..], &rest].concat());
    let part = prop_oneof![8 => frame, 1 => claim, 1 => payload()];
    vec(part, 0..8).prop_map(|parts| parts.concat())
}
