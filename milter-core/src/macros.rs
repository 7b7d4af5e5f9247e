//! Macros: what the MTA tells besides the commands.

use std::fmt;
use std::sync::Arc;

use memchr::memchr;

use crate::Text;

pub use set::MacroSet;

pub mod names;
mod set;

/// The stages for which an MTA has a list of macros to send.
///
/// The discriminants are the numbers in a macro request.
// include/libmilter/mfapi.h SMFIM_*: the end of message stands before the end of headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum MacroStage {
    /// Sent before the connection is told.
    Connect = 0,
    /// Sent before HELO or EHLO.
    Helo = 1,
    /// Sent before MAIL.
    Mail = 2,
    /// Sent before each RCPT.
    Rcpt = 3,
    /// Sent before DATA.
    Data = 4,
    /// Sent before the end of the message.
    EndOfMessage = 5,
    /// Sent before the end of the headers.
    EndOfHeaders = 6,
}

impl MacroStage {
    /// All stages, in the order in which they come.
    pub const ALL: [Self; 7] = [
        Self::Connect,
        Self::Helo,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::EndOfHeaders,
        Self::EndOfMessage,
    ];

    /// The number in a macro request.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The stage of a number in a macro request.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.number() == number)
    }

    /// The stage that a macro frame with this command code belongs to.
    ///
    /// None for `L`, `B` and `U`, for which Postfix sends its lists again and again; they must
    /// not disturb other stages.
    // libmilter/engine.c cmds[]; Postfix milter8.c milter8_header, milter8_body (Q1)
    pub const fn from_command_code(code: u8) -> Option<Self> {
        Some(match code {
            b'C' => Self::Connect,
            b'H' => Self::Helo,
            b'M' => Self::Mail,
            b'R' => Self::Rcpt,
            b'T' => Self::Data,
            b'N' => Self::EndOfHeaders,
            b'E' => Self::EndOfMessage,
            _ => return None,
        })
    }

    /// The name, for messages: `end of headers`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Helo => "helo",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::EndOfHeaders => "end of headers",
            Self::EndOfMessage => "end of message",
        }
    }

    /// The position in time, 0 to 6: the end of headers comes before the end of message.
    const fn rank(self) -> usize {
        match self {
            Self::EndOfHeaders => 5,
            Self::EndOfMessage => 6,
            other => other as usize,
        }
    }
}

/// The [name](MacroStage::name).
impl fmt::Display for MacroStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The macros that are known at a point of the session, kept raw and read on look-up.
///
/// Each stage has a set of its own. A set lives until the MTA sends a new one for its stage, or
/// until an earlier stage comes again, with its macros or its command: MAIL forgets what RCPT and
/// later stages told, a new HELO what MAIL told, and so on; DATA and what follows it forget
/// nothing. A stage entered without a set of its own has none.
/// Ending or aborting a message forgets nothing.
///
/// Braces around a name never matter, neither in what the MTA sends nor in what is asked for:
/// `i` and `{i}` are one macro, `daemon_name` and `{daemon_name}` too.
///
/// ```
/// use milter_core::{MacroStage, Macros};
///
/// let mut macros = Macros::default();
/// macros.set(MacroStage::Mail, b"i\x004Xy1\0{auth_authen}\0alice\0");
/// assert_eq!(macros.get("{i}").unwrap(), "4Xy1");
/// assert_eq!(macros.get("auth_authen").unwrap(), "alice");
/// assert!(macros.get("{cipher}").is_none());
/// ```
#[derive(Clone, Default)]
pub struct Macros {
    sets: [Option<Arc<[u8]>>; 7],
    /// A bit a rank: set for a stage whose command has not come yet.
    fresh: u8,
}

impl Macros {
    /// Keeps the macros of a stage: names and values in turn, each ended by a NUL.
    ///
    /// An unpaired name or an unterminated end is ignored, as is a repeated name's second value.
    /// Nothing is kept of an empty set, which says that no macro has a value.
    // libmilter/engine.c st_macros, which reads past its array where a name has no value, and
    // keeps the old set where the new one is empty (Q1).
    pub fn set(&mut self, stage: MacroStage, pairs: &[u8]) {
        let rank = stage.rank();
        // Already here and not only when the command comes, which may have been declined (Q2).
        self.forget_after(stage);
        self.fresh |= 1 << rank;
        self.sets[rank] = (!pairs.is_empty()).then(|| pairs.into());
    }

    /// To be called when the command of a stage comes, after its macros were set.
    // libmilter/engine.c mi_clr_macros from st_connectinfo, st_helo, st_sender, st_rcpt. Unlike
    // there, a stage entered without macros of its own does not show those of its last time.
    pub fn enter(&mut self, stage: MacroStage) {
        let rank = stage.rank();
        if self.fresh & 1 << rank == 0 {
            self.sets[rank] = None;
        }
        self.fresh &= !(1 << rank);
        self.forget_after(stage);
    }

