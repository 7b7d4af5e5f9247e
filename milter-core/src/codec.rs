//! Frames: `u32 length | u8 code | payload`, where the length counts code and payload.

use std::fmt;
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use crate::command::Command;
use crate::reply::Reply;

/// The largest payload that every MTA and filter reads and writes.
// include/libmilter/mfdef.h MILTER_MAX_DATA_SIZE
pub const DEFAULT_MAX_PAYLOAD: usize = 65_535;
/// The largest payload that can be allowed: 1 MiB.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// Bytes of the length.
const LEN: usize = 4;
/// What is reserved to read into while no frame has begun: most commands fit.
const SMALL: usize = 256;
/// What is reserved to read into while a frame is partial, whatever length it declares.
const LARGE: usize = 16 * 1024;

/// Why bytes could not be read or written as frames.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// A frame of length 0, which not even holds a code (C4).
    #[error(
        "a frame has the length 0: the peer does not speak the milter protocol, or is out of step"
    )]
    Empty,
    /// A frame is larger than allowed (C5). Nothing was allocated for it.
    #[error(
        "a frame of {length} bytes is larger than the limit of {max}: perhaps the peer does not speak the milter protocol"
    )]
    TooLarge {
        /// The length that the frame declares.
        length: u32,
        /// The largest that is allowed.
        max: usize,
    },
    /// The first bytes are those of another protocol.
    #[error("the peer speaks {0}, not the milter protocol: check the port that it was given")]
    Foreign(Foreign),
    /// The connection ended within a frame (C7).
    #[error("the connection ended {missing} bytes before the end of a frame")]
    Truncated {
        /// How many bytes are missing; at least 1.
        missing: usize,
    },
    /// A frame with a code that means nothing in this direction (C8).
    #[error("a frame has the unknown code {:?} ({code:#04x})", *.code as char)]
    UnknownCode {
        /// The code.
        code: u8,
    },
    /// A frame whose payload cannot be read.
    #[error(transparent)]
    Malformed(#[from] MalformedFrame),
    /// A payload is too large to be sent (C6). Nothing was sent.
    #[error("a payload of {size} bytes is larger than the {max} that the peer reads")]
    PayloadTooLarge {
        /// Its bytes.
        size: usize,
        /// The most that may be sent.
        max: usize,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A frame with a known code whose payload cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame {:?} is malformed: {what}", *.code as char)]
pub struct MalformedFrame {
    /// The frame's code.
    pub code: u8,
    /// What is wrong.
    pub what: &'static str,
}

/// A protocol that was recognised by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Foreign {
    /// An HTTP request or response.
    Http,
    /// SMTP, either side.
    Smtp,
    /// The beginning of a TLS connection.
    Tls,
}

impl Foreign {
    /// What begins with these four bytes. None of them could be the length of a frame.
    fn recognise(head: [u8; LEN]) -> Option<Self> {
        match &head {
            b"GET " | b"HEAD" | b"POST" | b"PUT " | b"DELE" | b"OPTI" | b"CONN" | b"PATC"
            | b"PRI " | b"HTTP" => Some(Self::Http),
            b"EHLO" | b"HELO" | b"LHLO" | b"MAIL" | b"QUIT" | b"RSET" | b"NOOP" | b"STAR"
            | b"220 " | b"220-" => Some(Self::Smtp),
            // A handshake record of SSL 3.0 to TLS 1.3 (RFC 8446 section 5.1).
            [0x16, 0x03, 0..=4, _] => Some(Self::Tls),
            _ => None,
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Smtp => "SMTP",
            Self::Tls => "TLS",
        })
    }
}

/// What both directions share: cutting frames and writing them.
#[derive(Clone, Debug)]
struct Frames {
    max_read: usize,
    max_write: usize,
    /// Whether a whole frame has come: what follows cannot be the greeting of another protocol.
    began: bool,
}

impl Frames {
    const fn new() -> Self {
        Self {
            max_read: DEFAULT_MAX_PAYLOAD,
            max_write: DEFAULT_MAX_PAYLOAD,
            began: false,
        }
    }

    /// The next whole frame. Reserves room to read into if there is none.
    ///
    /// A buffer that a large frame has made grow is left so: who keeps it for long replaces it
    /// when it is empty.
    fn cut(&mut self, src: &mut BytesMut) -> Result<Option<(u8, Bytes)>, CodecError> {
        let Some(head) = src.first_chunk::<LEN>() else {
            src.reserve(if src.is_empty() { SMALL } else { LARGE });
            return Ok(None);
        };
        let length = u32::from_be_bytes(*head);
        let Some(payload) = length.checked_sub(1).map(|n| n as usize) else {
            return Err(CodecError::Empty);
        };
        if payload > self.max_read {
            return Err(match Foreign::recognise(*head) {
                Some(foreign) if !self.began => CodecError::Foreign(foreign),
                _ => CodecError::TooLarge {
                    length,
                    max: self.max_read + 1,
                },
            });
        }
        let whole = LEN + 1 + payload;
        if src.len() < whole {
            // The length is only a claim: memory grows with what has come. More than one frame may
            // be on its way, so what is missing of this one is no measure either.
            src.reserve(LARGE);
            return Ok(None);
        }
        self.began = true;
        let mut frame = src.split_to(whole).freeze();
        let code = frame[LEN];
        frame.advance(LEN + 1);
        Ok(Some((code, frame)))
    }

