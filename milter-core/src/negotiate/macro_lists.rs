//! Lists of macros, as a filter asks for them and as they go over the wire.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memchr;

use crate::Text;
use crate::macros::{MacroStage, names as n, without_braces};

/// The most names that Sendmail takes for one stage.
// sendmail/milter.c MAXFILTERMACROS
const MAX_NAMES: usize = 50;

/// A name that no MTA defines: a list that holds it alone means "none" to both MTAs, where an
/// empty one would mean "your own list" to Postfix (Q15).
const NOTHING: &str = "{none}";

/// The macros that the facts of a session are read from.
const fn facts(stage: MacroStage) -> &'static [&'static str] {
    match stage {
        MacroStage::Connect => &[n::HOST_NAME, n::VERSION, n::CLIENT, n::DAEMON_NAME],
        MacroStage::Helo => &[
            n::TLS_VERSION,
            n::CIPHER,
            n::CIPHER_BITS,
            n::CERT_SUBJECT,
            n::CERT_ISSUER,
        ],
        MacroStage::Mail => &[
            n::QUEUE_ID,
            n::AUTH_TYPE,
            n::AUTH_AUTHEN,
            n::AUTH_SSF,
            n::AUTH_AUTHOR,
        ],
        MacroStage::Rcpt => &[n::QUEUE_ID, n::RCPT_MAILER, n::RCPT_HOST, n::RCPT_ADDR],
        MacroStage::Data | MacroStage::EndOfHeaders => &[n::QUEUE_ID],
        MacroStage::EndOfMessage => &[n::QUEUE_ID, n::MSG_ID],
    }
}

/// Which macros are asked for, by stage; the MTA's own where nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MacroRequest {
    lists: [Option<Vec<Cow<'static, str>>>; 7],
}

impl MacroRequest {
    pub(crate) fn add<I>(&mut self, stage: MacroStage, names: I)
    where
        I: IntoIterator<Item: Into<Cow<'static, str>>>,
    {
        let list = self.lists[stage.number() as usize].get_or_insert_default();
        for name in names {
            let name = name.into();
            if !list.iter().any(|have| same(have, &name)) {
                list.push(name);
            }
        }
    }

    pub(crate) fn add_with_facts<I>(&mut self, stage: MacroStage, names: I)
    where
        I: IntoIterator<Item: Into<Cow<'static, str>>>,
    {
        self.add(stage, facts(stage).iter().copied());
        self.add(stage, names);
    }

    /// What lists that came from a filter ask for, without what cannot be asked for in turn: odd
    /// names, and more of them than Sendmail takes, which leaves these out as well.
    // sendmail/milter.c milter_getsymlist
    pub(crate) fn of(lists: &MacroLists) -> Self {
        let mut request = Self::default();
        for stage in MacroStage::ALL {
            let Some(names) = lists.get(stage) else {
                continue;
            };
            let names = names.filter_map(|name| name.to_str().ok().map(str::to_owned));
            request.add(stage, names.filter(|name| is_name(name)).take(MAX_NAMES));
        }
        request
    }

    /// The union. A stage that only one side asks for gets that side's list with the facts, since
    /// the other counts on them.
    pub(crate) fn join(&mut self, other: &Self) {
        for stage in MacroStage::ALL {
            let at = stage.number() as usize;
            match (&self.lists[at], &other.lists[at]) {
                (Some(_), Some(theirs)) => self.add(stage, theirs.iter().cloned()),
                (None, Some(theirs)) => self.add_with_facts(stage, theirs.iter().cloned()),
                (Some(_), None) => self.add(stage, facts(stage).iter().copied()),
                (None, None) => {}
            }
        }
    }

    /// Takes out what is too much for one stage: never what the facts of a session are read from,
    /// and of the rest the last.
    pub(crate) fn drop_excess(&mut self) -> Vec<(MacroStage, Cow<'static, str>)> {
        let mut excess = Vec::new();
        for stage in MacroStage::ALL {
            let Some(list) = &mut self.lists[stage.number() as usize] else {
                continue;
            };
            if list.len() > MAX_NAMES {
                let is_fact = |name: &str| facts(stage).iter().any(|fact| same(fact, name));
                list.sort_by_key(|name| !is_fact(name));
                excess.extend(list.drain(MAX_NAMES..).map(|name| (stage, name)));
            }
        }
        excess
    }

    /// The first name that cannot be sent, and the first stage with too many names.
    pub(crate) fn check(&self) -> Result<(), MacroRequestError> {
        for stage in MacroStage::ALL {
            let Some(list) = &self.lists[stage.number() as usize] else {
                continue;
            };
            if list.len() > MAX_NAMES {
                return Err(MacroRequestError::TooMany {
                    stage,
                    count: list.len(),
                });
            }
            if let Some(name) = list.iter().find(|name| !is_name(name)) {
                return Err(MacroRequestError::Name {
                    stage,
                    name: name.to_string(),
                });
            }
        }
        Ok(())
    }

