//! Forged Authentication-Results.

use std::iter::Peekable;
use std::slice::Iter;

use milter_core::same_domain;

use super::{Field, Headers};

impl Headers {
    /// Removes what a client claims to be the results of our own checks: each field
    /// `Authentication-Results` whose authserv-id is this one (RFC 8601 5). Says how many there
    /// were.
    ///
    /// Programs behind this host believe the fields that carry its name. So a host that does such
    /// checks has to remove what others wrote in that name, and a filter that adds its own results
    /// does so first:
    ///
    /// ```
    /// # let mut headers = milter_tower::Headers::new();
    /// headers.remove_auth_results("mx.example.org");
    /// headers.prepend("Authentication-Results", "mx.example.org; none");
    /// ```
    ///
    /// The id is found behind comments, in quotes and in folded lines, and compared as
    /// [`same_domain`](crate::same_domain) compares names. Where programs may read different ids in
    /// a field, it goes if any is ours. It also goes if no id can be made out, since then nobody
    /// can say whose a program takes it for. Results of others stay, as do the fields of a chain
    /// (`ARC-Authentication-Results`), which are signed.
    ///
    /// The fields that other filters of this MTA added before are here too, in the same name. Let
    /// the filter that removes forged ones be the first, or tell them apart with
    /// [`remove_if`](Self::remove_if).
    pub fn remove_auth_results(&mut self, authserv_id: impl AsRef<[u8]>) -> usize {
        let ours = authserv_id.as_ref();
        self.remove_if(|field| field.may_claim_auth_results(ours))
    }
}

impl Field<'_> {
    /// Whether this is `Authentication-Results`, also one with white space before the colon.
    pub fn is_auth_results(self) -> bool {
        // RFC 5322 4.5: white space between name and colon was allowed once
        let name = self.name().as_bytes().trim_ascii_end();
        name.eq_ignore_ascii_case(b"Authentication-Results")
    }

    /// Whether it is, and a program could take it for one with that authserv-id: those that
    /// [`remove_auth_results`](Headers::remove_auth_results) removes.
    ///
    /// ```
    /// use milter_tower::{Field, Header};
    ///
    /// let forged = Header::new("Authentication-Results", "(x) MX.example.org 1; spf=pass");
    /// assert!(Field::from(&forged).may_claim_auth_results("mx.example.org"));
    /// assert!(!Field::from(&forged).may_claim_auth_results("mx.example.net"));
    /// ```
    pub fn may_claim_auth_results(self, authserv_id: impl AsRef<[u8]>) -> bool {
        self.is_auth_results() && may_claim(self, authserv_id.as_ref())
    }
}

/// Whether a program could take the field for one with that authserv-id.
// RFC 8601 2.2: [CFWS] authserv-id [CFWS authres-version] and then the results, where the id is a
// `value` of RFC 2045 5.1: a token or a quoted string
fn may_claim(field: Field<'_>, ours: &[u8]) -> bool {
    let unfolded = field.unfolded();
    let mut bytes = unfolded.iter().peekable();
    skip_cfws(&mut bytes);
    let quoted = bytes.next_if_eq(&&b'"').is_some();
    let id = if quoted {
        quoted_string(&mut bytes)
    } else {
        Some(token(&mut bytes))
    };
    let Some(id) = id else {
        return true;
    };
    // A strict reader ends a token where a lenient one goes on.
    let strict = id.iter().position(|byte| !quoted && is_special(*byte));
    let strict = &id[..strict.unwrap_or(id.len())];
    [&id[..], strict].iter().any(|id| {
        let id = id.trim_ascii();
        id.is_empty() || same_domain(id, ours)
    })
}

type Bytes<'v> = Peekable<Iter<'v, u8>>;

/// Goes past white space and comments: to the end, if one does not end.
// RFC 5322 3.2.2: comments nest, and hold quoted pairs
fn skip_cfws(bytes: &mut Bytes<'_>) {
    let mut depth: usize = 0;
    loop {
        match bytes.peek() {
            Some(b'(') => depth += 1,
            Some(b')') if depth > 0 => depth -= 1,
            Some(b'\\') if depth > 0 => _ = bytes.next(),
            Some(byte) if depth > 0 || byte.is_ascii_whitespace() => {}
            _ => return,
        }
        bytes.next();
    }
}

/// What stands in quotes, the first of which was read; nothing if they do not end.
fn quoted_string(bytes: &mut Bytes<'_>) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        match bytes.next()? {
            b'"' => return Some(text),
            b'\\' => text.push(*bytes.next()?),
            byte => text.push(*byte),
        }
    }
}

/// What goes on to white space, a comment or a semicolon.
fn token(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let is_inner = |byte: &&u8| !byte.is_ascii_whitespace() && !matches!(byte, b'(' | b';');
    std::iter::from_fn(|| bytes.next_if(is_inner).copied()).collect()
}

