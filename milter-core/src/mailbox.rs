//! Mailboxes and when two are the same.

use std::borrow::Cow;

use memchr::{memchr, memrchr};

use crate::domain::escaped_key;
use crate::{domain_key, same_domain};

/// The address without `<>`.
pub(crate) fn bare(address: &[u8]) -> &[u8] {
    address
        .strip_prefix(b"<")
        .map_or(address, |bare| bare.strip_suffix(b">").unwrap_or(bare))
}

/// Whether two addresses are of one mailbox.
pub(crate) fn same_mailbox(one: &[u8], other: &[u8], ignore_case: bool) -> bool {
    let [one, other] = [one, other].map(Mailbox::new);
    let has_same_domain = match (one.domain, other.domain) {
        (Some(one), Some(other)) => same_domain(one, other),
        (one, other) => one == other,
    };
    has_same_domain && (one.local == other.local || ignore_case && one.is_folded_as(&other))
}

/// An address as a key of maps and sets: two addresses have the same key if they are of one
/// mailbox, as [`is_ignoring_case`](crate::Recipient::is_ignoring_case) has it.
///
/// For lists that are too long to compare an address with each entry. It is not to be shown, nor
/// sent.
///
/// ```
/// use std::collections::HashSet;
///
/// use milter_core::mailbox_key;
///
/// let listed = HashSet::from([mailbox_key("bob@bücher.example")]);
/// assert!(listed.contains(&mailbox_key("<\"Bob\"@xn--bcher-kva.example>")));
/// ```
pub fn mailbox_key(address: impl AsRef<[u8]>) -> String {
    let mailbox = Mailbox::new(address.as_ref());
    let mut key = mailbox.folded();
    if let Some(domain) = mailbox.domain {
        key.push('@');
        key.push_str(&domain_key(domain));
    }
    key
}

/// The parts of an address.
struct Mailbox<'a> {
    /// What stands before the `@`, without quotes.
    local: Cow<'a, [u8]>,
    domain: Option<&'a [u8]>,
}

impl<'a> Mailbox<'a> {
    fn new(address: &'a [u8]) -> Self {
        let address = without_route(bare(address.trim_ascii()));
        let (local, domain) = match memrchr(b'@', address) {
            Some(at) => (&address[..at], Some(&address[at + 1..])),
            None => (address, None),
        };
        Self {
            local: unquoted(local),
            domain,
        }
    }

    fn folded(&self) -> String {
        match std::str::from_utf8(&self.local) {
            Ok(local) => local.to_lowercase(),
            Err(_) => escaped_key(&self.local),
        }
    }

    /// Whether what stands before the `@` is the same but for the case.
    fn is_folded_as(&self, other: &Self) -> bool {
        if self.local.is_ascii() && other.local.is_ascii() {
            return self.local.eq_ignore_ascii_case(&other.local);
        }
        self.folded() == other.folded()
    }
}

// RFC 5321 4.1.2 and appendix C: a source route is to be ignored
fn without_route(address: &[u8]) -> &[u8] {
    match memchr(b':', address) {
        Some(at) if address.starts_with(b"@") => &address[at + 1..],
        _ => address,
    }
}

// RFC 5321 4.1.2: what quotes and backslashes do not change the meaning of is the same
fn unquoted(local: &[u8]) -> Cow<'_, [u8]> {
    let [b'"', inner @ .., b'"'] = local else {
        return Cow::Borrowed(local);
    };
    if memchr(b'\\', inner).is_none() {
        return Cow::Borrowed(inner);
    }
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        // A backslash at the end is one that quotes nothing.
        let quoted = (*byte == b'\\').then(|| bytes.next()).flatten();
        plain.push(*quoted.unwrap_or(byte));
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailboxes_are_the_same_however_they_are_written() {
        for (one, other) in [
            ("<user@example.org>", "user@EXAMPLE.org"),
            ("user@b\u{fc}cher.example", "<user@xn--bcher-kva.example>"),
            ("\"user\"@example.org", "user@example.org"),
            (r#""a\b \"c"@d"#, r#""ab \"\c"@d"#),
            (r#""a@b"@c"#, r#"<"a@b"@C>"#),
            ("<@relay.example,@b:user@example.org>", "user@example.org"),
            ("<>", ""),
            ("postmaster", "<postmaster>"),
            ("user@[IPv6:::1]", "user@[ipv6:::1]"),
        ] {
            assert!(
                same_mailbox(one.as_bytes(), other.as_bytes(), false),
                "{one} {other}"
            );
            assert!(
                same_mailbox(other.as_bytes(), one.as_bytes(), true),
                "{one} {other}"
            );
            assert_eq!(mailbox_key(one), mailbox_key(other));
        }
    }

    #[test]
    fn others_are_not() {
        for (one, other) in [
            ("user@example.org", "user@example.com"),
            ("user@example.org", "user"),
            ("user@example.org", "user@"),
            ("user@example.org", "user@mail.example.org"),
            ("user@example.org", "<>"),
            ("a@b@example.org", "a@example.org"),
            ("\"a\\\\\"@b", "a@b"),
            ("\"", "\"\""),
        ] {
            assert!(
                !same_mailbox(one.as_bytes(), other.as_bytes(), true),
                "{one} {other}"
            );
            assert!(
                !same_mailbox(other.as_bytes(), one.as_bytes(), false),
                "{one} {other}"
            );
            assert_ne!(mailbox_key(one), mailbox_key(other));
        }
        assert!(!same_mailbox(b"\xff@a", b"\xfe@a", true));
        assert!(!same_mailbox(b"\xff@a", br"\xff@a", true));
        assert_ne!(mailbox_key(b"\xff@a"), mailbox_key(br"\xff@a"));
    }

    #[test]
    fn case_counts_before_the_at_only_where_it_is_asked_for() {
        for (one, other) in [
            ("User@example.org", "user@example.org"),
            ("\u{dc}ser@example.org", "\u{fc}ser@example.org"),
        ] {
            assert!(!same_mailbox(one.as_bytes(), other.as_bytes(), false));
            assert!(same_mailbox(one.as_bytes(), other.as_bytes(), true));
            assert_eq!(mailbox_key(one), mailbox_key(other));
        }
        assert!(same_mailbox(b"\xffA@a", b"\xffa@a", true));
    }
}