    /// The lists as they are sent.
    pub(crate) fn to_lists(&self) -> MacroLists {
        let mut request = self.clone();
        // sendmail/milter.c milter_data looks at the wrong list: that of the end of message is
        // used only if one for the end of headers came too, and then is missed if it did not (Q14).
        let eoh = MacroStage::EndOfHeaders.number() as usize;
        let eom = MacroStage::EndOfMessage.number() as usize;
        match (&request.lists[eoh], &request.lists[eom]) {
            (None, Some(_)) => request.add(MacroStage::EndOfHeaders, [n::QUEUE_ID]),
            (Some(_), None) => request.add(MacroStage::EndOfMessage, [n::QUEUE_ID, n::MSG_ID]),
            _ => {}
        }
        let mut out = BytesMut::new();
        for stage in MacroStage::ALL {
            let Some(list) = &request.lists[stage.number() as usize] else {
                continue;
            };
            out.put_u32(stage.number());
            if list.is_empty() {
                out.put_slice(NOTHING.as_bytes());
            }
            for (i, name) in list.iter().enumerate() {
                if i > 0 {
                    out.put_u8(b' ');
                }
                put_name(&mut out, name);
            }
            out.put_u8(0);
        }
        MacroLists { raw: out.freeze() }
    }
}

fn same(a: &str, b: &str) -> bool {
    without_braces(a.as_bytes()) == without_braces(b.as_bytes())
}

// sendmail/macro.c macid_parse: what else a long name holds is an error there.
fn is_name(name: &str) -> bool {
    match without_braces(name.as_bytes()) {
        [letter] => letter.is_ascii_graphic() && !b",{}".contains(letter),
        // Fifty names at seven stages stay within one frame.
        long => {
            (1..=128).contains(&long.len())
                && long.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
        }
    }
}

/// Writes a name as both MTAs know it: a long one in braces, a letter without.
// sendmail/macro.c macid_parse: without braces a long name is that of its first letter. Postfix
// smtpd_milter.c smtpd_milter_eval compares names with their braces.
fn put_name(out: &mut BytesMut, name: &str) {
    match without_braces(name.as_bytes()) {
        [letter] => out.put_u8(*letter),
        long => {
            out.put_u8(b'{');
            out.put_slice(long);
            out.put_u8(b'}');
        }
    }
}

/// Why macros cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MacroRequestError {
    /// Sendmail cuts a list at 50 names and does not tell.
    #[error(
        "{count} macros are asked for at {stage}, but Sendmail takes at most {MAX_NAMES}: ask for fewer"
    )]
    TooMany {
        /// Where.
        stage: MacroStage,
        /// How many.
        count: usize,
    },
    /// A name is one printable character, or letters, digits and `_`, with or without braces.
    #[error(
        "{name:?} asked for at {stage} is no macro's name: use one letter, or letters, digits \
         and `_`, such as `{{auth_type}}`"
    )]
    Name {
        /// Where.
        stage: MacroStage,
        /// What.
        name: String,
    },
}

/// The lists of macros in a filter's answer to the negotiation, raw.
///
/// On the wire: for each stage its number and the names, separated by spaces and ended by a NUL.
// libmilter/smfi.c smfi_setsymlist, libmilter/engine.c st_optionneg
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MacroLists {
    raw: Bytes,
}

impl MacroLists {
    /// Reads the bytes behind the twelve of the answer.
    ///
    /// # Errors
    ///
    /// A list without its NUL, or with less than four bytes of a stage number (C24).
    pub(crate) fn parse(raw: Bytes) -> Result<Self, &'static str> {
        let mut rest = &raw[..];
        while !rest.is_empty() {
            let names = rest
                .get(4..)
                .ok_or("a macro list ends within its stage number")?;
            let end = memchr(0, names).ok_or("a macro list has no NUL at its end")?;
            rest = &names[end + 1..];
        }
        Ok(Self { raw })
    }

    /// The lists: the stage's number, and its names.
    ///
    /// Numbers that are no stage's come too; an MTA skips those (C24).
    pub fn iter(&self) -> impl Iterator<Item = (u32, impl Iterator<Item = Text<'_>>)> {
        let mut rest = &self.raw[..];
        std::iter::from_fn(move || {
            let (number, names) = rest.split_first_chunk::<4>()?;
            let end = memchr(0, names)?;
            rest = &names[end + 1..];
            Some((u32::from_be_bytes(*number), split_names(&names[..end])))
        })
    }

    /// The names for a stage: none if the stage keeps the MTA's own list.
    pub fn get(&self, stage: MacroStage) -> Option<impl Iterator<Item = Text<'_>>> {
        self.iter()
            .find(|(number, _)| *number == stage.number())
            .map(|(_, names)| names)
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.raw
    }

    /// The same in memory of its own, which holds no part of a connection's buffer.
    pub(crate) fn to_owned_copy(&self) -> Self {
        Self {
            raw: Bytes::copy_from_slice(&self.raw),
        }
    }
}

