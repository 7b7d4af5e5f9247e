//! Replies: what a filter answers.

use bytes::{Bytes, BytesMut};

use crate::MalformedFrame;
use crate::modification::{Modification, ModificationDecodeError};
use crate::negotiate::OfferReply;
use crate::smtp_reply::SmtpReply;

/// A frame from a filter, of any protocol version from 2 to 6.
// include/libmilter/mfdef.h SMFIR_*
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// `O`: the answer to the offer.
    Negotiate(OfferReply),
    /// `c`: go on.
    Continue,
    /// `a`: the filter is done with the message or the connection, and has nothing against it.
    Accept,
    /// `r`: refuse for good.
    Reject,
    /// `t`: refuse for now.
    TempFail,
    /// `d`: pretend to accept, and drop.
    Discard,
    /// `y`: refuse with this SMTP reply.
    Smtp(SmtpReply),
    /// `y` with a text that no MTA would take, as it came from a filter. It is written as it is:
    /// who passes replies on sends a verdict of their own instead.
    InvalidSmtp(Bytes),
    /// `s`: no more of the body.
    Skip,
    /// `p`: still at work.
    Progress,
    /// A change to the message: `h i m b e + 2 - q`.
    Modify(Modification),
    /// `4`: answer the client 421 and hang up. Postfix takes it, Sendmail does not.
    Shutdown,
    /// `f`: defined, but no MTA takes it.
    ConnectionFailed,
}

impl Reply {
    /// The letter on the wire.
    pub fn code(&self) -> u8 {
        match self {
            Self::Negotiate(_) => b'O',
            Self::Continue => b'c',
            Self::Accept => b'a',
            Self::Reject => b'r',
            Self::TempFail => b't',
            Self::Discard => b'd',
            Self::Smtp(_) | Self::InvalidSmtp(_) => b'y',
            Self::Skip => b's',
            Self::Progress => b'p',
            Self::Modify(modification) => modification.code(),
            Self::Shutdown => b'4',
            Self::ConnectionFailed => b'f',
        }
    }

    /// Whether this answers a command: neither a modification nor progress, which another reply
    /// must follow.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Progress | Self::Modify(_))
    }

    /// Reads a reply from a frame's letter and payload. None if the letter is unknown.
    // Postfix milter8.c milter8_event: verdicts have no payload. Sendmail does not look, but no
    // filter sends any (C77).
    pub(crate) fn parse(code: u8, payload: Bytes) -> Option<Result<Self, MalformedFrame>> {
        let reply = match code {
            b'c' => Self::Continue,
            b'a' => Self::Accept,
            b'r' => Self::Reject,
            b't' => Self::TempFail,
            b'd' => Self::Discard,
            b's' => Self::Skip,
            b'p' => Self::Progress,
            b'4' => Self::Shutdown,
            b'f' => Self::ConnectionFailed,
            b'O' => {
                let parsed = OfferReply::parse(&payload).map(Self::Negotiate);
                return Some(parsed.map_err(|what| MalformedFrame { code, what }));
            }
            b'y' => {
                return Some(Ok(
                    SmtpReply::from_wire(&payload).map_or(Self::InvalidSmtp(payload), Self::Smtp)
                ));
            }
            b'h' | b'i' | b'm' | b'b' | b'e' | b'+' | b'2' | b'-' | b'q' => {
                let parsed = Modification::decode(code, payload).map(Self::Modify);
                return Some(parsed.map_err(|error| MalformedFrame {
                    code,
                    what: match error {
                        ModificationDecodeError::Trailing { .. } => "bytes are left over behind it",
                        _ => "it ends within a number or a string",
                    },
                }));
            }
            _ => return None,
        };
        Some(if payload.is_empty() {
            Ok(reply)
        } else {
            Err(MalformedFrame {
                code,
                what: "a verdict has a payload",
            })
        })
    }

    /// Appends the payload.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Negotiate(reply) => reply.encode(out),
            Self::Smtp(reply) => reply.write_wire(out),
            Self::InvalidSmtp(raw) => out.extend_from_slice(raw),
            Self::Modify(modification) => modification.encode_payload(out),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(code: u8, payload: &'static [u8]) -> Result<Reply, MalformedFrame> {
        Reply::parse(code, Bytes::from_static(payload)).expect("known")
    }

    #[test]
    fn c60_c77_verdicts_have_no_payload() {
        for code in *b"cartdsp4f" {
            let reply = parse(code, b"").unwrap();
            assert_eq!(reply.code(), code);
            let mut out = BytesMut::new();
            reply.encode(&mut out);
            assert!(out.is_empty());
            assert!(parse(code, b"x").is_err());
        }
        for code in *b"l?C" {
            assert!(Reply::parse(code, Bytes::new()).is_none());
        }
    }

    #[test]
    fn c81_a_text_that_no_mta_takes_is_kept_as_it_came() {
        assert!(
            matches!(parse(b'y', b"550 5.7.1 no\0").unwrap(), Reply::Smtp(r) if r.code() == 550)
        );
        assert!(matches!(
            parse(b'y', b"250 yes\0").unwrap(),
            Reply::InvalidSmtp(_)
        ));
    }

    #[test]
    fn an_answer_to_an_offer_has_twelve_bytes_and_lists() {
        assert!(parse(b'O', b"\0\0\0\x06\0\0\0\0\0\0\0").is_err());
        let Reply::Negotiate(reply) =
            parse(b'O', b"\0\0\0\x06\0\0\0\x01\0\0\0\0\0\0\0\x02i\0").unwrap()
        else {
            panic!()
        };
        assert_eq!((reply.version, reply.macros.iter().count()), (6, 1));
    }

    #[test]
    fn only_edits_and_progress_are_not_final() {
        assert!(!Reply::Progress.is_final());
        assert!(!Reply::Modify(Modification::quarantine("x").unwrap()).is_final());
        assert!(Reply::Skip.is_final() && Reply::Continue.is_final());
    }
}
