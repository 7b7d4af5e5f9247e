//! What an MTA knows, by the names of macros.

use bytes::Bytes;
use milter_core::macros::names as n;
use milter_core::{Command, Connect, Recipient, Sender, Text};

/// How long the value of a macro holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum MacroScope {
    /// For the next step alone: `{rcpt_addr}` at its RCPT.
    Step,
    /// For the message at hand or to come, until that has ended: `i`, `{mail_addr}`.
    Message,
    /// For the SMTP session: `j`, `{client_addr}`, and those of TLS once it is spoken.
    Session,
}

/// Values, each with its scope. What holds for less long stands for what holds longer, and what
/// was set for what is known from the steps themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    set: Vec<Value>,
    client: Fact,
    sender: Fact,
}

#[derive(Clone, Debug)]
struct Value {
    name: Bytes,
    scope: MacroScope,
    is: Bytes,
}

impl Values {
    pub(crate) fn set(&mut self, scope: MacroScope, name: &[u8], value: Bytes) {
        let name = bare(name);
        let same = |it: &&mut Value| it.scope == scope && it.name == name;
        match self.set.iter_mut().find(same) {
            Some(it) => it.is = value,
            None => self.set.push(Value {
                name: Bytes::copy_from_slice(name),
                scope,
                is: value,
            }),
        }
    }

    pub(crate) fn unset(&mut self, name: &[u8]) {
        self.set.retain(|it| it.name != bare(name));
    }

    /// Forgets what holds no longer than this.
    pub(crate) fn end(&mut self, scope: MacroScope) {
        self.set.retain(|it| it.scope > scope);
        if scope >= MacroScope::Message {
            self.sender = Fact::Nothing;
        }
    }

    pub(crate) fn get(&self, name: Text<'_>, now: &Fact) -> Option<Bytes> {
        let name = bare(name.as_bytes());
        let set = self.set.iter().filter(|it| it.name == name);
        let set = set.min_by_key(|it| it.scope).map(|it| it.is.clone());
        set.or_else(|| now.get(name))
            .or_else(|| self.client.get(name))
            .or_else(|| self.sender.get(name))
    }

    /// A step is done, which said this.
    pub(crate) fn note(&mut self, fact: Fact) {
        self.end(MacroScope::Step);
        match fact {
            Fact::Client(_) => self.client = fact,
            Fact::Sender(_) => self.sender = fact,
            Fact::Recipient(_) | Fact::Nothing => {}
        }
    }
}

/// What a step says that is a macro's value, too.
#[derive(Clone, Debug, Default)]
pub(crate) enum Fact {
    #[default]
    Nothing,
    Client(Connect),
    Sender(Sender),
    Recipient(Recipient),
}

impl Fact {
    pub(crate) fn of(command: &Command) -> Self {
        match command {
            Command::Connect(client) => Self::Client(client.clone()),
            Command::Mail(sender) => Self::Sender(sender.clone()),
            Command::Rcpt(recipient) => Self::Recipient(recipient.clone()),
            _ => Self::Nothing,
        }
    }

    // Postfix smtpd_milter.c smtpd_milter_eval
    fn get(&self, name: &[u8]) -> Option<Bytes> {
        let is = |other: &str| bare(other.as_bytes()) == name;
        match self {
            Self::Client(client) => {
                let (host, at) = (client.host(), client.client());
                if is(n::CLIENT) {
                    Some(format!("{host} [{at}]").into())
                } else if is(n::CLIENT_NAME) {
                    Some(Bytes::copy_from_slice(&host))
                } else if is(n::CLIENT_ADDR) {
                    at.ip().map(|ip| ip.to_string().into())
                } else if is(n::CLIENT_PORT) {
                    at.port().map(|port| port.to_string().into())
                } else {
                    None
                }
            }
            Self::Sender(from) if is(n::MAIL_ADDR) => Some(Bytes::copy_from_slice(&from.mailbox())),
            Self::Recipient(to) if is(n::RCPT_ADDR) => Some(Bytes::copy_from_slice(&to.mailbox())),
            _ => None,
        }
    }
}

/// A name without braces: they never matter (`libmilter/smfi.c smfi_getsymval`).
fn bare(name: &[u8]) -> &[u8] {
    let inner = name.strip_prefix(b"{");
    inner.map_or(name, |inner| inner.strip_suffix(b"}").unwrap_or(name))
}