    /// Forgets what stages after this one told, if it begins something anew.
    fn forget_after(&mut self, stage: MacroStage) {
        let rank = stage.rank();
        if rank <= MacroStage::Rcpt.rank() {
            for later in rank + 1..self.sets.len() {
                self.sets[later] = None;
                self.fresh &= !(1 << later);
            }
        }
    }

    /// Forgets everything at the end of an SMTP session, but for connection macros whose command
    /// has not come yet: they belong to the next session.
    pub fn end_session(&mut self) {
        let rank = MacroStage::Connect.rank();
        let next = self.sets[rank]
            .take()
            .filter(|_| self.fresh & (1 << rank) != 0);
        *self = Self::default();
        if next.is_some() {
            self.fresh = 1 << rank;
            self.sets[rank] = next;
        }
    }

    /// The value of a macro: the latest stage that has it is asked first.
    // libmilter/smfi.c smfi_getsymval
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<Text<'_>> {
        let name = without_braces(name.as_ref());
        self.sets
            .iter()
            .rev()
            .flatten()
            .find_map(|set| find(set, name))
    }

    /// The value of a macro as the MTA sent it for this stage.
    pub fn get_at(&self, stage: MacroStage, name: impl AsRef<[u8]>) -> Option<Text<'_>> {
        find(
            self.sets[stage.rank()].as_deref()?,
            without_braces(name.as_ref()),
        )
    }

    /// The macros of one stage, names as the MTA wrote them.
    pub fn iter(&self, stage: MacroStage) -> MacroPairs<'_> {
        MacroPairs {
            rest: self.sets[stage.rank()].as_deref().unwrap_or_default(),
        }
    }

    /// The macros of one stage as a set for its command, for whoever passes them on: those that
    /// are wanted, as the MTA wrote them. None if there are none.
    pub fn to_set(
        &self,
        stage: MacroStage,
        mut is_wanted: impl FnMut(Text<'_>) -> bool,
    ) -> Option<MacroSet> {
        let wanted = self.iter(stage).filter(|(name, _)| is_wanted(*name));
        let set = MacroSet::from_pairs(stage, wanted, self.sets[stage.rank()].as_ref()?.len());
        (!set.raw().is_empty()).then_some(set)
    }

    /// Whether the macros of a stage are the same as there: not alike, but kept of one and the same
    /// set.
    pub fn is_same_at(&self, stage: MacroStage, other: &Self) -> bool {
        match (&self.sets[stage.rank()], &other.sets[stage.rank()]) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            (None, None) => true,
            _ => false,
        }
    }

    /// Takes over the macros of a stage; those of others stay.
    pub fn take_over(&mut self, stage: MacroStage, other: &Self) {
        self.sets[stage.rank()].clone_from(&other.sets[stage.rank()]);
    }

    /// How many bytes are held.
    pub fn held_bytes(&self) -> usize {
        self.sets.iter().flatten().map(|set| set.len()).sum()
    }
}

impl fmt::Debug for Macros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for stage in MacroStage::ALL {
            map.entries(self.iter(stage));
        }
        map.finish()
    }
}

/// The name and value pairs of a macro frame.
#[derive(Clone, Debug)]
pub struct MacroPairs<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for MacroPairs<'a> {
    type Item = (Text<'a>, Text<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let name = memchr(0, self.rest)?;
        let value = name + 1 + memchr(0, &self.rest[name + 1..])?;
        let pair = (
            Text::new(&self.rest[..name]),
            Text::new(&self.rest[name + 1..value]),
        );
        self.rest = &self.rest[value + 1..];
        Some(pair)
    }
}

fn find<'a>(set: &'a [u8], name: &[u8]) -> Option<Text<'a>> {
    MacroPairs { rest: set }.find_map(|(n, v)| (without_braces(n.as_bytes()) == name).then_some(v))
}

