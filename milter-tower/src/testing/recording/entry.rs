//! A line of a recording.

use std::fmt;
use std::str;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::error::LineError;

/// Something that one side said, as a line of a [recording](super::Recording).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The number of the connection, from 1.
    pub connection: u64,
    /// When it was seen, from the beginning of the recording; microseconds are kept.
    pub time: Duration,
    /// Who said it.
    pub from: Side,
    /// What was said.
    pub said: Said,
}

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The mail server.
    Mta,
    /// The filter.
    Milter,
}

/// What a side said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Said {
    /// A frame, of whatever letter and payload.
    Frame {
        /// Its letter.
        code: u8,
        /// Its payload.
        payload: Bytes,
    },
    /// Bytes that are no frame: of a length that no frame has, or what was there of one when the
    /// connection ended. All that follows from that side is out of step, and so is none either.
    Broken(Bytes),
    /// Nothing more: that side closed its direction.
    End,
}

impl Entry {
    /// An entry.
    pub const fn new(connection: u64, time: Duration, from: Side, said: Said) -> Self {
        Self {
            connection,
            time,
            from,
            said,
        }
    }

    /// Reads a line, without its end.
    pub(super) fn from_line(line: &[u8]) -> Result<Self, LineError> {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let mut text = || fields.next().and_then(|field| str::from_utf8(field).ok());
        let connection = text().and_then(|text| text.parse().ok());
        let connection = connection.ok_or(LineError::Connection)?;
        let time = text().and_then(seconds).ok_or(LineError::Time)?;
        let mark = text().ok_or(LineError::Mark)?;
        let (from, what) = match mark.split_at_checked(1) {
            Some((">", what)) => (Side::Mta, what),
            Some(("<", what)) => (Side::Milter, what),
            _ => return Err(LineError::Mark),
        };
        let rest = fields.next();
        let said = match (what, rest) {
            ("", Some(rest)) => {
                let mut parts = rest.splitn(2, |byte| *byte == b' ');
                let letter = unescape(parts.next().unwrap_or_default())?;
                let [code] = letter[..] else {
                    return Err(LineError::Letter);
                };
                let payload = unescape(parts.next().unwrap_or_default())?;
                Said::Frame { code, payload }
            }
            ("", None) => return Err(LineError::Letter),
            ("?", rest) => Said::Broken(unescape(rest.unwrap_or_default())?),
            (".", None) => Said::End,
            (".", Some(_)) => return Err(LineError::Left),
            _ => return Err(LineError::Mark),
        };
        Ok(Self::new(connection, time, from, said))
    }
}

impl Said {
    /// A frame.
    pub fn frame(code: u8, payload: impl Into<Bytes>) -> Self {
        Self::Frame {
            code,
            payload: payload.into(),
        }
    }

    /// The bytes as they went over the wire.
    pub fn wire(&self) -> Bytes {
        match self {
            Self::Frame { code, payload } => {
                let mut bytes = BytesMut::with_capacity(payload.len() + 5);
                // What is read from a connection is never longer than the length can say.
                bytes.put_u32(u32::try_from(payload.len() + 1).unwrap_or(u32::MAX));
                bytes.put_u8(*code);
                bytes.put_slice(payload);
                bytes.freeze()
            }
            Self::Broken(bytes) => bytes.clone(),
            Self::End => Bytes::new(),
        }
    }
}

/// The line, without its end.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.time.as_secs(), self.time.subsec_micros());
        let side = match self.from {
            Side::Mta => '>',
            Side::Milter => '<',
        };
        write!(f, "{} {seconds}.{micros:06} {side}", self.connection)?;
        let bytes = match &self.said {
            Said::Frame { code, payload } => {
                f.write_str(" ")?;
                escape(f, &[*code])?;
                payload
            }
            Said::Broken(bytes) => {
                f.write_str("?")?;
                bytes
            }
            Said::End => return f.write_str("."),
        };
        if bytes.is_empty() {
            return Ok(());
        }
        f.write_str(" ")?;
        escape(f, bytes)
    }
}

/// `SECONDS.MICROS`, the micros with six places.
fn seconds(text: &str) -> Option<Duration> {
    let (seconds, micros) = text.split_once('.')?;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if micros.len() != 6 || !is_number(seconds) || !is_number(micros) {
        return None;
    }
    let micros: u32 = micros.parse().ok()?;
    Some(Duration::new(seconds.parse().ok()?, micros * 1000))
}

fn escape(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let mut rest = bytes;
    loop {
        let plain = rest.iter().take_while(|byte| is_plain(**byte)).count();
        let (mut shown, after) = rest.split_at(plain);
        // An editor might drop a space at the end, and a letter cannot be one.
        let is_last = after.is_empty() && shown.last() == Some(&b' ');
        if is_last {
            shown = &shown[..shown.len() - 1];
        }
        f.write_str(str::from_utf8(shown).map_err(|_| fmt::Error)?)?;
        if is_last {
            f.write_str(r"\x20")?;
        }
        let Some((byte, after)) = after.split_first() else {
            return Ok(());
        };
        match byte {
            0 => f.write_str(r"\0")?,
            b'\t' => f.write_str(r"\t")?,
            b'\n' => f.write_str(r"\n")?,
            b'\r' => f.write_str(r"\r")?,
            b'\\' => f.write_str(r"\\")?,
            byte => write!(f, r"\x{byte:02x}")?,
        }
        rest = after;
    }
}

fn is_plain(byte: u8) -> bool {
    byte != b'\\' && (byte == b' ' || byte.is_ascii_graphic())
}

fn unescape(text: &[u8]) -> Result<Bytes, LineError> {
    let mut bytes = BytesMut::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            if !is_plain(*byte) {
                return Err(LineError::Byte(*byte));
            }
            bytes.put_u8(*byte);
            continue;
        }
        let (letter, after) = rest.split_first().ok_or(LineError::Escape)?;
        rest = after;
        bytes.put_u8(match letter {
            b'0' => 0,
            b't' => b'\t',
            b'n' => b'\n',
            b'r' => b'\r',
            b'\\' => b'\\',
            b'x' => {
                let (digits, after) = rest.split_first_chunk().ok_or(LineError::Escape)?;
                rest = after;
                hex(*digits).ok_or(LineError::Escape)?
            }
            _ => return Err(LineError::Escape),
        });
    }
    Ok(bytes.freeze())
}

fn hex(digits: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let value = digit(digits[0])? * 16 + digit(digits[1])?;
    u8::try_from(value).ok()
}
