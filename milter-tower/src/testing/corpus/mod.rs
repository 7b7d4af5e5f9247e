//! Mails that broke filters, or might.

mod body;
mod client;
mod envelope;
mod headers;

use std::fmt;

use super::Mail;

/// A mail that is hard on filters.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NastyMail {
    /// What is nasty about it: unique, and stable between versions.
    pub name: &'static str,
    /// The mail.
    pub mail: Mail,
    /// Whether it is past a limit of [`Settings`](crate::Settings). The server then refuses it with
    /// `552 5.3.4`, and the filter does not see the whole of it, unless the MTA comes before: by
    /// default Sendmail refuses headers of more than 32 KiB, and Postfix cuts long ones.
    pub is_past_limits: bool,
}

impl fmt::Debug for NastyMail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:\n{:?}", self.name, self.mail)
    }
}

/// A name and what makes the mail, which may be large.
type Recipe = (&'static str, fn() -> Mail);

/// Mails that are hard on filters, each made when it comes up.
///
/// | | what is in them |
/// | --- | --- |
/// | the client | no HELO and odd ones; IPv6, unix and unknown addresses; garbage for commands; empty macros |
/// | the envelope | the null sender, with and without `<>`; no brackets, no domain, quotes, source routes, percent signs, UTF-8 and other bytes; very long addresses; odd ESMTP arguments; 1,000 recipients, and one a hundred times |
/// | the headers | none; 10,000; empty, folded in odd places, without a space, without a line break for 100 kB; 8-bit, UTF-8 and control bytes; broken encoded words, dates and addresses; the same one twice; forged results of authentication |
/// | the body | none; NUL and every other byte; bare CR and LF; CRLF cut in two by the pieces in which it comes; a line of 1 MB; MIME that is nested, broken or unending |
/// | past the limits | 10,001 headers; 1.5 MB of headers; a header line of 2 MB |
///
/// Most are what real mail did to real filters.
///
/// ```
/// use milter_tower::testing::nasty_mails;
///
/// let null_sender = nasty_mails().find(|nasty| nasty.name == "null sender").unwrap();
/// assert!(null_sender.mail.sender().is_null());
/// ```
pub fn nasty_mails() -> impl Iterator<Item = NastyMail> {
    let within = [client::MAILS, envelope::MAILS, headers::MAILS, body::MAILS];
    let within = within.into_iter().flatten().map(|recipe| (recipe, false));
    let past = headers::PAST_LIMITS.iter().map(|recipe| (recipe, true));
    within
        .chain(past)
        .map(|((name, make), is_past_limits)| NastyMail {
            name,
            mail: make(),
            is_past_limits,
        })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::Settings;

    #[test]
    fn names_are_unique_and_mails_differ() {
        let mut seen = HashSet::new();
        for nasty in nasty_mails() {
            assert!(seen.insert(nasty.name), "{}", nasty.name);
            assert_ne!(nasty.mail, Mail::new(), "{}", nasty.name);
        }
        assert!(seen.len() > 60, "{}", seen.len());
    }

    #[test]
    fn limits_are_passed_where_it_is_said() {
        let settings = Settings::new();
        for nasty in nasty_mails() {
            let headers = nasty.mail.headers();
            let bytes = headers
                .iter()
                .map(|field| field.name().len() + field.raw().len());
            let is_past = headers.len() > settings.max_headers
                || bytes.sum::<usize>() > settings.max_header_bytes
                || nasty.mail.recipients().len() > settings.max_recipients;
            assert_eq!(is_past, nasty.is_past_limits, "{}", nasty.name);
        }
    }

    #[test]
    fn each_can_be_shown() {
        for nasty in nasty_mails() {
            let shown = format!("{nasty:?}");
            assert!(shown.len() < 200_000, "{}: {}", nasty.name, shown.len());
            assert!(!shown.contains(['\r', '\0', '\x1b']), "{}", nasty.name);
        }
    }
}
