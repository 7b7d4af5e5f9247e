//! What a random mail server offers and sends.

use bytes::Bytes;
use milter_core::Command;
use milter_tower::{MacroStage, Offer, Steps};

use crate::common::{body, connect, eom, header, helo, macros, mail, rcpt, unknown};
use crate::rng::Rng;

/// Version 2, version 6 without the replies that can be left out, or all there is.
pub(crate) fn offer(rng: &mut Rng) -> Offer {
    match rng.below(4) {
        0 => Offer {
            steps: Steps::from_bits_retain(0x7f),
            version: 2,
            ..Offer::V6
        },
        1 => Offer {
            steps: Steps::from_bits_retain(0x3ff),
            ..Offer::V6
        },
        _ => Offer::V6,
    }
}

pub(crate) fn command(rng: &mut Rng) -> Command {
    match rng.below(19) {
        0 => connect(),
        1 => helo(),
        2 | 3 => mail(),
        4 => rcpt("<b@example.net>"),
        5 => Command::Data,
        6 => unknown(),
        7 => header(),
        8 => Command::EndOfHeaders,
        9 => body("text\r\n"),
        10 | 11 => eom(),
        12 => Command::EndOfMessage(Bytes::from_static(b"rest\r\n")),
        13 | 14 => Command::Abort,
        15 => Command::QuitNewConnection,
        16 => macros(MacroStage::Mail, [("i", "4XyZ")]),
        17 => macros(MacroStage::Rcpt, [("{rcpt_mailer}", "error")]),
        _ if rng.one_in(2) => macros(MacroStage::Connect, [("v", "Postfix 3.7.11")]),
        _ => macros(MacroStage::Connect, [("v", "8.17.1.9")]),
    }
}

/// Whether a final reply may follow a command, both by their letters.
// protocol 3: skip in the body only, no discard before MAIL, no accept of an unknown command.
pub(crate) fn allows(command: u8, reply: u8) -> bool {
    match reply {
        b'c' | b'r' | b't' | b'y' => true,
        b's' => command == b'B',
        b'd' => !b"CHU".contains(&command),
        b'a' => command != b'U',
        _ => false,
    }
}