/// `{name}` as `name`.
pub(crate) fn without_braces(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"{")
        .and_then(|n| n.strip_suffix(b"}"))
        .unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn macros(sets: &[(MacroStage, &[u8])]) -> Macros {
        let mut macros = Macros::default();
        for (stage, pairs) in sets {
            macros.set(*stage, pairs);
            macros.enter(*stage);
        }
        macros
    }

    #[test]
    fn c27_c28_odd_lists_and_other_codes() {
        let m = macros(&[
            (MacroStage::Mail, b"i\x001\0odd\0"),
            (MacroStage::Rcpt, b"a\0unterminated"),
        ]);
        assert_eq!(m.get("i").unwrap(), "1");
        assert!(m.get("odd").is_none() && m.get("a").is_none());
        for code in [b'L', b'B', b'U', b'A', 0] {
            assert_eq!(MacroStage::from_command_code(code), None);
        }
    }

    #[test]
    fn c29_later_stages_shadow_earlier_ones() {
        let m = macros(&[
            (MacroStage::Connect, b"x\0connect\0"),
            (MacroStage::EndOfHeaders, b"x\0eoh\0"),
            (MacroStage::EndOfMessage, b"x\0eom\0"),
        ]);
        assert_eq!(m.get("x").unwrap(), "eom");
        assert_eq!(m.get_at(MacroStage::Connect, "x").unwrap(), "connect");
        assert!(m.get_at(MacroStage::Helo, "x").is_none());
    }

    #[test]
    fn c30_braces_do_not_matter() {
        let m = macros(&[(
            MacroStage::Connect,
            b"j\0host\0{daemon_name}\0MTA\0{v}\x001\0",
        )]);
        for name in ["j", "{j}"] {
            assert_eq!(m.get(name).unwrap(), "host");
        }
        assert_eq!(m.get("daemon_name"), m.get("{daemon_name}"));
        assert_eq!(m.get("v").unwrap(), "1");
        assert!(m.get("{j").is_none());
    }

    #[test]
    fn c31_c32_earlier_commands_forget_later_stages() {
        let all: Vec<(MacroStage, &[u8])> = MacroStage::ALL
            .into_iter()
            .map(|s| (s, &b"a\0b\0"[..]))
            .collect();
        for (i, stage) in MacroStage::ALL.into_iter().enumerate() {
            let mut m = macros(&all);
            m.set(stage, b"new\x001\0");
            m.enter(stage);
            for (k, other) in MacroStage::ALL.into_iter().enumerate() {
                let gone = k > i && stage <= MacroStage::Rcpt;
                let want = usize::from(!gone);
                assert_eq!(m.iter(other).count(), want, "{stage:?} then {other:?}");
            }
            assert_eq!(m.get_at(stage, "new").unwrap(), "1");
        }
    }

    #[test]
    fn c45_a_session_leaves_only_what_belongs_to_the_next() {
        let mut m = macros(&[
            (MacroStage::Connect, b"j\0old\0"),
            (MacroStage::Mail, b"i\x001\0"),
        ]);
        m.set(MacroStage::Connect, b"j\0new\0");
        m.end_session();
        assert_eq!(m.get("j").unwrap(), "new");
        m.enter(MacroStage::Connect);
        assert_eq!(m.get("j").unwrap(), "new");
        m.end_session();
        assert_eq!(m.held_bytes(), 0);
    }

    #[test]
    fn c33_c34_each_recipient_has_its_own() {
        let mut m = macros(&[(MacroStage::Rcpt, b"{rcpt_addr}\0a\0")]);
        m.set(MacroStage::Rcpt, b"{rcpt_addr}\0b\0");
        m.enter(MacroStage::Rcpt);
        assert_eq!(m.get("rcpt_addr").unwrap(), "b");
        // For a recipient that the MTA refused there comes no command: no harm.
        m.set(MacroStage::Rcpt, b"{rcpt_addr}\0refused\0");
        m.set(MacroStage::Data, b"i\x007\0");
        m.enter(MacroStage::Data);
        assert_eq!(m.get("i").unwrap(), "7");
        m.enter(MacroStage::Mail);
        assert!(m.get("rcpt_addr").is_none());
    }

    #[test]
    fn a_stage_without_macros_does_not_show_the_last_ones() {
        let mut m = macros(&[(MacroStage::Mail, b"{auth_authen}\0alice\0")]);
        m.enter(MacroStage::Mail);
        assert!(m.get("auth_authen").is_none());
        let mut m = macros(&[(MacroStage::Mail, b"{auth_authen}\0alice\0")]);
        m.set(MacroStage::Mail, b"");
        m.enter(MacroStage::Mail);
        assert!(m.get("auth_authen").is_none());
        assert_eq!(m.held_bytes(), 0);
    }

    #[test]
    fn a_set_can_be_passed_on() {
        let m = macros(&[(MacroStage::Mail, b"i\x001\0{auth_type}\0PLAIN\0odd\0")]);
        let all = m.to_set(MacroStage::Mail, |_| true).unwrap();
        assert_eq!(all.command_code(), b'M');
        assert_eq!(&all.raw()[..], b"i\x001\0{auth_type}\0PLAIN\0");
        let some = m.to_set(MacroStage::Mail, |name| name == "i").unwrap();
        assert_eq!(&some.raw()[..], b"i\x001\0");
        assert!(m.to_set(MacroStage::Mail, |_| false).is_none());
        assert!(m.to_set(MacroStage::Rcpt, |_| true).is_none());

        let mut told = Macros::default();
        assert!(!told.is_same_at(MacroStage::Mail, &m) && told.is_same_at(MacroStage::Rcpt, &m));
        told.take_over(MacroStage::Mail, &m);
        assert!(told.is_same_at(MacroStage::Mail, &m.clone()));
        let alike = macros(&[(MacroStage::Mail, b"i\x001\0")]);
        assert!(!told.is_same_at(MacroStage::Mail, &alike));
    }

    #[test]
    fn c31_macros_of_a_declined_command_forget_later_stages_too() {
        let mut m = macros(&[(MacroStage::EndOfMessage, b"{msg_id}\0<1@a>\0")]);
        m.set(MacroStage::Mail, b"i\x002\0");
        m.enter(MacroStage::EndOfHeaders);
        assert_eq!(m.get("i").unwrap(), "2");
        assert!(m.get("msg_id").is_none());
    }
}
