//! Who may write to whom.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use milter_tower::{BoxError, SmtpReply, mailbox_key};

/// The rules that hold now. Messages in progress are asked about by them too: each recipient by
/// what holds at the time, so no connection has to be made anew.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules(Arc<RwLock<Arc<Policy>>>);

impl Rules {
    pub(crate) fn get(&self) -> Arc<Policy> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set(&self, policy: Policy) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }
}

/// The recipients with a rule.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    rules: HashMap<String, Rule>,
}

#[derive(Debug)]
struct Rule {
    /// Users who authenticated may write.
    but_users: bool,
    reply: SmtpReply,
}

impl Policy {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, BoxError> {
        let named = |error: String| format!("{}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
        Ok(Self::parse(&text).map_err(named)?)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut rules = HashMap::new();
        for (line, number) in text.lines().zip(1_usize..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (address, rule) = parse(line).map_err(|what| format!("line {number}: {what}"))?;
            if rules.insert(address, rule).is_some() {
                return Err(format!(
                    "line {number}: there is a rule for that address above"
                ));
            }
        }
        Ok(Self { rules })
    }

    /// How many rules there are.
    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }

    /// The refusal of a recipient, if it gets one.
    pub(crate) fn refusal(&self, recipient: &[u8], is_user: bool) -> Option<&SmtpReply> {
        let rule = self.rules.get(&mailbox_key(recipient))?;
        (!(rule.but_users && is_user)).then_some(&rule.reply)
    }
}

/// `ADDRESS users [REPLY]` or `ADDRESS REPLY`.
fn parse(line: &str) -> Result<(String, Rule), String> {
    let (address, rest) = word(line);
    if !address.contains('@') {
        return Err(format!("{address:?} is no address such as bob@example.net"));
    }
    let (first, after) = word(rest);
    let (but_users, reply) = match first {
        "users" if after.is_empty() => (
            true,
            "550 5.7.1 Only our own users may write to this address",
        ),
        "users" => (true, after),
        _ => (false, rest),
    };
    let reply = reply.parse().map_err(|error| {
        format!("neither `users` nor a reply such as 550 5.1.1 Bob has left: {error}")
    })?;
    Ok((mailbox_key(address), Rule { but_users, reply }))
}

/// The first word, and what follows it.
fn word(text: &str) -> (&str, &str) {
    match text.split_once(|c: char| c.is_ascii_whitespace()) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_say_who_may_write() {
        let policy = Policy::parse(
            "# ours\n\
             staff@example.net users\n\
             <Board@example.net>   users   550 5.7.1 Write to the secretary\r\n\
             \n\
             old@example.net 550 5.1.1 Bob has left\n",
        );
        let policy = policy.unwrap();
        assert_eq!(policy.len(), 3);
        let said = |to: &str, is_user| {
            policy
                .refusal(to.as_bytes(), is_user)
                .map(ToString::to_string)
        };
        let staff = said("STAFF@example.net", false).unwrap();
        assert_eq!(
            staff,
            "550 5.7.1 Only our own users may write to this address"
        );
        assert_eq!(said("staff@example.net", true), None);
        let board = said("board@example.net", false).unwrap();
        assert_eq!(board, "550 5.7.1 Write to the secretary");
        for is_user in [false, true] {
            let old = said("old@example.net", is_user).unwrap();
            assert_eq!(old, "550 5.1.1 Bob has left");
        }
        assert_eq!(said("bob@example.net", false), None);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, said) in [
            ("\nbob users", "line 2: \"bob\" is no address"),
            ("a@b", "line 1: neither `users` nor a reply"),
            ("a@b 250 2.0.0 fine", "line 1: neither"),
            ("a@b users all", "line 1: neither"),
            ("a@b users\nA@B users", "line 2: there is a rule"),
        ] {
            let error = Policy::parse(text).unwrap_err();
            assert!(error.starts_with(said), "{text:?}: {error}");
        }
    }
}
