//! Commands: what an MTA tells and asks a filter.

use bytes::{BufMut, Bytes, BytesMut};

use crate::connect::Connect;
use crate::envelope::{Recipient, Sender};
use crate::header::Header;
use crate::macros::MacroSet;
use crate::negotiate::Offer;
use crate::stage::Stage;
use crate::strings::{first_string, without_nul};
use crate::{MalformedFrame, Text};

/// A command from an MTA, of any protocol version from 2 to 6.
// The tag is a whole word: what is moved then is whole words too, on which no load has to wait for
// several stores.
// include/libmilter/mfdef.h SMFIC_*
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u64)]
pub enum Command {
    /// `O`: the MTA's offer.
    Negotiate(Offer),
    /// `D`: macros for the command that follows.
    Macros(MacroSet),
    /// `C`: a client connected.
    Connect(Connect),
    /// `H`: HELO or EHLO.
    Helo(Helo),
    /// `M`: MAIL FROM.
    Mail(Sender),
    /// `R`: RCPT TO.
    Rcpt(Recipient),
    /// `T`: DATA.
    Data,
    /// `U`: a command that the MTA does not know.
    Unknown(UnknownCommand),
    /// `L`: a header field.
    Header(Header),
    /// `N`: the end of the headers.
    EndOfHeaders,
    /// `B`: a piece of the body.
    Body(Bytes),
    /// `E`: the end of the message, with what may be a last piece of the body.
    EndOfMessage(Bytes),
    /// `A`: the message is given up.
    Abort,
    /// `Q`: the connection ends.
    Quit,
    /// `K`: the SMTP session ends, another follows on the same connection.
    QuitNewConnection,
}

impl Command {
    /// The letter on the wire.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Negotiate(_) => b'O',
            Self::Macros(_) => b'D',
            Self::Connect(_) => b'C',
            Self::Helo(_) => b'H',
            Self::Mail(_) => b'M',
            Self::Rcpt(_) => b'R',
            Self::Data => b'T',
            Self::Unknown(_) => b'U',
            Self::Header(_) => b'L',
            Self::EndOfHeaders => b'N',
            Self::Body(_) => b'B',
            Self::EndOfMessage(_) => b'E',
            Self::Abort => b'A',
            Self::Quit => b'Q',
            Self::QuitNewConnection => b'K',
        }
    }

    /// The stage at which the command asks for a verdict; none for those that do not.
    pub const fn stage(&self) -> Option<Stage> {
        Some(match self {
            Self::Connect(_) => Stage::Connect,
            Self::Helo(_) => Stage::Helo,
            Self::Mail(_) => Stage::Mail,
            Self::Rcpt(_) => Stage::Rcpt,
            Self::Data => Stage::Data,
            Self::Unknown(_) => Stage::Unknown,
            Self::Header(_) => Stage::Header,
            Self::EndOfHeaders => Stage::EndOfHeaders,
            Self::Body(_) => Stage::Body,
            Self::EndOfMessage(_) => Stage::EndOfMessage,
            Self::Negotiate(_)
            | Self::Macros(_)
            | Self::Abort
            | Self::Quit
            | Self::QuitNewConnection => return None,
        })
    }

    /// Reads a command from a frame's letter and payload. None if the letter is unknown.
    // libmilter/engine.c cmds[]: which commands may be empty. What follows one that is (T N A Q K)
    // is ignored, as there.
    pub(crate) fn parse(code: u8, payload: Bytes) -> Option<Result<Self, MalformedFrame>> {
        let parsed = match code {
            b'O' => Offer::parse(&payload).map(Self::Negotiate),
            b'D' => MacroSet::parse(&payload).map(Self::Macros),
            b'C' => Connect::parse(&payload).map(Self::Connect),
            b'H' => first_string(payload).map(|name| Self::Helo(Helo { name })),
            b'M' => Sender::parse(payload).map(Self::Mail),
            b'R' => Recipient::parse(payload).map(Self::Rcpt),
            b'T' => Ok(Self::Data),
            b'U' => first_string(payload).map(|line| Self::Unknown(UnknownCommand { line })),
            b'L' => Header::parse(payload).map(Self::Header),
            b'N' => Ok(Self::EndOfHeaders),
            b'B' => Ok(Self::Body(payload)),
            b'E' => Ok(Self::EndOfMessage(payload)),
            b'A' => Ok(Self::Abort),
            b'Q' => Ok(Self::Quit),
            b'K' => Ok(Self::QuitNewConnection),
            _ => return None,
        };
        Some(parsed.map_err(|what| MalformedFrame { code, what }))
    }

    /// How many bytes the payload takes.
    pub(crate) fn payload_len(&self) -> usize {
        let encoded = |encode: &dyn Fn(&mut BytesMut)| {
            let mut out = BytesMut::new();
            encode(&mut out);
            out.len()
        };
        match self {
            Self::Negotiate(offer) => encoded(&|out| offer.encode(out)),
            Self::Macros(set) => 1 + set.raw().len(),
            // Once in a connection.
            Self::Connect(connect) => encoded(&|out| connect.encode(out)),
            Self::Helo(Helo { name: string }) | Self::Unknown(UnknownCommand { line: string }) => {
                string.len() + 1
            }
            Self::Mail(sender) => sender.raw().len(),
            Self::Rcpt(recipient) => recipient.raw().len(),
            Self::Header(header) => header.raw().len() + 1,
            Self::Body(bytes) | Self::EndOfMessage(bytes) => bytes.len(),
            Self::Data
            | Self::EndOfHeaders
            | Self::Abort
            | Self::Quit
            | Self::QuitNewConnection => 0,
        }
    }

    /// Appends the payload.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Negotiate(offer) => offer.encode(out),
            Self::Macros(set) => {
                out.put_u8(set.command_code());
                out.put_slice(set.raw());
            }
            Self::Connect(connect) => connect.encode(out),
            Self::Helo(Helo { name: string }) | Self::Unknown(UnknownCommand { line: string }) => {
                out.put_slice(string);
                out.put_u8(0);
            }
            Self::Mail(sender) => out.put_slice(sender.raw()),
            Self::Rcpt(recipient) => out.put_slice(recipient.raw()),
            Self::Header(header) => {
                out.put_slice(header.raw());
                out.put_u8(0);
            }
            Self::Body(bytes) | Self::EndOfMessage(bytes) => out.put_slice(bytes),
            Self::Data
            | Self::EndOfHeaders
            | Self::Abort
            | Self::Quit
            | Self::QuitNewConnection => {}
        }
    }
}

