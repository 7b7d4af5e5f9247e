//! The last lines of the input: what the mail server does.
//!
//! A letter of the protocol is that command, and the byte behind it says which of several; bytes
//! that are none of the letters below stand for one of them.
//!
//! | letter | |
//! | --- | --- |
//! | `O` `o` | the same offer again; another one |
//! | `C` `H` `M` `R` `T` `U` `L` `N` `B` `E` `A` `Q` `K` | a command |
//! | `D` | macros: for which command, and which |
//! | `X` | a frame with any code and payload, its length before it |
//! | `G` | bytes without a frame, their number before them |
//! | `.` | waits for all replies that are due |
//! | `,` | lets the server work |
//! | `w` | lets time pass |
//! | `z` `Z` | stops reading replies, reads on |
//! | `/` | sends in pieces of so many bytes from here on |
//! | `F` `V` | stops sending; vanishes |

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use milter_core::{
    Actions, ClientAddr, Command, Connect, Header, Helo, MacroSet, MacroStage, Offer, Recipient,
    Sender, UnknownCommand,
};

use super::super::input::Choices;
use super::mta::Mta;

const MOVES: &[u8] = b"CHMRTULNBEAKDMRTLNBEDQOoXG.,wzZ/FV";
/// Most commands and the like of a connection.
const MOST: usize = 150;

/// Plays all moves. The offer comes first, unless the line begins with `!`.
pub(super) async fn play(mta: &mut Mta<'_>, input: &mut Choices<'_>) {
    let mut ahead = input.clone();
    if ahead.byte() == b'!' {
        *input = ahead;
    } else {
        mta.send(Command::Negotiate(mta.plan().offer)).await;
    }
    for _ in 0..MOST {
        if input.is_empty() || mta.is_over() {
            break;
        }
        let letter = input.letter(MOVES);
        turn(mta, letter, input).await;
    }
}

async fn turn(mta: &mut Mta<'_>, letter: u8, input: &mut Choices<'_>) {
    match letter {
        b'X' => {
            let code = input.byte();
            let payload = input.text();
            let length = u32::try_from(payload.len() + 1).expect("small");
            let frame = [&length.to_be_bytes()[..], &[code], payload].concat();
            mta.send_raw(&frame).await;
        }
        b'G' => {
            let bytes = input.text();
            mta.send_raw(bytes).await;
        }
        b'.' => mta.wait().await,
        b',' => mta.sleep(Duration::from_millis(1)).await,
        b'w' => {
            let seconds = [1, 5, 9, 29, 61, 300, 3_000, 10_000][input.below(8)];
            mta.sleep(Duration::from_secs(seconds)).await;
        }
        b'z' => mta.pause(true),
        b'Z' => mta.pause(false),
        b'/' => mta.piece = usize::from(input.byte()).max(1),
        b'F' => mta.half_close().await,
        b'V' => mta.vanish(),
        letter => {
            let command = command(letter, mta.plan().offer, input);
            mta.send(command).await;
        }
    }
}

pub(in crate::fuzz) fn command(letter: u8, offer: Offer, input: &mut Choices<'_>) -> Command {
    match letter {
        b'O' => Command::Negotiate(offer),
        b'o' => Command::Negotiate(Offer {
            actions: offer.actions ^ Actions::from_bits_retain(1 << (input.byte() % 32)),
            ..offer
        }),
        b'C' => Command::Connect(Connect::new("client.example", client(input.below(5)))),
        b'H' => Command::Helo(Helo::new(input.pick(&["client.example", "", "\u{e9}"]))),
        b'M' => {
            let args = input.pick(&[&[][..], &["SIZE=7"], &["BODY=8BITMIME", "RET=HDRS"]]);
            Command::Mail(Sender::new("<a@example.org>", args.iter().copied()))
        }
        b'R' => {
            let to = input.pick(&["<b@example.net>", "<c@example.net>", "", "<>"]);
            Command::Rcpt(Recipient::new(to, [""; 0]))
        }
        b'T' => Command::Data,
        b'U' => Command::Unknown(UnknownCommand::new("XYZZY now")),
        b'L' => {
            let value = input.pick(&[&b"hello"[..], b" a\n\tb", b"", &[b'x'; 400]]);
            Command::Header(Header::new("Subject", value))
        }
        b'N' => Command::EndOfHeaders,
        b'B' => Command::Body(piece(input.below(4))),
        b'E' => Command::EndOfMessage(piece(input.below(4))),
        b'A' => Command::Abort,
        b'K' => Command::QuitNewConnection,
        b'D' => macros(input),
        _ => Command::Quit,
    }
}

fn client(number: usize) -> ClientAddr {
    let inet = |text: &str| {
        let at: SocketAddr = text.parse().expect("an address");
        at.into()
    };
    match number {
        0 => inet("192.0.2.7:40001"),
        1 => inet("[2001:db8::7]:0"),
        2 => ClientAddr::Unix(Bytes::from_static(b"/run/x")),
        3 => ClientAddr::Unreadable {
            family: b'4',
            port: 1,
            address: Bytes::from_static(b"nonsense"),
        },
        _ => ClientAddr::Unknown,
    }
}

/// A piece of a body; at the end of a message mostly there is none.
fn piece(number: usize) -> Bytes {
    match number {
        0 => Bytes::new(),
        1 => Bytes::from_static(b"text\r\n"),
        2 => Bytes::from_static(b"\0\xff"),
        _ => Bytes::from(vec![b'x'; 20_000]),
    }
}

fn macros(input: &mut Choices<'_>) -> Command {
    let stage = input.pick(&MacroStage::ALL);
    let pair = input.pick(&[
        ("i", "4XyZ"),
        ("v", "Postfix 3.7.11"),
        ("v", "8.17.1.9"),
        ("{rcpt_mailer}", "error"),
        ("{auth_authen}", "alice, who has a long name"),
        ("", ""),
    ]);
    Command::Macros(MacroSet::new(stage, [pair]))
}