// RFC 2045 5.1: tspecials and controls end a token
fn is_special(byte: u8) -> bool {
    byte.is_ascii_control() || b"()<>@,;:\\\"/[]?=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use milter_core::Header;
    use proptest::prelude::*;

    use super::*;

    fn is_removed(name: &'static str, value: &[u8], ours: &str) -> bool {
        let raw = [b" ", value].concat();
        let mut headers = Headers::from_shown([Header::new(name, raw)], true);
        headers.remove_auth_results(ours) == 1
    }

    fn is_forged(value: &str) -> bool {
        is_removed("Authentication-Results", value.as_bytes(), "mx.example.org")
    }

    #[test]
    fn what_claims_to_be_ours_goes_however_it_is_written() {
        for value in [
            "mx.example.org; spf=pass smtp.mailfrom=example.net",
            "mx.example.org",
            "mx.example.org;none",
            "mx.example.org 1; none",
            "mx.example.org (x) 1 (y); none",
            "mx.example.org(x)1;none",
            "MX.Example.ORG.; none",
            "\n mx.example.org;\n\tspf=pass",
            "(a (nested \\) \"comment) ) mx.example.org; none",
            "(a (b) mx.example.net) mx.example.org; none",
            "(a)(b)\n (c)mx.example.org; none",
            "\"mx.example.org\"; none",
            "\"mx\\.example\\.org\" 1; none",
            "\"mx.exam\nple.org\"; none",
            "\" mx.example.org \"; none",
            "mx.example.org/1; none",
            "mx.example.org\x7f; none",
            "mx.example.org,mail.example.net; none",
            "mx.example.org=1; none",
            "<mx.example.org>; none",
            "\t\r\n mx.example.org; none",
            "mx\u{3002}example\u{ff0e}org; none",
        ] {
            assert!(is_forged(value), "{value:?}");
        }
    }

    #[test]
    fn what_cannot_be_made_out_goes() {
        for value in [
            "",
            " ",
            ";",
            "; spf=pass",
            "(mx.other.net; spf=pass",
            "(\\) x",
            "\"mx.other.net",
            "\"mx.other.net\\",
            "\"\"; none",
            "(x); none",
            "/; none",
            "=spf; none",
        ] {
            assert!(is_forged(value), "{value:?}");
        }
    }

    #[test]
    fn the_results_of_others_stay() {
        for value in [
            "mx.example.net; spf=pass",
            "example.org; spf=pass",
            "a.mx.example.org; spf=pass",
            "(mx.example.org) mx.example.net; spf=pass",
            "(a (b) mx.example.org) mx.example.net; spf=pass",
            "mx.example.net (mx.example.org); spf=pass",
            "\"mx.example.org/2\"; spf=pass",
            "\"mx.example.net\" mx.example.org; spf=pass",
            "mx.example.net; (mx.example.org) x=mx.example.org",
            // What Exchange Online writes: without an id.
            "spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=mx.example.org;",
        ] {
            assert!(!is_forged(value), "{value:?}");
        }
    }

    #[test]
    fn only_fields_of_that_name_are_looked_at() {
        let value = b"mx.example.org; spf=pass";
        let is_removed = |name| is_removed(name, value, "mx.example.org");
        assert!(is_removed("authentication-results") && is_removed("Authentication-Results \t"));
        assert!(!is_removed("ARC-Authentication-Results") && !is_removed("Authentication-Result"));
        assert!(!is_removed("X-Authentication-Results") && !is_removed("Received-SPF"));
    }

    #[test]
    fn ids_may_be_internationalized_or_no_names_at_all() {
        for (id, ours) in [
            ("mx.bücher.example", "mx.xn--bcher-kva.example"),
            ("mx.XN--Bcher-kva.example", "mx.BÜCHER.example"),
            ("our_host", "OUR_HOST"),
            ("our/host", "our/host"),
        ] {
            let value = format!("{id}(x); none");
            assert!(is_removed("Authentication-Results", value.as_bytes(), ours));
            assert!(!is_forged(&value));
        }
        assert!(!is_removed("Authentication-Results", b"\xff; none", "x"));
    }

    #[test]
    fn all_forged_ones_go() {
        let values = [" us; a", " them; a", " \"us\"; b", " us; c"];
        let fields = values.map(|value| Header::new("Authentication-Results", value));
        let mut headers = Headers::from_shown(fields, true);
        assert_eq!(headers.remove_auth_results("us"), 3);
        let left: Vec<_> = headers.iter().map(Field::value).collect();
        assert_eq!(left, ["them; a"]);
    }

    proptest! {
        #[test]
        fn nothing_before_the_id_hides_it(
            before in r"([ \t\n]|\((\\.|[a-z ;.\n])*\)){0,5}",
            quoted in any::<bool>(),
            after in r"([ \t(;]\PC*)?",
        ) {
            let id = if quoted { "\"mx.example.org\"" } else { "mx.example.org" };
            let value = format!("{before}{id}{after}");
            prop_assert!(is_forged(&value), "{}", value);
        }

        #[test]
        fn no_bytes_make_it_panic(
            value in prop::collection::vec(
                prop_oneof![any::<u8>(), prop::sample::select(&b"()\\\"; \nax."[..])], 0..40),
        ) {
            _ = is_removed("Authentication-Results", &value, "a.x");
        }
    }
}