/// The argument of HELO or EHLO; which of the two it was the protocol does not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helo {
    name: Bytes,
}

impl Helo {
    /// A greeting. A NUL cuts the name.
    pub fn new(name: impl Into<Bytes>) -> Self {
        Self {
            name: without_nul(name),
        }
    }

    /// The same in memory of its own, which holds no part of a connection's buffer.
    #[must_use]
    pub fn to_owned_copy(&self) -> Self {
        Self {
            name: Bytes::copy_from_slice(&self.name),
        }
    }

    /// The name that the client gave.
    pub fn name(&self) -> Text<'_> {
        Text::new(&self.name)
    }
}

/// A command line that the MTA does not know.
///
/// Postfix before 2024 sends the verb alone (Q22).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCommand {
    line: Bytes,
}

impl UnknownCommand {
    /// A command line. A NUL cuts it.
    pub fn new(line: impl Into<Bytes>) -> Self {
        Self {
            line: without_nul(line),
        }
    }

    /// The whole line without its end.
    pub fn line(&self) -> Text<'_> {
        Text::new(&self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::macros::MacroStage;

    fn parse(code: u8, payload: &'static [u8]) -> Result<Command, MalformedFrame> {
        Command::parse(code, Bytes::from_static(payload)).expect("known")
    }

    #[test]
    fn c38_addresses_of_every_kind() {
        for (payload, address, mailbox, args) in [
            (&b"<>\0"[..], "<>", "", 0),
            (b"\0", "", "", 0),
            (b"a@b\0", "a@b", "a@b", 0),
            (b"<a@b>\0SIZE=7\0BODY=8BITMIME\0", "<a@b>", "a@b", 2),
        ] {
            let Command::Mail(sender) = parse(b'M', payload).unwrap() else {
                panic!()
            };
            assert_eq!(sender.address(), address);
            assert_eq!(sender.mailbox(), mailbox);
            assert_eq!(sender.is_null(), mailbox.is_empty());
            assert_eq!(
                sender.domain(),
                mailbox.split_once('@').map(|(_, domain)| domain.into())
            );
            assert_eq!(sender.args().iter().count(), args);
        }
    }

    #[test]
    fn c39_an_unterminated_end_is_dropped() {
        let Command::Rcpt(rcpt) = parse(b'R', b"<a@b>\0NOTIFY=NEVER\0ORC").unwrap() else {
            panic!()
        };
        assert_eq!(rcpt.args().iter().count(), 1);
        assert!(parse(b'R', b"<a@b>").is_err());
        assert!(parse(b'M', b"").is_err());
    }

    #[test]
    fn c40_header_values() {
        for (payload, value) in [
            (&b"X\0\0"[..], &b""[..]),
            (b"X\0 v\0", b" v"),
            (b"X\0a\n b\0", b"a\n b"),
            (b"X\0a\0trailing\0", b"a"),
        ] {
            let Command::Header(header) = parse(b'L', payload).unwrap() else {
                panic!()
            };
            assert_eq!(
                (header.name(), header.value()),
                (Text::from("X"), Text::new(value))
            );
            assert_eq!(header.value_bytes(), value);
        }
    }

    #[test]
    fn c41_headers_without_their_nuls_are_errors() {
        for payload in [&b"X\0value"[..], b"X\0", b"X", b""] {
            let error = parse(b'L', payload).unwrap_err();
            assert!(error.to_string().contains("'L'"), "{error}");
        }
    }

    #[test]
    fn c42_c44_c9_content_passes_unchanged() {
        assert_eq!(
            parse(b'E', b"rest").unwrap(),
            Command::EndOfMessage(Bytes::from_static(b"rest"))
        );
        assert_eq!(
            parse(b'B', b"a\0b").unwrap(),
            Command::Body(Bytes::from_static(b"a\0b"))
        );
        let Command::Unknown(unknown) = parse(b'U', b"FROB a b\0").unwrap() else {
            panic!()
        };
        assert_eq!(unknown.line(), "FROB a b");
        assert!(parse(b'U', b"FROB").is_err() && parse(b'H', b"").is_err());
    }

    #[test]
    fn c27_macros_may_be_empty_but_not_without_a_command() {
        let Command::Macros(set) = parse(b'D', b"Li\x001\0").unwrap() else {
            panic!()
        };
        assert_eq!((set.stage(), set.iter().count()), (None, 1));
        assert!(
            matches!(parse(b'D', b"M").unwrap(), Command::Macros(s) if s.stage() == Some(MacroStage::Mail))
        );
        assert!(parse(b'D', b"").is_err());
    }

    #[test]
    fn lengths_are_those_of_what_is_written() {
        let at: std::net::SocketAddr = "[2001:db8::7]:25".parse().unwrap();
        for command in [
            Command::Negotiate(Offer::V6),
            Command::Macros(MacroSet::new(MacroStage::Mail, [("i", "1")])),
            Command::Connect(Connect::new("client.example", at.into())),
            Command::Helo(Helo::new("h")),
            Command::Unknown(UnknownCommand::new("FROB")),
            Command::Mail(Sender::new("<a@b>", ["SIZE=1"])),
            Command::Rcpt(Recipient::new("<a@b>", [""; 0])),
            Command::Header(Header::new("A", " b")),
            Command::Body(Bytes::from_static(b"body")),
            Command::EndOfMessage(Bytes::new()),
            Command::Data,
        ] {
            let mut out = BytesMut::new();
            command.encode(&mut out);
            assert_eq!(command.payload_len(), out.len(), "{command:?}");
        }
    }

    #[test]
    fn c8_unknown_letters() {
        assert!(Command::parse(b'?', Bytes::new()).is_none());
    }

    #[test]
    fn a_nul_cuts() {
        assert_eq!(Header::new("X", "a\0b").value(), "a");
        assert_eq!(Helo::new("h\0i").name(), "h");
        let sender = Sender::new("<a>\0x", ["A\0B"]);
        assert_eq!(
            (sender.address(), sender.held_bytes()),
            (Text::from("<a>"), 6)
        );
        assert_eq!(sender.to_owned_copy(), sender);
    }
}