// sendmail/milter.c milter_getsymlist splits at spaces and commas; Postfix milter8.c also at
// tabs and newlines.
fn split_names(list: &[u8]) -> impl Iterator<Item = Text<'_>> {
    list.split(|b| matches!(b, b' ' | b',' | b'\t' | b'\n'))
        .filter(|name| !name.is_empty())
        .map(Text::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(lists: &MacroLists, stage: MacroStage) -> Option<Vec<String>> {
        Some(lists.get(stage)?.map(|name| name.to_string()).collect())
    }

    #[test]
    fn c18_lists_are_stage_names_nul() {
        let mut request = MacroRequest::default();
        request.add(MacroStage::Mail, ["i", "{auth_authen}", "{i}"]);
        let lists = request.to_lists();
        assert_eq!(lists.as_bytes(), b"\0\0\0\x02i {auth_authen}\0");
        assert_eq!(MacroLists::parse(lists.raw.clone()).unwrap(), lists);
    }

    #[test]
    fn c30_names_are_sent_as_the_mtas_know_them() {
        let mut request = MacroRequest::default();
        request.add(MacroStage::Mail, ["{i}", "_", "auth_type", "{auth_author}"]);
        assert_eq!(request.check(), Ok(()));
        assert_eq!(
            shown(&request.to_lists(), MacroStage::Mail).unwrap(),
            ["i", "_", "{auth_type}", "{auth_author}"]
        );
    }

    #[test]
    fn c19_end_of_message_and_end_of_headers_go_together() {
        let mut request = MacroRequest::default();
        request.add(MacroStage::EndOfMessage, ["{msg_id}"]);
        assert_eq!(
            shown(&request.to_lists(), MacroStage::EndOfHeaders).unwrap(),
            ["i"]
        );
        let mut request = MacroRequest::default();
        request.add(MacroStage::EndOfHeaders, ["i"]);
        assert_eq!(
            shown(&request.to_lists(), MacroStage::EndOfMessage).unwrap(),
            ["i", "{msg_id}"]
        );
    }

    #[test]
    fn c25_an_empty_list_means_none_to_both_mtas() {
        let mut request = MacroRequest::default();
        request.add(MacroStage::Helo, [""; 0]);
        assert_eq!(
            shown(&request.to_lists(), MacroStage::Helo).unwrap(),
            ["{none}"]
        );
    }

    #[test]
    fn c24_unknown_stages_are_skipped_and_a_missing_nul_is_an_error() {
        let lists =
            MacroLists::parse(Bytes::from_static(b"\0\0\0\x09x y\0\0\0\0\x01a,b\tc\0")).unwrap();
        assert_eq!(shown(&lists, MacroStage::Helo).unwrap(), ["a", "b", "c"]);
        assert_eq!(lists.iter().count(), 2);
        for bad in [&b"\0\0\0\x01a"[..], b"\0\0\0", b"\0\0\0\x01a\0\0"] {
            assert!(
                MacroLists::parse(Bytes::copy_from_slice(bad)).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn joining_keeps_what_the_other_side_counts_on() {
        let mut request = MacroRequest::default();
        let mut other = MacroRequest::default();
        other.add(MacroStage::Mail, ["{mail_addr}"]);
        request.join(&other);
        let names = shown(&request.to_lists(), MacroStage::Mail).unwrap();
        assert!(
            names.contains(&"{auth_type}".to_owned()) && names.contains(&"{mail_addr}".to_owned())
        );
    }

    #[test]
    fn names_that_cannot_be_sent_are_refused() {
        for bad in [
            "", "a b", "a,b", "a\0", "{}", ",", "{", "}", "{a", "{a-b}", "ä",
        ] {
            let mut request = MacroRequest::default();
            request.add(MacroStage::Helo, [bad]);
            assert!(
                matches!(request.check(), Err(MacroRequestError::Name { .. })),
                "{bad:?}"
            );
        }
        let mut request = MacroRequest::default();
        request.add(MacroStage::Helo, (0..51).map(|i| format!("{{m{i}}}")));
        assert!(matches!(
            request.check(),
            Err(MacroRequestError::TooMany { count: 51, .. })
        ));
        let excess = request.drop_excess();
        assert_eq!(excess, [(MacroStage::Helo, "{m50}".into())]);
        assert_eq!(request.check(), Ok(()));
        assert!(request.drop_excess().is_empty());
    }

    #[test]
    fn what_facts_are_read_from_is_never_too_much() {
        let mut request = MacroRequest::default();
        request.add(MacroStage::Data, (0..50).map(|i| format!("{{m{i}}}")));
        request.join(&MacroRequest::default());
        let excess = request.drop_excess();
        assert_eq!(excess, [(MacroStage::Data, "{m49}".into())]);
        let names = shown(&request.to_lists(), MacroStage::Data).unwrap();
        assert_eq!((names.len(), &*names[0]), (50, "i"));
    }
}
