//! A set of macros as it goes over the wire.

use bytes::{BufMut, Bytes, BytesMut};

use super::{MacroPairs, MacroStage};
use crate::Text;
use crate::strings::without_nul;

/// A set of macros for the command that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacroSet {
    code: u8,
    pairs: Bytes,
}

impl MacroSet {
    /// A set from names and values. NULs cut them.
    pub fn new<N, V>(stage: MacroStage, pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<Bytes>,
        V: Into<Bytes>,
    {
        Self::for_command(code_of(stage), pairs)
    }

    /// A set that goes before the command of this letter, which may be one without a
    /// [stage](Self::stage): Postfix sends sets before `L`, `B` and `U`, too (Q1).
    pub fn for_command<N, V>(code: u8, pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<Bytes>,
        V: Into<Bytes>,
    {
        let mut raw = BytesMut::new();
        for (name, value) in pairs {
            for text in [without_nul(name), without_nul(value)] {
                raw.put_slice(&text);
                raw.put_u8(0);
            }
        }
        Self {
            code,
            pairs: raw.freeze(),
        }
    }

    /// A set of pairs that hold no NUL, which take about that many bytes.
    pub(super) fn from_pairs<'a>(
        stage: MacroStage,
        pairs: impl IntoIterator<Item = (Text<'a>, Text<'a>)>,
        bytes: usize,
    ) -> Self {
        let mut raw = Vec::with_capacity(bytes);
        for (name, value) in pairs {
            for text in [name, value] {
                raw.extend_from_slice(text.as_bytes());
                raw.push(0);
            }
        }
        Self {
            code: code_of(stage),
            pairs: raw.into(),
        }
    }

    /// A set of those with a value; none if there are none.
    pub(crate) fn of_known<'n>(
        stage: MacroStage,
        pairs: impl Iterator<Item = (Text<'n>, Bytes)>,
    ) -> Option<Self> {
        let mut raw = BytesMut::new();
        for (name, value) in pairs {
            for text in [name.as_bytes(), &value] {
                raw.put_slice(text.split(|byte| *byte == 0).next().unwrap_or_default());
                raw.put_u8(0);
            }
        }
        (!raw.is_empty()).then(|| Self {
            code: code_of(stage),
            pairs: raw.freeze(),
        })
    }

    pub(crate) fn parse(payload: &Bytes) -> Result<Self, &'static str> {
        let code = *payload
            .first()
            .ok_or("a macro frame does not say for which command")?;
        Ok(Self {
            code,
            pairs: payload.slice(1..),
        })
    }

    /// The letter of the command that the macros belong to; not always one with a stage.
    pub fn command_code(&self) -> u8 {
        self.code
    }

    /// The stage; none for commands without macros of their own (C28).
    pub fn stage(&self) -> Option<MacroStage> {
        MacroStage::from_command_code(self.code)
    }

    /// Names and values in turn, each ended by a NUL, as they came.
    pub fn raw(&self) -> &Bytes {
        &self.pairs
    }

    /// Names and values.
    pub fn iter(&self) -> MacroPairs<'_> {
        MacroPairs { rest: &self.pairs }
    }
}

/// The letter of the command before which the macros of a stage go.
const fn code_of(stage: MacroStage) -> u8 {
    match stage {
        MacroStage::Connect => b'C',
        MacroStage::Helo => b'H',
        MacroStage::Mail => b'M',
        MacroStage::Rcpt => b'R',
        MacroStage::Data => b'T',
        MacroStage::EndOfHeaders => b'N',
        MacroStage::EndOfMessage => b'E',
    }
}

impl<'a> IntoIterator for &'a MacroSet {
    type Item = (Text<'a>, Text<'a>);
    type IntoIter = MacroPairs<'a>;

    fn into_iter(self) -> MacroPairs<'a> {
        self.iter()
    }
}
