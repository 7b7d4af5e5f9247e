//! What is changed in a mail's headers.

use std::str::FromStr;

use milter_tower::{Headers, Modification};

/// The changes, those of a kind in the order in which they were told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) remove: Vec<Name>,
    pub(crate) set: Vec<NewHeader>,
    pub(crate) add: Vec<NewHeader>,
    pub(crate) prepend: Vec<NewHeader>,
    /// Names of this host in Authentication-Results.
    pub(crate) forged: Vec<String>,
}

impl Rules {
    /// Reads lines such as `set X-Mailer: none`, named like the options of the command line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut rules = Self::default();
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                rules
                    .read_line(line)
                    .map_err(|what| format!("line {number}: {what}"))?;
            }
        }
        Ok(rules)
    }

    fn read_line(&mut self, line: &str) -> Result<(), String> {
        let (what, rest) = line
            .split_once(|c: char| c.is_ascii_whitespace())
            .unwrap_or((line, ""));
        let rest = rest.trim_start();
        match what {
            "remove" => self.remove.push(rest.parse()?),
            "set" => self.set.push(rest.parse()?),
            "add" => self.add.push(rest.parse()?),
            "prepend" => self.prepend.push(rest.parse()?),
            "remove-forged" => self.forged.push(host(rest)?),
            _ => {
                return Err(format!(
                    "{what:?} is none of remove, set, add, prepend and remove-forged"
                ));
            }
        }
        Ok(())
    }

    /// These, and then those.
    pub(crate) fn join(mut self, more: Self) -> Self {
        self.remove.extend(more.remove);
        self.set.extend(more.set);
        self.add.extend(more.add);
        self.prepend.extend(more.prepend);
        self.forged.extend(more.forged);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Changes the headers: removes first, so that what is added is never removed again.
    pub(crate) fn apply(&self, headers: &mut Headers) {
        headers.remove_if(|field| self.remove.iter().any(|name| name.fits(&field.name())));
        for host in &self.forged {
            headers.remove_auth_results(host);
        }
        for NewHeader { name, value } in &self.set {
            headers.set(name, value);
        }
        for NewHeader { name, value } in &self.add {
            headers.append(name, value);
        }
        // The first one is to be on top.
        for NewHeader { name, value } in self.prepend.iter().rev() {
            headers.prepend(name, value);
        }
    }
}

/// The name of a header, or the start of one and `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Exactly(String),
    StartsWith(String),
}

impl Name {
    fn fits(&self, name: &[u8]) -> bool {
        match self {
            Self::Exactly(whole) => name.eq_ignore_ascii_case(whole.as_bytes()),
            Self::StartsWith(start) => name
                .get(..start.len())
                .is_some_and(|name| name.eq_ignore_ascii_case(start.as_bytes())),
        }
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let start = text.strip_suffix('*');
        let name = start.unwrap_or(text);
        if name.contains('*') {
            return Err(format!("{text:?} has a `*` that is not at its end"));
        }
        checked(name, "")?;
        Ok(match start {
            Some(_) => Self::StartsWith(name.to_owned()),
            None => Self::Exactly(name.to_owned()),
        })
    }
}

/// A header to be added, `Name: value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewHeader {
    name: String,
    value: String,
}

impl FromStr for NewHeader {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once(':')
            .ok_or_else(|| format!("{text:?} is no header such as \"X-Seen: yes\""))?;
        let (name, value) = (name.trim_end(), value.trim());
        checked(name, value)?;
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// Whether an MTA takes such a header: better told at the start than at the first mail.
fn checked(name: &str, value: &str) -> Result<(), String> {
    match Modification::add_header(name, value) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{name:?}: {error}")),
    }
}

/// The name of a host that Authentication-Results are by.
pub(crate) fn host(text: &str) -> Result<String, String> {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    if text.is_empty() || !text.chars().all(is_name) {
        return Err(format!("{text:?} is no name such as mx.example.org"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in lines {
            headers.append(name, value);
        }
        headers
    }

    fn changed(rules: &str, lines: &[(&str, &str)]) -> Vec<String> {
        let mut headers = headers(lines);
        Rules::parse(rules).unwrap().apply(&mut headers);
        headers
            .iter()
            .map(|field| format!("{}:{}", field.name(), field.raw()))
            .collect()
    }

    #[test]
    fn removes_then_sets_then_adds() {
        let rules = "\
            # what senders claim\n\
            add X-Spam-Flag: NO\n\
            \n\
            remove X-Spam-*\n\
            remove bcc\n\
            set x-mailer: none\n\
            prepend X-First : 1\n\
            prepend X-Second:\n\
            set X-New: a: b";
        assert_eq!(
            changed(
                rules,
                &[
                    ("X-SPAM-score", "-100"),
                    ("X-Mailer", "old"),
                    ("Bcc", "a@b"),
                    ("Bcc-Like", "stays"),
                    ("X-Spam", "stays"),
                    ("X-mailer", "older"),
                ],
            ),
            [
                "X-First: 1",
                "X-Second: ",
                "X-Mailer: none",
                "Bcc-Like: stays",
                "X-Spam: stays",
                "X-New: a: b",
                "X-Spam-Flag: NO",
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, said) in [
            ("\nadd X-A", "line 2: \"X-A\" is no header"),
            ("add X A: b", "line 1: \"X A\": "),
            ("add : b", "line 1: \"\": "),
            ("remove", "line 1: \"\": "),
            ("remove *", "line 1: \"\": "),
            ("remove X-*-A", "line 1: \"X-*-A\" has a `*`"),
            ("delete X-A", "line 1: \"delete\" is none of remove,"),
            ("remove-forged", "line 1: \"\" is no name"),
            ("remove-forged a b", "line 1: \"a b\" is no name"),
        ] {
            let error = Rules::parse(text).unwrap_err();
            assert!(error.starts_with(said), "{text:?}: {error}");
        }
        assert!(Rules::parse("# nothing\n").unwrap().is_empty());
    }
}