    /// The error for a connection that ended with these bytes unread.
    fn truncated(src: &BytesMut) -> CodecError {
        let missing = match src.first_chunk::<LEN>() {
            Some(head) => (LEN + u32::from_be_bytes(*head) as usize).saturating_sub(src.len()),
            None => LEN + 1 - src.len(),
        };
        CodecError::Truncated {
            missing: missing.max(1),
        }
    }

    /// Writes a frame whose payload `encode` appends; takes it back if it is too large.
    fn put(
        &self,
        code: u8,
        dst: &mut BytesMut,
        encode: impl FnOnce(&mut BytesMut),
    ) -> Result<(), CodecError> {
        let start = dst.len();
        dst.put_u32(0);
        dst.put_u8(code);
        encode(dst);
        let size = dst.len() - start - LEN - 1;
        if size > self.max_write {
            dst.truncate(start);
            return Err(CodecError::PayloadTooLarge {
                size,
                max: self.max_write,
            });
        }
        // No payload is larger than MAX_PAYLOAD, so the length fits.
        let length = u32::try_from(size + 1).unwrap_or(u32::MAX);
        dst[start..start + LEN].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }
}

macro_rules! codec {
    ($(#[$doc:meta])* $name:ident, $in:ident, $out:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            frames: Frames,
        }

        impl $name {
            /// A codec that reads and writes payloads of up to [`DEFAULT_MAX_PAYLOAD`] bytes.
            pub const fn new() -> Self {
                Self { frames: Frames::new() }
            }

            /// Whether the bytes begin with a whole frame, so that decoding needs no more of them.
            pub fn has_frame(&self, bytes: &[u8]) -> bool {
                bytes
                    .split_first_chunk()
                    .is_some_and(|(head, rest)| rest.len() >= u32::from_be_bytes(*head) as usize)
            }

            /// Sets the largest payload that is read, at most [`MAX_PAYLOAD`] bytes.
            pub fn set_max_read(&mut self, bytes: usize) {
                self.frames.max_read = bytes.min(MAX_PAYLOAD);
            }

            /// Sets the largest payload that is written, at most [`MAX_PAYLOAD`] bytes.
            pub fn set_max_write(&mut self, bytes: usize) {
                self.frames.max_write = bytes.min(MAX_PAYLOAD);
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl Decoder for $name {
            type Item = $in;
            type Error = CodecError;

            fn decode(&mut self, src: &mut BytesMut) -> Result<Option<$in>, CodecError> {
                let Some((code, payload)) = self.frames.cut(src)? else { return Ok(None) };
                let parsed = $in::parse(code, payload).ok_or(CodecError::UnknownCode { code })?;
                Ok(Some(parsed?))
            }

            fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<$in>, CodecError> {
                match self.decode(src)? {
                    None if !src.is_empty() => Err(Frames::truncated(src)),
                    frame => Ok(frame),
                }
            }
        }

        impl Encoder<&$out> for $name {
            type Error = CodecError;

            fn encode(&mut self, item: &$out, dst: &mut BytesMut) -> Result<(), CodecError> {
                self.frames.put(item.code(), dst, |dst| item.encode(dst))
            }
        }

        impl Encoder<$out> for $name {
            type Error = CodecError;

            fn encode(&mut self, item: $out, dst: &mut BytesMut) -> Result<(), CodecError> {
                Encoder::encode(self, &item, dst)
            }
        }
    };
}

codec! {
    /// The filter's side of a connection: reads [`Command`]s, writes [`Reply`]s.
    ///
    /// ```
    /// use bytes::BytesMut;
    /// use milter_core::{Command, FilterCodec};
    /// use tokio_util::codec::Decoder;
    ///
    /// let mut input = BytesMut::from(&b"\0\0\0\x01T\0\0\0"[..]);
    /// let mut codec = FilterCodec::new();
    /// assert_eq!(codec.decode(&mut input)?, Some(Command::Data));
    /// assert_eq!(codec.decode(&mut input)?, None, "the next frame is not whole yet");
    /// # Ok::<(), milter_core::CodecError>(())
    /// ```
    FilterCodec, Command, Reply
}

codec! {
    /// The MTA's side of a connection: reads [`Reply`]s, writes [`Command`]s.
    ///
    /// A filter may send larger frames than an MTA does (C82): see
    /// [`set_max_read`](Self::set_max_read).
    MtaCodec, Reply, Command
}

#[cfg(test)]
mod tests;
