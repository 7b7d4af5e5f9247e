//! What an MTA knows, by the names of macros.

use bytes::Bytes;
use milter_core::Text;

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

/// Values, each with its scope. What holds for less long stands for what holds longer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values(Vec<Value>);

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
        match self.0.iter_mut().find(same) {
            Some(it) => it.is = value,
            None => self.0.push(Value {
                name: Bytes::copy_from_slice(name),
                scope,
                is: value,
            }),
        }
    }

    pub(crate) fn unset(&mut self, name: &[u8]) {
        self.0.retain(|it| it.name != bare(name));
    }

    /// Forgets what holds no longer than this.
    pub(crate) fn end(&mut self, scope: MacroScope) {
        self.0.retain(|it| it.scope > scope);
    }

    pub(crate) fn get(&self, name: Text<'_>) -> Option<Bytes> {
        let name = bare(name.as_bytes());
        let known = self.0.iter().filter(|it| it.name == name);
        known.min_by_key(|it| it.scope).map(|it| it.is.clone())
    }
}

/// A name without braces: they never matter (`libmilter/smfi.c smfi_getsymval`).
fn bare(name: &[u8]) -> &[u8] {
    let inner = name.strip_prefix(b"{");
    inner.map_or(name, |inner| inner.strip_suffix(b"}").unwrap_or(name))
}
